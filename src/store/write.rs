//! The statements that write. Each function runs inside a transaction that the caller holds.

use super::error::{Fault, StoreError};
use super::manifests;
use super::numbers::{finite, integer};
use super::process::RunProcess;
use super::rows::{FinalResult, NewRun};
use crate::env::Environment;
use crate::record::{
    CheckpointId, ChoiceProbabilities, DataFingerprint, Metric, Phase, PhaseUsage,
    ResolutionProbability, SearchedArchitecture,
};
use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_as, query_scalar};
use std::path::Path;

/// One attempt of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptKey {
    pub run: i64,
    pub number: i64,
}

/// One row of `measurements`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasurementRow {
    pub metric: Metric,
    pub step: i64,
    pub value: f64,
}

/// How an attempt ends.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptEnd {
    /// With the result, if a network was tested.
    Finished(Option<FinalResult>),
    Failed(String),
    Interrupted,
}

/// Fails if another process has replaced this attempt, because it was silent for too long.
pub async fn check_not_replaced(
    connection: &mut SqliteConnection,
    key: AttemptKey,
) -> Result<(), Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM attempts WHERE run = ?1 AND number > ?2)";
    let is_replaced =
        query_scalar(sql).bind(key.run).bind(key.number).fetch_one(connection).await?;
    if is_replaced { Err(StoreError::Replaced { id: key.run }.into()) } else { Ok(()) }
}

/// A new run with its first attempt.
pub async fn begin(
    connection: &mut SqliteConnection,
    run: &NewRun,
    process: &RunProcess,
    now: f64,
) -> Result<AttemptKey, Fault> {
    manifests::add(connection, &run.manifest).await?;
    let id = query("INSERT INTO runs (manifest, method, dataset, seed) VALUES (?1, ?2, ?3, ?4)")
        .bind(&run.manifest.sha256)
        .bind(&run.method)
        .bind(&run.dataset)
        .bind(integer("the seed", run.seed)?)
        .execute(&mut *connection)
        .await?
        .last_insert_rowid();
    let key = AttemptKey { run: id, number: 1 };
    add_attempt(connection, key, run, process, now).await?;
    Ok(key)
}

/// An attempt that has just started.
pub async fn add_attempt(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    run: &NewRun,
    process: &RunProcess,
    now: f64,
) -> Result<(), Fault> {
    let environment = environment(connection, &run.environment).await?;
    query(
        "INSERT INTO attempts (run, number, environment, command, status, started_at, heartbeat_at,
                               pid, process_started, process_table)
         VALUES (?1, ?2, ?3, ?4, 'running', ?5, ?5, ?6, ?7, ?8)",
    )
    .bind(key.run)
    .bind(key.number)
    .bind(environment)
    .bind(&run.command)
    .bind(now)
    .bind(process.pid)
    .bind(process.started)
    .bind(&process.table)
    .execute(connection)
    .await?;
    Ok(())
}

/// The row of this environment, which is added where there is none. `IS` also compares NULL.
async fn environment(
    connection: &mut SqliteConnection,
    environment: &Environment,
) -> Result<i64, Fault> {
    const FIND: &str = "
        SELECT id FROM environments
        WHERE version IS ?1 AND git_revision IS ?2 AND git_dirty IS ?3 AND rustc IS ?4
          AND libraries IS ?5 AND host IS ?6 AND os IS ?7 AND cpu IS ?8 AND instructions IS ?9
          AND cores IS ?10 AND memory_bytes IS ?11 AND threads IS ?12 AND device IS ?13
          AND gpu IS ?14 AND cuda IS ?15";
    const ADD: &str = "
        INSERT INTO environments (version, git_revision, git_dirty, rustc, libraries, host, os, cpu,
                                  instructions, cores, memory_bytes, threads, device, gpu, cuda)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
        RETURNING id";
    let memory_bytes = integer("the machine's memory", environment.memory_bytes)?;
    let with_values = |sql| {
        query_scalar::<_, i64>(sql)
            .bind(&environment.version)
            .bind(&environment.git_revision)
            .bind(environment.git_dirty)
            .bind(&environment.rustc)
            .bind(&environment.libraries)
            .bind(&environment.host)
            .bind(&environment.os)
            .bind(&environment.cpu)
            .bind(&environment.instructions)
            .bind(environment.cores)
            .bind(memory_bytes)
            .bind(environment.threads)
            .bind(&environment.device)
            .bind(&environment.gpu)
            .bind(&environment.cuda)
    };
    match with_values(FIND).fetch_optional(&mut *connection).await? {
        Some(id) => Ok(id),
        None => Ok(with_values(ADD).fetch_one(connection).await?),
    }
}

/// Adds measurements after `checkpoint`, and a sign of life. A metric that already has a value at its step
/// keeps it; the first such is returned.
pub async fn measurements(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    checkpoint: CheckpointId,
    rows: &[MeasurementRow],
    now: f64,
) -> Result<Option<StoreError>, Fault> {
    let mut twice = None;
    let checkpoint = checkpoint_number(checkpoint)?;
    for row in rows {
        let added = query(
            "INSERT INTO measurements (run, attempt, metric, step, value, checkpoint)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        )
        .bind(key.run)
        .bind(key.number)
        .bind(row.metric.name())
        .bind(row.step)
        .bind(row.value)
        .bind(checkpoint)
        .execute(&mut *connection)
        .await?;
        if added.rows_affected() == 0 && twice.is_none() {
            twice = Some(StoreError::MeasuredTwice { metric: row.metric, step: row.step });
        }
    }
    query("UPDATE attempts SET heartbeat_at = ?3 WHERE run = ?1 AND number = ?2")
        .bind(key.run)
        .bind(key.number)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(twice)
}

/// The number of a checkpoint in the database.
pub fn checkpoint_number(id: CheckpointId) -> Result<i64, StoreError> {
    integer("the checkpoint", id.to_number())
}

/// A checkpoint of an attempt: what was measured before it has been stored.
pub async fn checkpoint(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    id: CheckpointId,
) -> Result<(), Fault> {
    query("UPDATE attempts SET checkpoint = ?3 WHERE run = ?1 AND number = ?2")
        .bind(key.run)
        .bind(key.number)
        .bind(checkpoint_number(id)?)
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn phase_started(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    phase: Phase,
    now: f64,
) -> Result<(), Fault> {
    let added = query(
        "INSERT INTO phases (run, attempt, phase, started_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )
    .bind(key.run)
    .bind(key.number)
    .bind(phase.name())
    .bind(now)
    .execute(connection)
    .await?;
    if added.rows_affected() == 0 {
        return Err(StoreError::PhaseStartedTwice(phase.name()).into());
    }
    Ok(())
}

pub async fn phase_finished(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    phase: Phase,
    usage: PhaseUsage,
) -> Result<(), Fault> {
    let what = |of: &str| format!("{of} of phase `{}`", phase.name());
    let changed = query(
        "UPDATE phases
         SET seconds = ?4, peak_bytes = ?5, images = ?6, macs = ?7, architectures = ?8
         WHERE run = ?1 AND attempt = ?2 AND phase = ?3",
    )
    .bind(key.run)
    .bind(key.number)
    .bind(phase.name())
    .bind(finite(what("the duration"), usage.seconds)?)
    .bind(integer(what("the peak memory"), usage.peak_bytes)?)
    .bind(integer(what("the number of images"), usage.images)?)
    .bind(usage.macs.map(|macs| integer(what("the number of MACs"), macs)).transpose()?)
    .bind(usage.architectures.map(|n| integer(what("the number of networks"), n)).transpose()?)
    .execute(connection)
    .await?;
    if changed.rows_affected() == 0 {
        return Err(StoreError::PhaseNotStarted(phase.name()).into());
    }
    Ok(())
}

/// The images that an attempt has read.
pub async fn data(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    data: &DataFingerprint,
) -> Result<(), Fault> {
    query(
        "UPDATE attempts SET train_images = ?3, test_images = ?4, data_sha256 = ?5
         WHERE run = ?1 AND number = ?2",
    )
    .bind(key.run)
    .bind(key.number)
    .bind(integer("the number of training images", data.train_images)?)
    .bind(integer("the number of test images", data.test_images)?)
    .bind(&data.sha256)
    .execute(connection)
    .await?;
    Ok(())
}

/// The architecture that an attempt has found, with the final probabilities.
pub async fn architecture(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    found: &SearchedArchitecture,
    path: &Path,
) -> Result<(), Fault> {
    let id = add_architecture(connection, found, path).await?;
    query("UPDATE attempts SET architecture = ?3 WHERE run = ?1 AND number = ?2")
        .bind(key.run)
        .bind(key.number)
        .bind(id)
        .execute(&mut *connection)
        .await?;
    for (position, block) in (0_i64..).zip(&found.probabilities) {
        query("INSERT INTO final_choices (run, attempt, position, block) VALUES (?1, ?2, ?3, ?4)")
            .bind(key.run)
            .bind(key.number)
            .bind(position)
            .bind(&block.block)
            .execute(&mut *connection)
            .await?;
        probabilities(connection, key, position, block).await?;
    }
    for ResolutionProbability { side, probability } in &found.resolutions {
        let what = format!("the probability of resolution {side}");
        query(
            "INSERT INTO final_resolutions (run, attempt, side, probability)
             VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(key.run)
        .bind(key.number)
        .bind(integer("the resolution", *side as u64)?)
        .bind(finite(what, *probability)?)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Equal architectures share a row, so their cost must be equal too.
async fn add_architecture(
    connection: &mut SqliteConnection,
    found: &SearchedArchitecture,
    path: &Path,
) -> Result<String, Fault> {
    let id = found.arch.id();
    let given = (
        found.arch.to_json(),
        integer("the number of MACs", found.macs)?,
        integer("the number of parameters", found.params)?,
    );
    query(
        "INSERT INTO architectures (id, spec, macs, params) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )
    .bind(&id)
    .bind(&given.0)
    .bind(given.1)
    .bind(given.2)
    .execute(&mut *connection)
    .await?;
    let stored: (String, i64, i64) =
        query_as("SELECT spec, macs, params FROM architectures WHERE id = ?1")
            .bind(&id)
            .fetch_one(connection)
            .await?;
    if stored != given {
        let numbers = |of: &(_, i64, i64)| format!("{} MACs and {} parameters", of.1, of.2);
        return Err(StoreError::ArchitectureDiffers {
            path: path.to_owned(),
            id,
            stored: numbers(&stored),
            given: numbers(&given),
        }
        .into());
    }
    Ok(id)
}

async fn probabilities(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    position: i64,
    block: &ChoiceProbabilities,
) -> Result<(), Fault> {
    let choices =
        [("type", &block.types), ("expansion", &block.expansions), ("width", &block.widths)];
    for (choice, values) in choices {
        for (option, &probability) in (0_i64..).zip(values) {
            let what = format!("the probability of {choice} {option} of block {}", block.block);
            query(
                "INSERT INTO final_probabilities (run, attempt, position, choice, option,
                                                  probability)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .bind(key.run)
            .bind(key.number)
            .bind(position)
            .bind(choice)
            .bind(option)
            .bind(finite(what, probability)?)
            .execute(&mut *connection)
            .await?;
        }
    }
    Ok(())
}

/// Ends the attempt.
pub async fn end(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    end: &AttemptEnd,
    now: f64,
) -> Result<(), Fault> {
    let (status, error) = match end {
        AttemptEnd::Finished(_) => ("finished", None),
        AttemptEnd::Failed(error) => ("failed", Some(error)),
        AttemptEnd::Interrupted => ("interrupted", None),
    };
    query(
        "UPDATE attempts SET status = ?3, error = ?4, ended_at = ?5, heartbeat_at = ?5
         WHERE run = ?1 AND number = ?2",
    )
    .bind(key.run)
    .bind(key.number)
    .bind(status)
    .bind(error)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    if let AttemptEnd::Finished(Some(result)) = end {
        query(
            "INSERT INTO results (run, attempt, test_top1, test_loss, test_images, weights_sha256)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(key.run)
        .bind(key.number)
        .bind(finite("the accuracy on the test images", result.test_top1)?)
        .bind(finite("the loss on the test images", result.test_loss)?)
        .bind(integer("the number of test images", result.test_images)?)
        .bind(&result.weights_sha256)
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Removes the attempts at a run with all that they recorded.
pub async fn remove_attempts(connection: &mut SqliteConnection, run: i64) -> Result<(), Fault> {
    for sql in [
        "DELETE FROM results WHERE run = ?1",
        "DELETE FROM scaling_points WHERE run = ?1",
        "DELETE FROM final_probabilities WHERE run = ?1",
        "DELETE FROM final_choices WHERE run = ?1",
        "DELETE FROM final_resolutions WHERE run = ?1",
        "DELETE FROM measurements WHERE run = ?1",
        "DELETE FROM phases WHERE run = ?1",
        "DELETE FROM attempts WHERE run = ?1",
    ] {
        query(sql).bind(run).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Removes a run with all that was recorded of it, and manifests and architectures that no other run has.
pub async fn remove(connection: &mut SqliteConnection, run: i64) -> Result<(), Fault> {
    remove_attempts(connection, run).await?;
    query("DELETE FROM runs WHERE id = ?1").bind(run).execute(&mut *connection).await?;
    for sql in [
        "DELETE FROM manifests WHERE sha256 NOT IN (SELECT manifest FROM runs)",
        "DELETE FROM architectures WHERE id NOT IN
             (SELECT architecture FROM attempts WHERE architecture IS NOT NULL)",
        "DELETE FROM environments WHERE id NOT IN (SELECT environment FROM attempts)",
    ] {
        query(sql).execute(&mut *connection).await?;
    }
    Ok(())
}
