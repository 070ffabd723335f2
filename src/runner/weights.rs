//! The trained weights of a finished run, as files that are of use without the database.

use super::RunOutcome;
use crate::artifacts::StoredRun;
use crate::checkpoint::CheckpointError;
use crate::export::safetensors;
use crate::net::state_dict;
use crate::trained::TrainingImages;
use std::fs;
use std::path::PathBuf;

/// Writes the weights of a run, one file per repeat.
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
    let images = TrainingImages { run: Some(run.id), ..outcome.images.clone() };
    for (file, params) in files.iter().zip(&outcome.weights) {
        let state = state_dict(&outcome.arch, params)?;
        safetensors::write(file, &outcome.arch, &state, Some(&images))?;
    }
    Ok(files)
}
