//! Manifest files: TOML → [`Manifest`].

use super::{Complaints, Manifest, Overrides};
use crate::document::{Document, Section, Value, nearest};
use crate::recipe::{
    Adam, Augment, DataConfig, DatasetName, LossForm, Method, Objective, Recompute, Schedule,
    SearchConfig, SearchLoss, Sgd, Temperature, TrainConfig,
};
use crate::space::{SearchSpace, parse_space};
use std::ops::Bound::{Excluded, Included};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

const MAX_EPOCHS: u64 = 100_000;
const MAX_BATCH: u64 = 65_536;
const MAX_IMAGES: u64 = 100_000_000;
const MAX_COST_UNIT: f64 = 1e15;
const MAX_COEFFICIENT: f64 = 1e6;

type OpenRange = (std::ops::Bound<f64>, std::ops::Bound<f64>);
const LEARNING_RATES: OpenRange = (Excluded(0.0), Included(100.0));
/// Momenta and Adam's betas.
const DECAYS: std::ops::Range<f64> = 0.0..1.0;
const WEIGHT_DECAYS: RangeInclusive<f64> = 0.0..=1.0;

const METHODS: &[(&str, Method)] = &[("dmasking", Method::Dmasking)];
const OBJECTIVES: &[(&str, Objective)] =
    &[("macs", Objective::Macs), ("params", Objective::Params)];
const SCHEDULES: &[(&str, Schedule)] = &[
    ("constant", Schedule::Constant),
    ("cosine", Schedule::Cosine),
    ("triangle", Schedule::Triangle),
];
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
    let description = s.optional("description", |value| value.text("a description"));
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
    let search = s.section("search", |s| read_search(s, available));
    let train = s.section("train", |s| read_train(s, available));
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
        search: search?,
        train: train?,
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
    if given.is_empty() || !path.exists() {
        let problem = format!("there is no file {}", path.display());
        let expected = "give the path of a space file, from the manifest's folder";
        let names = names_beside(&path);
        let hint = path
            .file_name()
            .and_then(|name| nearest(&name.to_string_lossy(), names.iter().map(String::as_str)))
            .map(|name| Path::new(given).with_file_name(name).display().to_string());
        return value.complain_with(problem, expected, hint);
    }
    let document = s.adopt(Document::load(&path))?;
    let space = s.adopt(parse_space(document.text(), &path))?;
    Some((document.text().to_owned(), space))
}

/// The names of the files in the same folder, in order.
fn names_beside(path: &Path) -> Vec<String> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).map(PathBuf::from);
    let entries = std::fs::read_dir(folder.unwrap_or_else(|| PathBuf::from(".")));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn read_data(
    s: &Section<'_>,
    dataset: &mut Option<Dataset>,
    space: Option<&SearchSpace>,
) -> Option<DataConfig> {
    let value = s.require("dataset", "the name of a data set");
    *dataset = value.as_ref().and_then(|value| value.name(DATASETS));
    let fits = match (&value, *dataset, space) {
        (Some(value), Some(dataset), Some(space)) => check_shape(value, &dataset, space),
        _ => None,
    };
    let validation_images = s.require("validation_images", "how many images to hold out");
    let validation_images = validation_images.and_then(|value| {
        let most = dataset.map_or(MAX_IMAGES, |dataset| dataset.train_images as u64 - 1);
        value.whole(0..=most)
    });
    fits?;
    Some(DataConfig { dataset: dataset.as_ref()?.name, validation_images: validation_images? })
}

/// The supernet's input must be what the data set has.
fn check_shape(value: &Value<'_>, dataset: &Dataset, space: &SearchSpace) -> Option<()> {
    let name = value.given();
    let mut fits = Some(());
    let mut complain = |what: &str, has: usize, takes: usize| {
        if has != takes {
            let problem = format!("{name} has {what} {has}, the space \"{}\" {takes}", space.name);
            fits = value.complain(problem, "give a data set and a space that fit each other");
        }
    };
    complain("image side", dataset.side, space.max_resolution());
    complain("image channels", dataset.channels, space.image_channels);
    complain("classes", dataset.classes, space.classes);
    fits
}

fn read_search(s: &Section<'_>, available: Option<usize>) -> Option<SearchConfig> {
    let method = s.name("method", METHODS);
    let epochs = s.whole("epochs", 1..=MAX_EPOCHS);
    let warmup_epochs =
        s.whole("warmup_epochs", 0..=epochs.map_or(MAX_EPOCHS, |epochs| epochs as u64));
    let most = available.map_or(MAX_IMAGES, |available| available as u64);
    // Two, because the weights and the architecture parameters each need one.
    let images = s.optional("images", |value| value.whole(2..=most));
    let seen = images.and_then(|images| images.or(available));
    let batch_size = read_batch(s, seen);
    let weight_share = s.require("weight_share", "a share").and_then(|value| {
        let share = value.real((Excluded(0.0), Excluded(1.0)))?;
        let for_weights = seen.map(|seen| ((seen as f64 * share) as usize, seen));
        if for_weights.is_some_and(|(part, seen)| part == 0 || part == seen) {
            let problem = format!("{share} of {} images leaves one part empty", seen.unwrap_or(0));
            return value.complain(problem, "give a share that leaves images on both sides");
        }
        Some(share)
    });
    let augment = read_augment(s);
    let recompute = read_recompute(s);
    let weights = s.section("weights", read_sgd);
    let alpha = s.section("alpha", read_adam);
    let temperature = s.section("temperature", |s| {
        let initial = s.real("initial", (Excluded(0.0), Included(1e6)));
        let decay = s.real("decay", (Excluded(0.0), Included(1.0)));
        Some(Temperature { initial: initial?, decay: decay? })
    });
    let loss = s.section("loss", read_loss);
    Some(SearchConfig {
        method: method?,
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
        loss: loss?,
    })
}

fn read_train(s: &Section<'_>, available: Option<usize>) -> Option<TrainConfig> {
    let epochs = s.whole("epochs", 1..=MAX_EPOCHS);
    let batch_size = read_batch(s, available);
    let optimizer = s.section("optimizer", read_sgd);
    let label_smoothing = s.real("label_smoothing", 0.0..1.0);
    let augment = read_augment(s);
    let recompute = read_recompute(s);
    Some(TrainConfig {
        epochs: epochs?,
        batch_size: batch_size?,
        optimizer: optimizer?,
        label_smoothing: label_smoothing?,
        augment: augment?,
        recompute: recompute?,
    })
}

/// No key, nothing recomputed.
fn read_recompute(s: &Section<'_>) -> Option<Recompute> {
    s.optional("recompute", |value| value.name(RECOMPUTES)).map(Option::unwrap_or_default)
}

/// A batch holds no more images than there are.
fn read_batch(s: &Section<'_>, images: Option<usize>) -> Option<usize> {
    let value = s.require("batch_size", "how many images make a batch")?;
    let size = value.whole(1..=MAX_BATCH)?;
    match images {
        Some(images) if size > images => {
            let problem = format!("a batch of {size} is more than the {images} images");
            value.complain(problem, format!("give a whole number from 1 to {images}"))
        }
        _ => Some(size),
    }
}

fn read_sgd(s: &Section<'_>) -> Option<Sgd> {
    let learning_rate = s.real("learning_rate", LEARNING_RATES);
    let momentum = s.real("momentum", DECAYS);
    let weight_decay = s.real("weight_decay", WEIGHT_DECAYS);
    let schedule = s.name("schedule", SCHEDULES);
    let clip_norm = s.optional("clip_norm", |value| value.real((Excluded(0.0), Included(1e6))));
    Some(Sgd {
        learning_rate: learning_rate?,
        momentum: momentum?,
        weight_decay: weight_decay?,
        schedule: schedule?,
        clip_norm: clip_norm?,
    })
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

/// Each form has its own coefficients; those of the other form are refused.
fn read_loss(s: &Section<'_>) -> Option<SearchLoss> {
    #[derive(Clone, Copy)]
    enum Form {
        LogPower,
        Linear,
    }
    let coefficient = |key| s.real(key, 0.0..=MAX_COEFFICIENT);
    let forbid = |key, form: &str, own: &str| {
        let problem = format!("is no coefficient of the form \"{form}\", which is {own}");
        s.forbid(key, &problem, "take it out, or change the form");
    };
    let objective = s.name("objective", OBJECTIVES);
    let form = s.name("form", &[("log_power", Form::LogPower), ("linear", Form::Linear)]);
    let form = match form {
        Some(Form::LogPower) => {
            forbid("lambda", "log_power", "CE * a * ln(cost)^b");
            let (a, b) = (coefficient("a"), coefficient("b"));
            a.zip(b).map(|(a, b)| LossForm::LogPower { a, b })
        }
        Some(Form::Linear) => {
            forbid("a", "linear", "CE + lambda * cost");
            forbid("b", "linear", "CE + lambda * cost");
            coefficient("lambda").map(|lambda| LossForm::Linear { lambda })
        }
        // Without a form it cannot be told which keys belong.
        None => {
            for key in ["a", "b", "lambda"] {
                s.get(key);
            }
            None
        }
    };
    let cost_unit = s.real("cost_unit", (Excluded(0.0), Included(MAX_COST_UNIT)));
    Some(SearchLoss { objective: objective?, form: form?, cost_unit: cost_unit? })
}
