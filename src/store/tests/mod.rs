//! What only SQL can show or cause. The other tests are in `tests/it/store/`.

mod care;
mod damage;
mod locks;
mod migration;
mod resume;
mod versions;

use super::*;
use crate::record::{
    ChoiceProbabilities, Metric, Phase, PhaseUsage, Recorder, ResolutionProbability,
    SearchedArchitecture,
};
use crate::space::{Activation, ArchSpec, ConvSpec, Head};
use sqlx::{AssertSqlSafe, query_scalar, raw_sql};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.db");
    (folder, path)
}

fn new_run() -> NewRun {
    NewRun {
        manifest: ManifestRecord {
            sha256: "a".repeat(64),
            name: "test".into(),
            text: "name = \"test\"".into(),
            space_name: "space".into(),
            space_text: "name = \"space\"".into(),
            space_candidates: "1000".into(),
            space_log10: 3.0,
        },
        method: "dmasking".into(),
        dataset: "cifar10".into(),
        seed: 1,
        command: "repro run test.toml".into(),
        environment: env::Environment {
            version: "0.1.0".into(),
            git_revision: None,
            git_dirty: None,
            rustc: "rustc 1.95.0".into(),
            libraries: "candle-core 0.11.1".into(),
            host: "here".into(),
            os: "linux x86_64".into(),
            cpu: "a processor".into(),
            instructions: "AVX2+FMA".into(),
            cores: 2,
            memory_bytes: 1 << 33,
            threads: 2,
            device: "cpu".into(),
            gpu: None,
            cuda: None,
        },
    }
}

/// Runs statements past the store, as another program would.
fn sql(path: &Path, statements: &str) {
    let mut transactor = Transactor::new(Database::at(path).unwrap()).unwrap();
    let run = async |connection: &mut SqliteConnection| {
        raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await?;
        Ok(())
    };
    transactor.outside_transaction(run).unwrap();
}

fn value<T>(path: &Path, expression: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
{
    let mut transactor = Transactor::new(Database::at(path).unwrap()).unwrap();
    transactor.read(async |c| Ok(query_scalar(expression).fetch_one(c).await?)).unwrap()
}

/// A store with short patience.
fn impatient(path: &Path) -> Store {
    let mut store = Store::open(path).unwrap();
    let short = Duration::from_millis(50);
    store.database.options = store.database.options.busy_timeout(short);
    store.database.lock_wait = Duration::from_millis(300);
    store
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} never happened");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_database_of_a_newer_program_is_refused() {
    let (_folder, path) = folder();
    Store::open(&path).unwrap();
    let newer = "INSERT INTO _sqlx_migrations VALUES (99, 'later', 0, 1, x'00', 0)";
    sql(&path, newer);
    let error = Store::open(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} was written by a newer version of this program: its tables are at migration 99, \
             this version knows 9; use the newer program, or name another database",
            path.display()
        )
    );
}

#[test]
fn a_database_with_another_text_of_a_migration_is_refused() {
    let (_folder, path) = folder();
    Store::open(&path).unwrap();
    sql(&path, "UPDATE _sqlx_migrations SET checksum = x'00'");
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error, StoreError::OtherMigration { path, version: 1 });
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let (folder, path) = folder();
    for foreign in [
        "CREATE TABLE recipes (soup TEXT)",
        "DROP TABLE recipes; CREATE TABLE _sqlx_migrations (version INTEGER, checksum BLOB)",
        "DROP TABLE _sqlx_migrations; PRAGMA application_id = 7",
    ] {
        sql(&path, foreign);
        let before = std::fs::read(&path).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert_eq!(error, StoreError::Foreign(path.clone()));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn opening_again_migrates_nothing() {
    let (_folder, path) = folder();
    Store::open(&path).unwrap();
    let tables: String = value(&path, "SELECT group_concat(sql) FROM sqlite_schema");
    Store::open(&path).unwrap();
    assert_eq!(value::<String>(&path, "SELECT group_concat(sql) FROM sqlite_schema"), tables);
    assert_eq!(value::<i64>(&path, "SELECT count(*) FROM _sqlx_migrations"), 9);
    assert_eq!(value::<String>(&path, "PRAGMA journal_mode"), "wal");
}

#[test]
fn a_network_file_system_gets_a_rollback_journal() {
    let (folder, path) = folder();
    Store::open(&path).unwrap();
    let mut database = Database::at(&path).unwrap();
    database.network = Some("nfs4".to_owned());
    let store = Store { database: schema::prepare(database).unwrap(), note: None };
    assert_eq!(value::<String>(&path, "PRAGMA journal_mode"), "delete");
    assert!(store.note().unwrap().contains("is on a network file system (nfs4)"));
    let mut recorder = store.begin(&new_run()).unwrap();
    for step in 0..100 {
        recorder.measure(step, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap();
        assert_eq!(store.runs().unwrap().rows.len(), 1);
    }
    recorder.interrupt().unwrap();
    assert_eq!(store.measurements(1).unwrap().len(), 100);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_run_that_is_killed_early_has_a_last_sign_of_life() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let recorder = store.begin(&new_run()).unwrap();
    let age = || {
        let run = store.run(1).unwrap();
        run.last_seen_at - run.started_at
    };
    wait_until("the first sign of life", || age() > 0.0);
    assert!(age() < 2.0, "{}", age());
    drop(recorder);
}

#[test]
fn a_full_disk_fails_the_run_and_keeps_the_rest() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run()).unwrap();
    recorder.measure(0, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap();
    recorder.interrupt().unwrap();

    let pages: i64 = value(&path, "PRAGMA page_count");
    let limit = (pages + 4).to_string();
    store.database.options = store.database.options.pragma("max_page_count", limit);
    let mut recorder = store.begin(&new_run()).unwrap();
    recorder.measure(0, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap();
    recorder.phase_started(Phase::Search).unwrap();
    let error =
        (1..10_000).find_map(|step| recorder.measure(step, &[(Metric::SEARCH_LOSS, 1.0)]).err());
    let error = error.or_else(|| recorder.phase_started(Phase::Derive).err()).unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "{} cannot grow: the disk or its quota is full (database or disk is full, SQLite code \
             13); free some space and try again; what was stored before is intact",
            path.display()
        )
    );
    // The run would have been lost unnoticed: finishing tells, and says so in the database.
    let result = FinalResult {
        test_top1: 0.5,
        test_loss: 1.0,
        test_images: 10,
        weights_sha256: "b".repeat(64),
    };
    assert_eq!(recorder.finish(&result).unwrap_err().to_string(), error.to_string());
    let runs = store.runs().unwrap().rows;
    assert_eq!(runs[1].status, RunStatus::Failed);
    assert_eq!(runs[1].error, Some(error.to_string()));
    assert_eq!(store.measurements(1).unwrap().len(), 1);
    assert_eq!(store.measurements(2).unwrap()[0].step, 0);
    assert_eq!(value::<String>(&path, "PRAGMA integrity_check"), "ok");
}

#[test]
fn an_idle_run_gives_signs_of_life() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    store.database.heartbeat_every = Duration::from_millis(20);
    let recorder = store.begin(&new_run()).unwrap();
    let begun = store.run(1).unwrap();
    wait_until("a heartbeat", || store.run(1).unwrap().last_seen_at > begun.started_at + 0.1);
    assert_eq!(store.run(1).unwrap().started_at, begun.started_at);
    drop(recorder);
}

#[test]
fn measurements_are_committed_by_themselves() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    store.database.commit_every = Duration::from_millis(20);
    let mut recorder = store.begin(&new_run()).unwrap();
    recorder.measure(0, &[(Metric::SEARCH_LOSS, 1.0), (Metric::SEARCH_TOP1, 0.5)]).unwrap();
    wait_until("a commit", || store.measurements(1).unwrap().len() == 2);
    drop(recorder);
}

#[test]
fn a_silent_run_is_shown_as_interrupted() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let recorder = store.begin(&new_run()).unwrap();
    assert_eq!(store.run(1).unwrap().status, RunStatus::Running);
    sql(&path, "UPDATE attempts SET process_table = 'elsewhere', pid = 4294967295");
    assert_eq!(store.run(1).unwrap().status, RunStatus::Running);
    sql(&path, "UPDATE attempts SET heartbeat_at = heartbeat_at - 61");
    assert_eq!(store.run(1).unwrap().status, RunStatus::Interrupted);
    assert_eq!(value::<String>(&path, "SELECT status FROM attempts"), "running");
    drop(recorder);
    assert_eq!(value::<String>(&path, "SELECT status FROM attempts"), "interrupted");
}

#[test]
fn equal_manifests_and_environments_share_rows() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    drop(store.begin(&new_run()).unwrap());
    drop(store.begin(&new_run()).unwrap());
    assert_eq!(value::<i64>(&path, "SELECT count(*) FROM environments"), 1);
    assert_eq!(value::<i64>(&path, "SELECT count(*) FROM manifests"), 1);
    let mut other = new_run();
    other.environment.threads = 1;
    drop(store.begin(&other).unwrap());
    assert_eq!(value::<i64>(&path, "SELECT count(*) FROM environments"), 2);
    assert_eq!(*store.run(3).unwrap().environment, other.environment);
}

/// The result of a search, with probabilities.
fn searched() -> SearchedArchitecture {
    let conv = ConvSpec { kernel: 3, stride: 1, width: 8, activation: Activation::Relu };
    let arch = ArchSpec {
        resolution: 32,
        image_channels: 3,
        classes: 10,
        stem: conv,
        blocks: vec![],
        head: Head::Conv { width: 16, activation: Activation::Relu },
    };
    let block = ChoiceProbabilities {
        block: "1.1".into(),
        types: vec![0.25, 0.75],
        expansions: vec![1.0],
        widths: vec![0.5, 0.5],
    };
    let resolution = ResolutionProbability { side: 32, probability: 1.0 };
    let (probabilities, resolutions) = (vec![block], vec![resolution]);
    SearchedArchitecture { arch, macs: 10, params: 20, probabilities, resolutions }
}

#[test]
fn one_architecture_cannot_have_two_costs() {
    let mut found = searched();
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    store.begin(&new_run()).unwrap().architecture(&found).unwrap();
    store.begin(&new_run()).unwrap().architecture(&found).unwrap();
    found.macs = 11;
    let error = store.begin(&new_run()).unwrap().architecture(&found).unwrap_err().to_string();
    assert!(
        error.contains("10 MACs and 20 parameters there, 11 MACs and 20 parameters now"),
        "{error}"
    );
    assert_eq!(store.run(2).unwrap().architecture, store.run(1).unwrap().architecture);
    assert_eq!(store.run(3).unwrap().architecture, None);
}
