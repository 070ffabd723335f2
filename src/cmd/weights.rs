//! The weights that the database keeps of runs.

use super::ending::Usage;
use super::output::message;
use anyhow::{Result, bail};
use candle_core::Device;
use repro::evaluation;
use repro::runner;
use repro::space::{ArchFile, ArchSpec};
use repro::store::{RunRow, RunStatus, Store};
use repro::trained::TrainedNetwork;
use std::path::PathBuf;

/// The weights of the first training run of a run, which are those that it ended with.
///
/// # Errors
/// When there are none, or the files have others.
pub fn stored_weights(store: &Store, run: &RunRow) -> Result<PathBuf> {
    let id = run.id;
    if run.method == evaluation::METHOD {
        bail!(Usage(format!(
            "run {id} is an evaluation, which has no weights; give that of the network"
        )));
    }
    let file = store.files_of(id).weights(1).remove(0);
    if !file.is_file() {
        let why = match run.status {
            RunStatus::Running => {
                "is still running, so it has no weights yet; wait for it".to_owned()
            }
            RunStatus::Failed => {
                format!("failed, so it has no weights; `repro resume {id}` tries again")
            }
            RunStatus::Interrupted => {
                format!("was interrupted, so it has no weights; `repro resume {id}` continues it")
            }
            RunStatus::Finished if run.command.contains("--discard-weights") => {
                "was executed with --discard-weights; execute it again without, with --again"
                    .to_owned()
            }
            RunStatus::Finished => format!(
                "is finished, but {} has been removed; restore it, or execute the run again with --again",
                file.display()
            ),
        };
        bail!("run {id} {why}");
    }
    match other_weights(store, run) {
        Some(problem) => bail!(problem),
        None => Ok(file),
    }
}

/// What is wrong with the kept weights of a finished run: their hash is in the database.
pub fn other_weights(store: &Store, run: &RunRow) -> Option<String> {
    let (result, found) = run.result.as_ref().zip(run.architecture.as_ref())?;
    let files = store.files_of(run.id);
    let repeats = (1..).take_while(|n| files.weights(*n).iter().all(|file| file.is_file()));
    let files = files.weights(repeats.last()?);
    let network = network_of(run, (*found.arch).clone());
    let hash = |file: &PathBuf| -> Result<String> {
        let trained = TrainedNetwork::load(network.clone(), file, &Device::Cpu)?;
        Ok(trained.params.sha256()?)
    };
    let place = files[0].display().to_string();
    match files.iter().map(hash).collect::<Result<Vec<_>>>().map(runner::combined_hash) {
        Ok(hash) if hash == result.weights_sha256 => None,
        Ok(_) => Some(format!("{place}: not all the weights that run {} ended with", run.id)),
        Err(error) => Some(message(&error)),
    }
}

/// A searched architecture as a network.
pub fn network_of(run: &RunRow, arch: ArchSpec) -> ArchFile {
    ArchFile {
        name: format!("run_{}", run.id),
        description: format!("{}: {}, seed {}", run.experiment, run.method, run.seed),
        arch,
        resize: None,
        published: None,
    }
}
