//! What can go wrong with the database, in messages for the user.

use super::rows::DamagedRun;
use crate::record::Metric;
use sqlx::migrate::MigrateError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the database cannot be used. Every message says what, where and what to do, and is complete: no
/// variant has a source that would repeat part of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{path}: the folder {folder} does not exist; create it, or name a database in a folder that does"
    )]
    NoFolder { path: PathBuf, folder: PathBuf },
    #[error("{0} is a folder; name a file for the database, as in {example}", example = .0.join("results.db").display())]
    IsFolder(PathBuf),
    #[error("{0} is not a regular file; name another one for the database")]
    NotAFile(PathBuf),
    #[error("{0:?} is not UTF-8, as SQLite requires; name another file for the database")]
    NotUtf8(PathBuf),
    #[error(
        "{0} has more than one name (hard links), so two writers could overwrite each other's runs; remove the other names or copy the file, and name the copy"
    )]
    OtherNames(PathBuf),
    #[error(
        "{0} was written by an earlier version, and its tables cannot be brought up to date because it cannot be written; copy it to where it can be, and name the copy"
    )]
    BehindAndReadOnly(PathBuf),
    #[error("{0} is not an SQLite database and was left as it is; name another file")]
    NotADatabase(PathBuf),
    #[error(
        "{0} is an SQLite database of another program and was left as it is; name another file"
    )]
    Foreign(PathBuf),
    #[error(
        "{path} is damaged ({cause}); replace it by a backup, or save what can be read with `sqlite3 {path} .recover`"
    )]
    Damaged { path: PathBuf, cause: String },
    #[error(
        "{path} was written by a newer version of this program: its tables are at migration {found}, this version knows {known}; use the newer program, or name another database"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{path}: its migration {version} differs from that of this program, so its tables may differ too; use the program that created it, or name another database"
    )]
    OtherMigration { path: PathBuf, version: i64 },
    #[error(
        "{path} is locked: another process has been writing to it for more than {} s; wait for that process or end it (`fuser -v {path}` shows who has it open), then try again", .lock_wait.as_secs_f32()
    )]
    Locked { path: PathBuf, lock_wait: Duration },
    #[error(
        "{0} is locked by another program, and the wait for it was stopped, so no run was started (`fuser -v {0}` shows who has it open)"
    )]
    Stopped(PathBuf),
    #[error(
        "{path} cannot grow: the disk or its quota is full ({cause}); free some space and try again; what was stored before is intact"
    )]
    Full { path: PathBuf, cause: String },
    #[error(
        "{path}: the disk failed to read or write ({cause}); check that it has free space, is mounted and works, and that no limit on file sizes is reached (`ulimit -f`)"
    )]
    Disk { path: PathBuf, cause: String },
    #[error(
        "{path} cannot be written ({cause}); allow this user to write the file and its folder, where SQLite keeps two more files while it runs, or name a database elsewhere"
    )]
    NotWritable { path: PathBuf, cause: String },
    #[error(
        "{path}: SQLite cannot change the journal from `{mode}` to `{wanted}`; close other programs that use the database, or keep it on a local disk"
    )]
    NoJournal { path: PathBuf, wanted: &'static str, mode: String },
    #[error(
        "{0} has been moved, deleted or replaced while it was in use; leave it in place while runs write to it"
    )]
    Gone(PathBuf),
    #[error("run {id} is running; stop its process first")]
    StillRunning { id: i64 },
    #[error(
        "run {id} was continued by another process, because this one was silent for too long; what that process records counts"
    )]
    Replaced { id: i64 },
    #[error("{0} exists already; name a new file")]
    Exists(PathBuf),
    #[error("{path} holds no run {id}; {known}")]
    NoSuchRun { path: PathBuf, id: i64, known: String },
    #[error(
        "{path}: {damaged}; its tables were changed by something else, and the other runs can be read"
    )]
    DamagedRun { path: PathBuf, damaged: DamagedRun },
    #[error("{what} is {value}; only finite numbers can be stored")]
    NotFinite { what: String, value: f64 },
    #[error("{what} is {value}; the largest number that can be stored is {}", i64::MAX)]
    TooLarge { what: String, value: u64 },
    #[error("metric `{metric}` was measured twice at step {step}; the first value was kept")]
    MeasuredTwice { metric: Metric, step: i64 },
    #[error("phase `{0}` was finished without having been started")]
    PhaseNotStarted(&'static str),
    #[error("phase `{0}` was started twice")]
    PhaseStartedTwice(&'static str),
    #[error(
        "{path} holds architecture {id} with other numbers: {stored} there, {given} now; the cost formula has changed since, so name another database"
    )]
    ArchitectureDiffers { path: PathBuf, id: String, stored: String, given: String },
    #[error("{0}: the thread that writes to it has ended unexpectedly")]
    WriterGone(PathBuf),
    #[error("{path}: {cause}")]
    Other { path: PathBuf, cause: String },
}

/// An error that does not know the path yet.
#[derive(Debug)]
pub enum Fault {
    Sql(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<MigrateError> for Fault {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::Sql(error)
            }
            other => Self::Sql(sqlx::Error::Migrate(Box::new(other))),
        }
    }
}

/// SQLite's primary result codes that have a message of their own, and two extended codes.
mod code {
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
    pub const NOTADB: i32 = 26;
    pub const READONLY_DBMOVED: i32 = 1032;
    /// The shared memory of the log cannot grow.
    pub const IOERR_SHMSIZE: i32 = 4874;
}

impl Fault {
    /// Whether another connection was in the way, so that trying again may help.
    pub fn is_busy(&self) -> bool {
        matches!(self.code().map(|code| code & 0xff), Some(code::BUSY | code::LOCKED))
    }

    /// SQLite's extended result code.
    fn code(&self) -> Option<i32> {
        let Self::Sql(error) = self else { return None };
        error.as_database_error()?.code()?.parse().ok()
    }

    /// The message for the user. `lock_wait` is how long it waited for locks, `was_there` whether the
    /// file had been opened before.
    pub fn explain(self, path: &Path, lock_wait: Duration, was_there: bool) -> StoreError {
        let code = self.code();
        let error = match self {
            Self::Store(error) => return error,
            Self::Sql(error) => error,
        };
        let path = path.to_owned();
        let cause = match error.as_database_error() {
            Some(error) => {
                format!("{}, SQLite code {}", error.message(), code.unwrap_or_default())
            }
            None => error.to_string(),
        };
        let Some(code) = code else { return StoreError::Other { path, cause } };
        match code & 0xff {
            _ if code == code::READONLY_DBMOVED => StoreError::Gone(path),
            code::CANTOPEN if was_there && !path.exists() => StoreError::Gone(path),
            code::CANTOPEN | code::READONLY => StoreError::NotWritable { path, cause },
            code::BUSY | code::LOCKED => StoreError::Locked { path, lock_wait },
            _ if code == code::IOERR_SHMSIZE => StoreError::Full { path, cause },
            code::FULL => StoreError::Full { path, cause },
            code::IOERR => StoreError::Disk { path, cause },
            code::CORRUPT => StoreError::Damaged { path, cause },
            code::NOTADB => StoreError::NotADatabase(path),
            _ => StoreError::Other { path, cause },
        }
    }
}
