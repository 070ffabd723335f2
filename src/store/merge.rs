//! Takes over the runs of another database.

use super::error::{Fault, StoreError};
use super::process::{RunProcess, process_table, status_as_read};
use super::read::stored_status;
use super::rows::RunStatus;
use super::write;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row, query, query_as, query_scalar};
use std::path::Path;

/// What became of a run of the other database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It has this number here.
    Added { there: i64, here: i64 },
    /// It was here already, and has replaced an earlier state of it.
    Updated { there: i64, here: i64 },
    /// It was here already.
    Known { there: i64, here: i64 },
    /// It is running.
    Running { there: i64 },
}

/// Tables whose rows belong to an attempt, each after those that it refers to.
const OF_ATTEMPTS: [&str; 7] = [
    "phases",
    "measurements",
    "final_choices",
    "final_probabilities",
    "final_resolutions",
    "results",
    "scaling_points",
];

/// The same run, with its last attempt: of one manifest, method and seed, started by the same process at the same
/// time.
const KNOWN: &str = "
    SELECT own.id, last.number, last.status, last.heartbeat_at, last.pid, last.process_started,
           last.process_table
    FROM main.runs AS own
    JOIN main.last_attempts AS last ON last.run = own.id
    JOIN main.attempts AS a ON a.run = own.id AND a.number = 1
    JOIN other.runs AS r ON r.manifest = own.manifest AND r.method = own.method AND r.seed = own.seed
    JOIN other.attempts AS b ON b.run = r.id AND b.number = 1
    WHERE r.id = ?1 AND a.started_at = b.started_at AND a.pid = b.pid
      AND a.process_table IS b.process_table";

/// Takes over all runs of the database that is attached as `other`, with the same tables. Runs in one
/// transaction.
pub async fn merge(
    connection: &mut SqliteConnection,
    path: &Path,
    now: f64,
) -> Result<Vec<Merged>, Fault> {
    check_architectures(connection, path).await?;
    let table = process_table();
    let sql = "SELECT run AS id, number, status, heartbeat_at, pid, process_started, process_table
               FROM other.last_attempts ORDER BY run";
    let mut merged = Vec::new();
    for row in query(sql).fetch_all(&mut *connection).await? {
        let theirs = Progress::of(&row, table.as_deref(), now)?;
        let there = theirs.id;
        let known = query(KNOWN).bind(there).fetch_optional(&mut *connection).await?;
        let known = known.map(|row| Progress::of(&row, table.as_deref(), now)).transpose()?;
        merged.push(match known {
            Some(ours) if !theirs.is_ahead_of(&ours) => Merged::Known { there, here: ours.id },
            _ if theirs.status == RunStatus::Running => Merged::Running { there },
            Some(Progress { id: here, .. }) => {
                write::remove_attempts(connection, here).await?;
                add_attempts(connection, there, here).await?;
                Merged::Updated { there, here }
            }
            None => Merged::Added { there, here: add(connection, there).await? },
        });
    }
    Ok(merged)
}

/// How far a run is.
struct Progress {
    id: i64,
    attempts: i64,
    status: RunStatus,
}

impl Progress {
    fn of(row: &SqliteRow, table: Option<&str>, now: f64) -> Result<Self, sqlx::Error> {
        let (process, stored) = (RunProcess::of(row)?, stored_status(row.try_get("status")?)?);
        let heartbeat_at = row.try_get("heartbeat_at")?;
        Ok(Self {
            id: row.try_get("id")?,
            attempts: row.try_get("number")?,
            status: status_as_read(stored, &process, heartbeat_at, table, now),
        })
    }

    /// Whether this state of a run is a later one. A run that was continued in both databases counts as the
    /// one that has finished, or was continued more often.
    fn is_ahead_of(&self, ours: &Self) -> bool {
        match ours.status {
            RunStatus::Finished | RunStatus::Running => false,
            RunStatus::Failed | RunStatus::Interrupted => {
                self.status == RunStatus::Finished || self.attempts > ours.attempts
            }
        }
    }
}

/// Equal architectures must have equal costs in both.
async fn check_architectures(connection: &mut SqliteConnection, path: &Path) -> Result<(), Fault> {
    let sql = "SELECT a.id, a.macs, a.params, b.macs, b.params
               FROM main.architectures AS a JOIN other.architectures AS b ON b.id = a.id
               WHERE a.macs <> b.macs OR a.params <> b.params OR a.spec <> b.spec LIMIT 1";
    let differs: Option<(String, i64, i64, i64, i64)> =
        query_as(sql).fetch_optional(connection).await?;
    let Some((id, macs, params, other_macs, other_params)) = differs else { return Ok(()) };
    let numbers = |macs, params| format!("{macs} MACs and {params} parameters");
    let (stored, given) = (numbers(macs, params), numbers(other_macs, other_params));
    Err(StoreError::ArchitectureDiffers { path: path.to_owned(), id, stored, given }.into())
}

/// Adds the run of this number of the other database, and returns its number here.
async fn add(connection: &mut SqliteConnection, there: i64) -> Result<i64, Fault> {
    let sql = "INSERT OR IGNORE INTO main.manifests SELECT * FROM other.manifests
         WHERE sha256 = (SELECT manifest FROM other.runs WHERE id = ?1)";
    query(sql).bind(there).execute(&mut *connection).await?;
    let here = query(
        "INSERT INTO main.runs (manifest, method, dataset, seed)
         SELECT manifest, method, dataset, seed FROM other.runs WHERE id = ?1",
    )
    .bind(there)
    .execute(&mut *connection)
    .await?
    .last_insert_rowid();
    add_attempts(connection, there, here).await?;
    Ok(here)
}

/// Adds the attempts at a run of the other database, with all that they recorded, to a run without attempts.
async fn add_attempts(
    connection: &mut SqliteConnection,
    there: i64,
    here: i64,
) -> Result<(), Fault> {
    let sql = "INSERT OR IGNORE INTO main.architectures SELECT * FROM other.architectures
         WHERE id IN (SELECT architecture FROM other.attempts WHERE run = ?1)";
    query(sql).bind(there).execute(&mut *connection).await?;
    let attempts: Vec<(i64, i64)> =
        query_as("SELECT number, environment FROM other.attempts WHERE run = ?1 ORDER BY number")
            .bind(there)
            .fetch_all(&mut *connection)
            .await?;
    for (number, environment) in attempts {
        let environment = add_environment(connection, environment).await?;
        let rest = columns(connection, "attempts", &["run", "number", "environment"]).await?;
        let sql = format!(
            "INSERT INTO main.attempts (run, number, environment, {rest})
             SELECT ?2, number, ?3, {rest} FROM other.attempts WHERE run = ?1 AND number = ?4"
        );
        query(AssertSqlSafe(sql))
            .bind(there)
            .bind(here)
            .bind(environment)
            .bind(number)
            .execute(&mut *connection)
            .await?;
    }
    for table in OF_ATTEMPTS {
        let rest = columns(connection, table, &["run"]).await?;
        let sql = format!(
            "INSERT INTO main.{table} (run, {rest})
             SELECT ?2, {rest} FROM other.{table} WHERE run = ?1"
        );
        query(AssertSqlSafe(sql)).bind(there).bind(here).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The number here of an environment of the other database.
async fn add_environment(connection: &mut SqliteConnection, there: i64) -> Result<i64, Fault> {
    let rest = columns(connection, "environments", &["id"]).await?;
    let same = rest.split(", ").map(|name| format!("a.{name} IS b.{name}"));
    let sql = format!(
        "SELECT a.id FROM main.environments AS a JOIN other.environments AS b ON b.id = ?1
         WHERE {}",
        same.collect::<Vec<_>>().join(" AND ")
    );
    let known: Option<i64> =
        query_scalar(AssertSqlSafe(sql)).bind(there).fetch_optional(&mut *connection).await?;
    if let Some(here) = known {
        return Ok(here);
    }
    let sql = format!(
        "INSERT INTO main.environments ({rest}) SELECT {rest} FROM other.environments WHERE id = ?1"
    );
    Ok(query(AssertSqlSafe(sql)).bind(there).execute(connection).await?.last_insert_rowid())
}

/// The names of a table's columns but these, joined by commas.
async fn columns(
    connection: &mut SqliteConnection,
    table: &str,
    without: &[&str],
) -> Result<String, Fault> {
    let names: Vec<String> = query_scalar("SELECT name FROM pragma_table_info(?1)")
        .bind(table)
        .fetch_all(connection)
        .await?;
    let rest = names.into_iter().filter(|name| !without.contains(&name.as_str()));
    Ok(rest.collect::<Vec<_>>().join(", "))
}
