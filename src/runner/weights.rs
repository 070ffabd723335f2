//! The trained weights of a finished run, as files that are of use without the database.

use super::RunOutcome;
use crate::artifacts::StoredRun;
use crate::checkpoint::{CheckpointError, tensors};
use crate::net::state_dict;
use candle_core::Tensor;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// Writes the weights of a run under the names of the published networks (see [`state_dict`]). The metadata
/// have the architecture, the names of the classes, the normalisation of the images and the share of an image that is seen as JSON, so that the
/// file is of use without the database.
///
/// # Errors
/// When a file cannot be written.
pub fn save_weights(
    outcome: &RunOutcome,
    run: StoredRun<'_>,
) -> Result<Vec<PathBuf>, CheckpointError> {
    let files = run.weights(outcome.weights.len());
    if let Some(folder) = files.first().and_then(|file| file.parent()) {
        fs::create_dir_all(folder)
            .map_err(|error| CheckpointError::Io { path: folder.to_owned(), error })?;
    }
    let normalisation = &outcome.normalisation;
    let description = json!({
        "architecture": outcome.arch,
        "classes": outcome.classes,
        "mean": normalisation.mean,
        "sd": normalisation.sd,
        "seen_share": outcome.seen_share,
        "run": run.id,
    });
    let metadata = [("format", "pt".to_owned()), ("repro", description.to_string())];
    for (file, params) in files.iter().zip(&outcome.weights) {
        let entries = state_dict(&outcome.arch, params)?;
        let entries: Vec<(String, &Tensor)> =
            entries.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        tensors::write(file, &metadata, &entries, |_| Ok(()))?;
    }
    Ok(files)
}
