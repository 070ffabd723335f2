//! Many processes that share one database, with a reader beside them, and one that is killed: each run is executed
//! once, and no process fails because the database is locked.
//!
//! `cargo test --release --test it workers -- --ignored --nocapture` is the long version.

use crate::processes::{Running, wait_until};
use repro::store::{RunStatus, Store};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a reader did.
#[derive(Debug, Default)]
struct Reads {
    done: usize,
    slowest: Duration,
}

/// One of several processes that execute the same runs: two settings with so many seeds each.
fn worker(folder: &Path, number: usize, seeds: usize) -> Running {
    let log = File::create(folder.join(format!("worker-{number}.log"))).unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("repro"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["run", "experiments/smoke.toml", "--threads", "1", "--discard-weights"]);
    command.arg("--db").arg(folder.join("results.db"));
    for set in [
        "search.method=random",
        "train.epochs=1",
        "scale=0.1",
        "sweep.grid.train.batch_size=[32, 64]",
    ] {
        command.args(["--set", set]);
    }
    command.args((1..=seeds).flat_map(|seed| ["--seed".to_owned(), seed.to_string()]));
    command.env("RAYON_NUM_THREADS", "1");
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// Reads all runs ten times a second.
fn read_until(stop: &AtomicBool, database: &Path) -> Reads {
    let mut reads = Reads::default();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let store = Store::open_to_read(database).unwrap_or_else(|error| panic!("{error}"));
        let runs = store.runs().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(runs.damaged, []);
        reads.slowest = reads.slowest.max(start.elapsed());
        reads.done += 1;
        thread::sleep(Duration::from_millis(100).saturating_sub(start.elapsed()));
    }
    reads
}

/// Stops a process while it executes a run.
fn stop_in_a_run(worker: &Running, database: &Path) {
    let pid = worker.0.id();
    let has_a_run = || {
        let store = Store::open_to_read(database).unwrap();
        let running = store.runs().unwrap().rows.into_iter();
        let running = running.filter(|run| run.status == RunStatus::Running);
        running.into_iter().any(|run| {
            let attempts = store.attempts(run.id).unwrap();
            attempts.last().is_some_and(|a| a.pid == pid && a.status == RunStatus::Running)
        })
    };
    loop {
        wait_until("a run of the process", has_a_run);
        // It may end the run before the signal. Stopped, it cannot.
        worker.signal("-STOP");
        if has_a_run() {
            return;
        }
        worker.signal("-CONT");
    }
}

/// So many processes share two runs per seed. Returns how often all runs were read meanwhile.
fn share(processes: usize, seeds: usize) -> Reads {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("results.db");
    let runs = 2 * seeds;
    let finished = || {
        let store = Store::open_to_read(&database).unwrap();
        let runs = store.runs().unwrap().rows;
        runs.iter().filter(|run| run.status == RunStatus::Finished).count()
    };
    let stop = AtomicBool::new(false);
    let reads = thread::scope(|scope| {
        let mut workers: Vec<Running> =
            (0..processes).map(|number| worker(folder.path(), number, seeds)).collect();
        wait_until("a database", || database.exists());
        let reader = scope.spawn(|| read_until(&stop, &database));
        // However the workers end, the reader has to.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let start = Instant::now();
            while finished() < runs / 4 {
                assert!(start.elapsed() < Duration::from_mins(20), "too few runs");
                thread::sleep(Duration::from_millis(20));
            }
            stop_in_a_run(&workers[0], &database);
            drop(workers.remove(0));
            for worker in &mut workers {
                assert_eq!(worker.0.wait().unwrap().code(), Some(0));
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let reads = reader.join().unwrap();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        reads
    });
    for number in 0..processes {
        let log =
            std::fs::read_to_string(folder.path().join(format!("worker-{number}.log"))).unwrap();
        assert!(!log.contains("locked") && !log.contains("error"), "{log}");
    }
    let store = Store::open(&database).unwrap();
    let rows = store.runs().unwrap().rows;
    let mut each: BTreeMap<(String, u64), usize> = BTreeMap::new();
    let mut attempts = 0;
    for run in &rows {
        assert_eq!(run.status, RunStatus::Finished);
        *each.entry((run.manifest.sha256.clone(), run.seed)).or_default() += 1;
        attempts += store.attempts(run.id).unwrap().len();
    }
    assert_eq!((rows.len(), each.len()), (runs, runs), "a run was executed twice or never");
    assert_eq!(attempts, runs + 1, "the run of the killed process was continued");
    assert_eq!(store.problems().unwrap(), Vec::<String>::new());
    reads
}

#[test]
fn four_processes_share_runs_and_one_is_killed() {
    let reads = share(4, 12);
    assert!(reads.done > 5, "{reads:?}");
}

#[test]
#[ignore = "takes some minutes"]
#[allow(clippy::print_stdout)]
fn eight_processes_share_sixteen_hundred_runs() {
    let start = Instant::now();
    let reads = share(8, 800);
    println!("1600 runs of 8 processes in {:?}, {reads:?}", start.elapsed());
}
