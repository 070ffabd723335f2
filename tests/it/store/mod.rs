//! The results database: what is written is read back, whatever else uses it and however a run ends.

mod devices;
mod endings;
mod paths;
mod settings;

use repro::env::Environment;
use repro::record::{
    ChoiceProbabilities, DataFingerprint, Metric, Phase, PhaseUsage, Recorder,
    ResolutionProbability, SearchedArchitecture,
};
use repro::space::{BlockDecision, Decisions, load_space};
use repro::store::{
    FinalResult, ManifestRecord, Measurement, NewRun, PhaseRow, RunRecorder, RunStatus, Store,
};
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

pub fn new_run(seed: u64) -> NewRun {
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
            gpu: None,
            cuda: None,
        },
    }
}

pub fn result() -> FinalResult {
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
        "record until full" => endings::record_until_full(&path),
        "open what cannot be written" => paths::open_what_cannot_be_written(&path),
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

const USAGE: PhaseUsage = PhaseUsage {
    seconds: 1.25,
    peak_bytes: 1 << 40,
    images: 50_000,
    macs: Some(1 << 50),
    architectures: Some(20),
};

fn fingerprint() -> DataFingerprint {
    DataFingerprint { train_images: 50_000, test_images: 10_000, sha256: "0f".repeat(32) }
}

/// Records something of every kind. The order of reading is that of the phases, and that of the
/// metrics' names.
pub fn record_everything(recorder: &mut RunRecorder) {
    recorder.phase_started(Phase::Search).unwrap();
    recorder
        .measure(10, &[(Metric::SEARCH_LOSS, 0.1), (Metric::SEARCH_EXPECTED_MACS, 1e300)])
        .unwrap();
    recorder.measure(9, &[(Metric::SEARCH_LOSS, -5e-324)]).unwrap();
    recorder.phase_finished(Phase::Search, USAGE).unwrap();
    recorder.phase_started(Phase::Data).unwrap();
    recorder.data(&fingerprint()).unwrap();
    recorder.phase_finished(Phase::Data, PhaseUsage::default()).unwrap();
    recorder.phase_started(Phase::Test).unwrap();
    recorder.architecture(&found()).unwrap();
}

#[test]
fn everything_that_a_run_reports_is_read_back() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.runs().unwrap().rows, []);
    let new = new_run(i64::MAX as u64);
    let mut recorder = store.begin(&new).unwrap();
    assert_eq!(recorder.run_id(), 1);
    record_everything(&mut recorder);
    let before = store.run(1).unwrap();
    assert_eq!((before.status, before.result), (RunStatus::Running, None));
    recorder.finish(&result()).unwrap();
    drop(store.begin(&new_run(2)).unwrap());

    let runs = Store::open(&path).unwrap().runs().unwrap().rows;
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(runs[0], store.run(1).unwrap());
    let run = &runs[0];
    assert_eq!(*run.manifest, new.manifest);
    assert_eq!((&run.data, &runs[1].data), (&Some(fingerprint()), &None));
    assert_eq!(run.experiment, "small");
    assert_eq!((&run.method, &run.dataset, run.seed), (&new.method, &new.dataset, new.seed));
    assert_eq!((run.attempt, run.status, &run.error), (1, RunStatus::Finished, &None));
    assert!(run.started_at > 1.7e9 && run.last_seen_at > run.started_at, "{run:?}");
    assert_eq!(run.command, new.command);
    assert_eq!(*run.environment, new.environment);
    assert_eq!(
        run.phases,
        [
            PhaseRow { phase: Phase::Data, usage: Some(PhaseUsage::default()) },
            PhaseRow { phase: Phase::Search, usage: Some(USAGE) },
            PhaseRow { phase: Phase::Test, usage: None },
        ]
    );
    let (architecture, found) = (run.architecture.as_ref().unwrap(), found());
    assert_eq!(architecture.id, found.arch.id());
    assert_eq!(*architecture.arch, found.arch);
    assert_eq!((architecture.macs, architecture.params), (found.macs, found.params));
    assert_eq!(architecture.probabilities, found.probabilities);
    assert_eq!(architecture.resolutions, found.resolutions);
    assert_eq!(run.result, Some(result()));
    assert_eq!(
        (&runs[1].architecture, &runs[1].result, &runs[1].phases[..]),
        (&None, &None, &[][..])
    );
}

#[test]
fn measurements_are_read_back_in_order() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run(1)).unwrap();
    record_everything(&mut recorder);
    recorder.finish(&result()).unwrap();
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
fn threads_and_processes_write_at_once() {
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
