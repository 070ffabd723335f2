//! The GPU's code on the emulator: the numeric tests once more, with several orders of threads, with
//! sanitizers, and with deliberate faults that they must find.

mod faults;
mod flow;
mod library;
mod limits;
mod memory;
mod smoke;

use crate::numbers::{EMULATOR, THREAD_ORDER};
use library::{Build, library, preloaded, program};
use std::path::Path;
use std::process::{Command, Output};

/// The tests of this binary with `filters` in their path, as a command that runs them on the emulator.
fn tests_on(library: &Path, build: Build, order: u64, filters: &[&str]) -> Command {
    let tests = std::env::current_exe().unwrap();
    let mut command = match build {
        Build::Threads => {
            // The thread sanitizer needs addresses that are not randomised.
            let mut command = Command::new("setarch");
            command.arg("-R").arg(tests).arg("--test-threads=1");
            command
        }
        _ => Command::new(tests),
    };
    command.args(filters).env(EMULATOR, library).env(THREAD_ORDER, order.to_string());
    command.env("LD_PRELOAD", preloaded(build));
    command.env("ASAN_OPTIONS", "detect_leaks=0");
    command.env("TSAN_OPTIONS", "ignore_noninstrumented_modules=1 halt_on_error=1");
    command
}

/// What a run of tests printed, and how many passed if none failed.
fn outcome(output: &Output) -> (String, Option<usize>) {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let passed = said.split("test result: ok. ").nth(1).and_then(|rest| rest.split(' ').next());
    let passed = passed.filter(|_| output.status.success()).and_then(|n| n.parse().ok());
    (said, passed)
}

#[track_caller]
fn assert_pass(build: Build, order: u64, filters: &[&str]) {
    let output = tests_on(&library(build), build, order, filters).output().unwrap();
    let (said, passed) = outcome(&output);
    assert!(passed.is_some_and(|n| n > 20), "{build:?}, order {order}: {said}");
}

/// Operators, blocks, drops, inference, recomputation, updates and large shapes.
const NUMERIC: [&str; 7] = [
    "operators::",
    "blocks::",
    "drops::",
    "inference::",
    "recompute::",
    "optimizers::",
    "extents::",
];

#[test]
fn numeric_tests_pass_for_every_order_of_threads() {
    for order in 0..3 {
        assert_pass(Build::Plain, order, &NUMERIC);
    }
}

#[test]
fn steps_move_few_values_between_host_and_gpu() {
    let filters = ["gpu::flow::", "--ignored", "--test-threads=1"];
    let output = tests_on(&library(Build::Plain), Build::Plain, 1, &filters).output().unwrap();
    let (said, passed) = outcome(&output);
    assert_eq!(passed, Some(3), "{said}");
}

#[test]
fn bench_counts_what_a_step_moves() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_repro"));
    bench.current_dir(env!("CARGO_MANIFEST_DIR")).env("REPRO_EMULATOR", library(Build::Plain));
    bench.args(["bench", "experiments/smoke.toml", "--device", "emulated", "--json"]);
    let output = bench.args(["--steps", "1", "--batch", "2"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&said);
    let counts = ["uploads", "downloads", "downloaded_bytes"].map(|key| &json["traffic"][key]);
    // The batch and the gates, and a loss and a count of two numbers each.
    assert_eq!(counts, [2, 1, 16]);
    assert!(json["traffic"]["launches"].as_u64().unwrap() > 100, "{json}");
    assert!(json["peak_bytes"].as_u64().unwrap() > 0, "{json}");
    // The host only queues the parts of a step, and its own memory is not the GPU's.
    for key in ["forward_ms", "backward_ms", "optimizer_ms", "resident_bytes"] {
        assert!(json[key].is_null(), "{key}: {json}");
    }
}

#[test]
fn the_emulator_takes_only_launches_that_a_gpu_takes() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program("launches.cpp", folder.path())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn kernels_stay_inside_their_buffers() {
    assert_pass(Build::Addresses, 3, &["operators::"]);
}

#[test]
fn barriers_order_all_accesses_to_shared_memory() {
    assert_pass(Build::Threads, 4, &["operators::"]);
}

#[test]
#[allow(clippy::print_stdout)]
#[ignore = "prints what is needed to run the program on the emulator by hand"]
fn print_library() {
    println!("{}", library(Build::Plain).display());
}
