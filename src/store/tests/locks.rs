//! What a run does while another program holds the database's lock.

use super::*;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

/// Another connection that holds the write lock until told, or for `at_most`.
fn hold_lock(path: &Path, at_most: Duration) -> (Sender<()>, JoinHandle<()>) {
    let (taken, is_taken) = channel();
    let (release, released) = channel();
    let mut transactor = Transactor::new(Database::at(path).unwrap()).unwrap();
    let hold = move || {
        let hold = async |_: &mut SqliteConnection| {
            taken.send(()).unwrap();
            let _ = released.recv_timeout(at_most);
            Ok(())
        };
        transactor.write(hold).unwrap();
    };
    let thread = thread::spawn(hold);
    is_taken.recv().unwrap();
    (release, thread)
}

#[test]
fn a_lock_longer_than_sqlites_timeout_is_waited_for() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut recorder = store.begin(&new_run()).unwrap();
    let (release, holder) = hold_lock(&path, Duration::from_secs(20));
    for step in 0..100 {
        recorder.measure(step, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap();
    }
    // Opening and reading do not wait.
    assert_eq!(Store::open(&path).unwrap().runs().unwrap().rows.len(), 1);
    assert!(!holder.is_finished());
    let start = Instant::now();
    let releaser = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1200));
        release.send(()).unwrap();
    });
    recorder.phase_started(Phase::Search).unwrap();
    assert!(start.elapsed() > Duration::from_millis(1100));
    releaser.join().unwrap();
    holder.join().unwrap();
    assert_eq!(store.measurements(1).unwrap().len(), 100);
    recorder.interrupt().unwrap();
}

#[test]
fn a_long_lock_is_waited_for_with_a_notice() {
    let (_folder, path) = folder();
    let mut store = impatient(&path);
    store.database.notice_after = Duration::from_millis(100);
    let (heard, sentences) = channel();
    let store = store.with_listener(move |sentence| heard.send(sentence.to_owned()).unwrap());
    let mut recorder = store.begin(&new_run()).unwrap();
    let (release, holder) = hold_lock(&path, Duration::from_secs(20));
    // The run continues, also past the start of a phase.
    for step in 0..5000 {
        recorder.measure(step, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap();
    }
    recorder.phase_started(Phase::Search).unwrap();
    recorder.measure(5000, &[(Metric::SEARCH_LOSS, 1.0)]).unwrap();
    let sentence = sentences.recv().unwrap();
    let expected = format!("{} is locked by another program; waiting for it", path.display());
    assert!(sentence.starts_with(&expected), "{sentence}");
    assert!(sentences.try_recv().is_err());
    release.send(()).unwrap();
    holder.join().unwrap();
    recorder.interrupt().unwrap();
    assert_eq!(sentences.recv().unwrap(), format!("{} is free again; continuing", path.display()));
    assert_eq!(store.measurements(1).unwrap().len(), 5001);
    assert_eq!(store.run(1).unwrap().phases.len(), 1);
}

#[test]
fn an_interrupted_run_does_not_wait_for_a_lock_for_long() {
    let (_folder, path) = folder();
    let store = impatient(&path);
    let recorder = store.begin(&new_run()).unwrap();
    let (release, holder) = hold_lock(&path, Duration::from_secs(20));
    let error = recorder.interrupt().unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    release.send(()).unwrap();
    holder.join().unwrap();
    assert_eq!(value::<String>(&path, "PRAGMA integrity_check"), "ok");
}

#[test]
fn a_stop_ends_the_waits_of_a_run() {
    let (_folder, path) = folder();
    let stop = Arc::new(AtomicBool::new(false));
    let store = impatient(&path).stopped_by(Arc::clone(&stop));
    let recorder = store.begin(&new_run()).unwrap();
    let (release, holder) = hold_lock(&path, Duration::from_secs(20));
    let stopper = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
        }
    });
    let error = recorder.fail("the loss became NaN").unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    let error = store.begin(&new_run()).unwrap_err();
    assert_eq!(error, StoreError::Stopped(path.clone()));
    assert!(!holder.is_finished());
    stopper.join().unwrap();
    release.send(()).unwrap();
    holder.join().unwrap();
}

#[test]
fn an_error_after_the_wait_is_returned_later() {
    let (_folder, path) = folder();
    let store = impatient(&path);
    let mut recorder = store.begin(&new_run()).unwrap();
    recorder.phase_started(Phase::Search).unwrap();
    let (release, holder) = hold_lock(&path, Duration::from_secs(20));
    // The wait for the answer ends before the lock.
    recorder.phase_started(Phase::Search).unwrap();
    release.send(()).unwrap();
    holder.join().unwrap();
    let error = recorder.interrupt().unwrap_err();
    assert_eq!(error, StoreError::PhaseStartedTwice("search"));
    assert_eq!(store.run(1).unwrap().status, RunStatus::Failed);
}
