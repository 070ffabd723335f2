//! The runs of the results database for experiment trackers: TensorBoard and MLflow.
//!
//! A run is read and written in parts, so memory does not grow with the number of its measurements. The same
//! database gives the same bytes: nothing of this machine and no time of the export is in the files, and no
//! host's name.

mod content;
mod folder;
mod mlflow;
mod tensorboard;
mod timeline;

pub use folder::LogError;

use crate::store::{RunRow, Store};
use content::RunContent;
use folder::LogFolder;
use std::path::Path;

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One folder with an event file per run.
    Tensorboard,
    /// A file with all runs, and a Python program that imports it.
    Mlflow,
}

impl LogFormat {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensorboard => "tensorboard",
            Self::Mlflow => "mlflow",
        }
    }
}

/// Writes these runs to `folder`, which is created. It replaces an earlier export of the same format and leaves
/// all other files as they are.
///
/// # Errors
/// See [`LogError`]. Each file is then the earlier one or the new one.
pub fn write(
    store: &Store,
    runs: &[RunRow],
    format: LogFormat,
    folder: &Path,
) -> Result<(), LogError> {
    let contents = runs.iter().map(|run| RunContent::read(store, run));
    let contents: Vec<RunContent<'_>> = contents.collect::<Result<_, _>>()?;
    let names: Vec<String> = match format {
        LogFormat::Tensorboard => contents.iter().map(tensorboard::file_name).collect(),
        LogFormat::Mlflow => mlflow::FILES.map(str::to_owned).to_vec(),
    };
    let folder = LogFolder::open(folder, format.name(), names)?;
    match format {
        LogFormat::Tensorboard => {
            for content in &contents {
                folder.write(&tensorboard::file_name(content), |out| {
                    tensorboard::write(out, store, content)
                })?;
            }
        }
        LogFormat::Mlflow => mlflow::write(&folder, store, &contents)?,
    }
    folder.finish()
}
