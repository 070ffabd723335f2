//! Whom a long loop talks to: the recorder that keeps what it measures, the display that shows how
//! far it is, and the flag that asks it to stop.

use crate::memory;
use crate::progress::Progress;
use crate::record::{Metric, Phase, PhaseUsage, Recorder, Work};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The run was asked to stop; what it had measured is kept.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted; what had been measured is in the database")]
pub struct Interrupted;

/// See the head of this file.
pub struct Monitor<'a> {
    pub recorder: &'a mut dyn Recorder,
    pub progress: &'a dyn Progress,
    pub stop: &'a AtomicBool,
}

impl Monitor<'_> {
    /// Ends the run if it was asked to stop.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check_stop(&self) -> Result<(), Interrupted> {
        if self.stop.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    /// Stores metrics of one step, and ends the loop if it was asked to.
    ///
    /// # Errors
    /// When they cannot be stored, or with [`Interrupted`].
    pub fn measure(&mut self, step: u64, metrics: &[(Metric, f64)]) -> anyhow::Result<()> {
        self.recorder.measure(step, metrics)?;
        Ok(self.check_stop()?)
    }

    /// Runs one phase and records what it took; `work` returns its result and what it worked
    /// through.
    ///
    /// # Errors
    /// Those of `work`, when the phase cannot be recorded, or with [`Interrupted`].
    pub fn phase<T>(
        &mut self,
        phase: Phase,
        work: impl FnOnce(&mut Self) -> anyhow::Result<(T, Work)>,
    ) -> anyhow::Result<(T, PhaseUsage)> {
        self.check_stop()?;
        self.recorder.phase_started(phase)?;
        memory::reset_peak();
        let start = Instant::now();
        let (result, done) = work(self)?;
        let usage = PhaseUsage {
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory::peak_bytes(),
            images: done.images,
            macs: Some(done.macs),
            architectures: Some(done.architectures),
        };
        self.recorder.phase_finished(phase, usage)?;
        Ok((result, usage))
    }
}
