//! Is it our database, and are its tables up to date?

use super::error::{Fault, StoreError};
use super::session::{Database, Session};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnection;
use sqlx::{SqlSafeStr, query, query_as, query_scalar};
use std::path::Path;

/// Stands in the header of our databases: `rpro` in ASCII.
const APPLICATION_ID: i32 = 0x7270_726f;

/// Number, name and text of every migration; released ones never change.
const MIGRATIONS: [(i64, &str, &str); 5] = [
    (1, "runs", include_str!("../../migrations/0001_runs.sql")),
    (2, "work", include_str!("../../migrations/0002_work.sql")),
    (3, "resolutions", include_str!("../../migrations/0003_resolutions.sql")),
    (4, "scaling", include_str!("../../migrations/0004_scaling.sql")),
    (6, "other_cores", include_str!("../../migrations/0006_other_cores.sql")),
];

/// What a file turned out to be.
enum State {
    Empty,
    Behind,
    UpToDate,
}

/// Opens or creates the database at `path`; afterwards it has all tables and a write-ahead log, and
/// can be written.
pub fn open(path: &Path) -> Result<Database, StoreError> {
    let database = Database::at(path)?;
    let mut session = Session::new(database.clone())?;
    let state = session.read(async |connection| inspect(connection, path).await)?;
    if !matches!(state, State::UpToDate) {
        session.write(async |connection| migrate(connection, path).await)?;
    }
    session.outside_transaction(async |connection| use_log(connection, path).await)?;
    session.outside_transaction(async |connection| check_writable(connection).await)?;
    database.pin()
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
    // A pragma takes no parameters.
    let sql = sqlx::AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}"));
    query(sql).execute(connection).await?;
    Ok(())
}

/// Readers and the writer do not wait for each other with a write-ahead log. The setting stays with
/// the file.
async fn use_log(connection: &mut SqliteConnection, path: &Path) -> Result<(), Fault> {
    let mode: String = query_scalar("PRAGMA journal_mode = WAL").fetch_one(connection).await?;
    if mode != "wal" {
        return Err(StoreError::NoWriteAheadLog { path: path.to_owned(), mode }.into());
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
