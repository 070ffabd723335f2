//! The results database: SQLite behind a blocking façade. All SQL and all of `sqlx` live here.
//!
//! [`Store`] reads and starts runs, a [`RunRecorder`] writes one. The tables are those of
//! `migrations/`. Nothing is open between two calls of a `Store`, so the file is complete, without a
//! write-ahead log beside it, whenever no run is being recorded. While one is, only SQLite may open
//! the file: if this process opened and closed it in another way, SQLite would lose its locks.

mod acquire;
mod backup;
mod check;
mod database;
mod error;
mod keep_alive;
mod manifests;
mod measurements;
mod merge;
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
mod tables;
#[cfg(test)]
mod tests;
mod transactor;
mod write;
mod writer;

pub use acquire::{AcquireRules, Acquired};
pub use backup::Kept;
pub use error::StoreError;
pub use keep_alive::KeepAlive;
pub use merge::Merged;
pub use recorder::RunRecorder;
pub use rows::{
    ArchitectureRow, AttemptRow, Choices, DamagedRun, FinalResult, ManifestRecord, Measurement,
    NewRun, PhaseRow, RunRow, RunStatus, StoredRuns,
};
pub use settings::{DEFAULTS, ExperimentKind, SPACE_DEFAULTS, Settings, StoredBudget};
pub use tables::{Cell, StoredTable};

use crate::artifacts::StoredRun;
use crate::checkpoint::Checkpoint;
use crate::env;
use crate::record::{KnownCheckpoints, Metric, Phase, ScalingPoint};
use database::{Database, Listener};
use error::Fault;
use process::RunProcess;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, query};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use transactor::Transactor;
use write::AttemptEnd;
pub use write::AttemptKey;

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
    pub fn with_listener(mut self, listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.database.listener = Listener::new(listener);
        self
    }

    /// When `stop` is set, runs that start or end do not wait for a lock for long.
    #[must_use]
    pub fn stopped_by(mut self, stop: Arc<AtomicBool>) -> Self {
        self.database.stop = stop;
        self
    }

    /// Acquires a planned run for this process, unless it is finished or another process executes it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn acquire(&self, run: &NewRun, rules: AcquireRules) -> Result<Acquired, StoreError> {
        let (process, now) = (RunProcess::current(), env::now());
        self.acquiring(async |connection| {
            acquire::acquire(connection, run, rules, &process, now).await
        })
    }

    /// Acquires the run of this number, whatever revision of the program began it. `run` describes the new
    /// attempt.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub fn acquire_run(&self, id: i64, run: &NewRun) -> Result<Acquired, StoreError> {
        let (process, now) = (RunProcess::current(), env::now());
        self.acquiring(async |connection| {
            if read::has_run(connection, id).await? {
                acquire::acquire_run(connection, id, run, &process, now).await
            } else {
                Err(self.no_such_run(connection, id).await)
            }
        })
    }

    /// Stores a new run with its first attempt, and starts its heartbeat.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn begin(&self, run: &NewRun) -> Result<RunRecorder, StoreError> {
        let (process, now) = (RunProcess::current(), env::now());
        let key =
            self.acquiring(async |connection| write::begin(connection, run, &process, now).await)?;
        self.record(key, None)
    }

    /// Ends an acquired attempt with an error before anything is recorded.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn fail(&self, key: AttemptKey, error: &str) -> Result<(), StoreError> {
        let (end, now) = (AttemptEnd::Failed(error.to_owned()), env::now());
        self.acquiring(async |connection| {
            write::check_not_replaced(connection, key).await?;
            write::end(connection, key, &end, now).await
        })
    }

    /// Starts the heartbeat of an acquired attempt, and gives it what earlier attempts at its run recorded
    /// before this checkpoint. What they recorded after it is removed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn record(
        &self,
        key: AttemptKey,
        from: Option<&Checkpoint>,
    ) -> Result<RunRecorder, StoreError> {
        RunRecorder::start(&self.database, key, from)
    }

    /// The checkpoints from which an acquired attempt may continue its run: those whose measurements are
    /// here.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn known_checkpoints(&self, key: AttemptKey) -> Result<KnownCheckpoints, StoreError> {
        self.read(async |connection| acquire::known_checkpoints(connection, key).await)
    }

    /// Writes a heartbeat for an acquired attempt until [`Store::record`] starts its own.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn keep_alive(&self, key: AttemptKey) -> Result<KeepAlive, StoreError> {
        KeepAlive::start(&self.database, key)
    }

    /// What is wrong with the file and the references between its tables, one sentence each.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn problems(&self) -> Result<Vec<String>, StoreError> {
        self.read(async |connection| check::problems(connection).await)
    }

    /// All tables as they are.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn tables(&self) -> Result<Vec<StoredTable>, StoreError> {
        self.read(async |connection| tables::read(connection).await)
    }

    /// Writes a copy to the new file `to`, while others may write.
    ///
    /// # Errors
    /// When `to` exists, or see [`StoreError`].
    pub fn backup(&self, to: &Path, kept: Kept) -> Result<(), StoreError> {
        backup::copy(&self.database, to, kept)
    }

    /// Takes over the runs of another database of this program: those that are not here yet under new numbers, and
    /// those that it has continued since. Only their rows: the caller copies their files. The other database
    /// stays as it is; `copy` is a new file for a copy of it. Returns what became of its runs, and its file
    /// with symbolic links followed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn merge(&self, other: &Path, copy: &Path) -> Result<(Vec<Merged>, PathBuf), StoreError> {
        let other = schema::open_unchanged(other)?;
        let file = other.file().to_owned();
        backup::copy(&other, copy, Kept::All)?;
        // Its tables are brought up to date.
        drop(schema::open(copy)?);
        let name = copy.to_str().ok_or_else(|| StoreError::NotUtf8(copy.to_owned()))?;
        let (path, now) = (self.database.path.clone(), env::now());
        let mut transactor = Transactor::new(self.database.clone())?;
        let merged = transactor.outside_transaction(async |connection| {
            query("ATTACH DATABASE ?1 AS other").bind(name).execute(&mut *connection).await?;
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let merged = merge::merge(&mut transaction, &path, now).await?;
            transaction.commit().await?;
            query("DETACH DATABASE other").execute(connection).await?;
            Ok(merged)
        })?;
        Ok((merged, file))
    }

    /// Removes runs with all that was recorded of them. Their numbers are not given again.
    ///
    /// # Errors
    /// When one is running, there is none of a number, or see [`StoreError`].
    pub fn remove(&self, runs: &[i64]) -> Result<(), StoreError> {
        let now = env::now();
        self.acquiring(async |connection| {
            for &id in runs {
                let found = read::runs(connection, Some(id), now).await?;
                match found.rows.first() {
                    Some(run) if run.status == RunStatus::Running => {
                        return Err(StoreError::StillRunning { id }.into());
                    }
                    None if found.damaged.is_empty() => {
                        return Err(self.no_such_run(connection, id).await);
                    }
                    _ => write::remove(connection, id).await?,
                }
            }
            Ok(())
        })
    }

    /// The largest number of a run; 0 where there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn last_run(&self) -> Result<i64, StoreError> {
        self.read(async |connection| acquire::last_run(connection).await)
    }

    /// The database's file, symbolic links followed.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.database.file()
    }

    /// A run's weights and checkpoints.
    #[must_use]
    pub fn files_of(&self, run: i64) -> StoredRun<'_> {
        StoredRun { database: self.database.file(), id: run }
    }

    /// Writes while others may hold the lock, until the user stops the wait.
    fn acquiring<T>(
        &self,
        work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let stop = Arc::clone(&self.database.stop);
        Transactor::patient(self.database.clone(), stop)?
            .write(work)
            .map_err(recorder::unless_stopped)
    }

    /// All runs.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn runs(&self) -> Result<StoredRuns, StoreError> {
        let now = env::now();
        self.read(async |connection| read::runs(connection, None, now).await)
    }

    /// A text that changes when runs start, go on or end, or are removed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn version(&self) -> Result<String, StoreError> {
        self.read(read::version)
    }

    /// All runs, quickly: without phases and probabilities.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn brief_runs(&self) -> Result<StoredRuns, StoreError> {
        let now = env::now();
        self.read(async |connection| {
            read::brief_runs(connection, None, now, read::Problems::default()).await
        })
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

    /// All attempts at a run, the first one first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn attempts(&self, id: i64) -> Result<Vec<AttemptRow>, StoreError> {
        let now = env::now();
        self.read(async |connection| read::attempts(connection, id, now).await)
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

    /// The metrics of a run's last attempt with the last step of each, in the order of their names.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn last_steps(&self, id: i64) -> Result<Vec<(Metric, u64)>, StoreError> {
        self.read(async |connection| measurements::last_steps(connection, id).await)
    }

    /// Passes the measurements of a run's last attempt to `take`, by metric, then step, and a few thousand at
    /// a time: all of one state, without holding all of them in memory. The inner result is an error of `take`,
    /// which ends the reading.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn for_each_measurement<E>(
        &self,
        id: i64,
        mut take: impl FnMut(&[Measurement]) -> Result<(), E>,
    ) -> Result<Result<(), E>, StoreError> {
        let mut has_begun = false;
        Transactor::new(self.database.clone())?.read(async |connection| {
            let mut after = None;
            loop {
                let page = match measurements::page(connection, id, after.as_ref()).await {
                    // The transaction cannot be repeated: `take` has seen a part of it.
                    Err(fault) if has_begun && fault.is_busy() => {
                        let Database { path, lock_wait, .. } = &self.database;
                        let (path, lock_wait) = (path.clone(), *lock_wait);
                        return Err(StoreError::Locked { path, lock_wait }.into());
                    }
                    page => page?,
                };
                has_begun = true;
                if let Err(error) = take(&page.measurements) {
                    return Ok(Err(error));
                }
                match page.last {
                    Some(last) => after = Some(last),
                    None => return Ok(Ok(())),
                }
            }
        })
    }

    /// When each phase of a run's last attempt started, in seconds since 1970, UTC: in the order in which they
    /// started.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn phase_starts(&self, id: i64) -> Result<Vec<(Phase, f64)>, StoreError> {
        self.read(async |connection| read::phase_starts(connection, id).await)
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
