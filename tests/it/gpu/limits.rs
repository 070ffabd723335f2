//! A GPU with too little memory, and the self-test, on the emulator.

use super::library::{Build, library};
use crate::cli::repro;
use assert_cmd::Command;
use serde_json::Value;
use std::fs;

fn emulated(arguments: &[&str]) -> Command {
    let mut command = repro(arguments);
    command.env("REPRO_EMULATOR", library(Build::Plain));
    command
}

#[test]
fn too_little_memory_of_a_gpu_is_refused_or_fails_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("results.db");
    let run = ["run", "experiments/smoke.toml", "--device", "emulated", "--json"];
    let with = |arguments: &[&str]| {
        let mut command = emulated(&[&run[..], arguments].concat());
        // The search needs about as much.
        command.env("REPRO_DB", &database).env("REPRO_EMULATOR_MEMORY", "5000000");
        command.output().unwrap()
    };
    let output = with(&[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in ["of the GPU's memory at batch size 32", "search.recompute=block", "--force"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!database.exists());

    let output = with(&["--force"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["status"], "failed");
    let error = line["error"].as_str().unwrap();
    for words in ["the GPU is out of memory; the search by dmasking needs", "--set search."] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn the_self_test_passes_on_the_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.txt");
    let arguments = ["selftest", "--device", "emulated", "--out", file.to_str().unwrap()];
    let output = emulated(&arguments).output().unwrap();
    let report = fs::read_to_string(&file).unwrap();
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    for words in ["device   emulated", "Everything agrees with the CPU.", "peak"] {
        assert!(report.contains(words), "{report}");
    }
    assert!(!report.contains("FAIL"), "{report}");
}
