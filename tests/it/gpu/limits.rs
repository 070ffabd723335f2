//! A GPU with too little memory, and the self-test, on the emulator.

use super::library::{Build, library};
use crate::cli::repro;
use assert_cmd::Command;
use repro::ops::gpu::EMULATOR_SOURCES;
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
fn a_timed_step_is_refused_where_it_does_not_fit_into_the_gpu() {
    let bench = ["bench", "experiments/smoke.toml", "--device", "emulated", "--steps", "1"];
    let with = |arguments: &[&str], memory: &str| {
        let mut command = emulated(&[&bench[..], arguments].concat());
        let output = command.env("REPRO_EMULATOR_MEMORY", memory).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = with(&["--batch", "512"], "5000000");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("of the GPU's memory at batch size 512, but only"), "{said}");
    let (code, said) = with(&["--batch", "2"], "50000000");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn settings_are_not_recommended_where_none_fits() {
    let mut command = emulated(&["run", "experiments/smoke.toml", "--device", "emulated"]);
    let output = command.env("REPRO_EMULATOR_MEMORY", "1000").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("These settings need less"), "{said}");
    let least =
        "No setting fits: even with --set search.batch_size=2 --set search.recompute=block it";
    assert!(said.contains(least), "{said}");
}

#[test]
fn a_library_of_other_sources_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("emulator.so");
    let mut bytes = fs::read(library(Build::Plain)).unwrap();
    let hash = EMULATOR_SOURCES.as_bytes();
    let place = bytes.windows(hash.len()).position(|window| window == hash).unwrap();
    bytes[place] = b'x';
    fs::write(&file, bytes).unwrap();
    let mut command = repro(&["run", "experiments/smoke.toml", "--device", "emulated"]);
    command.env("REPRO_DB", folder.path().join("results.db"));
    let output = command.env("REPRO_EMULATOR", &file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("was compiled from other sources than this program"), "{said}");
}

#[test]
fn the_cpu_is_not_compared_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.txt");
    let arguments = ["selftest", "--device", "cpu", "--out", file.to_str().unwrap()];
    let output = repro(&arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("give a GPU, as in --device cuda:0"), "{said}");
    assert!(!file.exists());
}

#[test]
fn the_self_test_passes_on_the_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.txt");
    let arguments = ["selftest", "--device", "emulated", "--out", file.to_str().unwrap()];
    let output = emulated(&arguments).output().unwrap();
    let report = fs::read_to_string(&file).unwrap();
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    for words in [
        "device   emulated",
        "Everything agrees with the CPU.",
        "ok   evaluation of a new network",
        "peak",
    ] {
        assert!(report.contains(words), "{report}");
    }
    assert!(!report.contains("FAIL"), "{report}");
}
