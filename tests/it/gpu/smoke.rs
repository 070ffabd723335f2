//! Whole runs on the emulator, as real processes, against the same runs on the CPU.

use super::library::{Build, library};
use crate::cli::repro;
use repro::record::Metric;
use repro::store::{RunRow, Store};
use serde_json::Value;
use std::path::Path;

/// A search of 12 steps, and a training run of 7.
const SETTINGS: &[&str] = &[
    "scale=0.25",
    "search.epochs=2",
    "search.images=240",
    "search.batch_size=8",
    "search.shared.candidates=4",
    "train.epochs=1",
];

/// The finished run 1 of a database of its own.
struct FinishedRun {
    store: Store,
    row: RunRow,
    shown: Value,
    _folder: tempfile::TempDir,
}

impl FinishedRun {
    /// The smoke manifest with these settings on `device`, with an order of the emulator's threads.
    fn new(device: &str, (order, threads): (u64, usize), settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("results.db");
        let sets = SETTINGS.iter().chain(settings).flat_map(|set| ["--set", *set]);
        let run = ["run", "experiments/smoke.toml", "--device", device];
        let of_database = |arguments: &[&str]| {
            let mut command = repro(arguments);
            command.env("REPRO_DB", &database).env("RAYON_NUM_THREADS", threads.to_string());
            command.env("REPRO_EMULATOR", library(Build::Plain));
            command.env("REPRO_EMULATOR_ORDER", order.to_string());
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        of_database(&run.into_iter().chain(sets).collect::<Vec<_>>());
        let shown: Value = serde_json::from_slice(&of_database(&["show", "1", "--json"])).unwrap();
        let store = Store::open_to_read(Path::new(&database)).unwrap();
        let row = store.run(1).unwrap();
        assert_eq!(row.environment.device, device);
        let rounds = device != "cpu" && settings.contains(&"precision=tf32");
        assert_eq!(shown["device"], device);
        assert_eq!(shown["precision"], if rounds { "tf32" } else { "f32" });
        Self { store, row, shown, _folder: folder }
    }

    fn series(&self, metric: Metric) -> Vec<f64> {
        let all = self.store.measurements(1).unwrap();
        all.iter().filter(|m| m.metric == metric).map(|m| m.value).collect()
    }

    /// The probabilities of every choice's options.
    fn probabilities(&self) -> Vec<Vec<f64>> {
        let blocks = self.shown["probabilities"].as_array().cloned().unwrap_or_default();
        let choices = blocks.iter().flat_map(|block| {
            ["types", "expansions", "widths"].map(|choice| block[choice].as_array().unwrap())
        });
        choices.map(|options| options.iter().map(|p| p.as_f64().unwrap()).collect()).collect()
    }
}

// Differences that pass are five to ten times the largest that were measured, which the comments give.

/// Losses of weights: 1.7e-7, with other seeds and instruction sets of the CPU. Both devices sum in other
/// orders.
const WEIGHTS: f64 = 1e-6;
/// Losses once the architecture parameters learn: 9.9e-6, by dmasking. Adam takes steps of one size however
/// small a gradient is, so the rounding of a gradient near zero can change a parameter visibly.
const ARCHITECTURE: f64 = 1e-4;
/// Probabilities at the end, absolute: 3.3e-4, by dmasking.
const PROBABILITIES: f64 = 2e-3;
/// Losses of the derived network, which is trained from scratch: 1.7e-8.
const TRAIN: f64 = 1e-7;
/// Loss of that network on test images: 9.6e-10.
const TEST: f64 = 8e-9;
/// Steps of the first epoch, in which the architecture parameters do not learn.
const WARM_UP: usize = 6;

fn assert_close(what: &str, cpu: &[f64], gpu: &[f64], tolerance: impl Fn(usize) -> f64) {
    assert_eq!(cpu.len(), gpu.len(), "{what}");
    for (step, (cpu, gpu)) in cpu.iter().zip(gpu).enumerate() {
        let difference = (cpu - gpu).abs() / cpu.abs();
        assert!(difference <= tolerance(step), "{what}, step {step}: {cpu} and {gpu}");
    }
}

/// Both runs derived the same network, from probabilities that differ little.
fn assert_same_network(cpu: &FinishedRun, gpu: &FinishedRun) {
    let (ours, theirs) = (cpu.probabilities(), gpu.probabilities());
    assert_eq!(ours.len(), theirs.len());
    for (p, q) in ours.iter().flatten().zip(theirs.iter().flatten()) {
        assert!((p - q).abs() <= PROBABILITIES, "{ours:?} {theirs:?}");
    }
    assert_eq!(cpu.shown["architecture"], gpu.shown["architecture"]);
}

fn assert_devices_agree(method: &str) {
    let method = format!("search.method={method}");
    let cpu = FinishedRun::new("cpu", (0, 1), &[&method]);
    let gpu = FinishedRun::new("emulated", (1, 1), &[&method]);
    let compare = |metric: Metric, tolerance: &dyn Fn(usize) -> f64| {
        assert_close(&metric.name(), &cpu.series(metric), &gpu.series(metric), tolerance);
    };
    let of_search = |step| if step < WARM_UP { WEIGHTS } else { ARCHITECTURE };
    compare(Metric::SEARCH_STEP_LOSS, &of_search);
    assert_eq!(gpu.series(Metric::SEARCH_STEP_LOSS).len(), 12);
    compare(Metric::SEARCH_CANDIDATE_LOSS, &|_| WEIGHTS);
    // Costs are computed from numbers of channels, not from what the device computes.
    for metric in [Metric::SEARCH_EXECUTED_MACS, Metric::SEARCH_CANDIDATE_MACS] {
        compare(metric, &|_| 0.0);
    }
    assert_same_network(&cpu, &gpu);
    compare(Metric::TRAIN_STEP_LOSS, &|_| TRAIN);
    compare(Metric::TEST_LOSS, &|_| TEST);
    for cost in ["macs", "params"] {
        assert_eq!(cpu.shown[cost], gpu.shown[cost]);
    }
}

#[test]
fn dmasking_agrees_with_the_cpu() {
    assert_devices_agree("dmasking");
}

#[test]
fn dnas_agrees_with_the_cpu() {
    assert_devices_agree("dnas");
}

#[test]
fn darts2_agrees_with_the_cpu() {
    assert_devices_agree("darts2");
}

#[test]
fn rs_ws_agrees_with_the_cpu() {
    assert_devices_agree("rs_ws");
}

/// Neither the order of a block's threads nor the number of blocks at once changes a bit.
#[test]
fn a_run_has_the_same_bits_for_every_order_of_threads() {
    let short = ["search.images=80", "train.recompute=block"];
    let runs = [(0, 1), (1, 2)].map(|order| FinishedRun::new("emulated", order, &short));
    let [one, other] = &runs;
    assert!(one.row.result.is_some());
    assert_eq!(one.row.result, other.row.result);
    assert_eq!(one.shown["weights_sha256"], other.shown["weights_sha256"]);
    for metric in [Metric::SEARCH_STEP_LOSS, Metric::TRAIN_STEP_LOSS] {
        assert_eq!(one.series(metric), other.series(metric));
    }
}

/// The emulator rounds as tensor cores do, so that `precision` has an effect where there is a product.
#[test]
fn tf32_rounds_products_on_a_gpu_only() {
    let short = ["search.images=80", "search.epochs=1", "search.warmup_epochs=0"];
    let losses = |device: &str, precision: &str| {
        let precision = format!("precision={precision}");
        let settings = [&short[..], &[&precision]].concat();
        FinishedRun::new(device, (0, 1), &settings).series(Metric::TRAIN_STEP_LOSS)
    };
    let (exact, rounded) = (losses("emulated", "f32"), losses("emulated", "tf32"));
    assert_ne!(exact, rounded);
    // TF32 keeps 11 significant bits; losses differed by 3.5e-5.
    assert_close("tf32", &exact, &rounded, |_| 2e-4);
    assert_eq!(losses("cpu", "f32"), losses("cpu", "tf32"));
}
