//! The section `[search]`, and which of its keys conflict with a method or the space.

use super::NetworkInput;
use super::augment::read_augment;
use super::keys::{MAX_EPOCHS, MAX_IMAGES, RECOMPUTES, at_most, optional_name, read_batch};
use super::loss::read_loss;
use super::optimizer::{read_adam, read_sgd};
use super::sampling::{read_budget, read_evolution, read_random, read_shared};
use super::temperature::read_temperature;
use crate::document::{Entry, Section};
use crate::recipe::{
    AlphaConfig, DatasetName, Evolution, GateKind, GumbelSoftmax, MaskPlace, Method, MethodName,
    Order, RandomSearch, ResidualRule, SearchConfig, Sgd, SharedScores, for_weights,
};
use crate::space::SearchSpace;
use crate::text;
use std::ops::Bound::Excluded;

const MAX_CLASSES: u64 = 100_000;

const GATES: &[(&str, GateKind)] =
    &[("soft", GateKind::Soft), ("straight_through", GateKind::StraightThrough)];
const MASKS: &[(&str, MaskPlace)] =
    &[("after_norm", MaskPlace::AfterNorm), ("before_norm", MaskPlace::BeforeNorm)];
const RESIDUALS: &[(&str, ResidualRule)] =
    &[("expected", ResidualRule::Expected), ("full", ResidualRule::Full)];

/// The settings that all methods share, and the methods with their own.
pub(super) struct Search {
    pub config: SearchConfig,
    pub methods: Vec<Method>,
    pub scores: Option<SharedScores>,
}

pub(super) fn read_search(
    s: &Section<'_>,
    methods: &[MethodName],
    (available, dataset): (Option<usize>, Option<DatasetName>),
    space: Option<&SearchSpace>,
    scale: f64,
) -> Option<Search> {
    let epochs = s.whole("epochs", 1..=MAX_EPOCHS);
    let warmup_epochs =
        s.require("warmup_epochs", "the number of epochs before the architecture parameters learn");
    let warmup_epochs = warmup_epochs.and_then(|value| {
        let warmup = at_most(&value, 0..=MAX_EPOCHS, epochs, "epochs")?;
        check_warmup(&value, (warmup, epochs), methods)
    });
    let images = read_images(s, methods, available, space);
    let augment = read_augment(s, dataset);
    let recompute = optional_name(s, "recompute", RECOMPUTES);
    let weights = s.section("weights", |s| read_sgd(s, epochs));
    let alpha = s.section("alpha", read_adam);
    let temperature = s.section("temperature", read_temperature);
    let gates = optional_name(s, "gates", GATES);
    let masks = optional_name(s, "masks", MASKS);
    let residual = optional_name(s, "residual", RESIDUALS);
    if let (Some(gates), Some(masks)) = (gates, masks) {
        check_methods(s, methods, gates, masks);
    }
    check_residual(s, methods, residual);
    check_expansions(s, methods, space);
    let loss = s.section("loss", |s| read_loss(s, space));
    let budget = s.optional("budget", |value| value.section(|s| read_budget(s, value, space)));
    let has_budget = s.get("budget").is_some();
    let batches = images.weight_batches();
    let (shared, random, evolution) = read_scoring(s, methods, batches, has_budget);
    check_candidate_warmup(s, weights.as_ref(), random.flatten());
    let own = MethodSettings {
        alpha: AlphaConfig { warmup_epochs: warmup_epochs?, optimizer: alpha?, loss: loss? },
        gumbel: GumbelSoftmax { kind: gates?, temperature: temperature? },
        residual: residual?,
        masks: masks?,
        random: random?,
        scores: shared?,
        evolution: evolution?,
    };
    let config = SearchConfig {
        epochs: epochs?,
        scale,
        batch_size: images.batch_size?,
        images: images.images?,
        classes: images.classes?,
        weight_share: images.weight_share?,
        augment: augment?,
        recompute: recompute?,
        weights: weights?,
        budget: budget?,
    };
    let methods = methods.iter().map(|method| own.of(*method)).collect::<Option<Vec<_>>>()?;
    // Without a method there is nothing to search by, which has been reported.
    (!methods.is_empty()).then_some(Search { config, methods, scores: own.scores })
}

/// Which images the search sees, as far as the keys are valid.
#[allow(clippy::option_option)]
struct ImageKeys {
    images: Option<Option<usize>>,
    classes: Option<Option<usize>>,
    /// How many images the search sees, where that is known before they are read.
    seen: Option<usize>,
    batch_size: Option<usize>,
    weight_share: Option<f64>,
}

impl ImageKeys {
    /// Batches of the weight split.
    fn weight_batches(&self) -> Option<usize> {
        Some(for_weights(self.seen?, self.weight_share?) / self.batch_size?)
    }
}

fn read_images(
    s: &Section<'_>,
    methods: &[MethodName],
    available: Option<usize>,
    space: Option<&SearchSpace>,
) -> ImageKeys {
    // Two, because both splits need one.
    let images = s.optional("images", |value| {
        at_most(value, 2..=MAX_IMAGES, available, "training images that are not held out")
    });
    let classes = s.optional("classes", |value| {
        at_most(value, 2..=MAX_CLASSES, space.map(|space| space.classes), "classes of the space")
    });
    // The number of images of some classes is only known once the images are read.
    let all = available.filter(|_| classes.is_some_and(|classes| classes.is_none()));
    let seen = images.and_then(|images| images.or(all));
    let input = space.map(NetworkInput::of_space);
    // Only the method "random" trains nothing in the search.
    let trains = methods.iter().any(|method| *method != MethodName::Random);
    let batch_size = read_batch(s, seen, input.as_ref().filter(|_| trains));
    let weight_share = s.require("weight_share", "a share above 0 and below 1").and_then(|value| {
        let share = value.real((Excluded(0.0), Excluded(1.0)))?;
        check_share(&value, share, seen, batch_size)
    });
    ImageKeys { images, classes, seen, batch_size, weight_share }
}

/// The warm-up of the weights' learning rate must end within the training of a candidate.
fn check_candidate_warmup(s: &Section<'_>, weights: Option<&Sgd>, random: Option<RandomSearch>) {
    let (Some(weights), Some(random)) = (weights, random) else { return };
    let (warmup, epochs) = (weights.warmup_epochs, random.epochs);
    if warmup >= epochs as f64
        && let Some(value) = s.get("random")
    {
        let problem = format!(
            "trains candidates for {}, and the warm-up of [search.weights] takes {warmup}",
            text::plural(epochs, "epoch")
        );
        value.fail::<()>(problem, "give more epochs, or a shorter warm-up");
    }
}

/// The sections of methods that score networks; `batches` is the number of batches of the weight split.
#[allow(clippy::option_option, clippy::type_complexity)]
fn read_scoring(
    s: &Section<'_>,
    methods: &[MethodName],
    batches: Option<usize>,
    has_budget: bool,
) -> (Option<Option<SharedScores>>, Option<Option<RandomSearch>>, Option<Option<Evolution>>) {
    let any = |one_of: &[MethodName]| methods.iter().any(|method| one_of.contains(method));
    let by_weights = any(&[MethodName::RsWs, MethodName::Evolution]);
    let shared = section_if(s, "shared", by_weights, |s| read_shared(s, batches, has_budget));
    let scores = shared.flatten();
    let calibration = scores.map(|scores| scores.calibration_batches);
    let trains = any(&[MethodName::RandomSearch]);
    let random = section_if(s, "random", trains, |s| read_random(s, batches, calibration));
    let candidates = scores.map(|scores| scores.candidates);
    let evolves = any(&[MethodName::Evolution]);
    let evolution = section_if(s, "evolution", evolves, |s| read_evolution(s, candidates));
    (shared, random, evolution)
}

/// The settings of single methods. A manifest may have those of methods that it does not name.
struct MethodSettings {
    alpha: AlphaConfig,
    gumbel: GumbelSoftmax,
    residual: ResidualRule,
    masks: MaskPlace,
    random: Option<RandomSearch>,
    scores: Option<SharedScores>,
    evolution: Option<Evolution>,
}

impl MethodSettings {
    /// `None` where a section that the method needs is missing.
    fn of(&self, method: MethodName) -> Option<Method> {
        let Self { alpha, gumbel, residual, masks, .. } = *self;
        Some(match method {
            MethodName::Dmasking => Method::Dmasking { alpha, gumbel, residual, masks },
            MethodName::Dnas => Method::Dnas { alpha, gumbel, residual },
            MethodName::Darts => Method::Darts { alpha, residual, order: Order::First },
            MethodName::Darts2 => Method::Darts { alpha, residual, order: Order::Second },
            MethodName::Random => Method::Random,
            MethodName::RandomSearch => Method::RandomSearch(self.random?),
            MethodName::RsWs => Method::RsWs(self.scores?),
            MethodName::Evolution => {
                Method::Evolution { scores: self.scores?, evolution: self.evolution? }
            }
        })
    }
}

/// Refuses keys that one of the methods cannot use.
fn check_methods(s: &Section<'_>, methods: &[MethodName], gates: GateKind, masks: MaskPlace) {
    let complain = |value: Option<Entry<'_>>, problem: &str, expected: &str| {
        value.and_then(|value| value.fail::<()>(format!("{} {problem}", value.given()), expected));
    };
    let explicit = methods.iter().find(|method| method.is_explicit());
    if let (Some(method), MaskPlace::BeforeNorm) = (explicit, masks) {
        let problem = format!("needs masks, and the explicit supernet of \"{method}\" has none");
        complain(s.get("masks"), &problem, "remove it, or give search.method = \"dmasking\"");
    }
    let darts = methods.iter().find(|method| method.is_darts());
    if let (Some(method), GateKind::StraightThrough) = (darts, gates) {
        let problem = format!("needs gates with noise, and \"{method}\" has none");
        complain(s.get("gates"), &problem, "remove it, or give another method");
    }
}

/// Only supernets under gates have a factor of their inputs.
fn check_residual(s: &Section<'_>, methods: &[MethodName], residual: Option<ResidualRule>) {
    let gated = methods.iter().any(|method| method.has_arch_params());
    if let (Some(ResidualRule::Full), Some(method), false, Some(value)) =
        (residual, methods.first(), gated, s.get("residual"))
    {
        let problem =
            format!("{} needs a supernet with gates, and \"{method}\" has none", value.given());
        value.fail::<()>(problem, "remove it, or give dmasking, dnas, darts or darts2");
    }
}

/// The explicit supernet has a block for every number of hidden channels, which must not depend on earlier
/// choices.
fn check_expansions(s: &Section<'_>, methods: &[MethodName], space: Option<&SearchSpace>) {
    let explicit = methods.iter().find(|method| method.is_explicit());
    if let (Some(method), Some(space), Some(value)) = (explicit, space, s.get("method"))
        && space.expands_own_input()
    {
        let problem = format!(
            "\"{method}\" has a block for every number of hidden channels, which depends on the \
             input channels in the space \"{}\"",
            space.name
        );
        value.fail::<()>(
            problem,
            "give another method, or a space without expansion_of = \"input\"",
        );
    }
}

/// At least one epoch must train the architecture parameters.
fn check_warmup(
    value: &Entry<'_>,
    (warmup, epochs): (usize, Option<usize>),
    methods: &[MethodName],
) -> Option<usize> {
    let learns = methods.iter().find(|method| method.has_arch_params());
    match (epochs, learns) {
        (Some(epochs), Some(method)) if warmup == epochs => {
            let expected = match epochs {
                1 => "give 0, or more epochs".to_owned(),
                _ => format!("give a whole number from 0 to {}, or more epochs", epochs - 1),
            };
            let problem = format!(
                "{warmup} leaves no epoch in which the architecture parameters of \"{method}\" learn"
            );
            value.fail(problem, expected)
        }
        _ => Some(warmup),
    }
}

/// A section that only some methods need. It is optional for the others, so that one manifest serves
/// every method. Like [`Section::optional`], `Some(None)` without the section.
#[allow(clippy::option_option)]
fn section_if<'a, T>(
    s: &Section<'a>,
    key: &'static str,
    needed: bool,
    read: impl FnOnce(&Section<'a>) -> Option<T>,
) -> Option<Option<T>> {
    if needed { s.section(key, read).map(Some) } else { s.optional(key, |v| v.section(read)) }
}

/// Both splits must have at least one full batch, since incomplete batches are left out. If the number of
/// images is not known yet, this is checked again before the run.
fn check_share(
    value: &Entry<'_>,
    share: f64,
    images: Option<usize>,
    batch: Option<usize>,
) -> Option<f64> {
    let (Some(images), Some(batch)) = (images, batch) else { return Some(share) };
    let of_weights = for_weights(images, share);
    let for_alpha = images - of_weights;
    if of_weights.min(for_alpha) >= batch {
        return Some(share);
    }
    let problem = format!(
        "{share} of {images} images gives a weight split of {of_weights} and an architecture split of \
         {for_alpha} images, and a batch has {batch}"
    );
    let mut ways = Vec::new();
    if images >= 2 * batch {
        ways.push(format!("a share that gives both splits at least {batch}"));
    }
    match of_weights.min(for_alpha) {
        0 if ways.is_empty() => {
            ways.push(format!("a share closer to 0.5 and a batch_size of at most {}", images / 2));
        }
        0 => {}
        most => ways.push(format!("a batch_size of at most {most}")),
    }
    value.fail(problem, format!("give {}", ways.join(", or ")))
}
