//! What goes into the database and what comes out of it, as plain data.

use super::settings::Settings;
use crate::env::Environment;
use crate::record::{
    CheckpointId, ChoiceProbabilities, DataFingerprint, Metric, Phase, PhaseUsage,
    ResolutionProbability,
};
use crate::space::ArchSpec;
use serde::Serialize;
use std::sync::Arc;

/// A run that is about to start.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    pub manifest: ManifestRecord,
    /// As in manifests, for example `dmasking`.
    pub method: String,
    /// As in manifests, for example `cifar10`.
    pub dataset: String,
    pub seed: u64,
    /// The command line.
    pub command: String,
    pub environment: Environment,
}

/// A manifest with its space, as text: enough to run it again.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestRecord {
    /// Of `text`, a NUL byte and `space_text`, in hex.
    pub sha256: String,
    /// The experiment's name.
    pub name: String,
    pub text: String,
    pub space_name: String,
    pub space_text: String,
    /// Size of the space: exact, in decimal, and its logarithm.
    pub space_candidates: String,
    pub space_log10: f64,
}

/// The result of a finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct FinalResult {
    /// Accuracy on the test images, in 0..=1: the mean over the training runs.
    pub test_top1: f64,
    /// Mean cross-entropy on the test images, in nats.
    pub test_loss: f64,
    pub test_images: u64,
    /// SHA-256 of the derived network's final weights, in hex.
    pub weights_sha256: String,
}

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    Running,
    Finished,
    Failed,
    /// Asked to stop, or killed: its process is gone or its heartbeat has stopped.
    Interrupted,
}

/// One run with its last attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    pub id: i64,
    /// The experiment's name.
    pub experiment: String,
    pub manifest: Arc<ManifestRecord>,
    /// The settings of the manifest.
    pub settings: Arc<Settings>,
    pub method: String,
    pub dataset: String,
    /// The images that were read; `None` before they are, and where an earlier version ran.
    pub data: Option<DataFingerprint>,
    pub seed: u64,
    pub attempt: u32,
    pub status: RunStatus,
    pub error: Option<String>,
    /// Seconds since 1970, UTC.
    pub started_at: f64,
    /// When it ended, or its last sign of life.
    pub last_seen_at: f64,
    pub command: String,
    pub environment: Arc<Environment>,
    /// Those that have started, in the order of [`Phase::ALL`].
    pub phases: Vec<PhaseRow>,
    pub architecture: Option<ArchitectureRow>,
    pub result: Option<FinalResult>,
}

/// One attempt at a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptRow {
    pub number: u32,
    pub status: RunStatus,
    pub error: Option<String>,
    /// Seconds since 1970, UTC.
    pub started_at: f64,
    /// When it ended, or its last sign of life.
    pub last_seen_at: f64,
    pub host: String,
    pub pid: u32,
    /// The checkpoint from which it was continued; `None` where it started from the beginning.
    pub from_checkpoint: Option<CheckpointId>,
    pub command: String,
}

/// All runs of a database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredRuns {
    /// The oldest first.
    pub rows: Vec<RunRow>,
    /// Those that cannot be read because something else has changed the tables.
    pub damaged: Vec<DamagedRun>,
}

/// A run with rows that this program did not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRun {
    pub id: i64,
    pub problem: String,
}

impl std::fmt::Display for DamagedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {} cannot be read: {}", self.id, self.problem)
    }
}

/// One phase of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseRow {
    pub phase: Phase,
    /// `None` while it is running, and where it never ended.
    pub usage: Option<PhaseUsage>,
}

/// The architecture that a run has found.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchitectureRow {
    /// [`ArchSpec::id`]
    pub id: String,
    pub arch: Arc<ArchSpec>,
    pub macs: u64,
    pub params: u64,
    pub probabilities: Vec<ChoiceProbabilities>,
    /// Ascending; empty where there was no choice.
    pub resolutions: Vec<ResolutionProbability>,
}

/// Choices of several options whose probabilities were learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    pub all: usize,
    pub undecided: usize,
}

impl ArchitectureRow {
    /// A choice is undecided where no option is twice as probable as at the beginning; of two options,
    /// where none has 0.75.
    #[must_use]
    pub fn choices(&self) -> Choices {
        let resolutions = self.resolutions.iter().map(|r| r.probability).collect();
        let of_blocks =
            self.probabilities.iter().flat_map(|p| [&p.types, &p.expansions, &p.widths]).cloned();
        let mut choices = Choices::default();
        for p in of_blocks.chain([resolutions]).filter(|p: &Vec<f64>| p.len() > 1) {
            let largest = p.iter().copied().fold(0.0, f64::max);
            choices.all += 1;
            choices.undecided += usize::from(largest < (2.0 / p.len() as f64).min(0.75));
        }
        choices
    }
}

/// One number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    pub metric: Metric,
    pub step: u64,
    pub value: f64,
}

impl RunStatus {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl RunRow {
    /// [`Settings::precision_on`] the device of the run.
    #[must_use]
    pub fn precision(&self) -> &str {
        self.settings.precision_on(&self.environment.device)
    }

    /// What a phase used, if it has ended.
    #[must_use]
    pub fn usage(&self, phase: Phase) -> Option<PhaseUsage> {
        self.phases.iter().find(|row| row.phase == phase).and_then(|row| row.usage)
    }
}
