//! Counts, times, checks and records the steps of SGD of a loop.

use super::{LoopLength, Mean, Score, Step, learning_rate};
use crate::monitor::Monitor;
use crate::progress::Amount;
use crate::recipe::Sgd;
use crate::record::Metric;
use anyhow::Result;
use std::time::Instant;

/// The metric names of a loop.
#[derive(Clone, Copy, Debug)]
pub struct LoopMetrics {
    /// The loop's name in errors.
    pub of: &'static str,
    pub loss: Metric,
    pub learning_rate: Metric,
    pub seconds: Metric,
    /// The loss at the end, where it is [`far above chance`](Score::is_far_above_chance).
    pub diverged: Metric,
}

impl LoopMetrics {
    pub const SEARCH: Self = Self {
        of: "search",
        loss: Metric::SEARCH_STEP_LOSS,
        learning_rate: Metric::SEARCH_LEARNING_RATE,
        seconds: Metric::SEARCH_STEP_SECONDS,
        diverged: Metric::SEARCH_DIVERGED,
    };
    pub const TRAINING: Self = Self {
        of: "training",
        loss: Metric::TRAIN_STEP_LOSS,
        learning_rate: Metric::TRAIN_LEARNING_RATE,
        seconds: Metric::TRAIN_STEP_SECONDS,
        diverged: Metric::TRAIN_DIVERGED,
    };
}

/// Counts steps of SGD and follows the schedule of the learning rate.
pub struct Steps<'a, 'w> {
    pub names: LoopMetrics,
    pub config: &'a Sgd,
    pub length: LoopLength,
    pub done: u64,
    pub monitor: &'a mut Monitor<'w>,
}

/// The loss is no longer a finite number.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{of}: the loss became {loss} at step {step}{}; a lower learning_rate or a clip_norm helps",
    fault.as_ref().map(|fault| format!(" ({fault})")).unwrap_or_default()
)]
pub struct Diverged {
    pub of: &'static str,
    pub loss: f64,
    pub step: u64,
    /// See [`Step::fault`].
    pub fault: Option<String>,
}

/// Stops a loop whose loss is not a finite number.
///
/// # Errors
/// When the loss is not finite.
pub fn ensure_finite(loss: f64, of: &'static str, step: u64) -> Result<(), Diverged> {
    if loss.is_finite() { Ok(()) } else { Err(Diverged { of, loss, step, fault: None }) }
}

impl<'a, 'w> Steps<'a, 'w> {
    /// After `done` steps of a loop of this length.
    #[must_use]
    pub fn new(
        names: LoopMetrics,
        config: &'a Sgd,
        (done, length): (u64, LoopLength),
        monitor: &'a mut Monitor<'w>,
    ) -> Self {
        Self { names, config, length, done, monitor }
    }

    /// Tells the display that a task of `all` steps starts, or is continued.
    pub fn show_start(&self, task: &str, all: u64) {
        self.monitor.progress.started(task, Amount::Steps(all));
        if self.done > 0 {
            self.monitor.progress.advanced(self.done, "");
        }
    }

    /// The learning rate of the next step.
    #[must_use]
    pub fn rate(&self) -> f64 {
        learning_rate(self.config, self.done, self.length)
    }

    /// Takes the next step, on so many `images`, and adds it to `mean`. `step` gets the number of the
    /// step and its learning rate.
    ///
    /// # Errors
    /// Those of `step`, [`Diverged`], or when the recorder fails.
    pub fn take(
        &mut self,
        images: usize,
        mean: &mut Mean,
        step: impl FnOnce(u64, f64) -> Result<Step>,
    ) -> Result<()> {
        let (number, rate, start) = (self.done, self.rate(), Instant::now());
        let Step { result, fault, .. } = step(number, rate)?;
        ensure_finite(result.loss, self.names.of, number)
            .map_err(|diverged| Diverged { fault, ..diverged })?;
        mean.add(&result, images);
        let metrics = [
            (self.names.loss, result.loss),
            (self.names.learning_rate, rate),
            (self.names.seconds, start.elapsed().as_secs_f64()),
        ];
        self.monitor.measure(number, &metrics)?;
        self.done += 1;
        Ok(())
    }

    /// Ends the loop. A last epoch with a loss far above chance is recorded and remarked: such a loop
    /// finishes, but its result means nothing.
    ///
    /// # Errors
    /// When the recorder fails.
    pub fn finish(&mut self, last: Score, classes: usize) -> Result<()> {
        self.monitor.progress.finished();
        if last.is_far_above_chance(classes) {
            let of = self.names.of;
            self.monitor.progress.remark(&format!(
                "the {of} diverged: its last epoch had a mean loss of {:.3e}, a random guess has \
                 {:.2}; a lower learning_rate or a clip_norm helps",
                last.loss,
                Score::chance(classes).loss
            ));
            self.monitor.measure(0, &[(self.names.diverged, last.loss)])?;
        }
        Ok(())
    }
}
