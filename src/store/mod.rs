//! The results database: SQLite behind a blocking façade. All SQL and all of `sqlx` live here.

mod rows;

pub use rows::{
    ArchitectureRow, FinalResult, ManifestRecord, Measurement, NewRun, PhaseRow, RunRow, RunStatus,
};

use crate::record::{FoundArchitecture, Phase, PhaseUsage, Recorder};
use std::path::Path;

/// Why the database cannot be used; every message says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct StoreError;

/// An open database.
pub struct Store;

/// Writes one attempt of one run. Dropped without [`RunRecorder::finish`], the attempt counts as
/// interrupted.
pub struct RunRecorder;

impl Store {
    /// Opens the database, creates it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(_path: &Path) -> Result<Self, StoreError> {
        todo!()
    }

    /// Enters a new run with its first attempt, and begins its heartbeat.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn begin(&self, _run: &NewRun) -> Result<RunRecorder, StoreError> {
        todo!()
    }

    /// All runs, the oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn runs(&self) -> Result<Vec<RunRow>, StoreError> {
        todo!()
    }

    /// One run.
    ///
    /// # Errors
    /// When there is none of that id (the message names the nearest), or see [`StoreError`].
    pub fn run(&self, _id: i64) -> Result<RunRow, StoreError> {
        todo!()
    }

    /// The measurements of a run's last attempt, by metric, then step.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn measurements(&self, _id: i64) -> Result<Vec<Measurement>, StoreError> {
        todo!()
    }
}

impl RunRecorder {
    #[must_use]
    pub fn run_id(&self) -> i64 {
        todo!()
    }

    /// The run is complete.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn finish(self, _result: &FinalResult) -> Result<(), StoreError> {
        todo!()
    }

    /// The run ended with an error (`{:#}` of it).
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn fail(self, _error: &str) -> Result<(), StoreError> {
        todo!()
    }

    /// The run was asked to stop.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn interrupt(self) -> Result<(), StoreError> {
        todo!()
    }
}

impl Recorder for RunRecorder {
    fn measure(&mut self, _step: u64, _metrics: &[(&str, f64)]) -> anyhow::Result<()> {
        todo!()
    }

    fn phase_started(&mut self, _phase: Phase) -> anyhow::Result<()> {
        todo!()
    }

    fn phase_finished(&mut self, _phase: Phase, _usage: PhaseUsage) -> anyhow::Result<()> {
        todo!()
    }

    fn architecture(&mut self, _found: &FoundArchitecture) -> anyhow::Result<()> {
        todo!()
    }
}
