//! The results database: SQLite behind a blocking façade. All SQL and all of `sqlx` live here.
//!
//! [`Store`] reads and starts runs, a [`RunRecorder`] writes one. The tables are those of
//! `migrations/`. Nothing is open between two calls of a `Store`, so the file is complete, without a
//! write-ahead log beside it, whenever no run is being recorded. While one is, only SQLite may open
//! the file: if this process opened and closed it in another way, SQLite would lose its locks.

mod database;
mod error;
mod manifests;
mod measurements;
mod numbers;
mod place;
mod process;
mod read;
mod recorder;
mod reserve;
mod rows;
mod scaling;
mod schema;
mod settings;
#[cfg(test)]
mod tests;
mod transactor;
mod write;
mod writer;

pub use error::StoreError;
pub use recorder::RunRecorder;
pub use rows::{
    ArchitectureRow, DamagedRun, FinalResult, ManifestRecord, Measurement, NewRun, PhaseRow,
    RunRow, RunStatus, StoredRuns,
};
pub use settings::{DEFAULTS, ExperimentKind, SPACE_DEFAULTS, Settings, StoredBudget};

use crate::env;
use crate::record::{Metric, ScalingPoint};
use database::{Database, Listener};
use error::Fault;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use transactor::Transactor;

/// An open database.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    /// Why it is only read, if it is.
    note: Option<String>,
}

impl Store {
    /// Opens the database, creates it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: schema::open(path)?, note: None })
    }

    /// Opens the database to read it. One that cannot be written is read as it is; [`Store::note`]
    /// then says so.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        let (database, note) = schema::open_to_read(path)?;
        Ok(Self { database, note })
    }

    /// What the user should know about how the database was opened: one sentence.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let network = self.database.network.as_ref().map(|kind| {
            format!(
                "{} is on a network file system ({kind}), where readers and writers wait for each \
                 other",
                self.database.path.display()
            )
        });
        self.note.clone().or(network)
    }

    /// Passes sentences to `listener` when a run waits for the database, and when it continues.
    #[must_use]
    pub fn telling(mut self, listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.database.listener = Listener::new(listener);
        self
    }

    /// When `stop` is set, runs that start or end do not wait for a lock for long.
    #[must_use]
    pub fn stopped_by(mut self, stop: Arc<AtomicBool>) -> Self {
        self.database.stop = stop;
        self
    }

    /// Stores a new run with its first attempt, and starts its heartbeat.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn begin(&self, run: &NewRun) -> Result<RunRecorder, StoreError> {
        RunRecorder::begin(&self.database, run)
    }

    /// All runs.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn runs(&self) -> Result<StoredRuns, StoreError> {
        let now = env::now();
        self.read(async |connection| read::runs(connection, None, now).await)
    }

    /// One run.
    ///
    /// # Errors
    /// When there is none of that id (the message names those there are), when it is damaged, or
    /// see [`StoreError`].
    pub fn run(&self, id: i64) -> Result<RunRow, StoreError> {
        let now = env::now();
        self.read(async |connection| {
            let mut runs = read::runs(connection, Some(id), now).await?;
            match (runs.rows.pop(), runs.damaged.pop()) {
                (Some(run), _) => Ok(run),
                (None, Some(damaged)) => {
                    let path = self.database.path.clone();
                    Err(StoreError::DamagedRun { path, damaged }.into())
                }
                (None, None) => Err(self.no_such_run(connection, id).await),
            }
        })
    }

    /// The measurements of a run's last attempt, by metric, then step.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub fn measurements(&self, id: i64) -> Result<Vec<Measurement>, StoreError> {
        self.read(async |connection| {
            if read::has_run(connection, id).await? {
                measurements::of_run(connection, id).await
            } else {
                Err(self.no_such_run(connection, id).await)
            }
        })
    }

    /// The measurements of these metrics, also in repeats, in the last attempts of all runs: by run,
    /// and metric by metric in the order of steps. Much faster than run by run.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn measurements_of(
        &self,
        metrics: &[Metric],
    ) -> Result<BTreeMap<i64, Vec<Measurement>>, StoreError> {
        self.read(async |connection| measurements::of_all_runs(connection, metrics).await)
    }

    /// The points of a run's last attempt, if it is a memory study: by dimension, options,
    /// recompute and repeat.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn scaling_points(&self, id: i64) -> Result<Vec<ScalingPoint>, StoreError> {
        self.read(async |connection| scaling::read(connection, id).await)
    }

    fn read<T>(
        &self,
        work: impl AsyncFn(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        Transactor::new(self.database.clone())?.read(work)
    }

    async fn no_such_run(&self, connection: &mut SqliteConnection, id: i64) -> Fault {
        match read::known_runs(connection).await {
            Ok(known) => {
                StoreError::NoSuchRun { path: self.database.path.clone(), id, known }.into()
            }
            Err(fault) => fault,
        }
    }
}
