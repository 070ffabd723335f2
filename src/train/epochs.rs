//! The one training loop: epochs of minibatches, one step of SGD each, timed, checked and recorded; it can
//! be continued from a checkpoint after any step. The training of a network, the shared weights of a
//! search and its candidates use it.

use super::{LoopLength, LoopMetrics, Mean, Step, Steps};
use crate::checkpoint::Stage;
use crate::data::{Batch, Loader, prefetched};
use crate::monitor::{Interrupted, Monitor};
use crate::recipe::Sgd;
use anyhow::Result;
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a loop over epochs trains.
pub trait Learner {
    /// Takes step `number` on a batch.
    ///
    /// # Errors
    /// When an operator fails.
    fn step(&mut self, batch: &Batch, number: u64, rate: f64) -> Result<Step>;

    /// An epoch has ended: records its metrics.
    ///
    /// # Errors
    /// When an operator or the recorder fails, or with [`Interrupted`] if nothing was recorded.
    fn epoch_ended(&mut self, epoch: &Epoch, monitor: &mut Monitor<'_>) -> Result<()>;

    /// Adds all that later steps depend on to the state of the loop.
    ///
    /// # Errors
    /// When it cannot be described.
    fn save(&self, stage: &mut Stage) -> Result<()>;

    /// The inverse of [`Learner::save`].
    ///
    /// # Errors
    /// When the state is not one of this learner.
    fn restore(&mut self, stage: &Stage) -> Result<()>;
}

/// An epoch, or the part of it that is done.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Epoch {
    pub number: u64,
    /// Batches that are done.
    pub batches: u64,
    /// Over these.
    pub mean: Mean,
    pub seconds: f64,
}

/// A loop of this many epochs.
pub struct Epochs<'a> {
    pub epochs: u64,
    pub loader: &'a Loader<'a>,
    pub config: &'a Sgd,
    pub metrics: LoopMetrics,
    /// What the display says.
    pub task: &'a str,
    /// Its name in checkpoints.
    pub stage: &'a str,
    pub classes: usize,
    pub device: &'a Device,
}

impl Epochs<'_> {
    /// Trains from the first epoch, or from where a checkpoint left off.
    ///
    /// # Errors
    /// Those of the learner, [`super::Diverged`], when a batch cannot be made, the recorder fails, or the run
    /// was asked to stop.
    pub fn run(&self, learner: &mut dyn Learner, monitor: &mut Monitor<'_>) -> Result<()> {
        let per_epoch = self.loader.batches() as u64;
        let mut epoch = match monitor.restored(self.stage) {
            None => Epoch::default(),
            Some(stage) => {
                learner.restore(&stage)?;
                stage.get("epoch")?
            }
        };
        let done = epoch.number * per_epoch + epoch.batches;
        let length = LoopLength { epochs: self.epochs, per_epoch };
        let mut steps = Steps::new(self.metrics, self.config, (done, length), monitor);
        steps.show_start(self.task, length.steps());
        while epoch.number < self.epochs {
            self.rest_of(&mut epoch, learner, &mut steps)?;
            if let Err(error) = learner.epoch_ended(&epoch, steps.monitor) {
                if error.is::<Interrupted>() {
                    steps.monitor.checkpoint(self.stage, state(learner, &epoch)?)?;
                }
                return Err(error);
            }
            if epoch.number + 1 == self.epochs {
                steps.finish(epoch.mean.score(), self.classes)?;
            }
            epoch = Epoch { number: epoch.number + 1, ..Epoch::default() };
        }
        Ok(())
    }

    /// The batches of an epoch that are not done.
    fn rest_of(
        &self,
        epoch: &mut Epoch,
        learner: &mut dyn Learner,
        steps: &mut Steps<'_, '_>,
    ) -> Result<()> {
        let (start, before) = (Instant::now(), epoch.seconds);
        let rest = self.loader.epoch(epoch.number).skip(epoch.batches as usize);
        prefetched(self.device, rest, |batches| -> Result<()> {
            for batch in batches {
                let batch = batch?;
                steps.take(batch.labels.len(), &mut epoch.mean, |number, rate| {
                    learner.step(&batch, number, rate)
                })?;
                steps.monitor.progress.advanced(steps.done, &epoch.mean.note());
                epoch.batches += 1;
                epoch.seconds = before + start.elapsed().as_secs_f64();
                if steps.monitor.is_due() {
                    steps.monitor.checkpoint(self.stage, state(learner, epoch)?)?;
                }
            }
            Ok(())
        })
    }
}

fn state(learner: &dyn Learner, epoch: &Epoch) -> Result<Stage> {
    let mut stage = Stage::with("epoch", epoch)?;
    learner.save(&mut stage)?;
    Ok(stage)
}
