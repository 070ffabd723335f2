//! Steps of weights and α, in both orders in which a search alternates between them, with a checkpoint after
//! any of them.

use super::{NextBatch, Relaxation, STAGE};
use crate::checkpoint::Stage;
use crate::data::{Batch, prefetched};
use crate::recipe::{AlphaConfig, Order};
use crate::record::Metric;
use crate::train::{Mean, Score, Steps, ensure_finite};
use anyhow::Result;
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The state of a search that alternates between weights and α.
pub(super) struct Alternating<'a, 'w> {
    pub relaxation: &'a mut dyn Relaxation,
    pub alpha: &'a AlphaConfig,
    pub order: Order,
    /// Steps of the weights.
    pub steps: Steps<'a, 'w>,
    pub alpha_step: u64,
    pub epoch: SearchEpoch,
    pub device: &'a Device,
}

/// An epoch of the search, or the part of it that is done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct SearchEpoch {
    pub number: usize,
    /// Batches of the weights that are done.
    pub weight_batches: usize,
    /// Batches of α that are done.
    pub alpha_batches: usize,
    pub means: EpochMeans,
    pub seconds: f64,
}

/// Means over an epoch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct EpochMeans {
    pub weights: Mean,
    pub alpha: Mean,
    /// Sum of the search loss over images.
    pub alpha_loss: f64,
}

impl EpochMeans {
    pub(super) fn images(&self) -> usize {
        self.weights.images() + self.alpha.images()
    }

    /// The score of the split with the larger loss.
    pub(super) fn worst(&self) -> Score {
        let (weights, alpha) = (self.weights.score(), self.alpha.score());
        if alpha.loss > weights.loss { alpha } else { weights }
    }
}

impl Alternating<'_, '_> {
    /// All steps of the weights, then all steps of α. Both iterators have only batches that are not done.
    pub(super) fn by_epoch(
        &mut self,
        weights: impl Iterator<Item = candle_core::Result<Batch>> + Send,
        alpha: impl Iterator<Item = candle_core::Result<Batch>> + Send,
        tau: f64,
    ) -> Result<()> {
        let clock = self.clock();
        prefetched(self.device, weights, |batches| -> Result<()> {
            for batch in batches {
                self.weight_step(&batch?, tau)?;
                self.step_ended(clock)?;
            }
            Ok(())
        })?;
        prefetched(self.device, alpha, |batches| -> Result<()> {
            for batch in batches {
                self.alpha_step(&batch?, None, tau)?;
                self.step_ended(clock)?;
            }
            Ok(())
        })
    }

    /// One step of α before each step of the weights. The gradient of second order looks at the batch
    /// of that next step.
    pub(super) fn by_minibatch(
        &mut self,
        weights: impl Iterator<Item = candle_core::Result<Batch>> + Send,
        alpha: impl Iterator<Item = candle_core::Result<Batch>> + Send,
        tau: f64,
    ) -> Result<()> {
        let clock = self.clock();
        prefetched(self.device, weights.zip(alpha), |pairs| -> Result<()> {
            for (batch, held_out) in pairs {
                let (batch, held_out) = (batch?, held_out?);
                let next = match self.order {
                    Order::First => None,
                    Order::Second => Some(NextBatch { batch: &batch, rate: self.steps.rate() }),
                };
                self.alpha_step(&held_out, next, tau)?;
                self.weight_step(&batch, tau)?;
                self.step_ended(clock)?;
            }
            Ok(())
        })
    }

    fn weight_step(&mut self, batch: &Batch, tau: f64) -> Result<()> {
        let mean = &mut self.epoch.means.weights;
        self.steps.take(batch.labels.len(), mean, |step, rate| {
            self.relaxation.weight_step(batch, step, tau, rate)
        })?;
        self.epoch.weight_batches += 1;
        self.show(&self.epoch.means.weights);
        Ok(())
    }

    fn alpha_step(&mut self, batch: &Batch, next: Option<NextBatch<'_>>, tau: f64) -> Result<()> {
        let start = Instant::now();
        let step = self.relaxation.alpha_step(self.alpha, batch, next, self.alpha_step, tau)?;
        ensure_finite(step.loss, "search", self.alpha_step)?;
        let means = &mut self.epoch.means;
        means.alpha.add(&step.result, batch.labels.len());
        means.alpha_loss += step.loss * batch.labels.len() as f64;
        self.steps.monitor.measure(
            self.alpha_step,
            &[
                (Metric::SEARCH_ALPHA_STEP_LOSS, step.loss),
                (Metric::SEARCH_ALPHA_LEARNING_RATE, self.alpha.optimizer.learning_rate),
                (Metric::SEARCH_ALPHA_STEP_CROSS_ENTROPY, step.result.loss),
                (Metric::SEARCH_ALPHA_STEP_COST, step.cost),
                (Metric::SEARCH_ALPHA_STEP_SECONDS, start.elapsed().as_secs_f64()),
            ],
        )?;
        self.alpha_step += 1;
        self.epoch.alpha_batches += 1;
        self.show(&self.epoch.means.alpha);
        Ok(())
    }

    fn show(&self, mean: &Mean) {
        let done = self.steps.done + self.alpha_step;
        self.steps.monitor.progress.advanced(done, &mean.note());
    }

    /// Now, and the seconds that the epoch took before.
    fn clock(&self) -> (Instant, f64) {
        (Instant::now(), self.epoch.seconds)
    }

    fn step_ended(&mut self, (start, before): (Instant, f64)) -> Result<()> {
        self.epoch.seconds = before + start.elapsed().as_secs_f64();
        if self.steps.monitor.is_due() {
            let mut stage = Stage::with("epoch", &self.epoch)?;
            stage.put("weight_step", &self.steps.done)?;
            stage.put("alpha_step", &self.alpha_step)?;
            self.relaxation.save(&mut stage)?;
            self.steps.monitor.checkpoint(STAGE, stage)?;
        }
        Ok(())
    }

    /// Continues from a state that was written after a step.
    pub(super) fn restore(&mut self, stage: &Stage) -> Result<()> {
        self.relaxation.restore(stage)?;
        self.epoch = stage.get("epoch")?;
        self.steps.done = stage.get("weight_step")?;
        self.alpha_step = stage.get("alpha_step")?;
        Ok(())
    }
}
