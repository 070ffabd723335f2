//! Killed, stopped and resumed runs end as uninterrupted ones, with real processes and real databases.
//! `repro verify-resume MANIFEST --kills 50` is the long version.

use crate::cli::repro;
#[cfg(unix)]
use crate::processes::{Running, wait_until};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SMOKE: &str = "experiments/smoke.toml";

/// A run of a second.
const SHORT: [&str; 5] =
    ["search.epochs=2", "search.images=120", "search.batch_size=16", "train.epochs=1", "scale=0.5"];

/// Every key of training that keeps something from step to step, or draws random numbers.
pub const EVERY_KEY: [&str; 16] = [
    "train.optimizer.kind=rmsprop",
    "train.optimizer.rho=0.9",
    "train.optimizer.epsilon=0.001",
    "train.optimizer.learning_rate=0.01",
    "train.optimizer.schedule=steps",
    "train.optimizer.every_epochs=0.7",
    "train.optimizer.decay=0.9",
    "train.optimizer.warmup_epochs=0.5",
    "train.ema.decay=0.99",
    "train.dropout=0.2",
    "train.drop_connect=0.3",
    "train.mixup=0.2",
    "train.augment.colour={ operations = 2, magnitude = 9 }",
    "train.augment.erase={ probability = 0.5, area = [0.02, 0.4], ratio = [0.3, 3.3] }",
    "train.epochs=3",
    "train.repeats=2",
];

/// Checks a manifest with a few kills.
fn verify(manifest: &str, sets: &[&str]) {
    let mut command = repro(&["verify-resume", manifest, "--kills", "4", "--threads", "1"]);
    for set in sets {
        command.args(["--set", set]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{sets:?}\n{text}{errors}");
    assert!(text.starts_with("killed 4 times in "), "{text}");
    assert!(text.ends_with("verdict: identical to the bit\n"), "{text}");
}

fn verify_method(method: &str, sets: &[&str]) {
    let method = format!("search.method={method}");
    verify(SMOKE, &[&SHORT[..], &[&method], sets].concat());
}

#[test]
fn dmasking_is_resumed() {
    verify_method("dmasking", &["train.repeats=2"]);
}

#[test]
fn dnas_is_resumed() {
    verify_method("dnas", &[]);
}

#[test]
fn darts_is_resumed() {
    verify_method("darts", &[]);
}

#[test]
fn darts2_is_resumed() {
    verify_method("darts2", &[]);
}

#[test]
fn random_is_resumed() {
    verify_method("random", &["train.epochs=3"]);
}

#[test]
fn a_run_with_every_key_of_training_is_resumed() {
    verify_method("random", &[&EVERY_KEY[..], &["train.recompute=block"]].concat());
}

#[test]
fn random_search_is_resumed() {
    verify_method("random_search", &[]);
}

#[test]
fn evolution_is_resumed() {
    verify_method("evolution", &[]);
}

#[test]
fn a_rank_study_is_resumed() {
    verify_method("rs_ws", &["rank_correlation.architectures=3"]);
    verify_method("dmasking", &["rank_correlation.architectures=2"]);
}

/// The program with the short manifest and this database.
fn short(command: &str, database: &Path) -> Command {
    let mut arguments = vec![command, "--json", "--threads", "1"];
    if command == "run" {
        arguments.push(SMOKE);
        arguments.extend(SHORT.iter().flat_map(|set| ["--set", *set]));
    }
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("repro"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).arg("--db").arg(database);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn json_of(mut command: Command) -> Value {
    let output = command.output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(line.lines().last().unwrap_or("")).unwrap_or_else(|_| panic!("{errors}"))
}

#[test]
#[cfg(unix)]
fn a_stopped_run_leaves_a_checkpoint_within_seconds_and_is_resumed_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, stopped] = ["whole.db", "stopped.db"].map(|name| folder.path().join(name));
    let expected = json_of(short("run", &whole));
    let long = |database: &Path| {
        let mut command = short("run", database);
        // Stopped in its last phase but one, after networks were ranked.
        command.args(["--set", "train.epochs=40", "--set", "rank_correlation.architectures=2"]);
        command
    };
    let mut running = Running(long(&stopped).spawn().unwrap());
    let list = |database: &Path| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("repro"));
        command.args(["show", "1", "--json", "--db"]).arg(database);
        command.output().unwrap().stdout
    };
    wait_until("a training step", || {
        let shown: Value = serde_json::from_slice(&list(&stopped)).unwrap_or_default();
        shown["metrics"]["train.step_loss"]["points"].as_u64().unwrap_or(0) > 0
    });
    let start = Instant::now();
    running.signal("-TERM");
    assert_eq!(running.wait().code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let checkpoints = folder.path().join("stopped.db.checkpoints/1");
    assert!(checkpoints.join("1-000001.safetensors").is_file());

    // The same again does not start over, and the other settings are another run.
    let again = json_of(short("run", &stopped));
    assert_eq!(
        (&again["run_id"], &again["weights_sha256"]),
        (&2.into(), &expected["weights_sha256"])
    );
    let finished = json_of(short("run", &stopped));
    assert_eq!(finished["run_id"], 2);
    let mut resume = short("resume", &stopped);
    resume.arg("1");
    let resumed = json_of(resume);
    let uninterrupted = json_of(long(&whole));
    assert_eq!((&resumed["run_id"], &resumed["status"]), (&1.into(), &"finished".into()));
    assert_eq!(resumed["weights_sha256"], uninterrupted["weights_sha256"]);
    assert!(!checkpoints.exists());
}
