//! One connection to the database, used in whole transactions: the place where async ends and
//! where patience with other processes lives.

use super::error::{Fault, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long SQLite itself waits for a lock before the transaction is begun anew.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two tries where SQLite reports a lock without waiting.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Where the database is, and how to behave towards others who use it.
#[derive(Clone, Debug)]
pub struct Database {
    /// As the user named it, for messages.
    pub path: PathBuf,
    pub options: SqliteConnectOptions,
    /// Ordinary contention is over within milliseconds; past this something hangs.
    pub lock_wait: Duration,
    /// Measurements are committed at least this often.
    pub commit_every: Duration,
    /// A sign of life is written at least this often.
    pub heartbeat_every: Duration,
    /// The file that was opened; `None` until it is known to be ours.
    file: Option<FileId>,
}

impl Database {
    /// The database at `path`, which need not exist; the folder must.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        if path.is_dir() {
            return Err(StoreError::IsFolder(path.to_owned()));
        }
        // An absolute name survives a change of folder, and SQLite never takes it for a URI.
        let absolute = std::path::absolute(path)
            .map_err(|e| StoreError::Other { path: path.to_owned(), cause: e.to_string() })?;
        if let Some(folder) = absolute.parent().filter(|folder| !folder.is_dir()) {
            return Err(StoreError::NoFolder { path: path.to_owned(), folder: folder.to_owned() });
        }
        // SQLite's own default, `synchronous = FULL`, keeps commits through a power cut; at one
        // commit a second it costs nothing.
        let options = SqliteConnectOptions::new()
            .filename(absolute)
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT);
        Ok(Self {
            path: path.to_owned(),
            options,
            lock_wait: Duration::from_mins(1),
            commit_every: Duration::from_secs(1),
            heartbeat_every: Duration::from_secs(5),
            file: None,
        })
    }

    /// From now on the file must stay where it is, and is not created again.
    pub fn pin(mut self) -> Result<Self, StoreError> {
        self.options = self.options.create_if_missing(false);
        self.file = FileId::of(self.options.get_filename());
        if self.file.is_some() { Ok(self) } else { Err(StoreError::Gone(self.path)) }
    }

    /// SQLite goes on writing to a deleted file without a word.
    fn check_in_place(&self) -> Result<(), StoreError> {
        if self.file.is_some() && self.file != FileId::of(self.options.get_filename()) {
            return Err(StoreError::Gone(self.path.clone()));
        }
        Ok(())
    }
}

/// Tells a file from another one that took its name. The file is only looked at: opening and
/// closing it would drop the locks that SQLite holds on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|file| Self(file.dev(), file.ino()))
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|_| Self(0, 0))
    }
}

/// A connection that is opened when needed and opened anew after every error, so that nothing of a
/// failed transaction is left for the next one.
pub struct Session {
    pub database: Database,
    runtime: Runtime,
    connection: Option<SqliteConnection>,
}

impl Session {
    pub fn new(database: Database) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| StoreError::Other { path: database.path.clone(), cause: e.to_string() })?;
        Ok(Self { database, runtime, connection: None })
    }

    /// Reads one consistent state.
    pub fn read<T>(
        &mut self,
        work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.transaction("BEGIN", work)
    }

    /// Writes all or nothing. `IMMEDIATE`: the lock is taken, and waited for, before anything is
    /// read, so that no transaction fails halfway because another one was faster.
    pub fn write<T>(
        &mut self,
        work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.transaction("BEGIN IMMEDIATE", work)
    }

    fn transaction<T>(
        &mut self,
        begin: &'static str,
        mut work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.outside_transaction(async |connection| {
            let mut transaction = connection.begin_with(begin).await?;
            let value = work(&mut transaction).await?;
            transaction.commit().await?;
            Ok(value)
        })
    }

    /// Runs `work` until it succeeds, as long as only locks are in its way.
    pub fn outside_transaction<T>(
        &mut self,
        mut work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        loop {
            let fault = match self.attempt(&mut work) {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            self.disconnect();
            let lock_wait = self.database.lock_wait;
            if !fault.is_busy() || start.elapsed() >= lock_wait {
                let was_there = self.database.file.is_some();
                return Err(fault.explain(&self.database.path, lock_wait, was_there));
            }
            thread::sleep(RETRY_AFTER);
        }
    }

    fn attempt<T>(
        &mut self,
        work: &mut impl AsyncFnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.database.check_in_place()?;
        let value = self.runtime.block_on(async {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => none.insert(self.database.options.connect().await?),
            };
            work(connection).await
        })?;
        self.database.check_in_place()?;
        Ok(value)
    }

    /// The last connection to close takes the log into the database and deletes it.
    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            // What is left undone here, the next one to open the database does.
            let _ = self.runtime.block_on(connection.close());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.disconnect();
    }
}
