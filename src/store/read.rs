//! The statements that read. Each function runs inside a transaction that the caller holds.

use super::error::Fault;
use super::process::{RunProcess, process_table, status_as_read};
use super::rows::{
    ArchitectureRow, AttemptRow, DamagedRun, FinalResult, ManifestRecord, PhaseRow, RunRow,
    RunStatus, StoredRuns,
};
use super::settings::{ExperimentKind, Settings, StoredBudget};
use crate::env::Environment;
use crate::record::{
    CheckpointId, ChoiceProbabilities, DataFingerprint, Phase, PhaseUsage, ResolutionProbability,
};
use crate::space::ArchSpec;
use crate::text;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, ValueRef, query, query_scalar};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every run with its last attempt. What is absent is NULL, also where its rows in other tables were
/// deleted.
const RUNS: &str = "
    SELECT r.id, r.manifest, r.method, r.dataset, r.seed,
           a.number, a.environment, a.command, a.status, a.error, a.started_at, a.heartbeat_at,
           a.ended_at, a.pid, a.process_started, a.process_table, a.architecture,
           a.train_images, a.test_images AS data_test_images, a.data_sha256,
           t.test_top1, t.test_loss, t.test_images, t.weights_sha256
    FROM runs AS r
    LEFT JOIN last_attempts AS a ON a.run = r.id
    LEFT JOIN results AS t ON t.run = a.run AND t.attempt = a.number
    WHERE ?1 IS NULL OR r.id = ?1
    ORDER BY r.id";

const MANIFESTS: &str = "
    SELECT * FROM manifests
    WHERE ?1 IS NULL OR sha256 = (SELECT manifest FROM runs WHERE id = ?1)";

const ENVIRONMENTS: &str = "
    SELECT * FROM environments
    WHERE ?1 IS NULL OR id IN (SELECT environment FROM last_attempts WHERE run = ?1)";

const ARCHITECTURES: &str = "
    SELECT * FROM architectures
    WHERE ?1 IS NULL OR id IN (SELECT architecture FROM last_attempts WHERE run = ?1)";

const PHASES: &str = "
    SELECT p.run, p.phase, p.seconds, p.peak_bytes, p.images, p.macs, p.architectures
    FROM phases AS p JOIN last_attempts AS a ON a.run = p.run AND a.number = p.attempt
    WHERE ?1 IS NULL OR p.run = ?1";

const CHOICES: &str = "
    SELECT c.run, c.position, c.block, p.choice, p.probability
    FROM final_choices AS c JOIN last_attempts AS a ON a.run = c.run AND a.number = c.attempt
    LEFT JOIN final_probabilities AS p
        ON p.run = c.run AND p.attempt = c.attempt AND p.position = c.position
    WHERE ?1 IS NULL OR c.run = ?1
    ORDER BY c.run, c.position, p.choice, p.option";

const RESOLUTIONS: &str = "
    SELECT s.run, s.side, s.probability
    FROM final_resolutions AS s JOIN last_attempts AS a ON a.run = s.run AND a.number = s.attempt
    WHERE ?1 IS NULL OR s.run = ?1
    ORDER BY s.run, s.side";

/// All runs, or the one called `only`, in the order of their ids; statuses as of `now`.
pub async fn runs(
    connection: &mut SqliteConnection,
    only: Option<i64>,
    now: f64,
) -> Result<StoredRuns, Fault> {
    let mut problems = Problems::default();
    let mut phases = phases(connection, only, &mut problems).await?;
    let mut probabilities = probabilities(connection, only, &mut problems).await?;
    let mut resolutions = resolutions(connection, only, &mut problems).await?;
    let mut runs = brief_runs(connection, only, now, problems).await?;
    for run in &mut runs.rows {
        run.phases = phases.remove(&run.id).unwrap_or_default();
        if let Some(architecture) = &mut run.architecture {
            architecture.probabilities = probabilities.remove(&run.id).unwrap_or_default();
            architecture.resolutions = resolutions.remove(&run.id).unwrap_or_default();
        }
    }
    Ok(runs)
}

/// The same without phases and probabilities, which are most of the rows. Runs with `problems` are damaged.
pub async fn brief_runs(
    connection: &mut SqliteConnection,
    only: Option<i64>,
    now: f64,
    mut problems: Problems,
) -> Result<StoredRuns, Fault> {
    let shared = Shared::read(connection, only).await?;
    let table = process_table();
    let mut rows = Vec::new();
    for row in query(RUNS).bind(only).fetch_all(connection).await? {
        let id = row.try_get("id")?;
        let run = run(&row, &shared, table.as_deref(), now);
        rows.extend(problems.note(id, run));
    }
    rows.retain(|run| !problems.0.contains_key(&run.id));
    let damaged = problems.0.into_iter().map(|(id, problem)| DamagedRun { id, problem });
    Ok(StoredRuns { rows, damaged: damaged.collect() })
}

/// The first problem of each run whose rows cannot be read.
#[derive(Default)]
pub struct Problems(BTreeMap<i64, String>);

impl Problems {
    /// The value; `None` where there is none, which becomes a problem of the run.
    fn note<T>(&mut self, run: i64, result: Result<T, sqlx::Error>) -> Option<T> {
        result
            .map_err(|error| {
                self.0.entry(run).or_insert(problem(error));
            })
            .ok()
    }
}

/// The error without words about the database's driver.
fn problem(error: sqlx::Error) -> String {
    match error {
        sqlx::Error::Decode(error) => error.to_string(),
        sqlx::Error::ColumnDecode { index, source } => {
            format!("column {}: {source}", index.trim_matches('"'))
        }
        other => other.to_string(),
    }
}

/// Rows that many runs refer to, each read once; an unreadable one is the problem of all its runs.
struct Shared {
    manifests: BTreeMap<String, Result<SharedManifest, String>>,
    environments: BTreeMap<i64, Result<Arc<Environment>, String>>,
    architectures: BTreeMap<String, Result<SharedArchitecture, String>>,
}

#[derive(Clone)]
struct SharedManifest {
    record: Arc<ManifestRecord>,
    settings: Arc<Settings>,
}

#[derive(Clone)]
struct SharedArchitecture {
    arch: Arc<ArchSpec>,
    macs: u64,
    params: u64,
}

impl Shared {
    async fn read(connection: &mut SqliteConnection, only: Option<i64>) -> Result<Self, Fault> {
        Ok(Self {
            manifests: by_key(connection, (MANIFESTS, only), "sha256", manifest).await?,
            environments: by_key(connection, (ENVIRONMENTS, only), "id", environment).await?,
            architectures: by_key(connection, (ARCHITECTURES, only), "id", architecture).await?,
        })
    }
}

async fn by_key<K, T>(
    connection: &mut SqliteConnection,
    (sql, only): (&'static str, Option<i64>),
    key: &str,
    value: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>,
) -> Result<BTreeMap<K, Result<T, String>>, Fault>
where
    K: Ord + for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    let rows = query(sql).bind(only).fetch_all(connection).await?;
    let pair = |row: &SqliteRow| Ok((row.try_get(key)?, value(row).map_err(problem)));
    Ok(rows.iter().map(pair).collect::<Result<_, sqlx::Error>>()?)
}

/// What a run refers to.
fn referred<K: Ord + ?Sized, Q: Ord + std::borrow::Borrow<K>, T: Clone>(
    rows: &BTreeMap<Q, Result<T, String>>,
    key: Option<&K>,
    what: &str,
) -> Result<T, sqlx::Error> {
    match key.and_then(|key| rows.get(key)) {
        Some(Ok(value)) => Ok(value.clone()),
        Some(Err(problem)) => Err(unreadable(problem)),
        None => Err(unreadable(&format!("{what} is missing"))),
    }
}

/// Without phases and probabilities.
fn run(
    row: &SqliteRow,
    shared: &Shared,
    table: Option<&str>,
    now: f64,
) -> Result<RunRow, sqlx::Error> {
    if row.try_get_raw("number")?.is_null() {
        return Err(unreadable("its attempt is missing"));
    }
    let manifest: &str = row.try_get("manifest")?;
    let manifest = referred(&shared.manifests, Some(manifest), "its manifest")?;
    let environment: Option<i64> = row.try_get("environment")?;
    let environment = referred(&shared.environments, environment.as_ref(), "its environment")?;
    let heartbeat_at: f64 = row.try_get("heartbeat_at")?;
    let process = RunProcess::of(row)?;
    let status = stored_status(row.try_get("status")?)?;
    Ok(RunRow {
        id: row.try_get("id")?,
        experiment: manifest.record.name.clone(),
        settings: manifest.settings,
        manifest: manifest.record,
        method: row.try_get("method")?,
        dataset: row.try_get("dataset")?,
        data: data(row)?,
        seed: count(row, "seed")?,
        attempt: row.try_get("number")?,
        status: status_as_read(status, &process, heartbeat_at, table, now),
        // Earlier versions stored backtraces.
        error: row.try_get::<Option<&str>, _>("error")?.map(text::without_backtrace),
        started_at: row.try_get("started_at")?,
        last_seen_at: row.try_get::<Option<f64>, _>("ended_at")?.unwrap_or(heartbeat_at),
        command: row.try_get("command")?,
        environment,
        phases: Vec::new(),
        architecture: architecture_of(row, shared)?,
        result: result(row)?,
    })
}

/// The stored settings, or those of the text where they were deleted.
fn settings(row: &SqliteRow, manifest: &ManifestRecord) -> Result<Settings, sqlx::Error> {
    let (kind, values): (Option<&str>, Option<&str>) =
        (row.try_get("kind")?, row.try_get("settings")?);
    let (Some(kind), Some(values)) = (kind, values) else {
        return Ok(Settings::of(&manifest.text, &manifest.space_text));
    };
    let objective: Option<String> = row.try_get("budget_objective")?;
    let budget = match objective {
        Some(objective) => Some(StoredBudget {
            objective,
            bound: row.try_get("budget_bound")?,
            tolerance: row.try_get("budget_tolerance")?,
            above: row.try_get("budget_above")?,
        }),
        None => None,
    };
    let kind = [ExperimentKind::Runs, ExperimentKind::MemoryStudy]
        .into_iter()
        .find(|known| known.name() == kind)
        .ok_or_else(|| unreadable(&format!("kind of experiment {kind}")))?;
    let values = serde_json::from_str(values).map_err(|e| unreadable(&format!("settings: {e}")))?;
    Ok(Settings { kind, budget, values, sha256: row.try_get("settings_sha256")? })
}

fn data(row: &SqliteRow) -> Result<Option<DataFingerprint>, sqlx::Error> {
    let Some(sha256) = row.try_get("data_sha256")? else { return Ok(None) };
    Ok(Some(DataFingerprint {
        train_images: count(row, "train_images")?,
        test_images: count(row, "data_test_images")?,
        sha256,
    }))
}

fn manifest(row: &SqliteRow) -> Result<SharedManifest, sqlx::Error> {
    let record = ManifestRecord {
        sha256: row.try_get("sha256")?,
        name: row.try_get("name")?,
        text: row.try_get("text")?,
        space_name: row.try_get("space_name")?,
        space_text: row.try_get("space_text")?,
        space_candidates: row.try_get("space_candidates")?,
        space_log10: row.try_get("space_log10")?,
    };
    let settings = Arc::new(settings(row, &record)?);
    Ok(SharedManifest { record: Arc::new(record), settings })
}

fn environment(row: &SqliteRow) -> Result<Arc<Environment>, sqlx::Error> {
    Ok(Arc::new(Environment {
        version: row.try_get("version")?,
        git_revision: row.try_get("git_revision")?,
        git_dirty: row.try_get("git_dirty")?,
        rustc: row.try_get("rustc")?,
        libraries: row.try_get("libraries")?,
        host: row.try_get("host")?,
        os: row.try_get("os")?,
        cpu: row.try_get("cpu")?,
        instructions: row.try_get("instructions")?,
        cores: row.try_get("cores")?,
        memory_bytes: count(row, "memory_bytes")?,
        threads: row.try_get("threads")?,
        device: row.try_get("device")?,
        gpu: row.try_get("gpu")?,
        cuda: row.try_get("cuda")?,
    }))
}

fn architecture(row: &SqliteRow) -> Result<SharedArchitecture, sqlx::Error> {
    let id: &str = row.try_get("id")?;
    let arch: ArchSpec = serde_json::from_str(row.try_get("spec")?)
        .map_err(|e| unreadable(&format!("architecture {id}: {e}")))?;
    if arch.id() != id {
        return Err(unreadable(&format!("architecture {id} is another one, {}", arch.id())));
    }
    let (macs, params) = (count(row, "macs")?, count(row, "params")?);
    Ok(SharedArchitecture { arch: Arc::new(arch), macs, params })
}

/// Without probabilities.
fn architecture_of(
    row: &SqliteRow,
    shared: &Shared,
) -> Result<Option<ArchitectureRow>, sqlx::Error> {
    let Some(id) = row.try_get::<Option<String>, _>("architecture")? else { return Ok(None) };
    let what = format!("architecture {id}");
    let SharedArchitecture { arch, macs, params } =
        referred(&shared.architectures, Some(id.as_str()), &what)?;
    let (probabilities, resolutions) = Default::default();
    Ok(Some(ArchitectureRow { id, arch, macs, params, probabilities, resolutions }))
}

fn result(row: &SqliteRow) -> Result<Option<FinalResult>, sqlx::Error> {
    let Some(weights_sha256) = row.try_get("weights_sha256")? else { return Ok(None) };
    Ok(Some(FinalResult {
        test_top1: row.try_get("test_top1")?,
        test_loss: row.try_get("test_loss")?,
        test_images: count(row, "test_images")?,
        weights_sha256,
    }))
}

/// The phases of each run in the order in which they happen.
async fn phases(
    connection: &mut SqliteConnection,
    only: Option<i64>,
    problems: &mut Problems,
) -> Result<BTreeMap<i64, Vec<PhaseRow>>, Fault> {
    let mut phases: BTreeMap<i64, Vec<PhaseRow>> = BTreeMap::new();
    for row in query(PHASES).bind(only).fetch_all(connection).await? {
        let run = row.try_get("run")?;
        phases.entry(run).or_default().extend(problems.note(run, phase(&row)));
    }
    for rows in phases.values_mut() {
        rows.sort_by_key(|row| row.phase);
    }
    Ok(phases)
}

/// When each phase of a run's last attempt started, in that order.
pub async fn phase_starts(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Vec<(Phase, f64)>, Fault> {
    let sql = "SELECT p.phase, p.started_at FROM phases AS p
               JOIN last_attempts AS a ON a.run = p.run AND a.number = p.attempt
               WHERE p.run = ?1 ORDER BY p.started_at, p.phase";
    let rows = query(sql).bind(id).fetch_all(connection).await?;
    let start = |row: &SqliteRow| Ok((phase_of(row)?, row.try_get("started_at")?));
    Ok(rows.iter().map(start).collect::<Result<_, sqlx::Error>>()?)
}

fn phase_of(row: &SqliteRow) -> Result<Phase, sqlx::Error> {
    let name: &str = row.try_get("phase")?;
    let phase = Phase::ALL.into_iter().find(|phase| phase.name() == name);
    phase.ok_or_else(|| unreadable(&format!("phase {name}")))
}

fn phase(row: &SqliteRow) -> Result<PhaseRow, sqlx::Error> {
    let phase = phase_of(row)?;
    let usage = match row.try_get("seconds")? {
        Some(seconds) => Some(PhaseUsage {
            seconds,
            peak_bytes: count(row, "peak_bytes")?,
            images: count(row, "images")?,
            macs: maybe_count(row, "macs")?,
            architectures: maybe_count(row, "architectures")?,
        }),
        None => None,
    };
    Ok(PhaseRow { phase, usage })
}

/// The probabilities of each run, block by block in the order of the space.
async fn probabilities(
    connection: &mut SqliteConnection,
    only: Option<i64>,
    problems: &mut Problems,
) -> Result<BTreeMap<i64, Vec<ChoiceProbabilities>>, Fault> {
    let mut runs: BTreeMap<i64, Vec<ChoiceProbabilities>> = BTreeMap::new();
    for row in query(CHOICES).bind(only).fetch_all(connection).await? {
        let run = row.try_get("run")?;
        let blocks = runs.entry(run).or_default();
        problems.note(run, add_probability(&row, blocks));
    }
    Ok(runs)
}

/// Adds a row, which belongs to the last of these blocks or to the next one.
fn add_probability(
    row: &SqliteRow,
    blocks: &mut Vec<ChoiceProbabilities>,
) -> Result<(), sqlx::Error> {
    let position = count(row, "position")? as usize;
    if blocks.len() == position {
        let block = row.try_get("block")?;
        let (types, expansions, widths) = Default::default();
        blocks.push(ChoiceProbabilities { block, types, expansions, widths });
    }
    let block = blocks.get_mut(position).ok_or_else(|| unreadable("a block is missing"))?;
    let values = match row.try_get("choice")? {
        Some("type") => &mut block.types,
        Some("expansion") => &mut block.expansions,
        Some("width") => &mut block.widths,
        Some(other) => return Err(unreadable(&format!("choice {other}"))),
        None => return Ok(()),
    };
    values.push(row.try_get("probability")?);
    Ok(())
}

/// The probabilities of each run's resolutions, the smallest first.
async fn resolutions(
    connection: &mut SqliteConnection,
    only: Option<i64>,
    problems: &mut Problems,
) -> Result<BTreeMap<i64, Vec<ResolutionProbability>>, Fault> {
    let mut runs: BTreeMap<i64, Vec<ResolutionProbability>> = BTreeMap::new();
    for row in query(RESOLUTIONS).bind(only).fetch_all(connection).await? {
        let run = row.try_get("run")?;
        let resolution = |row: &SqliteRow| {
            let side = count(row, "side")? as usize;
            Ok(ResolutionProbability { side, probability: row.try_get("probability")? })
        };
        runs.entry(run).or_default().extend(problems.note(run, resolution(&row)));
    }
    Ok(runs)
}

/// All attempts at a run, in order; statuses as of `now`.
pub async fn attempts(
    connection: &mut SqliteConnection,
    id: i64,
    now: f64,
) -> Result<Vec<AttemptRow>, Fault> {
    let sql = "SELECT a.*, e.host FROM attempts AS a JOIN environments AS e ON e.id = a.environment
               WHERE a.run = ?1 ORDER BY a.number";
    let table = process_table();
    let attempt = |row: &SqliteRow| {
        let process = RunProcess::of(row)?;
        let heartbeat_at: f64 = row.try_get("heartbeat_at")?;
        let status = stored_status(row.try_get("status")?)?;
        Ok(AttemptRow {
            number: row.try_get("number")?,
            status: status_as_read(status, &process, heartbeat_at, table.as_deref(), now),
            error: row.try_get("error")?,
            started_at: row.try_get("started_at")?,
            last_seen_at: row.try_get::<Option<f64>, _>("ended_at")?.unwrap_or(heartbeat_at),
            host: row.try_get("host")?,
            pid: process.pid,
            from_checkpoint: maybe_count(row, "from_checkpoint")?.map(CheckpointId::from_number),
            command: row.try_get("command")?,
        })
    };
    let rows = query(sql).bind(id).fetch_all(connection).await?;
    Ok(rows.iter().map(attempt).collect::<Result<_, sqlx::Error>>()?)
}

/// Whether there is a run of that id.
pub async fn has_run(connection: &mut SqliteConnection, id: i64) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM runs WHERE id = ?1)";
    Ok(query_scalar(sql).bind(id).fetch_one(connection).await?)
}

/// A text that changes whenever a run writes: a running one gives a sign of life with its measurements.
pub async fn version(connection: &mut SqliteConnection) -> Result<String, Fault> {
    let sql = "SELECT count(*) || ' ' || ifnull(max(run), 0) || ' ' || count(ended_at) || ' '
               || ifnull(max(heartbeat_at), 0) FROM attempts";
    Ok(query_scalar(sql).fetch_one(connection).await?)
}

/// The runs that there are, as in `there are runs 1 to 4, 7`.
pub async fn known_runs(connection: &mut SqliteConnection) -> Result<String, Fault> {
    let ids: Vec<i64> =
        query_scalar("SELECT id FROM runs ORDER BY id").fetch_all(connection).await?;
    Ok(match ids[..] {
        [] => "there are no runs yet".to_owned(),
        [only] => format!("there is only run {only}"),
        _ => format!("there are runs {}", text::ranges(&ids)),
    })
}

/// The status of this name.
pub fn stored_status(name: &str) -> Result<RunStatus, sqlx::Error> {
    use RunStatus::{Failed, Finished, Interrupted, Running};
    let all = [Running, Finished, Failed, Interrupted];
    let status = all.into_iter().find(|status| status.name() == name);
    status.ok_or_else(|| unreadable(&format!("status {name}")))
}

/// A column that holds no negative numbers.
fn count(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    maybe_count(row, column)?.ok_or_else(|| unreadable(&format!("no {column}")))
}

/// A column that holds no negative numbers, but may be NULL.
fn maybe_count(row: &SqliteRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    let value: Option<i64> = row.try_get(column)?;
    let count = |value| u64::try_from(value).map_err(|_| unreadable(&format!("{column} {value}")));
    value.map(count).transpose()
}

/// Something else has changed the tables.
fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}
