//! What a long loop reports to: the recorder that stores its measurements, the display that shows its
//! progress, the flag that asks it to stop, and the checkpoints from which it is continued.

mod checkpoints;

pub use checkpoints::{CheckpointWriter, Checkpoints};

use crate::checkpoint::Stage;
use crate::env;
use crate::memory;
use crate::progress::Progress;
use crate::record::{Metric, Phase, PhaseUsage, Recorder, Work};
use std::sync::atomic::{AtomicBool, Ordering};

/// The run was asked to stop; what it had measured is kept, and it can be continued.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted; the same command continues it")]
pub struct Interrupted;

/// See the head of this file.
pub struct Monitor<'a> {
    pub recorder: &'a mut dyn Recorder,
    pub progress: &'a dyn Progress,
    pub stop: &'a AtomicBool,
    pub checkpoints: &'a mut Checkpoints,
}

impl Monitor<'_> {
    /// Ends the run if it was asked to stop.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check_stop(&self) -> Result<(), Interrupted> {
        if self.stop.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    /// Stores metrics of one step.
    ///
    /// # Errors
    /// When they cannot be stored.
    pub fn measure(&mut self, step: u64, metrics: &[(Metric, f64)]) -> anyhow::Result<()> {
        self.recorder.measure(step, metrics)
    }

    /// What an earlier attempt has kept of this stage; only the first call returns it.
    pub fn restored(&mut self, stage: &str) -> Option<Stage> {
        self.checkpoints.restored(stage)
    }

    /// Sets the state that later checkpoints have of this stage, until it is set again. The tensors must
    /// not change in place meanwhile.
    pub fn keep(&mut self, stage: &str, state: Stage) {
        self.checkpoints.keep(stage, state);
    }

    /// The stage is over; the one around it keeps its result.
    pub fn forget(&mut self, stage: &str) {
        self.checkpoints.forget(stage);
    }

    /// The tensors that are kept for this stage are not needed any more.
    pub fn forget_tensors(&mut self, stage: &str) {
        self.checkpoints.forget_tensors(stage);
    }

    /// Whether a loop should call [`Monitor::checkpoint`] now: time has passed, or the run was asked to
    /// stop.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.check_stop().is_err() || self.checkpoints.is_due()
    }

    /// Writes a checkpoint in which this stage has this state, then ends the run if it was asked to stop.
    /// Where it cannot be written, the run continues, and the display says why.
    ///
    /// # Errors
    /// When measurements before it cannot be stored, or with [`Interrupted`].
    pub fn checkpoint(&mut self, stage: &str, state: Stage) -> anyhow::Result<()> {
        // Its tensors may change after this.
        self.checkpoints.keep(stage, state);
        let written = self.checkpoints.write(self.recorder, self.progress);
        self.checkpoints.forget(stage);
        written?;
        Ok(self.check_stop()?)
    }

    /// The same with the states that are kept, where no loop is running. Without a stop, only if the last
    /// checkpoint is not a recent one.
    ///
    /// # Errors
    /// As [`Monitor::checkpoint`].
    pub fn checkpoint_between(&mut self) -> anyhow::Result<()> {
        if self.check_stop().is_err() || self.checkpoints.is_worthwhile() {
            self.checkpoints.write(self.recorder, self.progress)?;
        }
        Ok(self.check_stop()?)
    }

    /// Writes a checkpoint of what is kept if it is due. Then runs one phase and records what it took; `work`
    /// returns its result and what it worked through. A phase that was finished before the run was continued is not recorded again.
    ///
    /// # Errors
    /// Those of `work`, when the phase cannot be recorded, or with [`Interrupted`].
    pub fn phase<T>(
        &mut self,
        phase: Phase,
        work: impl FnOnce(&mut Self) -> anyhow::Result<(T, Work)>,
    ) -> anyhow::Result<T> {
        self.checkpoint_between()?;
        if self.checkpoints.has_finished(phase) {
            return Ok(work(self)?.0);
        }
        if !self.checkpoints.has_started(phase) {
            self.recorder.phase_started(phase)?;
        }
        memory::reset_peak();
        self.checkpoints.start(phase, env::now());
        let (result, done) = work(self)?;
        let so_far = self.checkpoints.usage_of(phase);
        let usage = PhaseUsage {
            images: done.images,
            macs: Some(done.macs),
            architectures: Some(done.architectures),
            ..so_far
        };
        self.recorder.phase_finished(phase, usage)?;
        self.checkpoints.finish(phase, usage);
        Ok(result)
    }
}
