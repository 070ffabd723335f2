//! How runs end, and what is refused while they are recorded.

use super::{STEPS, folder, many, new_run, other_process, record_many, result, wait_until};
use repro::record::{Metric, Phase, PhaseUsage, Recorder};
use repro::store::{FinalResult, RunStatus, Store, StoreError};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_killed_run_keeps_its_measurements() {
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
fn a_dropped_recorder_leaves_an_interrupted_run() {
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
    let error = "the loss became NaN at step 3\n   0: candle_core::error::bt\n      at error.rs:1";
    store.begin(&new_run(1)).unwrap().fail(error).unwrap();
    let run = store.run(1).unwrap();
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(run.error.as_deref(), Some("the loss became NaN at step 3"));
}

#[test]
fn a_closed_database_is_one_file() {
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
fn a_value_that_is_not_finite_is_refused() {
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
fn a_metric_measured_twice_stops_the_run() {
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
    assert_eq!(store.run(1).unwrap().error, Some(format!("something else; then: {error}")));
    let values: Vec<_> = store.measurements(1).unwrap().iter().map(|m| m.value).collect();
    assert_eq!(values, [1.0, 3.0]);
}

#[test]
fn phases_start_once_and_before_they_end() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run(1)).unwrap();
    let error = recorder.phase_finished(Phase::Train, PhaseUsage::default()).unwrap_err();
    assert_eq!(error.to_string(), "phase `train` was finished without having been started");
    drop(recorder);
    let mut recorder = store.begin(&new_run(2)).unwrap();
    recorder.phase_started(Phase::Train).unwrap();
    let error = recorder.phase_started(Phase::Train).unwrap_err().to_string();
    assert_eq!(error, "phase `train` was started twice");
    // The run has failed, also if it ignores the error.
    assert_eq!(recorder.finish(&result()).unwrap_err().to_string(), error);
    let run = store.run(2).unwrap();
    assert_eq!((run.status, run.error), (RunStatus::Failed, Some(error)));
    assert_eq!(run.phases.len(), 1);
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
fn an_unknown_run_is_answered_with_the_known_ones() {
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

/// Fills a database until its file may not grow, and stores the run as failed.
pub fn record_until_full(path: &Path) {
    let store = Store::open(path).unwrap();
    let mut recorder = store.begin(&new_run(1)).unwrap();
    let error = (0..).find_map(|step| recorder.measure(step, &[(Metric::SEARCH_LOSS, 1.0)]).err());
    recorder.fail(&error.unwrap().to_string()).unwrap();
}

#[test]
#[cfg(unix)]
fn a_limit_on_file_sizes_fails_the_run() {
    let (_folder, path) = folder();
    // The program itself reports the signal as an error; see `cmd/signals.rs`.
    let limit = r#"trap '' XFSZ; ulimit -f 1000; exec "$0" "$@""#;
    let child = other_process("record until full", &path);
    let mut command = Command::new("sh");
    command.args(["-c", limit]).arg(child.get_program()).args(child.get_args());
    command.envs(child.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let store = Store::open(&path).unwrap();
    let run = store.run(1).unwrap();
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.unwrap().contains("`ulimit -f`"));
    assert!(store.measurements(1).unwrap().len() > 1000);
}
