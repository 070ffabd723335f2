//! Is it our database, and are its tables up to date?

use super::backup::{self, Kept};
use super::database::Database;
use super::error::{Fault, StoreError};
use super::transactor::Transactor;
use super::{manifests, place};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnection, SqliteLockingMode};
use sqlx::{SqlSafeStr, query, query_as, query_scalar};
use std::fmt::Write;
use std::path::Path;

/// Stands in the header of our databases: `rpro` in ASCII.
const APPLICATION_ID: i32 = 0x7270_726f;

/// Number, name and text of every migration; released ones never change.
const MIGRATIONS: [(i64, &str, &str); 9] = [
    (1, "runs", include_str!("../../migrations/0001_runs.sql")),
    (2, "work", include_str!("../../migrations/0002_work.sql")),
    (3, "resolutions", include_str!("../../migrations/0003_resolutions.sql")),
    (4, "scaling", include_str!("../../migrations/0004_scaling.sql")),
    (5, "settings", include_str!("../../migrations/0005_settings.sql")),
    (6, "other_cores", include_str!("../../migrations/0006_other_cores.sql")),
    (7, "gpus", include_str!("../../migrations/0007_gpus.sql")),
    (8, "checkpoints", include_str!("../../migrations/0008_checkpoints.sql")),
    (9, "last_checkpoints", include_str!("../../migrations/0009_last_checkpoints.sql")),
];

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Behind,
    UpToDate,
}

/// Opens or creates the database at `path`; afterwards it has all tables and can be written.
pub fn open(path: &Path) -> Result<Database, StoreError> {
    let database = Database::at(path)?;
    if place::has_other_names(database.file()) {
        return Err(StoreError::OtherNames(path.to_owned()));
    }
    prepare(database)
}

/// Brings the tables up to date and chooses the journal.
pub fn prepare(database: Database) -> Result<Database, StoreError> {
    let path = database.path.as_path();
    let mut transactor = Transactor::new(exclusive_on_network(&database))?;
    let state = transactor.read(async |connection| inspect(connection, path).await)?;
    if state == State::Behind {
        let backup = backup::before_migration(database.file(), MIGRATIONS[MIGRATIONS.len() - 1].0);
        // One that is there is of a migration that was not completed.
        if !backup.exists() {
            backup::copy(&database, &backup, Kept::All)?;
        }
    }
    if state != State::UpToDate {
        transactor.write(async |connection| migrate(connection, path).await)?;
    }
    let journal = if database.network.is_some() { Journal::Rollback } else { Journal::WriteAhead };
    transactor
        .outside_transaction(async |connection| set_journal(connection, path, journal).await)?;
    drop(transactor);
    let mut transactor = Transactor::new(database.clone())?;
    transactor.outside_transaction(async |connection| check_writable(connection).await)?;
    drop(transactor);
    database.pin()
}

/// Opens the database at `path` to read it. Where it cannot be written, a sentence says so.
pub fn open_to_read(path: &Path) -> Result<(Database, Option<String>), StoreError> {
    let error = match open(path) {
        Ok(database) => return Ok((database, None)),
        Err(error @ (StoreError::NotWritable { .. } | StoreError::Full { .. })) => error,
        // Its writers use a name that is not known here. Where nothing can be written, there are none.
        Err(error @ StoreError::OtherNames(_)) if is_read_only(path) => error,
        Err(error) => return Err(error),
    };
    let (database, state, is_immutable) = read_only(path)?;
    match state {
        State::UpToDate => {}
        State::Empty => return Err(error),
        State::Behind => return Err(StoreError::BehindAndReadOnly(path.to_owned())),
    }
    let mut note = format!("{} cannot be written here, so it is only read", path.display());
    let mut log = database.file().as_os_str().to_owned();
    log.push("-wal");
    let log = Path::new(&log);
    if is_immutable && std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
        let _ = write!(note, "; what {} holds is left out", log.display());
    }
    Ok((database.pin()?, Some(note)))
}

/// Opens the database at `path` only to read it, whatever its migration.
pub fn open_unchanged(path: &Path) -> Result<Database, StoreError> {
    match read_only(path)? {
        (_, State::Empty, _) => Err(StoreError::NotADatabase(path.to_owned())),
        (database, State::Behind | State::UpToDate, _) => database.pin(),
    }
}

/// A database that is not changed, and whether it is read as a file that nobody writes.
fn read_only(path: &Path) -> Result<(Database, State, bool), StoreError> {
    let mut database = Database::at(path)?;
    database.options = database.options.read_only(true).create_if_missing(false);
    match inspect_file(&database, path) {
        Err(StoreError::NotWritable { .. } | StoreError::Full { .. }) => {
            // The log's files cannot be made: nobody writes, so the file does not change.
            database.options = database.options.immutable(true);
            let state = inspect_file(&database, path)?;
            Ok((database, state, true))
        }
        state => Ok((database, state?, false)),
    }
}

fn inspect_file(database: &Database, path: &Path) -> Result<State, StoreError> {
    Transactor::new(database.clone())?.read(async |connection| inspect(connection, path).await)
}

fn is_read_only(path: &Path) -> bool {
    std::fs::OpenOptions::new().append(true).open(path).is_err_and(|e| {
        matches!(
            e.kind(),
            std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied
        )
    })
}

/// On a network file system a log of an earlier version can only be taken in by a connection that has
/// the file for itself: it needs no memory that processes share.
fn exclusive_on_network(database: &Database) -> Database {
    let mut database = database.clone();
    if database.network.is_some() {
        database.options = database.options.locking_mode(SqliteLockingMode::Exclusive);
    }
    database
}

fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.map(migration).into())
}

/// Only reads: a file that is not ours must stay as it is.
async fn inspect(connection: &mut SqliteConnection, path: &Path) -> Result<State, Fault> {
    let application_id: i32 =
        query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let objects: i64 =
        query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    match (application_id, objects) {
        (APPLICATION_ID, _) => {}
        (0, 0) => return Ok(State::Empty),
        _ => return Err(StoreError::Foreign(path.to_owned()).into()),
    }
    let applied: Vec<(i64, Vec<u8>)> =
        query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(connection)
            .await?;
    let migrator = migrator();
    let known = MIGRATIONS[MIGRATIONS.len() - 1].0;
    if let Some(&(found, _)) = applied.last().filter(|(version, _)| *version > known) {
        return Err(StoreError::Newer { path: path.to_owned(), found, known }.into());
    }
    for (version, checksum) in &applied {
        let same = |m: &Migration| m.version == *version && m.checksum.as_ref() == &checksum[..];
        if !migrator.iter().any(same) {
            let path = path.to_owned();
            return Err(StoreError::OtherMigration { path, version: *version }.into());
        }
    }
    Ok(if applied.len() < MIGRATIONS.len() { State::Behind } else { State::UpToDate })
}

/// Within a transaction that holds the write lock; looks again, as another process may have been
/// faster.
async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), Fault> {
    if let State::UpToDate = inspect(connection, path).await? {
        return Ok(());
    }
    migrator().run(&mut *connection).await?;
    manifests::fill_settings(connection).await?;
    // A pragma takes no parameters.
    let sql = sqlx::AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}"));
    query(sql).execute(connection).await?;
    Ok(())
}

/// How SQLite makes commits atomic. The setting stays with the file.
#[derive(Clone, Copy)]
enum Journal {
    /// Readers and the writer do not wait for each other.
    WriteAhead,
    /// They do, but it works on network file systems.
    Rollback,
}

async fn set_journal(
    connection: &mut SqliteConnection,
    path: &Path,
    journal: Journal,
) -> Result<(), Fault> {
    let (sql, name) = match journal {
        Journal::WriteAhead => ("PRAGMA journal_mode = WAL", "wal"),
        Journal::Rollback => ("PRAGMA journal_mode = DELETE", "delete"),
    };
    let mode: String = query_scalar(sql).fetch_one(connection).await?;
    if mode != name {
        return Err(StoreError::NoJournal { path: path.to_owned(), wanted: name, mode }.into());
    }
    Ok(())
}

/// Takes the write lock for a moment and changes nothing (`BEGIN IMMEDIATE` alone would pass on what
/// cannot be written). Where another process has the lock, the file can be written.
async fn check_writable(connection: &mut SqliteConnection) -> Result<(), Fault> {
    query("PRAGMA busy_timeout = 0").execute(&mut *connection).await?;
    match query("DELETE FROM runs WHERE FALSE").execute(connection).await.map_err(Fault::from) {
        Err(fault) if !fault.is_busy() => Err(fault),
        _ => Ok(()),
    }
}
