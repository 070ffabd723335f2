//! The program as users run it: commands, exit codes, signals, and reproducible results.

mod arch;
mod bench;
#[cfg(unix)]
mod environment;
mod help;
mod networks;
mod output;
mod refusals;
mod report;
mod run;
#[cfg(unix)]
mod signals;
mod space;
#[cfg(unix)]
mod trained;

use assert_cmd::Command;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SMOKE: &str = "experiments/smoke.toml";

/// A temporary folder with a database.
struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("results.db")
    }

    fn repro(&self, arguments: &[&str]) -> Command {
        let mut command = repro(arguments);
        command.env("REPRO_DB", self.database());
        command
    }

    /// The lines that `repro run experiments/smoke.toml --json` prints.
    fn smoke(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.repro(&[&["run", SMOKE, "--json"], arguments].concat()).output().unwrap();
        json_lines(&output.stdout)
    }

    /// Run 1, or nothing while it is not in the database.
    fn first_run(&self) -> Value {
        let output = self.repro(&["show", "1", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The number of search losses of run 1 in the database.
    fn losses(&self) -> u64 {
        self.first_run()["metrics"]["search.step_loss"]["points"].as_u64().unwrap_or(0)
    }

    fn show(&self, run: &Value) -> Value {
        let output = self.repro(&["show", &run["run_id"].to_string(), "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

pub fn repro(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("repro").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command.env("COLUMNS", "100").env_remove("REPRO_DB");
    // Tests run in parallel; more threads than cores would only wait.
    command.env("RAYON_NUM_THREADS", "1");
    command
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn exit_code(command: &mut Command) -> i32 {
    command.output().unwrap().status.code().unwrap()
}

fn stderr(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stderr).unwrap()
}

/// The metrics that do not depend on the machine or its load.
fn results(shown: &Value) -> Vec<(String, Value)> {
    let metrics = shown["metrics"].as_object().unwrap().iter();
    let measured = ["seconds", "per_second", "memory"];
    metrics
        .filter(|(name, _)| !measured.iter().any(|word| name.contains(word)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The command as one of the standard library, whose standard output can be any file.
fn plain(command: &Command) -> std::process::Command {
    let mut plain = std::process::Command::new(command.get_program());
    plain.args(command.get_args()).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => plain.env(name, value),
            None => plain.env_remove(name),
        };
    }
    plain
}
