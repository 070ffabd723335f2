//! The trained weights of a finished run, beside the database: `DATABASE.weights/RUN.safetensors`, and
//! `RUN.repeat-1.safetensors` and so on where a manifest repeats the training.

use super::RunOutcome;
use crate::checkpoint::{CheckpointError, Folder, tensors};
use crate::net::state_dict;
use candle_core::Tensor;
use serde_json::json;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The files of the weights of a run with so many repeats, of the database in this file.
#[must_use]
pub fn weight_files(database: &Path, run: i64, repeats: usize) -> Vec<PathBuf> {
    let folder = weights_folder(database);
    let name = |repeat: usize| match repeat {
        0 => format!("{run}.safetensors"),
        repeat => format!("{run}.repeat-{repeat}.safetensors"),
    };
    (0..repeats).map(|repeat| folder.join(name(repeat))).collect()
}

/// Writes the weights of a run under the names of the published networks (see [`state_dict`]). The metadata
/// have the architecture, the names of the classes and the normalisation of the images as JSON, so that the
/// file is of use without the database.
///
/// # Errors
/// When a file cannot be written.
pub fn save_weights(
    outcome: &RunOutcome,
    database: &Path,
    run: i64,
) -> Result<Vec<PathBuf>, CheckpointError> {
    let files = weight_files(database, run, outcome.weights.len());
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
        "run": run,
    });
    let metadata = [("format", "pt".to_owned()), ("repro", description.to_string())];
    for (file, params) in files.iter().zip(&outcome.weights) {
        let entries = state_dict(params)?;
        let entries: Vec<(String, &Tensor)> =
            entries.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        tensors::write(file, &metadata, &entries, |_| Ok(()))?;
    }
    Ok(files)
}

/// The folder with the weights of all runs of a database.
#[must_use]
pub fn weights_folder(database: &Path) -> PathBuf {
    let mut folder: OsString = database.as_os_str().to_owned();
    folder.push(".weights");
    PathBuf::from(folder)
}

/// The files of weights of a run that there are, with what follows its number in their names.
fn existing(database: &Path, run: i64) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(weights_folder(database)).into_iter().flatten().flatten();
    let own = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let rest = name.strip_prefix(&format!("{run}."))?;
        Some((entry.path(), rest.to_owned()))
    });
    own.collect()
}

/// Removes the weights of a run.
///
/// # Errors
/// When a file cannot be removed.
pub fn remove_weights(database: &Path, run: i64) -> io::Result<()> {
    existing(database, run).iter().try_for_each(|(path, _)| fs::remove_file(path))
}

/// Copies weights and checkpoints of a run to those of a run of another database.
///
/// # Errors
/// When a file cannot be copied.
pub fn copy_files((from, there): (&Path, i64), (to, here): (&Path, i64)) -> io::Result<()> {
    let weights = existing(from, there);
    if !weights.is_empty() {
        fs::create_dir_all(weights_folder(to))?;
    }
    for (path, rest) in weights {
        fs::copy(path, weights_folder(to).join(format!("{here}.{rest}")))?;
    }
    let (from, to) = (Folder::of_run(from, there), Folder::of_run(to, here));
    if from.path().is_dir() {
        fs::create_dir_all(to.path())?;
        for entry in fs::read_dir(from.path())? {
            let entry = entry?;
            fs::copy(entry.path(), to.path().join(entry.file_name()))?;
        }
    }
    Ok(())
}
