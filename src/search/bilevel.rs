//! The loop of the methods that learn architecture parameters by gradients: the weights on one part
//! of the images, α on the other, in turns, while the temperature falls; the likeliest option of every
//! choice is the result. The turns are epochs (FBNet v1 and FBNetV2, section 3) or minibatches (DARTS).

use super::hypergradient::Upcoming;
use super::score::split;
use super::{ArchParams, Images, SearchOutcome, most_probable, preferences, relaxation};
use crate::cost::{self, propagate};
use crate::data::{Batch, Loader};
use crate::net::SharedWeights;
use crate::nn::Params;
use crate::ops::loss::CrossEntropy;
use crate::recipe::{Adam, Method, SearchConfig};
use crate::record::Work;
use crate::rng::Seed;
use crate::space::{Decisions, SearchSpace};
use crate::train::{Mean, Names, Step, Steps, ensure_finite};
use crate::watch::Watch;
use anyhow::{Result, ensure};
use std::iter;
use std::time::Instant;

/// A network whose choices are weighed by gates that follow from α.
pub trait Relaxation {
    /// One step of the weights at temperature τ; α is held.
    ///
    /// # Errors
    /// When an operator fails.
    fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step>;

    /// One step of α on held-out images; the weights are held. `upcoming` is what the weights are
    /// about to learn from, where the turns are minibatches.
    ///
    /// # Errors
    /// When an operator fails.
    fn alpha_step(
        &mut self,
        batch: &Batch,
        upcoming: Option<Upcoming<'_>>,
        step: u64,
        tau: f64,
    ) -> Result<AlphaStep>;

    fn alpha(&self) -> &ArchParams;

    /// The weights.
    fn params(&self) -> &Params;

    /// What all steps so far worked through.
    fn work(&self) -> Work;
}

/// What a step of α found.
pub struct AlphaStep {
    pub result: CrossEntropy,
    /// The search loss.
    pub loss: f64,
    /// Expected cost in its unit.
    pub cost: f64,
}

/// Means over an epoch.
#[derive(Default)]
struct Epoch {
    weights: Mean,
    alpha: Mean,
    /// Sum of the search loss over images.
    alpha_loss: f64,
}

impl Epoch {
    fn images(&self) -> usize {
        self.weights.images() + self.alpha.images()
    }
}

/// How long weights and α each have their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    /// All of the weights' images, then all of α's.
    Epochs,
    /// One minibatch of α, then one of the weights; an epoch is one of the weights' images.
    Minibatches,
}

impl Turns {
    fn of(method: Method) -> Self {
        if method.is_darts() { Self::Minibatches } else { Self::Epochs }
    }
}

/// The images of the two kinds of steps.
struct Parts<'a> {
    weights: Loader<'a>,
    alpha: Loader<'a>,
}

/// The two kinds of steps, counted.
struct Loop<'a, 'w> {
    relaxation: &'a mut dyn Relaxation,
    alpha: &'a Adam,
    /// Those of the weights.
    steps: Steps<'a, 'w>,
    alpha_step: u64,
}

/// Runs the whole search.
pub(super) fn search(
    space: &SearchSpace,
    images: Images<'_>,
    config: &SearchConfig,
    seed: Seed,
    watch: &mut Watch<'_>,
) -> Result<SearchOutcome> {
    let mut relaxation = relaxation(space, config, seed, images.device)?;
    let relaxation = &mut *relaxation;
    let parts = Parts::of(images, config, seed)?;
    let turns = Turns::of(config.method);
    let steps = (config.epochs * parts.weights.batches()) as u64;
    let per_epoch = match turns {
        Turns::Epochs => parts.alpha.batches(),
        Turns::Minibatches => parts.weights.batches(),
    };
    let alpha_steps = ((config.epochs - config.warmup_epochs) * per_epoch) as u64;
    watch.progress.started("searching", steps + alpha_steps);
    let steps = Steps::new(Names::SEARCH, &config.weights, steps, watch);
    let mut state = Loop { relaxation, alpha: &config.alpha, steps, alpha_step: 0 };
    // Where the turns are minibatches, α's images go round as they last.
    let mut round = (0..).flat_map(|pass| parts.alpha.epoch(pass));
    for epoch in 0..config.epochs {
        let tau = config.tau(epoch);
        let start = Instant::now();
        let weights = parts.weights.epoch(epoch as u64);
        let means = match turns {
            _ if epoch < config.warmup_epochs => state.epoch(weights, iter::empty(), tau)?,
            Turns::Epochs => state.epoch(weights, parts.alpha.epoch(epoch as u64), tau)?,
            Turns::Minibatches => state.alternating_epoch(weights, &mut round, tau)?,
        };
        let mut metrics = epoch_metrics(space, state.relaxation.alpha(), &means);
        let rate = means.images() as f64 / start.elapsed().as_secs_f64();
        metrics.extend([("search.tau", tau), ("search.images_per_second", rate)]);
        state.steps.watch.measure(epoch as u64, &metrics)?;
    }
    state.steps.watch.progress.finished();
    let alpha = state.relaxation.alpha();
    let decisions = match &config.budget {
        Some(budget) => {
            let within = most_probable(space, &preferences(&alpha.probabilities()), budget)?;
            let metrics = budget_metrics(space, &alpha.decide(), &within);
            state.steps.watch.measure(0, &metrics)?;
            within
        }
        None => alpha.decide(),
    };
    let arch = space.decide(&decisions);
    let probabilities = alpha.named_probabilities(space);
    let resolutions = alpha.resolution_probabilities(space);
    let work = state.relaxation.work();
    let shares = config.method.shares_weights();
    let shared = shares.then(|| SharedWeights::of(space, state.relaxation.params().clone()));
    Ok(SearchOutcome { decisions, arch, probabilities, resolutions, work, shared })
}

impl<'a> Parts<'a> {
    fn of(images: Images<'a>, config: &SearchConfig, seed: Seed) -> Result<Self> {
        let Images { dataset, indices, device } = images;
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
            "{} images for the weights and {} for the architecture parameters do not both fill a \
             batch of {}",
            for_weights.len(),
            for_alpha.len(),
            config.batch_size
        );
        Ok(Self { weights, alpha })
    }
}

impl Loop<'_, '_> {
    /// All weight steps of an epoch, then all steps of α.
    fn epoch(
        &mut self,
        weights: impl Iterator<Item = candle_core::Result<Batch>>,
        alpha: impl Iterator<Item = candle_core::Result<Batch>>,
        tau: f64,
    ) -> Result<Epoch> {
        let mut means = Epoch::default();
        for batch in weights {
            self.weight_turn(&batch?, tau, &mut means)?;
        }
        for batch in alpha {
            self.alpha_turn(&batch?, None, tau, &mut means)?;
        }
        Ok(means)
    }

    /// Before each weight step one of α, which knows what the weights are about to learn from.
    fn alternating_epoch(
        &mut self,
        weights: impl Iterator<Item = candle_core::Result<Batch>>,
        alpha: impl Iterator<Item = candle_core::Result<Batch>>,
        tau: f64,
    ) -> Result<Epoch> {
        let mut means = Epoch::default();
        for (batch, held_out) in weights.zip(alpha) {
            let (batch, held_out) = (batch?, held_out?);
            let upcoming = Upcoming { batch: &batch, rate: self.steps.rate() };
            self.alpha_turn(&held_out, Some(upcoming), tau, &mut means)?;
            self.weight_turn(&batch, tau, &mut means)?;
        }
        Ok(means)
    }

    fn weight_turn(&mut self, batch: &Batch, tau: f64, means: &mut Epoch) -> Result<()> {
        self.steps.take(batch.labels.len(), &mut means.weights, |step, rate| {
            self.relaxation.weight_step(batch, step, tau, rate)
        })?;
        self.show(&means.weights);
        Ok(())
    }

    fn alpha_turn(
        &mut self,
        batch: &Batch,
        upcoming: Option<Upcoming<'_>>,
        tau: f64,
        means: &mut Epoch,
    ) -> Result<()> {
        let start = Instant::now();
        let found = self.relaxation.alpha_step(batch, upcoming, self.alpha_step, tau)?;
        ensure_finite(found.loss, "search", self.alpha_step)?;
        means.alpha.add(&found.result, batch.labels.len());
        means.alpha_loss += found.loss * batch.labels.len() as f64;
        self.steps.watch.measure(
            self.alpha_step,
            &[
                ("search.alpha.step_loss", found.loss),
                ("search.alpha.learning_rate", self.alpha.learning_rate),
                ("search.alpha.step_cross_entropy", found.result.loss),
                ("search.alpha.step_cost", found.cost),
                ("search.alpha.step_seconds", start.elapsed().as_secs_f64()),
            ],
        )?;
        self.alpha_step += 1;
        self.show(&means.alpha);
        Ok(())
    }

    fn show(&self, mean: &Mean) {
        let done = self.steps.done + self.alpha_step;
        self.steps.watch.progress.advanced(done, &mean.note());
    }
}

/// How much the budget decided: what the likeliest options together would have cost, and how many
/// decisions had to change.
fn budget_metrics(
    space: &SearchSpace,
    likeliest: &Decisions,
    within: &Decisions,
) -> [(&'static str, f64); 3] {
    let cost = cost::count(&space.decide(likeliest));
    [
        ("search.budget.macs_unconstrained", cost.macs as f64),
        ("search.budget.params_unconstrained", cost.params as f64),
        ("search.budget.changed", changed(space, likeliest, within) as f64),
    ]
}

/// In how many choices two lists of decisions differ; a type that several blocks share counts once.
fn changed(space: &SearchSpace, a: &Decisions, b: &Decisions) -> usize {
    let blocks = a.blocks.iter().zip(&b.blocks).zip(&space.blocks);
    let of_blocks = blocks.map(|((a, b), choices)| {
        let repeated = space.share_types && choices.index > 0;
        let differ = [
            !repeated && a.block_type != b.block_type,
            a.expansion != b.expansion,
            a.width != b.width,
        ];
        differ.into_iter().filter(|differs| *differs).count()
    });
    usize::from(a.resolution != b.resolution) + of_blocks.sum::<usize>()
}

/// How the network does, and how far the choices have settled.
fn epoch_metrics(
    space: &SearchSpace,
    alpha: &ArchParams,
    means: &Epoch,
) -> Vec<(&'static str, f64)> {
    let expected = propagate(space, &alpha.probabilities(), &1.0).cost;
    let mut metrics = vec![
        ("search.loss", means.weights.score().loss),
        ("search.top1", means.weights.score().top1),
        ("search.expected_macs", expected.macs),
        ("search.expected_params", expected.params),
    ];
    if means.alpha.images() > 0 {
        metrics.push(("search.alpha.cross_entropy", means.alpha.score().loss));
        metrics.push(("search.alpha.loss", means.alpha_loss / means.alpha.images() as f64));
        metrics.push(("search.alpha.top1", means.alpha.score().top1));
    }
    metrics.extend(alpha.entropies());
    metrics
}
