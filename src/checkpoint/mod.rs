//! Checkpoints: all that the rest of a run depends on, in files beside the database.
//!
//! A run consists of stages, such as its search or the training of a network, and stages may contain
//! others. A loop that can be continued names its stage, and describes its state whenever a checkpoint
//! is due; a checkpoint holds the states of all stages. Random numbers need no state: they are a function
//! of (seed, label, step).

mod error;
mod file;
mod folder;
mod stage;
pub mod tensors;
#[cfg(test)]
mod tests;

pub use error::CheckpointError;
pub use folder::{Folder, Loaded};
pub use stage::Stage;

use crate::record::{CheckpointId, Phase, PhaseUsage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A phase of a run as of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseState {
    pub phase: Phase,
    /// Seconds since 1970.
    pub started_at: f64,
    /// What it took so far.
    pub usage: PhaseUsage,
    pub is_finished: bool,
}

/// The state of a run.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    pub id: CheckpointId,
    pub phases: Vec<PhaseState>,
    /// Whether the searched architecture is in the database.
    pub has_architecture: bool,
    /// Fingerprint of the images.
    pub data_sha256: Option<String>,
    pub stages: BTreeMap<String, Stage>,
}
