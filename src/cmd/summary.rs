//! A run as one JSON object.

use repro::record::Phase;
use repro::store::{ArchitectureRow, NewRun, RunRow, RunStatus, Settings};
use serde::Serialize;

/// The keys, in this order. Values that the run has not reached are null.
#[derive(Serialize)]
pub struct Summary<'a> {
    run_id: i64,
    method: &'a str,
    seed: u64,
    status: RunStatus,
    arch_id: Option<&'a str>,
    /// In 0..=1.
    test_top1: Option<f64>,
    macs: Option<u64>,
    params: Option<u64>,
    search_seconds: Option<f64>,
    train_seconds: Option<f64>,
    /// The highest peak of all phases.
    peak_bytes: Option<u64>,
    weights_sha256: Option<&'a str>,
    experiment: &'a str,
    dataset: &'a str,
    test_loss: Option<f64>,
    error: Option<&'a str>,
    /// Images that the search processed.
    search_images: Option<u64>,
    /// Multiply-accumulates that the search executed.
    search_macs: Option<u64>,
    /// Networks that the search evaluated.
    search_architectures: Option<u64>,
    /// Choices whose probabilities were learned.
    choices: Option<usize>,
    undecided_choices: Option<usize>,
    device: &'a str,
    /// The model.
    gpu: Option<&'a str>,
    precision: String,
}

impl<'a> Summary<'a> {
    pub fn of(run: &'a RunRow) -> Self {
        let (found, result) = (run.architecture.as_ref(), run.result.as_ref());
        let search = run.usage(Phase::Search);
        let choices = found.map(ArchitectureRow::choices).filter(|choices| choices.all > 0);
        Self {
            run_id: run.id,
            method: &run.method,
            seed: run.seed,
            status: run.status,
            arch_id: found.map(|found| found.id.as_str()),
            test_top1: result.map(|result| result.test_top1),
            macs: found.map(|found| found.macs),
            params: found.map(|found| found.params),
            search_seconds: search.map(|usage| usage.seconds),
            train_seconds: run.usage(Phase::Train).map(|usage| usage.seconds),
            peak_bytes: peak_bytes(run),
            weights_sha256: result.map(|result| result.weights_sha256.as_str()),
            experiment: &run.experiment,
            dataset: &run.dataset,
            test_loss: result.map(|result| result.test_loss),
            error: run.error.as_deref(),
            search_images: search.map(|usage| usage.images),
            search_macs: search.and_then(|usage| usage.macs),
            search_architectures: search.and_then(|usage| usage.architectures),
            choices: choices.map(|choices| choices.all),
            undecided_choices: choices.map(|choices| choices.undecided),
            device: &run.environment.device,
            gpu: run.environment.gpu.as_deref(),
            precision: run.precision().to_owned(),
        }
    }

    /// A run whose end could not be stored, for `error`.
    pub fn not_stored(run_id: i64, run: &'a NewRun, error: &'a str) -> Self {
        let settings = Settings::of(&run.manifest.text, &run.manifest.space_text);
        let device = &run.environment.device;
        Self {
            run_id,
            method: &run.method,
            seed: run.seed,
            status: RunStatus::Failed,
            experiment: &run.manifest.name,
            dataset: &run.dataset,
            error: Some(error),
            arch_id: None,
            test_top1: None,
            macs: None,
            params: None,
            search_seconds: None,
            train_seconds: None,
            peak_bytes: None,
            weights_sha256: None,
            test_loss: None,
            search_images: None,
            search_macs: None,
            search_architectures: None,
            choices: None,
            undecided_choices: None,
            device,
            gpu: run.environment.gpu.as_deref(),
            precision: settings.precision_on(device).to_owned(),
        }
    }
}

/// The largest of the phases' peaks.
fn peak_bytes(run: &RunRow) -> Option<u64> {
    run.phases.iter().filter_map(|row| row.usage).map(|usage| usage.peak_bytes).max()
}
