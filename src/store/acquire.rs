//! Who executes a run: every run is acquired in one transaction, so that of several processes exactly one
//! executes it, and one that has died is replaced.

use super::error::Fault;
use super::manifests;
use super::numbers::{finite, integer};
use super::process::{RunProcess, process_table, status_as_read};
use super::read::stored_status;
use super::rows::{NewRun, RunStatus};
use super::write::{self, AttemptKey};
use crate::checkpoint::{Checkpoint, PhaseState};
use crate::record::{CheckpointId, KnownCheckpoints};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Row, query, query_as, query_scalar};

/// Which earlier runs count when a planned run is acquired.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AcquireRules {
    /// Finished runs up to this number are repeated.
    pub again_up_to: i64,
    /// Unfinished runs up to this number are left alone.
    pub fresh_up_to: i64,
    /// Runs that failed after this moment, in seconds since 1970, are not tried again.
    pub failed_before: f64,
    /// Whether only runs of this machine with this number of threads count, since their times belong
    /// together.
    pub on_this_machine: bool,
}

/// What became of the attempt to acquire a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// This process executes it.
    Ours(AttemptKey),
    /// It is finished already.
    Finished(i64),
    /// It has just failed, in another process.
    Failed(i64),
    /// Another process executes it.
    Running { run: i64, pid: u32 },
}

/// An earlier run, as of its last attempt.
struct Earlier {
    key: AttemptKey,
    stored: RunStatus,
    status: RunStatus,
    last_seen_at: f64,
    pid: u32,
}

/// Acquires a planned run. Among runs with these settings, method and seed by this revision of the program
/// on such a device, a finished one counts, then one that is running, then the last one, which is continued; otherwise there
/// is a new run. Equal settings may be those of different manifests, as with other seeds.
pub async fn acquire(
    connection: &mut SqliteConnection,
    run: &NewRun,
    rules: AcquireRules,
    process: &RunProcess,
    now: f64,
) -> Result<Acquired, Fault> {
    manifests::add(connection, &run.manifest).await?;
    let earlier = earlier_runs(connection, run, rules.on_this_machine, now).await?;
    let finished =
        earlier.iter().find(|e| e.status == RunStatus::Finished && e.key.run > rules.again_up_to);
    if let Some(earlier) = finished {
        return Ok(Acquired::Finished(earlier.key.run));
    }
    let mut unfinished = earlier
        .iter()
        .rev()
        .filter(|e| e.status != RunStatus::Finished && e.key.run > rules.fresh_up_to);
    if let Some(Earlier { key, pid, .. }) =
        unfinished.clone().find(|e| e.status == RunStatus::Running)
    {
        return Ok(Acquired::Running { run: key.run, pid: *pid });
    }
    let has_just_failed =
        |e: &Earlier| e.status == RunStatus::Failed && e.last_seen_at >= rules.failed_before;
    match unfinished.next() {
        Some(earlier) if has_just_failed(earlier) => Ok(Acquired::Failed(earlier.key.run)),
        Some(earlier) => {
            Ok(Acquired::Ours(take_over(connection, earlier, run, process, now).await?))
        }
        None => Ok(Acquired::Ours(write::begin(connection, run, process, now).await?)),
    }
}

/// Acquires the run of this number, whatever revision began it.
pub async fn acquire_run(
    connection: &mut SqliteConnection,
    id: i64,
    run: &NewRun,
    process: &RunProcess,
    now: f64,
) -> Result<Acquired, Fault> {
    let sql = "SELECT run AS id, number, status, heartbeat_at, pid, process_started, process_table
               FROM last_attempts WHERE run = ?1";
    let row = query(sql).bind(id).fetch_one(&mut *connection).await?;
    let earlier = earlier(&row, process_table().as_deref(), now)?;
    match earlier.status {
        RunStatus::Finished => Ok(Acquired::Finished(id)),
        RunStatus::Running => Ok(Acquired::Running { run: id, pid: earlier.pid }),
        RunStatus::Failed | RunStatus::Interrupted => {
            Ok(Acquired::Ours(take_over(connection, &earlier, run, process, now).await?))
        }
    }
}

/// The oldest first.
async fn earlier_runs(
    connection: &mut SqliteConnection,
    run: &NewRun,
    on_this_machine: bool,
    now: f64,
) -> Result<Vec<Earlier>, Fault> {
    const SQL: &str = "
        SELECT r.id, a.number, a.status, a.heartbeat_at, a.pid, a.process_started, a.process_table
        FROM runs AS r
        JOIN last_attempts AS a ON a.run = r.id
        JOIN environments AS e ON e.id = a.environment
        WHERE r.method = ?2 AND r.seed = ?3
          AND r.manifest IN (
              SELECT m.sha256 FROM manifests AS m, manifests AS own
              WHERE own.sha256 = ?1 AND m.name = own.name
                AND m.settings_sha256 = own.settings_sha256)
          AND e.git_revision IS ?4 AND e.git_dirty IS ?5 AND e.version IS ?6
          AND e.instructions = ?7 AND (e.device = 'cpu') = (?8 = 'cpu') AND e.gpu IS ?9
          AND (NOT ?10 OR e.host = ?11 AND e.cpu = ?12 AND e.cores = ?13 AND e.threads = ?14)
        ORDER BY r.id";
    let rows = query(SQL)
        .bind(&run.manifest.sha256)
        .bind(&run.method)
        .bind(integer("the seed", run.seed)?)
        .bind(&run.environment.git_revision)
        .bind(run.environment.git_dirty)
        .bind(&run.environment.version)
        .bind(&run.environment.instructions)
        .bind(&run.environment.device)
        .bind(&run.environment.gpu)
        .bind(on_this_machine)
        .bind(&run.environment.host)
        .bind(&run.environment.cpu)
        .bind(run.environment.cores)
        .bind(run.environment.threads)
        .fetch_all(connection)
        .await?;
    let table = process_table();
    let earlier = rows.iter().map(|row| earlier(row, table.as_deref(), now));
    Ok(earlier.collect::<Result<_, sqlx::Error>>()?)
}

fn earlier(
    row: &sqlx::sqlite::SqliteRow,
    table: Option<&str>,
    now: f64,
) -> Result<Earlier, sqlx::Error> {
    let process = RunProcess::of(row)?;
    let stored = stored_status(row.try_get("status")?)?;
    let heartbeat_at = row.try_get("heartbeat_at")?;
    Ok(Earlier {
        key: AttemptKey { run: row.try_get("id")?, number: row.try_get("number")? },
        stored,
        status: status_as_read(stored, &process, heartbeat_at, table, now),
        last_seen_at: heartbeat_at,
        pid: process.pid,
    })
}

/// A further attempt at a run whose last one has ended, or whose process is gone.
async fn take_over(
    connection: &mut SqliteConnection,
    earlier: &Earlier,
    run: &NewRun,
    process: &RunProcess,
    now: f64,
) -> Result<AttemptKey, Fault> {
    let AttemptKey { run: id, number } = earlier.key;
    if earlier.stored == RunStatus::Running {
        query(
            "UPDATE attempts SET status = 'interrupted', ended_at = heartbeat_at
             WHERE run = ?1 AND number = ?2",
        )
        .bind(id)
        .bind(number)
        .execute(&mut *connection)
        .await?;
    }
    let key = AttemptKey { run: id, number: number + 1 };
    write::add_attempt(connection, key, run, process, now).await?;
    Ok(key)
}

/// The checkpoints from which an attempt may continue its run: those of the last attempt that recorded or took
/// over anything, and those up to which it continued earlier attempts.
pub async fn known_checkpoints(
    connection: &mut SqliteConnection,
    key: AttemptKey,
) -> Result<KnownCheckpoints, Fault> {
    let sql = "SELECT number, coalesce(from_checkpoint, 0), checkpoint FROM attempts
               WHERE run = ?1 AND number < ?2 AND checkpoint IS NOT NULL ORDER BY number DESC";
    let attempts: Vec<(u32, i64, i64)> =
        query_as(sql).bind(key.run).bind(key.number).fetch_all(connection).await?;
    let id = |number: i64| CheckpointId::from_number(number.cast_unsigned());
    let mut known = Vec::new();
    let mut last = attempts.first().map(|(_, _, last)| id(*last)).unwrap_or_default();
    for (attempt, from, _) in attempts {
        if last.attempt == attempt {
            known.push(last);
        }
        if last.attempt >= attempt {
            last = id(from);
        }
    }
    Ok(KnownCheckpoints(known))
}

/// Gives an attempt what earlier attempts at its run had recorded before `checkpoint`, and removes what
/// they recorded after it. Without a checkpoint, everything is removed but the points of memory studies,
/// each of which stands on its own.
pub async fn take_over_records(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    checkpoint: Option<&Checkpoint>,
) -> Result<(), Fault> {
    write::check_not_replaced(connection, key).await?;
    let from = checkpoint.map_or_else(CheckpointId::default, |checkpoint| checkpoint.id);
    write::checkpoint(connection, key, from).await?;
    if key.number == 1 {
        return Ok(());
    }
    query("PRAGMA defer_foreign_keys = ON").execute(&mut *connection).await?;
    let from = write::checkpoint_number(from)?;
    let run = |sql: &'static str| query(sql).bind(key.run).bind(key.number);
    run("DELETE FROM measurements WHERE run = ?1 AND attempt < ?2 AND checkpoint >= ?3")
        .bind(from)
        .execute(&mut *connection)
        .await?;
    for sql in [
        "UPDATE measurements SET attempt = ?2 WHERE run = ?1 AND attempt < ?2",
        "UPDATE scaling_points SET attempt = ?2 WHERE run = ?1 AND attempt < ?2",
        "DELETE FROM phases WHERE run = ?1 AND attempt < ?2",
    ] {
        run(sql).execute(&mut *connection).await?;
    }
    if let Some(checkpoint) = checkpoint {
        query("UPDATE attempts SET from_checkpoint = ?3 WHERE run = ?1 AND number = ?2")
            .bind(key.run)
            .bind(key.number)
            .bind(from)
            .execute(&mut *connection)
            .await?;
        for state in &checkpoint.phases {
            add_phase(connection, key, state).await?;
        }
    }
    let with_architecture = checkpoint.is_some_and(|checkpoint| checkpoint.has_architecture);
    let of_architecture: &[&str] = if with_architecture {
        &[
            "UPDATE attempts SET architecture = (SELECT architecture FROM attempts
                 WHERE run = ?1 AND number < ?2 AND architecture IS NOT NULL ORDER BY number DESC)
             WHERE run = ?1 AND number = ?2",
            "UPDATE final_choices SET attempt = ?2 WHERE run = ?1 AND attempt < ?2",
            "UPDATE final_probabilities SET attempt = ?2 WHERE run = ?1 AND attempt < ?2",
            "UPDATE final_resolutions SET attempt = ?2 WHERE run = ?1 AND attempt < ?2",
        ]
    } else {
        &[
            "DELETE FROM final_probabilities WHERE run = ?1 AND attempt < ?2",
            "DELETE FROM final_choices WHERE run = ?1 AND attempt < ?2",
            "DELETE FROM final_resolutions WHERE run = ?1 AND attempt < ?2",
        ]
    };
    for &sql in of_architecture {
        run(sql).execute(&mut *connection).await?;
    }
    run("UPDATE attempts SET architecture = NULL WHERE run = ?1 AND number < ?2")
        .execute(connection)
        .await?;
    Ok(())
}

async fn add_phase(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    state: &PhaseState,
) -> Result<(), Fault> {
    let started_at = finite("the start of a phase", state.started_at)?;
    write::phase_started(connection, key, state.phase, started_at).await?;
    if state.is_finished {
        write::phase_finished(connection, key, state.phase, state.usage).await?;
    }
    Ok(())
}

/// The largest number of a run; 0 where there is none.
pub async fn last_run(connection: &mut SqliteConnection) -> Result<i64, Fault> {
    Ok(query_scalar("SELECT coalesce(max(id), 0) FROM runs").fetch_one(connection).await?)
}
