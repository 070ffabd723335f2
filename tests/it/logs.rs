//! `repro export-logs`: what TensorBoard and MLflow read is what the database has.
//!
//! `tests/export/check_tensorboard.py` and `check_mlflow.py` compare both, by the Python of the variable
//! `REPRO_PYTHON`, which `.ci/python` installs.

use crate::cli::repro;
use crate::export::python;
use crate::store::{new_run, record_everything, result};
use repro::record::{Metric, Recorder};
use repro::store::{Acquired, AttemptKey, Measurement, NewRun, RunRecorder, Store};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder with a database and exports.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> Store {
        Store::open(&self.path("results.db")).unwrap()
    }

    /// What was printed, with the exit code.
    fn try_export(&self, format: &str, to: &Path, arguments: &[&str]) -> (Option<i32>, String) {
        let (to, database) = (to.to_str().unwrap(), self.path("results.db"));
        let mut command = repro(&["export-logs", "--format", format, to, "--db"]);
        let output = command.arg(database).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    fn export(&self, format: &str, to: &str) -> PathBuf {
        let folder = self.path(to);
        let (code, said) = self.try_export(format, &folder, &[]);
        assert_eq!(code, Some(0), "{said}");
        folder
    }
}

/// Contents by the paths below a folder.
pub type Files = BTreeMap<String, Vec<u8>>;

/// All files below a folder.
pub fn files(folder: &Path) -> Files {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Another attempt at run `id`.
fn again(store: &Store, id: i64, run: &NewRun) -> AttemptKey {
    match store.acquire_run(id, run).unwrap() {
        Acquired::Ours(key) => key,
        other => panic!("{other:?}"),
    }
}

/// Five runs without training: finished, failed, failed after it was continued, interrupted, running.
pub fn record(store: &Store) -> RunRecorder {
    let mut finished = store.begin(&new_run(1)).unwrap();
    record_everything(&mut finished);
    // Several pages of the database, and several batches of MLflow.
    for step in 0..5000 {
        let value = f64::from(step as u32).sin();
        let metrics = [(Metric::TRAIN_STEP_LOSS, value), (Metric::TRAIN_LOSS.of_repeat(2), -value)];
        finished.measure(step, &metrics).unwrap();
    }
    finished.finish(&result()).unwrap();

    let mut failed = store.begin(&new_run(u64::MAX >> 1)).unwrap();
    failed.measure(0, &[(Metric::SEARCH_LOSS, 0.0)]).unwrap();
    failed.fail(&format!("`quoted` | <b>\n{}", "long ".repeat(2000))).unwrap();

    // Its first attempt has measured, but only its last one counts.
    let mut first = store.begin(&new_run(3)).unwrap();
    first.measure(7, &[(Metric::SEARCH_LOSS, 1.5)]).unwrap();
    first.interrupt().unwrap();
    store.fail(again(store, 3, &new_run(3)), "no memory").unwrap();

    let mut interrupted = store.begin(&new_run(4)).unwrap();
    interrupted.measure(0, &[(Metric::SEARCH_LOSS, 2.5), (Metric::SEARCH_TOP1, 0.1)]).unwrap();
    interrupted.measure(1, &[(Metric::SEARCH_LOSS, 2.25)]).unwrap();
    interrupted.interrupt().unwrap();

    let mut running = store.begin(&new_run(5)).unwrap();
    running.measure(0, &[(Metric::SEARCH_LOSS, 3.5)]).unwrap();
    // It is stored when this returns.
    running.mark().unwrap().unwrap();
    running
}

/// Runs a script of `tests/export`, and returns what it printed; `None` where there is no Python.
fn check(script: &str, arguments: &[&Path]) -> Option<String> {
    let python = python()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export").join(script);
    let mut command = Command::new(python);
    // No compiled files beside the scripts.
    command.arg("-B").arg(script).args(arguments).env("MLFLOW_DISABLE_TELEMETRY", "true");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

fn count(text: &str, start: &str) -> usize {
    text.lines().filter(|line| line.starts_with(start)).count()
}

/// A run of a second: all phases, with few images.
fn train(place: &Place) {
    let database = place.path("results.db");
    let sets = ["search.epochs=2", "search.images=120", "search.batch_size=16", "train.epochs=1"];
    let sets = sets.iter().chain(&["scale=0.2", "train.repeats=2"]);
    let mut command = repro(&["run", "experiments/smoke.toml", "--db"]);
    command.arg(database).args(sets.flat_map(|set| ["--set", *set]));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn tensorboard_reads_what_the_database_has() {
    let place = Place::new();
    let running = record(&place.store());
    let folder = place.export("tensorboard", "logs");
    if let Some(text) = check("check_tensorboard.py", &[&place.path("results.db"), &folder]) {
        assert_eq!(count(&text, "passed "), 5, "{text}");
    }
    drop(running);
}

#[test]
fn mlflow_reads_what_the_database_has_and_nothing_twice() {
    let place = Place::new();
    let store = place.store();
    let running = record(&store);
    let folder = place.export("mlflow", "logs");
    let (database, mlflow) = (place.path("results.db"), place.path("mlflow"));
    fs::create_dir(&mlflow).unwrap();
    let import = || check("check_mlflow.py", &[&database, &folder, &mlflow]);
    let Some(text) = import() else { return };
    assert_eq!((count(&text, "passed "), count(&text, "run ")), (5, 5), "{text}");
    assert!(text.contains("\n5 imported into sqlite:///"), "{text}");
    let text = import().unwrap();
    assert!(text.contains("\n0 imported into sqlite:///"), "{text}");

    // Two runs go on: one ends, one is continued.
    running.interrupt().unwrap();
    let mut continued = store.record(again(&store, 4, &new_run(4)), None).unwrap();
    continued.measure(0, &[(Metric::SEARCH_LOSS, 0.25)]).unwrap();
    continued.finish(&result()).unwrap();
    place.export("mlflow", "logs");
    let text = import().unwrap();
    let lines = ["run 4 of small: imported again", "run 5 of small: imported again"];
    for line in lines.into_iter().chain(["run 1 of small: imported before"]) {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    assert!(text.contains("\n2 imported into sqlite:///"), "{text}");
}

#[test]
fn a_trained_run_is_read_by_both() {
    let place = Place::new();
    train(&place);
    let (database, mlflow) = (place.path("results.db"), place.path("mlflow"));
    let folder = place.export("tensorboard", "tensorboard");
    let names: Vec<String> = files(&folder).into_keys().collect();
    assert!(names[1].starts_with("smoke/dmasking-seed1-run1/events.out.tfevents."), "{names:?}");
    if let Some(text) = check("check_tensorboard.py", &[&database, &folder]) {
        assert_eq!(count(&text, "passed dmasking-seed1-run1: "), 1, "{text}");
    }
    let folder = place.export("mlflow", "logs");
    fs::create_dir(&mlflow).unwrap();
    if let Some(text) = check("check_mlflow.py", &[&database, &folder, &mlflow]) {
        assert_eq!(count(&text, "passed dmasking-seed1-run1: "), 1, "{text}");
    }
}

#[test]
fn equal_databases_give_equal_files() {
    let place = Place::new();
    // Its status does not depend on when it is read.
    record(&place.store()).interrupt().unwrap();
    for format in ["tensorboard", "mlflow"] {
        let [one, other] = ["one", "other"].map(|name| {
            let folder = place.export(format, &format!("{format}-{name}"));
            files(&folder)
        });
        assert!(one == other, "{format}");
        let all: Vec<u8> = one.into_values().flatten().collect();
        let has = |text: &str| all.windows(text.len()).any(|part| part == text.as_bytes());
        let host = new_run(1).environment.host;
        assert!(has("AVX2+FMA") && !has(&host), "{format}: the host of a run is nobody's concern");
    }
}

#[test]
fn a_second_export_replaces_the_first_and_nothing_else() {
    let place = Place::new();
    record(&place.store()).interrupt().unwrap();
    let folder = place.export("tensorboard", "logs");
    let before = files(&folder);
    assert_eq!(before.len(), 6, "{:?}", before.keys());
    fs::write(folder.join("small/notes.txt"), "mine").unwrap();
    let (code, said) = place.try_export("tensorboard", &folder, &["--run", "2", "--run", "4"]);
    assert_eq!((code, said.contains("2 runs written to")), (Some(0), true), "{said}");
    let after: Vec<String> = files(&folder).into_keys().collect();
    assert_eq!(after.len(), 4, "{after:?}");
    assert!(after.iter().any(|name| name == "small/notes.txt"), "{after:?}");
    let kept = after.iter().filter(|name| name.contains("tfevents"));
    assert!(
        kept.clone().all(|name| name.contains("-run2/") || name.contains("-run4/")),
        "{after:?}"
    );
    assert_eq!(kept.count(), 2);

    let mine = place.path("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("runs.jsonl"), "mine").unwrap();
    let file = place.path("results.db");
    for (format, to, problem) in [
        ("mlflow", &folder, "holds an export for tensorboard; name another folder for mlflow"),
        ("mlflow", &mine, "runs.jsonl exists and was not written by `repro export-logs`"),
        ("tensorboard", &file, "is not a folder"),
    ] {
        let (code, said) = place.try_export(format, to, &[]);
        assert_eq!((code, said.contains(problem)), (Some(2), true), "{said}");
    }
    assert_eq!(files(&mine).len(), 1);
}

#[test]
fn runs_that_do_not_exist_are_refused() {
    let place = Place::new();
    let to = place.path("logs");
    let (code, said) = place.try_export("mlflow", &to, &[]);
    assert_eq!((code, said.contains("there is no database")), (Some(2), true), "{said}");
    record(&place.store()).interrupt().unwrap();
    for (arguments, code, problem) in [
        (["--run", "9"], 1, "there is no run 9"),
        (["--experiment", "smal"], 1, "did you mean \"small\"?"),
    ] {
        let (found, said) = place.try_export("mlflow", &to, &arguments);
        assert_eq!((found, said.contains(problem)), (Some(code), true), "{said}");
    }
    assert!(!to.exists());
}

#[test]
fn measurements_are_read_in_parts() {
    let place = Place::new();
    let store = place.store();
    record(&store).interrupt().unwrap();
    for run in 1..=5 {
        let mut parts: Vec<Vec<Measurement>> = Vec::new();
        let read = store.for_each_measurement(run, |part| {
            parts.push(part.to_vec());
            Ok::<_, ()>(())
        });
        assert_eq!(read, Ok(Ok(())));
        assert!(parts.iter().all(|part| part.len() < 5000), "run {run}");
        assert!(parts.concat() == store.measurements(run).unwrap(), "run {run}");
    }
    let mut seen = 0;
    let stopped = store.for_each_measurement(1, |part| {
        seen += part.len();
        Err("enough")
    });
    assert_eq!(stopped, Ok(Err("enough")));
    assert!(seen > 0 && seen < store.measurements(1).unwrap().len());
    let last = store.last_steps(1).unwrap();
    assert!(
        last.contains(&(Metric::TRAIN_STEP_LOSS, 4999))
            && last.contains(&(Metric::SEARCH_LOSS, 10))
    );
}
