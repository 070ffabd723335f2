//! The results database: SQLite behind a blocking façade. All SQL and all of `sqlx` live here.
//!
//! [`Store`] reads and begins runs, a [`RunRecorder`] writes one. The tables are those of
//! `migrations/`. Nothing is open between two calls of a `Store`, so the file is whole, without the
//! write-ahead log beside it, whenever no run is being recorded. While one is, only SQLite may open
//! the file: where this process opens and closes it otherwise, its locks are lost.

mod error;
mod process;
mod read;
mod recorder;
mod rows;
mod scaling;
mod schema;
mod session;
#[cfg(test)]
mod tests;
mod write;
mod writer;

pub use error::StoreError;
pub use recorder::RunRecorder;
pub use rows::{
    ArchitectureRow, FinalResult, ManifestRecord, Measurement, NewRun, PhaseRow, RunRow, RunStatus,
};

use crate::env;
use crate::record::ScalingPoint;
use error::Fault;
use session::{Database, Session};
use sqlx::sqlite::SqliteConnection;
use std::path::Path;

/// An open database.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the database, creates it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: schema::open(path)? })
    }

    /// Enters a new run with its first attempt, and begins its heartbeat.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn begin(&self, run: &NewRun) -> Result<RunRecorder, StoreError> {
        RunRecorder::begin(&self.database, run)
    }

    /// All runs, the oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let now = env::now();
        self.read(async |connection| read::runs(connection, None, now).await)
    }

    /// One run.
    ///
    /// # Errors
    /// When there is none of that id (the message names those there are), or see [`StoreError`].
    pub fn run(&self, id: i64) -> Result<RunRow, StoreError> {
        let now = env::now();
        self.read(async |connection| match read::runs(connection, Some(id), now).await?.pop() {
            Some(run) => Ok(run),
            None => Err(self.no_such_run(connection, id).await),
        })
    }

    /// The measurements of a run's last attempt, by metric, then step.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub fn measurements(&self, id: i64) -> Result<Vec<Measurement>, StoreError> {
        self.read(async |connection| {
            if read::has_run(connection, id).await? {
                read::measurements(connection, id).await
            } else {
                Err(self.no_such_run(connection, id).await)
            }
        })
    }

    /// The points of a run's last attempt, if it is a memory scaling study: by dimension, options,
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
        Session::new(self.database.clone())?.read(work)
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
