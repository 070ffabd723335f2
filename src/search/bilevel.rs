//! The loop of the methods that learn architecture parameters by gradients: epoch by epoch the
//! weights on one part of the images, then α on the other, while the temperature falls (FBNet v1 and
//! FBNetV2, section 3); the likeliest option of every choice is the result.

use super::{ArchParams, SearchOutcome};
use crate::cost::propagate;
use crate::data::{Batch, Dataset, Loader};
use crate::ops::loss::CrossEntropy;
use crate::recipe::SearchConfig;
use crate::rng::Seed;
use crate::space::SearchSpace;
use crate::train::{Mean, Step, ensure_finite, learning_rate};
use crate::watch::Watch;
use anyhow::Result;
use candle_core::Device;
use std::time::Instant;

/// A network whose choices are weighed by gates that follow from α.
pub(super) trait Relaxation {
    /// One step of the weights at temperature τ; α is held.
    fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step>;

    /// One step of α; the weights are held.
    fn alpha_step(&mut self, batch: &Batch, step: u64, tau: f64) -> Result<AlphaStep>;

    fn alpha(&self) -> &ArchParams;
}

/// What a step of α found.
pub(super) struct AlphaStep {
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

/// The loop's two kinds of steps, counted.
struct Loop<'a, 'w> {
    config: &'a SearchConfig,
    weight_batches: Loader<'a>,
    alpha_batches: Loader<'a>,
    step: u64,
    alpha_step: u64,
    watch: &'a mut Watch<'w>,
}

/// Runs the whole search on the training images `indices`.
pub(super) fn search(
    relaxation: &mut impl Relaxation,
    space: &SearchSpace,
    (dataset, indices): (&Dataset, &[usize]),
    config: &SearchConfig,
    seed: Seed,
    device: &Device,
    watch: &mut Watch<'_>,
) -> Result<SearchOutcome> {
    let split = (indices.len() as f64 * config.weight_share).round() as usize;
    let (for_weights, for_alpha) = indices.split_at(split);
    let loader = |images: &[usize], label: &str| {
        let (size, augment) = (config.batch_size, config.augment);
        Loader::training(dataset, images.to_vec(), size, augment, seed, label).on(device)
    };
    let mut state = Loop {
        config,
        weight_batches: loader(for_weights, "search/weights"),
        alpha_batches: loader(for_alpha, "search/alpha"),
        step: 0,
        alpha_step: 0,
        watch,
    };
    let alpha_epochs = config.epochs - config.warmup_epochs;
    let alpha_steps = (alpha_epochs * state.alpha_batches.batches()) as u64;
    state.watch.progress.started("searching", state.weight_steps() + alpha_steps);
    let mut images = 0;
    for epoch in 0..config.epochs {
        let tau = config.temperature.initial * config.temperature.decay.powi(epoch as i32);
        let start = Instant::now();
        let mut means = Epoch::default();
        state.train_weights(relaxation, epoch as u64, tau, &mut means)?;
        if epoch >= config.warmup_epochs {
            state.train_alpha(relaxation, epoch as u64, tau, &mut means)?;
        }
        images += means.images() as u64;
        let mut metrics = epoch_metrics(space, relaxation.alpha(), &means);
        let rate = means.images() as f64 / start.elapsed().as_secs_f64();
        metrics.extend([("search.tau", tau), ("search.images_per_second", rate)]);
        state.watch.measure(epoch as u64, &metrics)?;
    }
    state.watch.progress.finished();
    let decisions = relaxation.alpha().decide(space);
    let arch = space.decide(&decisions);
    let probabilities = relaxation.alpha().named_probabilities(space);
    Ok(SearchOutcome { decisions, arch, probabilities, images })
}

impl Loop<'_, '_> {
    fn weight_steps(&self) -> u64 {
        (self.config.epochs * self.weight_batches.batches()) as u64
    }

    fn train_weights(
        &mut self,
        relaxation: &mut impl Relaxation,
        epoch: u64,
        tau: f64,
        means: &mut Epoch,
    ) -> Result<()> {
        let steps = self.weight_steps();
        for batch in self.weight_batches.epoch(epoch) {
            let (batch, start) = (batch?, Instant::now());
            let rate = learning_rate(&self.config.weights, self.step, steps);
            let result = relaxation.weight_step(&batch, self.step, tau, rate)?.result;
            ensure_finite(result.loss, "search", self.step)?;
            means.weights.add(&result, batch.labels.len());
            self.watch.measure(
                self.step,
                &[
                    ("search.step_loss", result.loss),
                    ("search.learning_rate", rate),
                    ("search.step_seconds", start.elapsed().as_secs_f64()),
                ],
            )?;
            self.step += 1;
            self.watch.progress.advanced(self.step + self.alpha_step, &means.weights.note());
        }
        Ok(())
    }

    fn train_alpha(
        &mut self,
        relaxation: &mut impl Relaxation,
        epoch: u64,
        tau: f64,
        means: &mut Epoch,
    ) -> Result<()> {
        for batch in self.alpha_batches.epoch(epoch) {
            let (batch, start) = (batch?, Instant::now());
            let found = relaxation.alpha_step(&batch, self.alpha_step, tau)?;
            ensure_finite(found.loss, "search", self.alpha_step)?;
            means.alpha.add(&found.result, batch.labels.len());
            means.alpha_loss += found.loss * batch.labels.len() as f64;
            self.watch.measure(
                self.alpha_step,
                &[
                    ("search.alpha.step_loss", found.loss),
                    ("search.alpha.learning_rate", self.config.alpha.learning_rate),
                    ("search.alpha.step_cross_entropy", found.result.loss),
                    ("search.alpha.step_cost", found.cost),
                    ("search.alpha.step_seconds", start.elapsed().as_secs_f64()),
                ],
            )?;
            self.alpha_step += 1;
            self.watch.progress.advanced(self.step + self.alpha_step, &means.alpha.note());
        }
        Ok(())
    }
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
    let names = ["search.entropy.type", "search.entropy.expansion", "search.entropy.width"];
    metrics.extend(names.into_iter().zip(alpha.entropies().map(|(_, h)| h)));
    metrics
}
