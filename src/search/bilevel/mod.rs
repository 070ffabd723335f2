//! The loop of the methods that learn architecture parameters α by gradients: it alternates between
//! training the weights on the weight split and α on the architecture split, while the temperature
//! falls. The result is the most probable option of every choice. It alternates by epoch (FBNet v1 and
//! FBNetV2, section 3) or by minibatch (DARTS).

mod steps;
#[cfg(test)]
mod tests;

use super::budget::{budget_metrics, most_probable, preferences};
use super::hypergradient::NextBatch;
use super::score::split;
use super::{ArchParams, SearchData, SearchOutcome, relaxation};
use crate::checkpoint::Stage;
use crate::cost::propagate;
use crate::data::{Batch, Loader};
use crate::monitor::Monitor;
use crate::net::SharedWeights;
use crate::nn::Params;
use crate::ops::loss::BatchLoss;
use crate::recipe::{AlphaConfig, Alternation, GradientSearch, Method, SearchConfig};
use crate::record::{Metric, Work};
use crate::rng::Seed;
use crate::space::{Decisions, SearchSpace};
use crate::train::{LoopLength, LoopMetrics, Step, Steps};
use anyhow::{Context, Result, ensure};
use std::iter;
use steps::{Alternating, EpochMeans, SearchEpoch};

/// The name of the loop in checkpoints.
const STAGE: &str = "search";

/// A network whose choices are weighted by gates that follow from α.
pub trait Relaxation {
    /// One step of the weights at temperature τ; α is constant.
    ///
    /// # Errors
    /// When an operator fails.
    fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step>;

    /// One step of α on a held-out batch; the weights are constant. The gradient is of second order
    /// where the `next` batch of the weights is given.
    ///
    /// # Errors
    /// When an operator fails.
    fn alpha_step(
        &mut self,
        config: &AlphaConfig,
        batch: &Batch,
        next: Option<NextBatch<'_>>,
        step: u64,
        tau: f64,
    ) -> Result<AlphaStep>;

    fn alpha(&self) -> &ArchParams;

    /// The weights.
    fn params(&self) -> &Params;

    /// The compute of all steps so far.
    fn work(&self) -> Work;

    /// Adds all that later steps depend on to a state, which is to be written at once.
    ///
    /// # Errors
    /// When it cannot be described.
    fn save(&self, stage: &mut Stage) -> Result<()>;

    /// The inverse of [`Relaxation::save`].
    ///
    /// # Errors
    /// When the state is of another supernet.
    fn restore(&mut self, stage: &Stage) -> Result<()>;
}

/// The losses of one step of α.
pub struct AlphaStep {
    pub result: BatchLoss,
    /// The search loss.
    pub loss: f64,
    /// Expected cost in its unit.
    pub cost: f64,
}

/// The weight split and the architecture split, in batches.
struct Splits<'a> {
    weights: Loader<'a>,
    alpha: Loader<'a>,
}

impl<'a> Splits<'a> {
    fn of(data: SearchData<'a>, config: &SearchConfig, seed: Seed) -> Result<Self> {
        let SearchData { dataset, indices, device } = data;
        let (for_weights, for_alpha) = split(indices, config);
        let loader = |images: &[usize], label: &str| {
            let (size, augment) = (config.batch_size, config.augment);
            let loader = Loader::training(dataset, images.to_vec(), size, augment, seed, label);
            loader.share(config.scale).on(device)
        };
        let weights = loader(for_weights, "search/weights");
        let alpha = loader(for_alpha, "search/alpha");
        ensure!(
            weights.batches() > 0 && alpha.batches() > 0,
            "the weight split has {} images and the architecture split {}; both need at least the \
             batch size, {}",
            for_weights.len(),
            for_alpha.len(),
            config.batch_size
        );
        Ok(Self { weights, alpha })
    }

    /// The batches of the architecture split from that of this step on, pass after pass: DARTS passes over
    /// it as often as it needs batches.
    fn alpha_from(&self, step: u64) -> impl Iterator<Item = candle_core::Result<Batch>> + Send {
        let batches = self.alpha.batches() as u64;
        let (first, done) = (step / batches, step % batches);
        (first..).flat_map(move |pass| {
            self.alpha.epoch(pass).skip(if pass == first { done as usize } else { 0 })
        })
    }
}

/// Runs the whole search.
pub(super) fn search(
    space: &SearchSpace,
    data: SearchData<'_>,
    method: &Method,
    config: &SearchConfig,
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<SearchOutcome> {
    let step = config.step(method).context("the method has no supernet")?;
    let gradient = method.gradient().context("the method learns no architecture parameters")?;
    let mut relaxation = relaxation(space, &step, seed, data.device)?;
    let outcome = learn(&mut *relaxation, space, data, (&gradient, config), seed, monitor)?;
    let shares = method.name().shares_weights();
    let shared = shares.then(|| SharedWeights::of(space, relaxation.params().clone()));
    Ok(SearchOutcome { shared, ..outcome })
}

/// Trains a fresh relaxation and decides by its α.
fn learn(
    relaxation: &mut dyn Relaxation,
    space: &SearchSpace,
    data: SearchData<'_>,
    (gradient, config): (&GradientSearch, &SearchConfig),
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<SearchOutcome> {
    let splits = Splits::of(data, config, seed)?;
    let GradientSearch { alpha, temperature, alternation, order } = gradient;
    let epochs = config.epochs as u64;
    let length = LoopLength { epochs, per_epoch: splits.weights.batches() as u64 };
    let per_epoch = match alternation {
        Alternation::Epochs => splits.alpha.batches(),
        Alternation::Minibatches => splits.weights.batches(),
    };
    let alpha_steps = ((config.epochs - alpha.warmup_epochs) * per_epoch) as u64;
    let restored = monitor.restored(STAGE);
    let steps = Steps::new(LoopMetrics::SEARCH, &config.weights, (0, length), monitor);
    let (order, epoch, device) = (*order, SearchEpoch::default(), data.device);
    let mut state = Alternating { relaxation, alpha, order, steps, alpha_step: 0, epoch, device };
    if let Some(stage) = restored {
        state.restore(&stage)?;
    }
    state.steps.show_start("searching", length.steps() + alpha_steps);
    while state.epoch.number < config.epochs {
        let number = state.epoch.number;
        let tau = temperature.at(number, config.epochs);
        let weights = splits.weights.epoch(number as u64).skip(state.epoch.weight_batches);
        match alternation {
            _ if number < alpha.warmup_epochs => state.by_epoch(weights, iter::empty(), tau)?,
            Alternation::Epochs => {
                let done = state.epoch.alpha_batches;
                state.by_epoch(weights, splits.alpha.epoch(number as u64).skip(done), tau)?;
            }
            Alternation::Minibatches => {
                let alpha = splits.alpha_from(state.alpha_step);
                state.by_minibatch(weights, alpha, tau)?;
            }
        }
        let SearchEpoch { means, seconds, .. } = &state.epoch;
        let mut metrics = epoch_metrics(space, state.relaxation.alpha(), means);
        let rate = means.images() as f64 / seconds;
        let executed = state.relaxation.work().macs as f64;
        metrics.extend([(Metric::SEARCH_TAU, tau), (Metric::SEARCH_IMAGES_PER_SECOND, rate)]);
        metrics.extend([
            (Metric::SEARCH_EXECUTED_MACS, executed),
            (Metric::SEARCH_WEIGHT_STEPS, state.steps.done as f64),
            (Metric::SEARCH_ALPHA_STEPS, state.alpha_step as f64),
        ]);
        state.steps.monitor.measure(number as u64, &metrics)?;
        if number + 1 == config.epochs {
            state.steps.finish(means.worst(), space.classes)?;
        }
        state.epoch = SearchEpoch { number: number + 1, ..SearchEpoch::default() };
    }
    let alpha = state.relaxation.alpha();
    let decisions = decide(space, alpha, (config, seed), state.steps.monitor)?;
    let arch = space.decide(&decisions);
    let probabilities = alpha.named_probabilities(space);
    let resolutions = alpha.resolution_probabilities(space);
    let work = state.relaxation.work();
    Ok(SearchOutcome { decisions, arch, probabilities, resolutions, work, shared: None })
}

/// The most probable decisions, within the budget if there is one.
fn decide(
    space: &SearchSpace,
    alpha: &ArchParams,
    (config, seed): (&SearchConfig, Seed),
    monitor: &mut Monitor<'_>,
) -> Result<Decisions> {
    let argmax = alpha.decide(seed);
    let Some(budget) = &config.budget else { return Ok(argmax) };
    let within = most_probable(space, &preferences(&alpha.probabilities()), budget)?;
    monitor.measure(0, &budget_metrics(space, &argmax, &within))?;
    Ok(within)
}

/// Loss, accuracy and expected cost of an epoch, and the entropy of the choices.
fn epoch_metrics(
    space: &SearchSpace,
    alpha: &ArchParams,
    means: &EpochMeans,
) -> Vec<(Metric, f64)> {
    let expected = propagate(space, &alpha.probabilities(), &1.0).cost;
    let mut metrics = vec![
        (Metric::SEARCH_LOSS, means.weights.score().loss),
        (Metric::SEARCH_TOP1, means.weights.score().top1),
        (Metric::SEARCH_EXPECTED_MACS, expected.macs),
        (Metric::SEARCH_EXPECTED_PARAMS, expected.params),
    ];
    if means.alpha.images() > 0 {
        metrics.push((Metric::SEARCH_ALPHA_CROSS_ENTROPY, means.alpha.score().loss));
        metrics.push((Metric::SEARCH_ALPHA_LOSS, means.alpha_loss / means.alpha.images() as f64));
        metrics.push((Metric::SEARCH_ALPHA_TOP1, means.alpha.score().top1));
    }
    metrics.extend(alpha.entropies());
    metrics
}
