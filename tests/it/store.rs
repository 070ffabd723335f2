//! The results database: what goes in comes out, whoever else uses it and however a run ends.

use repro::env::Environment;
use repro::record::{
    ChoiceProbabilities, DataFingerprint, Metric, Phase, PhaseUsage, Recorder,
    ResolutionProbability, SearchedArchitecture,
};
use repro::space::{BlockDecision, Decisions, load_space};
use repro::store::{
    FinalResult, ManifestRecord, Measurement, NewRun, PhaseRow, RunRecorder, RunStatus, Store,
    StoreError,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.db");
    (folder, path)
}

fn new_run(seed: u64) -> NewRun {
    NewRun {
        manifest: ManifestRecord {
            sha256: "0123456789abcdef".repeat(4),
            name: "small".into(),
            text: "name = \"small\"\n# ünïcode and 'quotes'\n".into(),
            space_name: "fbnetv2_f_cifar".into(),
            space_text: "name = \"fbnetv2_f_cifar\"\n".into(),
            space_candidates: "123456789012345678901234567890".into(),
            space_log10: 29.09,
        },
        method: "dmasking".into(),
        dataset: "cifar10".into(),
        seed,
        command: "repro run experiments/small.toml --seed 7".into(),
        environment: Environment {
            version: "0.1.0".into(),
            git_revision: Some("d0c8fdc".into()),
            git_dirty: Some(true),
            rustc: "rustc 1.95.0".into(),
            libraries: "candle-core 0.11.1, gemm 0.19.0".into(),
            host: "workstation".into(),
            os: "linux x86_64".into(),
            cpu: "a processor".into(),
            instructions: "AVX2+FMA".into(),
            cores: 2,
            memory_bytes: 1 << 34,
            threads: 2,
            device: "cpu".into(),
        },
    }
}

fn result() -> FinalResult {
    FinalResult {
        test_top1: 0.923_456_789_012_345_6,
        test_loss: 0.1 + 0.2,
        test_images: 10_000,
        weights_sha256: "fedcba9876543210".repeat(4),
    }
}

fn found() -> SearchedArchitecture {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/spaces/fbnetv2_f_cifar.toml");
    let space = load_space(&path).unwrap_or_else(|e| panic!("{e}"));
    let first = BlockDecision { block_type: 0, expansion: 0, width: 0 };
    let decisions = Decisions { resolution: 0, blocks: vec![first; space.blocks.len()] };
    let probabilities = space.blocks.iter().map(|block| ChoiceProbabilities {
        block: block.label(),
        types: vec![1.0 / block.types.len() as f64; block.types.len()],
        expansions: vec![1.0 / block.expansions() as f64; block.expansions()],
        // A method may have no opinion on some choices.
        widths: if block.index == 0 { vec![] } else { vec![1.0 / 3.0, 2.0 / 3.0] },
    });
    let mut probabilities: Vec<_> = probabilities.collect();
    let (types, expansions, widths) = Default::default();
    probabilities.push(ChoiceProbabilities { block: "9.1".into(), types, expansions, widths });
    SearchedArchitecture {
        arch: space.decide(&decisions),
        macs: 12_345_678,
        params: 987_654,
        probabilities,
        resolutions: [24, 28, 32]
            .map(|side| ResolutionProbability { side, probability: side as f64 / 84.0 })
            .to_vec(),
    }
}

/// How often a writer of the parallel test measures.
const STEPS: u64 = 2000;

/// Measures two metrics at each of [`STEPS`] steps, and commits now and then.
fn record_many(store: &Store, seed: u64) -> RunRecorder {
    let mut recorder = store.begin(&new_run(seed)).unwrap();
    for step in 0..STEPS {
        let value = (seed * STEPS + step) as f64 / 3.0;
        recorder
            .measure(step, &[(Metric::SEARCH_LOSS, value), (Metric::SEARCH_TOP1, -value)])
            .unwrap();
        if step % 400 == 0 {
            let phase = Phase::ALL[(step / 400) as usize];
            recorder.phase_started(phase).unwrap();
            recorder.phase_finished(phase, PhaseUsage::default()).unwrap();
        }
    }
    recorder
}

/// What [`record_many`] measures, in the order of reading.
fn many(seed: u64) -> Vec<Measurement> {
    let mut all = Vec::new();
    for (metric, sign) in [(Metric::SEARCH_LOSS, 1.0), (Metric::SEARCH_TOP1, -1.0)] {
        all.extend((0..STEPS).map(|step| {
            let value = sign * (seed * STEPS + step) as f64 / 3.0;
            Measurement { metric, step, value }
        }));
    }
    all
}

/// This test program again, as another process that does what [`child`] says of `task`.
fn other_process(task: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "store::child", "--ignored"]);
    command.env("STORE_CHILD", task).env("STORE_PATH", path);
    command.stdout(Stdio::piped());
    command
}

#[test]
#[ignore = "runs as another process of other tests"]
fn child() {
    let Ok(task) = std::env::var("STORE_CHILD") else { return };
    let path = PathBuf::from(std::env::var_os("STORE_PATH").unwrap());
    match task.as_str() {
        "record" => {
            let recorder = record_many(&Store::open(&path).unwrap(), 40);
            recorder.finish(&result()).unwrap();
        }
        "record until killed" => {
            let _recorder = record_many(&Store::open(&path).unwrap(), 7);
            thread::sleep(Duration::from_mins(1));
        }
        "open what cannot be written" => open_what_cannot_be_written(&path),
        other => panic!("no task `{other}`"),
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} never happened");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn everything_a_run_reports_comes_back() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.runs().unwrap().rows, []);
    let new = new_run(i64::MAX as u64);
    let mut recorder = store.begin(&new).unwrap();
    assert_eq!(recorder.run_id(), 1);
    let usage = PhaseUsage {
        seconds: 1.25,
        peak_bytes: 1 << 40,
        images: 50_000,
        macs: Some(1 << 50),
        architectures: Some(20),
    };
    // The order of reading is that of the phases, and that of the metrics' names.
    recorder.phase_started(Phase::Search).unwrap();
    recorder
        .measure(10, &[(Metric::SEARCH_LOSS, 0.1), (Metric::SEARCH_EXPECTED_MACS, 1e300)])
        .unwrap();
    recorder.measure(9, &[(Metric::SEARCH_LOSS, -5e-324)]).unwrap();
    recorder.phase_finished(Phase::Search, usage).unwrap();
    recorder.phase_started(Phase::Data).unwrap();
    let data =
        DataFingerprint { train_images: 50_000, test_images: 10_000, sha256: "0f".repeat(32) };
    recorder.data(&data).unwrap();
    recorder.phase_finished(Phase::Data, PhaseUsage::default()).unwrap();
    recorder.phase_started(Phase::Test).unwrap();
    recorder.architecture(&found()).unwrap();
    let before = store.run(1).unwrap();
    assert_eq!((before.status, before.result), (RunStatus::Running, None));
    recorder.finish(&result()).unwrap();
    drop(store.begin(&new_run(2)).unwrap());

    let runs = Store::open(&path).unwrap().runs().unwrap().rows;
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(runs[0], store.run(1).unwrap());
    let run = &runs[0];
    assert_eq!(run.manifest, new.manifest);
    assert_eq!((&run.data, &runs[1].data), (&Some(data), &None));
    assert_eq!(run.experiment, "small");
    assert_eq!((&run.method, &run.dataset, run.seed), (&new.method, &new.dataset, new.seed));
    assert_eq!((run.attempt, run.status, &run.error), (1, RunStatus::Finished, &None));
    assert!(run.started_at > 1.7e9 && run.last_seen_at > run.started_at, "{run:?}");
    assert_eq!(run.command, new.command);
    assert_eq!(run.environment, new.environment);
    assert_eq!(
        run.phases,
        [
            PhaseRow { phase: Phase::Data, usage: Some(PhaseUsage::default()) },
            PhaseRow { phase: Phase::Search, usage: Some(usage) },
            PhaseRow { phase: Phase::Test, usage: None },
        ]
    );
    let (architecture, found) = (run.architecture.as_ref().unwrap(), found());
    assert_eq!(architecture.id, found.arch.id());
    assert_eq!(architecture.arch, found.arch);
    assert_eq!((architecture.macs, architecture.params), (found.macs, found.params));
    assert_eq!(architecture.probabilities, found.probabilities);
    assert_eq!(architecture.resolutions, found.resolutions);
    assert_eq!(run.result, Some(result()));
    assert_eq!(
        (&runs[1].architecture, &runs[1].result, &runs[1].phases[..]),
        (&None, &None, &[][..])
    );

    let measured = store.measurements(1).unwrap();
    let measured: Vec<_> = measured.iter().map(|m| (m.metric, m.step, m.value)).collect();
    assert_eq!(
        measured,
        [
            (Metric::SEARCH_EXPECTED_MACS, 10, 1e300),
            (Metric::SEARCH_LOSS, 9, -5e-324),
            (Metric::SEARCH_LOSS, 10, 0.1)
        ]
    );
}

#[test]
fn chosen_metrics_of_all_runs_are_read_at_once() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let [loss, repeated, other] =
        [Metric::TRAIN_LOSS, Metric::TRAIN_LOSS.of_repeat(12), Metric::TRAIN_TOP1];
    for seed in 1..=70 {
        let mut recorder = store.begin(&new_run(seed)).unwrap();
        let value = seed as f64;
        recorder.measure(7, &[(other, 0.0), (loss, value), (repeated, -value)]).unwrap();
        recorder.measure(3, &[(loss, value + 0.5), (other.of_repeat(1), 0.0)]).unwrap();
        recorder.interrupt().unwrap();
    }
    let all = store.measurements_of(&[Metric::SEARCH_TAU, loss]).unwrap();
    assert_eq!(all.len(), 70);
    for (id, measured) in all {
        let row = |metric, step, value| Measurement { metric, step, value };
        let value = id as f64;
        let mut expected =
            [row(loss, 3, value + 0.5), row(loss, 7, value), row(repeated, 7, -value)];
        expected.sort_by_key(|m| (m.metric != measured[0].metric, m.step));
        assert_eq!(measured, expected);
    }
    assert!(store.measurements_of(&[]).unwrap().is_empty());
}

#[test]
fn threads_and_processes_write_at_once_and_lose_nothing() {
    let (_folder, path) = folder();
    // They also race for creating the database.
    let children = [0, 1].map(|_| other_process("record", &path).spawn().unwrap());
    let threads = [1, 2].map(|seed| {
        let path = path.clone();
        thread::spawn(move || {
            let store = Store::open(&path).unwrap();
            record_many(&store, seed).finish(&result()).unwrap();
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let store = Store::open(&path).unwrap();
    let runs = store.runs().unwrap().rows;
    let mut seeds: Vec<_> = runs.iter().map(|run| run.seed).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [1, 2, 40, 40]);
    for run in runs {
        assert_eq!(run.status, RunStatus::Finished);
        assert_eq!(run.phases.len(), 5);
        assert!(store.measurements(run.id).unwrap() == many(run.seed), "run {} differs", run.id);
    }
}

#[test]
fn a_new_database_may_be_opened_by_many_at_once() {
    let (_folder, path) = folder();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || Store::open(&path).map(|_| ()))
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Ok(()));
    }
}

#[test]
fn a_killed_run_shows_as_interrupted_with_what_it_measured() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut child = other_process("record until killed", &path).spawn().unwrap();
    let all_measured = || {
        let measured = store.measurements(1);
        measured.is_ok_and(|measured| measured.len() as u64 == 2 * STEPS)
    };
    wait_until("the last commit", all_measured);
    assert_eq!(store.run(1).unwrap().status, RunStatus::Running);

    child.kill().unwrap();
    let interrupted = || store.runs().unwrap().rows[0].status == RunStatus::Interrupted;
    // Also as long as nobody has asked how it ended.
    #[cfg(target_os = "linux")]
    wait_until("the end", interrupted);
    child.wait().unwrap();
    #[cfg(target_os = "linux")]
    assert!(interrupted());
    assert!(all_measured());
    assert!(store.measurements(1).unwrap() == many(7));
    assert_eq!(store.run(1).unwrap().result, None);
}

#[test]
fn a_recorder_that_is_dropped_leaves_an_interrupted_run() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run(1)).unwrap();
    recorder.measure(0, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap();
    drop(recorder);
    let run = store.run(1).unwrap();
    assert_eq!((run.status, run.error), (RunStatus::Interrupted, None));
    assert_eq!(store.measurements(1).unwrap().len(), 1);

    store.begin(&new_run(1)).unwrap().interrupt().unwrap();
    assert_eq!(store.run(2).unwrap().status, RunStatus::Interrupted);
}

#[test]
fn a_failed_run_keeps_its_error() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    store.begin(&new_run(1)).unwrap().fail("the loss became NaN at step 3").unwrap();
    let run = store.run(1).unwrap();
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(run.error.as_deref(), Some("the loss became NaN at step 3"));
}

#[test]
fn the_file_alone_is_whole_when_no_run_is_recorded() {
    let (folder, path) = folder();
    let store = Store::open(&path).unwrap();
    record_many(&store, 3).finish(&result()).unwrap();
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["results.db"]);

    let (_elsewhere, copy) = self::folder();
    fs::copy(&path, &copy).unwrap();
    let copied = Store::open(&copy).unwrap();
    assert_eq!(copied.runs().unwrap(), store.runs().unwrap());
    assert!(copied.measurements(1).unwrap() == many(3));
}

#[test]
fn a_value_that_is_no_number_is_refused_with_its_name() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run(1)).unwrap();
    let error = recorder
        .measure(3, &[(Metric::SEARCH_TOP1, 1.0), (Metric::SEARCH_LOSS, f64::NAN)])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "metric `search.loss` at step 3 is NaN; only finite numbers can be stored"
    );
    let error = recorder.measure(u64::MAX, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the step of metric `search.loss` is 18446744073709551615; the largest number that can be stored is \
         9223372036854775807"
    );
    let lost = FinalResult { test_loss: f64::INFINITY, ..result() };
    let error = recorder.finish(&lost).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the loss on the test images is inf; only finite numbers can be stored"
    );
    assert_eq!(store.run(1).unwrap().result, None);
    assert_eq!(store.measurements(1).unwrap(), []);
}

#[test]
fn a_metric_measured_twice_stops_the_run_at_the_next_call() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run(1)).unwrap();
    recorder
        .measure(
            0,
            &[(Metric::SEARCH_LOSS, 1.0), (Metric::SEARCH_LOSS, 2.0), (Metric::SEARCH_TOP1, 3.0)],
        )
        .unwrap();
    let error = recorder.phase_started(Phase::Search).unwrap_err().to_string();
    assert_eq!(
        error,
        "metric `search.loss` was measured twice at step 0; the first value was kept"
    );
    assert_eq!(recorder.measure(1, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap_err().to_string(), error);
    recorder.fail("something else").unwrap();
    assert_eq!(store.run(1).unwrap().error, Some(format!("something else; and then: {error}")));
    let values: Vec<_> = store.measurements(1).unwrap().iter().map(|m| m.value).collect();
    assert_eq!(values, [1.0, 3.0]);
}

#[test]
fn phases_begin_once_and_before_they_end() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run(1)).unwrap();
    let error = recorder.phase_finished(Phase::Train, PhaseUsage::default()).unwrap_err();
    assert_eq!(error.to_string(), "phase `train` was finished without having been started");
    recorder.phase_started(Phase::Train).unwrap();
    let error = recorder.phase_started(Phase::Train).unwrap_err();
    assert_eq!(error.to_string(), "phase `train` was started twice");
    recorder.finish(&result()).unwrap();
    assert_eq!(store.run(1).unwrap().phases.len(), 1);
}

#[test]
#[cfg(unix)]
fn a_database_that_disappears_stops_the_run() {
    let (folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run(1)).unwrap();
    recorder.phase_started(Phase::Search).unwrap();
    fs::rename(&path, folder.path().join("moved.db")).unwrap();
    let start = Instant::now();
    let error = (0..).find_map(|step| {
        assert!(start.elapsed() < Duration::from_secs(20), "nobody notices");
        thread::sleep(Duration::from_millis(1));
        recorder.measure(step, &[(Metric::SEARCH_LOSS, 1.0)]).err()
    });
    let gone = StoreError::Gone(path.clone());
    assert_eq!(error.unwrap().to_string(), gone.to_string());
    assert_eq!(recorder.finish(&result()).unwrap_err(), gone);
    assert_eq!(store.runs().unwrap_err(), gone);
    // Nothing took its place.
    assert!(!path.exists());
}

#[test]
fn an_unknown_run_is_answered_with_those_there_are() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let text = |id| store.run(id).unwrap_err().to_string().replace(&*path.to_string_lossy(), "DB");
    assert_eq!(text(1), "DB holds no run 1; there are no runs yet");
    drop(store.begin(&new_run(1)).unwrap());
    assert_eq!(text(0), "DB holds no run 0; there is only run 1");
    drop(store.begin(&new_run(1)).unwrap());
    drop(store.begin(&new_run(1)).unwrap());
    assert_eq!(text(9), "DB holds no run 9; there are runs 1 to 3");
    assert_eq!(store.measurements(9).unwrap_err(), store.run(9).unwrap_err());
}

#[test]
fn places_where_no_database_can_be_are_refused() {
    let (folder, path) = folder();
    let text = |path: &Path| {
        let error = Store::open(path).unwrap_err().to_string();
        error.replace(&*folder.path().to_string_lossy(), "FOLDER")
    };
    assert_eq!(
        text(&folder.path().join("no/such.db")),
        "FOLDER/no/such.db: the folder FOLDER/no does not exist; create it, or name a database in a \
         folder that does"
    );
    assert!(!folder.path().join("no").exists());
    assert_eq!(
        text(folder.path()),
        "FOLDER is a folder; name a file for the database, as in FOLDER/results.db"
    );
    fs::write(&path, "metric,step,value\n".repeat(100)).unwrap();
    assert_eq!(
        text(&path),
        "FOLDER/results.db is not an SQLite database and was left as it is; name another file"
    );
    assert_eq!(fs::read(&path).unwrap().len(), 1800);
}

#[test]
fn a_damaged_database_says_so() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    record_many(&store, 1).finish(&result()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0x55);
    fs::write(&path, bytes).unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert_eq!(
        error.replace(&*path.to_string_lossy(), "DB"),
        "DB is damaged (database disk image is malformed, SQLite code 11); put a copy in its place, \
         or save what can be read with `sqlite3 DB .recover`"
    );
}

#[test]
#[cfg(unix)]
fn what_cannot_be_written_is_only_read() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    let (folder, path) = folder();
    let mut recorder = Store::open(&path).unwrap().begin(&new_run(1)).unwrap();
    recorder.measure(0, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap();
    recorder.interrupt().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // Permissions say nothing to the superuser, so that one asks as somebody else.
    let mut command = other_process("open what cannot be written", folder.path());
    let superuser = fs::metadata(&path).unwrap().uid() == 0;
    if superuser {
        command.uid(65534).gid(65534);
    }
    for mode in [0o777, 0o555] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        match command.output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            // Somebody else may not reach this program, or not exist.
            Err(error) => assert!(superuser, "{error}"),
        }
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// `folder` holds a database that is read-only; in the second round the folder is, too.
fn open_what_cannot_be_written(folder: &Path) {
    let mut paths = vec![folder.join("results.db")];
    if fs::write(folder.join("probe"), "").is_ok() {
        fs::remove_file(folder.join("probe")).unwrap();
    } else {
        paths.push(folder.join("new.db"));
    }
    for path in paths {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{} cannot be written (", path.display())), "{text}");
        assert!(!folder.join("new.db").exists());
    }
    let path = folder.join("results.db");
    let store = Store::open_to_read(&path).unwrap();
    let note = format!("{} cannot be written here, so it is only read", path.display());
    assert_eq!(store.note(), Some(note));
    assert_eq!(store.runs().unwrap().rows.len(), 1);
    assert_eq!(store.measurements(1).unwrap().len(), 1);
    let error = store.begin(&new_run(1)).unwrap_err();
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
}

#[test]
#[cfg(unix)]
fn one_file_has_one_name() {
    let (folder, path) = folder();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let store = Store::open(&path).unwrap();
    let by_name = store.begin(&new_run(1)).unwrap();
    let by_link = Store::open(&link).unwrap().begin(&new_run(2)).unwrap();
    for recorder in [by_name, by_link] {
        recorder.interrupt().unwrap();
    }
    assert_eq!(store.runs().unwrap().rows.len(), 2);
    fs::hard_link(&path, folder.path().join("hard.db")).unwrap();
    let expected = "results.db has more than one name (hard links), so two writers could overwrite \
                    each other's runs; remove the other names or copy the file, and name the copy";
    for open in [Store::open, Store::open_to_read] {
        let error = open(&path).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
#[cfg(unix)]
fn names_that_sqlite_cannot_open_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let (folder, _) = folder();
    let path = folder.path().join(OsStr::from_bytes(b"caf\xe9.db"));
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error, StoreError::NotUtf8(path.clone()));
    assert!(error.to_string().contains(r"caf\xE9.db"), "{error}");
    let device = Path::new("/dev/null");
    assert_eq!(Store::open(device).unwrap_err(), StoreError::NotAFile(device.to_owned()));
}
