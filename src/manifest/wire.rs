//! Manifest files: TOML → [`Manifest`].

use super::loss::read_loss;
use super::sampling::{read_budget, read_evolution, read_random, read_rank, read_shared};
use super::{Complaints, Manifest, Overrides};
use crate::document::{Document, Section, Value, nearest_file};
use crate::recipe::{
    Adam, Augment, DataConfig, DatasetName, GateKind, MaskPlace, Method, Recompute, Schedule,
    SearchConfig, Sgd, Temperature, TemperatureSchedule, TrainConfig, for_weights,
};
use crate::space::{SearchSpace, parse_space};
use std::ops::Bound::{Excluded, Included};
use std::ops::RangeInclusive;
use std::path::Path;

const MAX_EPOCHS: u64 = 100_000;
const MAX_BATCH: u64 = 65_536;
const MAX_IMAGES: u64 = 100_000_000;
const MAX_REPEATS: u64 = 1000;
/// Pixels; a space takes no more.
const MAX_SIDE: u64 = 1024;

type OpenRange = (std::ops::Bound<f64>, std::ops::Bound<f64>);
const LEARNING_RATES: OpenRange = (Excluded(0.0), Included(100.0));
/// Momenta and Adam's betas.
const DECAYS: std::ops::Range<f64> = 0.0..1.0;
const WEIGHT_DECAYS: RangeInclusive<f64> = 0.0..=1.0;

const METHODS: &[(&str, Method)] = &[
    ("dmasking", Method::Dmasking),
    ("dnas", Method::Dnas),
    ("darts", Method::Darts),
    ("darts2", Method::Darts2),
    ("random", Method::Random),
    ("random_search", Method::RandomSearch),
    ("rs_ws", Method::RsWs),
    ("evolution", Method::Evolution),
];
const SCHEDULES: &[(&str, Schedule)] = &[
    ("constant", Schedule::Constant),
    ("cosine", Schedule::Cosine { last: 0.0 }),
    ("triangle", Schedule::Triangle),
];
const GATES: &[(&str, GateKind)] =
    &[("soft", GateKind::Soft), ("straight_through", GateKind::StraightThrough)];
const MASKS: &[(&str, MaskPlace)] =
    &[("after_norm", MaskPlace::AfterNorm), ("before_norm", MaskPlace::BeforeNorm)];
const RECOMPUTES: &[(&str, Recompute)] = &[("none", Recompute::None), ("block", Recompute::Block)];
const DATASETS: &[(&str, Dataset)] = &[
    ("cifar10", Dataset::new(DatasetName::Cifar10, 50_000, 32, 3)),
    ("fashion-mnist", Dataset::new(DatasetName::FashionMnist, 60_000, 28, 1)),
    ("fashion-mnist-slice", Dataset::new(DatasetName::FashionMnistSlice, 1_000, 28, 1)),
];

/// What a manifest must agree with.
#[derive(Clone, Copy)]
struct Dataset {
    name: DatasetName,
    train_images: usize,
    side: usize,
    channels: usize,
    classes: usize,
}

impl Dataset {
    const fn new(name: DatasetName, train_images: usize, side: usize, channels: usize) -> Self {
        Self { name, train_images, side, channels, classes: 10 }
    }
}

/// Reads a manifest and the space that it names.
///
/// # Errors
/// Everything that is wrong with either.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Manifest, Complaints> {
    let document = Document::load(path)?.with(overrides)?;
    let manifest = document.read(|s| read(s, path))?;
    Ok(Manifest { text: document.full_text()?, ..manifest })
}

fn read(s: &Section<'_>, path: &Path) -> Option<Manifest> {
    let name = s.identifier("name");
    let description = s.optional("description", |value| value.text("text in quotes"));
    let seeds = s.require("seeds", SEEDS).and_then(|value| read_seeds(&value));
    let space = s
        .require("space", "the path of a space file, from the manifest's folder")
        .and_then(|value| read_space(s, &value, path));
    let mut dataset = None;
    let data = s.section("data", |s| read_data(s, &mut dataset, space.as_ref().map(|(_, s)| s)));
    let available = match (&data, dataset) {
        (Some(data), Some(dataset)) => Some(dataset.train_images - data.validation_images),
        _ => None,
    };
    let searched = space.as_ref().map(|(_, space)| space);
    let mut methods = Vec::new();
    let search = s.section("search", |s| {
        methods = s.names("method", METHODS).unwrap_or_default();
        read_search(s, &methods, available, searched)
    });
    let train = s.section("train", |s| read_train(s, available));
    let rank_correlation = s.optional("rank_correlation", |value| {
        value.section(|s| read_rank(s, value, data.as_ref(), search.as_ref(), &methods, searched))
    });
    let (space_text, space) = space?;
    Some(Manifest {
        path: path.to_path_buf(),
        text: String::new(),
        name: name?,
        description: description?.unwrap_or_default().to_owned(),
        seeds: seeds?,
        space_text,
        space,
        data: data?,
        methods,
        search: search?,
        train: train?,
        rank_correlation: rank_correlation?,
    })
}

const SEEDS: &str = "a list of 1 to 1000 seeds, all different";

/// A seed is at most what an `SQLite` integer holds.
fn read_seeds(value: &Value<'_>) -> Option<Vec<u64>> {
    let mut seen = Vec::new();
    value.list(1..=1000, SEEDS, |member| {
        let seed = member.whole_u64(0..=i64::MAX as u64)?;
        if seen.contains(&seed) {
            return member.complain(format!("seed {seed} is there twice"), "give each seed once");
        }
        seen.push(seed);
        Some(seed)
    })
}

/// The space and its text.
fn read_space(
    s: &Section<'_>,
    value: &Value<'_>,
    manifest: &Path,
) -> Option<(String, SearchSpace)> {
    let given = value.text("the path of a space file, from the manifest's folder")?;
    let path = manifest.parent().unwrap_or(Path::new("")).join(given);
    if given.is_empty() || !path.is_file() {
        let expected = "give the path of a space file, from the manifest's folder";
        if given.is_empty() || path.is_dir() {
            return value.complain(format!("{} is not a file", value.given()), expected);
        }
        let problem = format!("there is no file {}", path.display());
        // As seen from the manifest again.
        let hint = nearest_file(&path)
            .and_then(|near| Some(Path::new(&near).file_name()?.to_owned()))
            .map(|name| Path::new(given).with_file_name(name).display().to_string());
        return value.complain_with(problem, expected, hint);
    }
    let document = s.adopt(Document::load(&path))?;
    let space = s.adopt(parse_space(document.text(), &path))?;
    Some((document.text().to_owned(), space))
}

fn read_data(
    s: &Section<'_>,
    dataset: &mut Option<Dataset>,
    space: Option<&SearchSpace>,
) -> Option<DataConfig> {
    let value = s.require("dataset", "the name of a data set");
    *dataset = value.as_ref().and_then(|value| value.name(DATASETS));
    let scaled = s.get("side");
    let side = scaled.as_ref().map_or(Some(None), |value| value.whole(1..=MAX_SIDE).map(Some));
    let fits = match (&value, *dataset, space, side) {
        (Some(value), Some(dataset), Some(space), Some(side)) => {
            let scaled = scaled.as_ref().zip(side);
            check_side(value, scaled, &dataset, space).and(check_shape(value, &dataset, space))
        }
        _ => None,
    };
    let validation_images = s.require("validation_images", "how many images to hold out");
    let validation_images = validation_images.and_then(|value| {
        let images = value.whole(0..=MAX_IMAGES)?;
        let all = dataset.map_or(usize::MAX, |dataset| dataset.train_images);
        if images >= all {
            let problem = format!("{images} leaves none of the {all} training images");
            return value.complain(problem, format!("give a whole number from 0 to {}", all - 1));
        }
        Some(images)
    });
    fits?;
    Some(DataConfig {
        dataset: dataset.as_ref()?.name,
        validation_images: validation_images?,
        side: side?,
    })
}

/// The supernet's input must be what the data set has.
fn check_shape(value: &Value<'_>, dataset: &Dataset, space: &SearchSpace) -> Option<()> {
    let name = value.given();
    let mut fits = Some(());
    let mut complain = |what: &str, has: usize, takes: usize| {
        if has != takes {
            let space = &space.name;
            let problem =
                format!("{name} has {what} of {has}, the space \"{space}\" takes {takes}");
            fits = value.complain(problem, "give a data set and a space that fit each other");
        }
    };
    complain("a channel count", dataset.channels, space.image_channels);
    complain("a class count", dataset.classes, space.classes);
    fits
}

/// Images, scaled or not, are as large as the largest that the space takes.
fn check_side(
    value: &Value<'_>,
    scaled: Option<(&Value<'_>, usize)>,
    dataset: &Dataset,
    space: &SearchSpace,
) -> Option<()> {
    let (takes, name) = (space.max_resolution(), &space.name);
    match scaled {
        Some((_, side)) if side == takes => Some(()),
        None if dataset.side == takes => Some(()),
        Some((value, side)) => value.complain(
            format!("images scaled to {side}x{side} do not fit the space \"{name}\""),
            format!("give {takes}, which it takes, or another space"),
        ),
        None => value.complain(
            format!(
                "{} has an image side of {}, the space \"{name}\" takes {takes}",
                value.given(),
                dataset.side
            ),
            format!("give side = {takes} to have the images scaled, or another space"),
        ),
    }
}

fn read_search(
    s: &Section<'_>,
    methods: &[Method],
    available: Option<usize>,
    space: Option<&SearchSpace>,
) -> Option<SearchConfig> {
    let epochs = s.whole("epochs", 1..=MAX_EPOCHS);
    let warmup_epochs = s.require("warmup_epochs", "how many epochs move the weights only");
    let warmup_epochs =
        warmup_epochs.and_then(|value| at_most(&value, 0..=MAX_EPOCHS, epochs, "epochs"));
    // Two, because the weights and the architecture parameters each need one.
    let images = s.optional("images", |value| {
        at_most(value, 2..=MAX_IMAGES, available, "training images that are not held out")
    });
    let seen = images.and_then(|images| images.or(available));
    let batch_size = read_batch(s, seen);
    let weight_share = s.require("weight_share", "a share").and_then(|value| {
        let share = value.real((Excluded(0.0), Excluded(1.0)))?;
        check_share(&value, share, seen?, batch_size?)
    });
    let augment = read_augment(s);
    let recompute = optional_name(s, "recompute", RECOMPUTES);
    let weights = s.section("weights", read_sgd);
    let alpha = s.section("alpha", read_adam);
    let temperature = s.section("temperature", read_temperature);
    let gates = optional_name(s, "gates", GATES);
    let masks = optional_name(s, "masks", MASKS);
    if let (Some(gates), Some(masks)) = (gates, masks) {
        check_methods(s, methods, gates, masks, space);
    }
    let loss = s.section("loss", |s| read_loss(s, space));
    let budget = s.optional("budget", |value| value.section(|s| read_budget(s, value, space)));
    let any = |one_of: &[Method]| methods.iter().any(|method| one_of.contains(method));
    let random = section_if(s, "random", any(&[Method::RandomSearch]), read_random);
    let by_weights = any(&[Method::RsWs, Method::Evolution]);
    let batches = match (seen, weight_share, batch_size) {
        (Some(seen), Some(share), Some(batch)) => Some(for_weights(seen, share) / batch),
        _ => None,
    };
    let shared = section_if(s, "shared", by_weights, |s| read_shared(s, batches));
    let candidates = shared.flatten().map(|shared| shared.candidates);
    let evolves = any(&[Method::Evolution]);
    let evolution = section_if(s, "evolution", evolves, |s| read_evolution(s, candidates));
    Some(SearchConfig {
        method: *methods.first()?,
        epochs: epochs?,
        warmup_epochs: warmup_epochs?,
        batch_size: batch_size?,
        images: images?,
        weight_share: weight_share?,
        augment: augment?,
        recompute: recompute?,
        weights: weights?,
        alpha: alpha?,
        temperature: temperature?,
        gates: gates?,
        masks: masks?,
        loss: loss?,
        budget: budget?,
        random: random?,
        shared: shared?,
        evolution: evolution?,
    })
}

/// Refuses what one of the methods cannot do.
fn check_methods(
    s: &Section<'_>,
    methods: &[Method],
    gates: GateKind,
    masks: MaskPlace,
    space: Option<&SearchSpace>,
) {
    let any = |one_of: &[Method]| methods.iter().any(|method| one_of.contains(method));
    let is_darts = any(&[Method::Darts, Method::Darts2]);
    let is_explicit = is_darts || any(&[Method::Dnas]);
    let complain = |key, problem: &str, expected: &str| {
        s.get(key).and_then(|value| {
            value.complain::<()>(format!("{} {problem}", value.given()), expected)
        });
    };
    if let (true, Some(space)) = (is_explicit, space)
        && space.resolutions.len() > 1
    {
        let problem =
            format!("searches no resolution, and the space \"{}\" has several", space.name);
        complain(
            "method",
            &problem,
            "take another method, or a space with one of input.resolutions",
        );
    }
    if is_explicit && masks == MaskPlace::BeforeNorm {
        complain(
            "masks",
            "is about masks, and the explicit supernet of this method has none",
            "take it out, or search.method = \"dmasking\"",
        );
    }
    if is_darts && gates == GateKind::StraightThrough {
        complain(
            "gates",
            "is about drawn gates, and this method draws none",
            "take it out, or another method",
        );
    }
}

/// A section that some methods need: theirs must be there, the others' may be, so that one manifest
/// serves every method. As [`Section::optional`]: `Some(None)` if it is not there.
#[allow(clippy::option_option)]
fn section_if<'a, T>(
    s: &Section<'a>,
    key: &'static str,
    needed: bool,
    read: impl FnOnce(&Section<'a>) -> Option<T>,
) -> Option<Option<T>> {
    if needed { s.section(key, read).map(Some) } else { s.optional(key, |v| v.section(read)) }
}

/// Each of the two parts must fill a batch, since what fills none is left out of an epoch.
fn check_share(value: &Value<'_>, share: f64, images: usize, batch: usize) -> Option<f64> {
    let of_weights = for_weights(images, share);
    let for_alpha = images - of_weights;
    if of_weights.min(for_alpha) >= batch {
        return Some(share);
    }
    let problem = format!(
        "{share} of {images} images makes {of_weights} for the weights and {for_alpha} for the \
         architecture parameters, and a batch takes {batch}"
    );
    let mut expected = format!("give a batch_size of at most {}", images / 2);
    if images >= 2 * batch {
        expected = format!("give a share that leaves {batch} on both sides, or smaller batches");
    }
    value.complain(problem, expected)
}

fn read_train(s: &Section<'_>, available: Option<usize>) -> Option<TrainConfig> {
    let epochs = s.whole("epochs", 1..=MAX_EPOCHS);
    let batch_size = read_batch(s, available);
    let optimizer = s.section("optimizer", read_sgd);
    let label_smoothing = s.real("label_smoothing", 0.0..1.0);
    let augment = read_augment(s);
    let recompute = optional_name(s, "recompute", RECOMPUTES);
    let repeats = s.optional("repeats", |value| value.whole(1..=MAX_REPEATS));
    Some(TrainConfig {
        epochs: epochs?,
        batch_size: batch_size?,
        optimizer: optimizer?,
        label_smoothing: label_smoothing?,
        augment: augment?,
        recompute: recompute?,
        repeats: repeats?.unwrap_or(1),
    })
}

/// A name; no key, the default.
pub(super) fn optional_name<T: Copy + Default>(
    s: &Section<'_>,
    key: &'static str,
    names: &[(&str, T)],
) -> Option<T> {
    s.optional(key, |value| value.name(names)).map(Option::unwrap_or_default)
}

/// Each schedule has its own second number; that of another one is refused. No schedule, τ decays
/// exponentially.
fn read_temperature(s: &Section<'_>) -> Option<Temperature> {
    #[derive(Clone, Copy, PartialEq)]
    enum Course {
        Exponential,
        Linear,
        Constant,
    }
    const COURSES: &[(&str, Course)] = &[
        ("exponential", Course::Exponential),
        ("linear", Course::Linear),
        ("constant", Course::Constant),
    ];
    let range = (Excluded(0.0), Included(1e6));
    let initial = s.real("initial", range);
    let course = s.optional("schedule", |value| value.name(COURSES));
    let forbid = |key, name: &str, own: &str| {
        let problem = format!("is no number of the schedule \"{name}\", which is {own}");
        s.forbid(key, &problem, "take it out, or change the schedule");
    };
    let schedule = match course.map(|course| course.unwrap_or(Course::Exponential)) {
        Some(Course::Exponential) => {
            forbid("last", "exponential", "initial * decay^epoch");
            let decay = s.real("decay", (Excluded(0.0), Included(1.0)));
            decay.map(|decay| TemperatureSchedule::Exponential { decay })
        }
        Some(Course::Linear) => {
            forbid("decay", "linear", "from initial to last in equal steps");
            s.real("last", range).map(|last| TemperatureSchedule::Linear { last })
        }
        Some(Course::Constant) => {
            forbid("decay", "constant", "initial in every epoch");
            forbid("last", "constant", "initial in every epoch");
            Some(TemperatureSchedule::Constant)
        }
        // Without a schedule it cannot be told which keys belong.
        None => {
            for key in ["decay", "last"] {
                s.get(key);
            }
            None
        }
    };
    Some(Temperature { initial: initial?, schedule: schedule? })
}

/// A batch holds no more images than there are.
fn read_batch(s: &Section<'_>, images: Option<usize>) -> Option<usize> {
    let value = s.require("batch_size", "how many images make a batch")?;
    at_most(&value, 1..=MAX_BATCH, images, "images")
}

/// A number of the range that is not above `most`, which counts `what`.
pub(super) fn at_most(
    value: &Value<'_>,
    range: RangeInclusive<u64>,
    most: Option<usize>,
    what: &str,
) -> Option<usize> {
    let least = *range.start();
    let number = value.whole(range)?;
    match most {
        Some(most) if number > most => value.complain(
            format!("{number} is more than the {most} {what}"),
            format!("give a whole number from {least} to {most}"),
        ),
        _ => Some(number),
    }
}

fn read_sgd(s: &Section<'_>) -> Option<Sgd> {
    let learning_rate = s.real("learning_rate", LEARNING_RATES);
    let momentum = s.real("momentum", DECAYS);
    let weight_decay = s.real("weight_decay", WEIGHT_DECAYS);
    let schedule = read_schedule(s, learning_rate);
    let clip_norm = s.optional("clip_norm", |value| value.real((Excluded(0.0), Included(1e6))));
    Some(Sgd {
        learning_rate: learning_rate?,
        momentum: momentum?,
        weight_decay: weight_decay?,
        schedule: schedule?,
        clip_norm: clip_norm?,
    })
}

/// The cosine alone may end above zero.
fn read_schedule(s: &Section<'_>, learning_rate: Option<f64>) -> Option<Schedule> {
    let schedule = s.name("schedule", SCHEDULES);
    match schedule {
        Some(Schedule::Cosine { .. }) => {
            let last = s.optional("last", |value| {
                let last = value.real(0.0..=100.0)?;
                match learning_rate {
                    Some(first) if last > first => value.complain(
                        format!("{} is above the learning_rate, {first:?}", value.given()),
                        format!("give a number from 0 to {first:?}"),
                    ),
                    _ => Some(last),
                }
            });
            Some(Schedule::Cosine { last: last?.unwrap_or_default() })
        }
        Some(_) => {
            let problem = "is where a cosine ends, and the schedule is another";
            s.forbid("last", problem, "take it out, or schedule = \"cosine\"");
            schedule
        }
        // Without a schedule it cannot be told whether it belongs.
        None => s.get("last").and(None),
    }
}

fn read_adam(s: &Section<'_>) -> Option<Adam> {
    let learning_rate = s.real("learning_rate", LEARNING_RATES);
    let beta1 = s.real("beta1", DECAYS);
    let beta2 = s.real("beta2", DECAYS);
    let weight_decay = s.real("weight_decay", WEIGHT_DECAYS);
    Some(Adam {
        learning_rate: learning_rate?,
        beta1: beta1?,
        beta2: beta2?,
        weight_decay: weight_decay?,
    })
}

/// No key, no augmentation; the same for each of its parts.
fn read_augment(s: &Section<'_>) -> Option<Augment> {
    let augment = s.optional("augment", |value| {
        value.section(|s| {
            let flip = s.optional("flip", Value::flag);
            let crop_padding = s.optional("crop_padding", |value| value.whole(0..=16));
            let (flip, crop_padding) = (flip?, crop_padding?);
            Some(Augment {
                flip: flip.unwrap_or_default(),
                crop_padding: crop_padding.unwrap_or_default(),
            })
        })
    });
    augment.map(Option::unwrap_or_default)
}
