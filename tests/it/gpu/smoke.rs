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

/// The largest relative difference that is allowed at a step.
type Tolerance = fn(usize) -> f64;

/// Both devices sum in another order, which is a relative error of about 1e-7 in a loss. A step of SGD
/// with momentum 0.9 on a network with batch norm can amplify a difference of the weights; a factor of
/// two per step is far above what was measured.
fn sgd(step: usize) -> f64 {
    2e-6 * 2f64.powi(step as i32)
}

/// DARTS of second order: in the first epoch only the weights learn. Then a gradient of α has the
/// difference of two gradients, divided by a small number, which amplifies rounding errors by about
/// 1e4, and Adam takes steps of one size however small the gradient is.
fn second_order(step: usize) -> f64 {
    if step < 6 { sgd(step) } else { 0.02 }
}

fn assert_close(what: &str, cpu: &[f64], gpu: &[f64], tolerance: Tolerance) {
    assert_eq!(cpu.len(), gpu.len(), "{what}");
    for (step, (cpu, gpu)) in cpu.iter().zip(gpu).enumerate() {
        let difference = (cpu - gpu).abs() / cpu.abs();
        assert!(difference <= tolerance(step), "{what}, step {step}: {cpu} and {gpu}");
    }
}

/// Whether both runs derived the same network. If not, each choice that differs is between options
/// whose probabilities are as good as equal.
fn same_network(cpu: &FinishedRun, gpu: &FinishedRun, tolerance: f64) -> bool {
    let (ours, theirs) = (cpu.probabilities(), gpu.probabilities());
    assert_eq!(ours.len(), theirs.len());
    let argmax = |options: &[f64]| {
        (0..options.len()).max_by(|a, b| options[*a].total_cmp(&options[*b])).unwrap()
    };
    let mut near_ties = 0;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for (p, q) in ours.iter().zip(theirs) {
            assert!((p - q).abs() <= tolerance, "{ours:?} {theirs:?}");
        }
        near_ties += usize::from(argmax(ours) != argmax(theirs));
    }
    let same = cpu.shown["architecture"] == gpu.shown["architecture"];
    assert_eq!(same, near_ties == 0);
    same
}

fn assert_devices_agree(method: &str, tolerance: Tolerance, of_probabilities: f64) {
    let method = format!("search.method={method}");
    let cpu = FinishedRun::new("cpu", (0, 1), &[&method]);
    let gpu = FinishedRun::new("emulated", (1, 1), &[&method]);
    let compare = |metric: Metric, tolerance: Tolerance| {
        assert_close(&metric.name(), &cpu.series(metric), &gpu.series(metric), tolerance);
    };
    compare(Metric::SEARCH_STEP_LOSS, tolerance);
    assert_eq!(gpu.series(Metric::SEARCH_STEP_LOSS).len(), 12);
    compare(Metric::SEARCH_CANDIDATE_LOSS, |_| sgd(12));
    // Costs are computed from numbers of channels, not from what the device computes.
    for metric in [Metric::SEARCH_EXECUTED_MACS, Metric::SEARCH_CANDIDATE_MACS] {
        compare(metric, |_| 0.0);
    }
    if same_network(&cpu, &gpu, of_probabilities) {
        compare(Metric::TRAIN_STEP_LOSS, sgd);
        compare(Metric::TEST_LOSS, |_| sgd(7));
        for cost in ["macs", "params"] {
            assert_eq!(cpu.shown[cost], gpu.shown[cost]);
        }
    } else {
        assert!(of_probabilities > 0.01, "the networks differ");
    }
}

#[test]
fn dmasking_agrees_with_the_cpu() {
    assert_devices_agree("dmasking", sgd, 1e-3);
}

#[test]
fn dnas_agrees_with_the_cpu() {
    assert_devices_agree("dnas", sgd, 1e-3);
}

#[test]
fn darts2_agrees_with_the_cpu() {
    assert_devices_agree("darts2", second_order, 0.05);
}

#[test]
fn rs_ws_agrees_with_the_cpu() {
    assert_devices_agree("rs_ws", sgd, 0.0);
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
    // TF32 keeps 11 significant bits.
    assert_close("tf32", &exact, &rounded, |step| 2e-3 * 1.5f64.powi(step as i32));
    assert_eq!(losses("cpu", "f32"), losses("cpu", "tf32"));
}
