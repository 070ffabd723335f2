//! Where a database is, and how to behave towards others who use it.

use super::error::StoreError;
use super::place::{self, FileId};
use sqlx::sqlite::SqliteConnectOptions;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How long SQLite itself waits for a lock before the transaction is restarted.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Rows that SQLite's thread may be ahead of the reader. With few, the two threads keep waiting for each
/// other.
const ROWS_AHEAD: usize = 4096;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Database {
    /// As the user named it, for messages.
    pub path: PathBuf,
    pub options: SqliteConnectOptions,
    /// How long readers wait for a lock. Ordinary contention is over within milliseconds.
    pub lock_wait: Duration,
    /// A run that waits for a lock for longer says so.
    pub notice_after: Duration,
    /// Measurements are committed at least this often.
    pub commit_every: Duration,
    /// A sign of life is written at least this often.
    pub heartbeat_every: Duration,
    /// Is told when a run waits for the database, and when it continues.
    pub listener: Listener,
    /// Set by the user to end the program: the start and the end of a run then wait for a lock only for
    /// a moment.
    pub stop: Arc<AtomicBool>,
    /// The kind of network file system that holds the file, if one does.
    pub network: Option<String>,
    /// The file that was opened; `None` until it is known to be ours.
    file: Option<FileId>,
}

/// Receives sentences for the user.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(&str) + Send + Sync>);

impl Listener {
    pub fn new(listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    pub fn notify(&self, sentence: &str) {
        (self.0)(sentence);
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Database {
    /// The database at `path`, which need not exist; the folder must.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        let file = place::resolve(path)?;
        let network = place::network_file_system(&file);
        // SQLite's own default, `synchronous = FULL`, keeps commits through a power cut; at one
        // commit a second it costs nothing.
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            .row_buffer_size(ROWS_AHEAD);
        Ok(Self {
            path: path.to_owned(),
            options,
            lock_wait: Duration::from_mins(1),
            notice_after: Duration::from_secs(5),
            commit_every: Duration::from_secs(1),
            heartbeat_every: Duration::from_secs(5),
            listener: Listener::default(),
            stop: Arc::default(),
            network,
            file: None,
        })
    }

    /// The file, its symbolic links followed.
    pub fn file(&self) -> &Path {
        self.options.get_filename()
    }

    /// Whether the file has been opened.
    pub fn is_pinned(&self) -> bool {
        self.file.is_some()
    }

    /// From now on the file must stay where it is, and is not created again.
    pub fn pin(mut self) -> Result<Self, StoreError> {
        self.options = self.options.create_if_missing(false);
        self.file = FileId::of(self.file());
        if self.file.is_some() { Ok(self) } else { Err(StoreError::Gone(self.path)) }
    }

    /// SQLite silently continues to write to a deleted file.
    pub fn check_in_place(&self) -> Result<(), StoreError> {
        if self.file.is_some() && self.file != FileId::of(self.file()) {
            return Err(StoreError::Gone(self.path.clone()));
        }
        Ok(())
    }
}
