//! The memory model of a GPU against the emulator, which counts its tensors as a memory pool does: single steps,
//! and whole runs with exactly the memory that the model asks for.

use super::library::{Build, library};
use crate::cli::repro;
use crate::memory_model::{assert_close, step_by};
use crate::resume::EVERY_KEY;
use repro::cost::Backend;
use repro::manifest::{self, Overrides};
use repro::runner::memory_need;
use serde_json::Value;
use std::path::Path;
use std::process::Output;

/// The share of its prediction by which the peak of a step may differ.
const STEP: f64 = 0.01;

/// The share of its need by which the peak of a whole search may be smaller: which buffers an upload takes
/// depends on all uploads before, and the need assumes the largest.
const SEARCH: f64 = 0.03;

fn assert_steps_match(manifest: &str, method: &str, batches: &[&str]) {
    for batch in batches {
        for recompute in ["none", "block"] {
            let sets = [format!("search.method={method}"), format!("search.recompute={recompute}")];
            let sets = ["--batch", batch, "--set", &sets[0], "--set", &sets[1]];
            let mut command = repro(&[]);
            command.env("REPRO_EMULATOR", library(Build::Plain));
            let arguments = [&["--device", "emulated"], &sets[..]].concat();
            let step = step_by(command, manifest, &arguments);
            assert_close(&step, &format!("{manifest} {sets:?}"), STEP);
        }
    }
}

#[test]
fn steps_of_the_masked_supernet_match_the_memory_model() {
    assert_steps_match("experiments/smoke.toml", "dmasking", &["2", "4", "32"]);
}

#[test]
fn steps_of_the_explicit_supernet_match_the_memory_model() {
    assert_steps_match("experiments/smoke.toml", "dnas", &["2", "4", "32"]);
}

#[test]
fn steps_with_several_resolutions_match_the_memory_model() {
    for method in ["dmasking", "dnas"] {
        assert_steps_match("experiments/smoke_resolutions.toml", method, &["4"]);
    }
}

/// A search of a few steps, and a short training.
const SETTINGS: &[&str] = &[
    "scale=0.25",
    "search.epochs=2",
    "search.images=80",
    "search.batch_size=8",
    "search.shared.candidates=4",
    "train.epochs=1",
    "train.batch_size=8",
];

/// What the runs need with these settings beside those above.
fn need(sets: &[&str]) -> u64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
    let sets = SETTINGS.iter().chain(sets).map(|set| (*set).to_owned()).collect();
    let manifest = manifest::load(&path, &Overrides { sets, seeds: Vec::new() }).unwrap();
    memory_need(&manifest, 1, Backend::EmulatedGpu).unwrap().bytes
}

/// The run on a GPU with so many bytes of memory.
fn run_with(memory: u64, sets: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = repro(&["run", "experiments/smoke.toml", "--device", "emulated", "--json"]);
    command.args(SETTINGS.iter().chain(sets).flat_map(|set| ["--set", *set]));
    command.env("REPRO_DB", folder.path().join("results.db"));
    command.env("REPRO_EMULATOR", library(Build::Plain));
    command.env("REPRO_EMULATOR_MEMORY", memory.to_string()).output().unwrap()
}

/// The run finishes with what it needs, and is refused with one per cent less. Returns the share of its need
/// that it has used.
fn assert_need_is_enough(sets: &[&str]) -> f64 {
    let need = need(sets);
    let output = run_with(need - need / 100, sets);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{sets:?}: {said}");
    assert!(said.contains("of the GPU's memory at batch size"), "{sets:?}: {said}");
    assert!(output.stdout.is_empty(), "{sets:?}: {said}");

    let output = run_with(need, sets);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sets:?}: {said}");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    line["peak_bytes"].as_u64().unwrap() as f64 / need as f64
}

#[test]
fn a_search_by_dmasking_needs_what_the_model_says() {
    let used = assert_need_is_enough(&["search.method=dmasking"]);
    assert!(used > 1.0 - SEARCH, "{used}");
}

#[test]
fn a_search_by_darts2_needs_what_the_model_says() {
    let used = assert_need_is_enough(&["search.method=darts2"]);
    assert!(used > 1.0 - SEARCH, "{used}");
}

/// It draws small networks too, and the model assumes the largest.
#[test]
fn a_search_under_shared_weights_fits_into_its_need() {
    assert_need_is_enough(&["search.method=rs_ws"]);
}

#[test]
fn repeated_training_fits_into_its_need() {
    assert_need_is_enough(&["search.method=random", "train.repeats=3"]);
}

#[test]
fn training_with_every_key_fits_into_its_need() {
    // The recipe has its own epochs.
    assert_need_is_enough(&[&["search.method=random"], &EVERY_KEY[..]].concat());
}
