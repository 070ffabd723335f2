//! Who executes a run, and what a further attempt takes over.

use super::*;
use crate::checkpoint::{Checkpoint, PhaseState};
use crate::record::{CheckpointId, KnownCheckpoints};

const RULES: AcquireRules = AcquireRules {
    again_up_to: 0,
    fresh_up_to: 0,
    failed_before: f64::INFINITY,
    on_this_machine: false,
};

fn ours(acquired: Acquired) -> AttemptKey {
    match acquired {
        Acquired::Ours(key) => key,
        other => panic!("{other:?}"),
    }
}

fn id(attempt: u32, count: u32) -> CheckpointId {
    CheckpointId { attempt, count }
}

fn result() -> FinalResult {
    let weights_sha256 = "c".repeat(64);
    FinalResult { test_top1: 0.5, test_loss: 1.0, test_images: 10, weights_sha256 }
}

#[test]
fn a_run_has_one_owner_at_a_time() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let run = new_run();
    let acquire = |rules| store.acquire(&run, rules).unwrap();
    let key = ours(acquire(RULES));
    assert_eq!((key.run, key.number), (1, 1));
    let running = Acquired::Running { run: 1, pid: std::process::id() };
    assert_eq!(acquire(RULES), running);
    assert_eq!(store.acquire_run(1, &run).unwrap(), running);
    store.record(key, None).unwrap().interrupt().unwrap();

    let key = ours(acquire(RULES));
    assert_eq!((key.run, key.number), (1, 2));
    store.record(key, None).unwrap().fail("no reason").unwrap();
    // A run that failed after this process began is not tried again.
    assert_eq!(acquire(AcquireRules { failed_before: 0.0, ..RULES }), Acquired::Failed(1));
    // A fresh run leaves the unfinished one alone.
    let fresh = ours(acquire(AcquireRules { fresh_up_to: 1, ..RULES }));
    assert_eq!((fresh.run, fresh.number), (2, 1));
    store.record(fresh, None).unwrap().finish(&result()).unwrap();

    assert_eq!(acquire(RULES), Acquired::Finished(2));
    let again = AcquireRules { again_up_to: 2, fresh_up_to: 2, ..RULES };
    assert_eq!(ours(acquire(again)).run, 3);
    let of_another_seed = NewRun { seed: 9, ..run.clone() };
    assert_eq!(ours(store.acquire(&of_another_seed, RULES).unwrap()).run, 4);
    let mut of_another_revision = run.clone();
    of_another_revision.environment.git_revision = Some("f00".into());
    assert_eq!(ours(store.acquire(&of_another_revision, RULES).unwrap()).run, 5);
    let mut with_more_threads = run.clone();
    with_more_threads.environment.threads += 1;
    let on_this_machine = AcquireRules { on_this_machine: true, ..RULES };
    assert_eq!(store.acquire(&with_more_threads, RULES).unwrap(), Acquired::Finished(2));
    assert_eq!(ours(store.acquire(&with_more_threads, on_this_machine).unwrap()).run, 6);
    let mut on_a_gpu = run.clone();
    on_a_gpu.environment.device = "cuda:0".into();
    assert_eq!(ours(store.acquire(&on_a_gpu, RULES).unwrap()).run, 7);
}

#[test]
fn a_killed_owner_is_replaced() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    ours(store.acquire(&new_run(), RULES).unwrap());
    sql(&path, "UPDATE attempts SET process_started = process_started - 1");
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    assert_eq!((key.run, key.number), (1, 2));
    let status: String = value(&path, "SELECT status FROM attempts WHERE number = 1");
    assert_eq!(status, "interrupted");
}

/// Lets another machine's process that is silent execute the run.
fn make_silent(path: &Path) {
    sql(path, "UPDATE attempts SET process_table = 'elsewhere', heartbeat_at = heartbeat_at - 90");
}

#[test]
fn an_attempt_that_was_replaced_writes_nothing() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let replaced = |error: &anyhow::Error| {
        matches!(error.downcast_ref(), Some(StoreError::Replaced { id: 1 }))
    };
    let mut first = store.begin(&new_run()).unwrap();
    first.phase_started(Phase::Search).unwrap();
    first.measure(0, &[(Metric::SEARCH_STEP_LOSS, 1.0)]).unwrap();
    make_silent(&path);
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    assert_eq!(key.number, 2);
    let first_key = AttemptKey { number: 1, ..key };
    assert_eq!(store.fail(first_key, "late").unwrap_err(), StoreError::Replaced { id: 1 });
    // Measurements are written in the background; the error comes with a later call.
    let _ = first.measure(1, &[(Metric::SEARCH_STEP_LOSS, 2.0)]);
    // It wakes up before, and after, the other one has started to record.
    assert!(replaced(&first.mark().unwrap_err()));
    let mut second = store.record(key, None).unwrap();
    second.phase_started(Phase::Search).unwrap();
    assert!(replaced(&first.phase_finished(Phase::Search, PhaseUsage::default()).unwrap_err()));
    assert!(replaced(&first.finish(&result()).unwrap_err().into()));
    second.measure(0, &[(Metric::SEARCH_STEP_LOSS, 3.0)]).unwrap();
    second.phase_finished(Phase::Search, PhaseUsage::default()).unwrap();
    second.finish(&result()).unwrap();
    assert_eq!(measured(&store), [(0, 3.0)]);
    let statuses: Vec<RunStatus> =
        store.attempts(1).unwrap().iter().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [RunStatus::Interrupted, RunStatus::Finished]);
    assert_eq!(store.problems().unwrap(), Vec::<String>::new());
}

#[test]
fn an_attempt_that_was_replaced_before_it_recorded_takes_over_nothing() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    store.begin(&new_run()).unwrap().interrupt().unwrap();
    let second = ours(store.acquire(&new_run(), RULES).unwrap());
    make_silent(&path);
    let third = ours(store.acquire(&new_run(), RULES).unwrap());
    assert_eq!((second.number, third.number), (2, 3));
    let error = store.record(second, None).unwrap_err();
    assert_eq!(error, StoreError::Replaced { id: 1 });
    // The first one wrote no checkpoint.
    assert_eq!(store.known_checkpoints(third).unwrap(), KnownCheckpoints(Vec::new()));
}

#[test]
fn an_attempt_that_loads_a_checkpoint_gives_signs_of_life() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    store.database.heartbeat_every = Duration::from_millis(20);
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    make_silent(&path);
    let heartbeat = || value::<f64>(&path, "SELECT heartbeat_at FROM attempts");
    let before = heartbeat();
    let alive = store.keep_alive(key).unwrap();
    let start = Instant::now();
    while heartbeat() <= before + 60.0 {
        assert!(start.elapsed() < Duration::from_secs(30), "no sign of life");
        thread::sleep(Duration::from_millis(5));
    }
    drop(alive);
    let running = Acquired::Running { run: 1, pid: std::process::id() };
    assert_eq!(store.acquire(&new_run(), RULES).unwrap(), running);
}

#[test]
fn the_database_knows_the_checkpoints_whose_measurements_it_has() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut first = store.begin(&new_run()).unwrap();
    (1..4).for_each(|count| assert_eq!(first.mark().unwrap(), Some(id(1, count))));
    first.interrupt().unwrap();
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    let known = store.known_checkpoints(key).unwrap();
    assert_eq!(known, KnownCheckpoints(vec![id(1, 3)]));
    let checkpoint = Checkpoint { id: id(1, 2), ..Checkpoint::default() };
    store.record(key, Some(&checkpoint)).unwrap().mark().unwrap();
    // An attempt that ends before it records changes nothing.
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    store.fail(key, "no reason").unwrap();
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    let known = store.known_checkpoints(key).unwrap();
    assert_eq!(known, KnownCheckpoints(vec![id(2, 1), id(1, 2)]));
    // Attempt 5 starts over: what came before it is of another state.
    drop(store.record(key, None).unwrap());
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    assert_eq!(store.known_checkpoints(key).unwrap(), KnownCheckpoints(Vec::new()));
}

fn measured(store: &Store) -> Vec<(u64, f64)> {
    store.measurements(1).unwrap().iter().map(|m| (m.step, m.value)).collect()
}

fn phase(phase: Phase, is_finished: bool) -> PhaseState {
    let usage = PhaseUsage { seconds: 2.0, images: 5, ..PhaseUsage::default() };
    PhaseState { phase, started_at: 1.0, usage, is_finished }
}

#[test]
fn a_resumed_attempt_has_what_was_measured_before_its_checkpoint() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut first = store.begin(&new_run()).unwrap();
    first.phase_started(Phase::Data).unwrap();
    first.phase_finished(Phase::Data, PhaseUsage::default()).unwrap();
    first.phase_started(Phase::Search).unwrap();
    let measure = |recorder: &mut RunRecorder, step: u64| {
        recorder.measure(step, &[(Metric::SEARCH_STEP_LOSS, step as f64)]).unwrap();
    };
    (0..3).for_each(|step| measure(&mut first, step));
    assert_eq!(first.mark().unwrap(), Some(id(1, 1)));
    (3..5).for_each(|step| measure(&mut first, step));
    assert_eq!(first.mark().unwrap(), Some(id(1, 2)));
    (5..8).for_each(|step| measure(&mut first, step));
    first.interrupt().unwrap();
    assert_eq!(measured(&store).len(), 8);

    let phases = vec![phase(Phase::Data, true), phase(Phase::Search, false)];
    let mut checkpoint = Checkpoint { id: id(1, 2), phases, ..Checkpoint::default() };
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    let mut second = store.record(key, Some(&checkpoint)).unwrap();
    assert_eq!(measured(&store).len(), 5);
    // Step 5 is measured again, and is not a second one.
    measure(&mut second, 5);
    assert_eq!(second.mark().unwrap(), Some(id(2, 1)));
    second.phase_finished(Phase::Search, PhaseUsage::default()).unwrap();
    second.interrupt().unwrap();
    assert_eq!(measured(&store), (0..6).map(|step| (step, step as f64)).collect::<Vec<_>>());
    let run = store.run(1).unwrap();
    assert_eq!((run.attempt, run.usage(Phase::Data).unwrap().seconds), (2, 2.0));

    // The checkpoint before it, as when the newest is damaged.
    checkpoint.id = id(1, 1);
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    drop(store.record(key, Some(&checkpoint)).unwrap());
    assert_eq!(measured(&store).len(), 3);
    let key = ours(store.acquire(&new_run(), RULES).unwrap());
    drop(store.record(key, None).unwrap());
    assert_eq!(measured(&store), []);
    assert_eq!(store.run(1).unwrap().phases, []);
    assert_eq!(store.problems().unwrap(), Vec::<String>::new());
    let attempts: i64 = value(&path, "SELECT count(*) FROM attempts");
    assert_eq!(attempts, 4);
    let from: i64 = value(&path, "SELECT from_checkpoint FROM attempts WHERE number = 2");
    assert_eq!(CheckpointId::from_number(from.cast_unsigned()), id(1, 2));
}

#[test]
fn a_resumed_attempt_has_the_architecture_of_its_checkpoint() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let found = searched();
    let mut first = store.begin(&new_run()).unwrap();
    first.architecture(&found).unwrap();
    first.interrupt().unwrap();
    let mut checkpoint =
        Checkpoint { id: id(1, 1), has_architecture: true, ..Checkpoint::default() };
    let take_over = |checkpoint: &Checkpoint| {
        let key = ours(store.acquire(&new_run(), RULES).unwrap());
        drop(store.record(key, Some(checkpoint)).unwrap());
        store.run(1).unwrap().architecture
    };
    for _ in 0..2 {
        let architecture = take_over(&checkpoint).unwrap();
        assert_eq!(*architecture.arch, found.arch);
        assert_eq!(architecture.probabilities, found.probabilities);
        assert_eq!(architecture.resolutions, found.resolutions);
    }
    checkpoint.has_architecture = false;
    assert_eq!(take_over(&checkpoint), None);
    assert_eq!(store.problems().unwrap(), Vec::<String>::new());
}

#[test]
fn threads_that_acquire_at_once_share_the_runs() {
    let (_folder, path) = folder();
    Store::open(&path).unwrap();
    let keys: Vec<i64> = thread::scope(|scope| {
        let worker = || {
            let store = Store::open(&path).unwrap();
            let mut own = Vec::new();
            for seed in 0..20 {
                let run = NewRun { seed, ..new_run() };
                if let Acquired::Ours(key) = store.acquire(&run, RULES).unwrap() {
                    own.push(key.run);
                }
            }
            own
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=20).collect::<Vec<_>>());
}
