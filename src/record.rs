//! What a run reports while it works. The database implements [`Recorder`]; nothing below the
//! runner knows that there is one.

use crate::space::ArchSpec;
use serde::{Deserialize, Serialize};

/// The parts of a run that are timed and whose memory is measured separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Reading and preparing the data set.
    Data,
    Search,
    /// From choices to an architecture.
    Derive,
    /// Training the derived network from scratch.
    Train,
    /// The single look at the test images.
    Test,
}

impl Phase {
    pub const ALL: [Self; 5] = [Self::Data, Self::Search, Self::Derive, Self::Train, Self::Test];

    /// The name in the database and in metric paths.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Search => "search",
            Self::Derive => "derive",
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Receives what a run measures, as it is measured.
pub trait Recorder {
    /// Metrics of one step, named by dotted paths (`search.loss`). `step` counts from 0 within the
    /// run's phase; a metric of the whole run uses step 0. Values are finite, and a metric has one
    /// per step.
    ///
    /// # Errors
    /// When they cannot be stored: the run must not go on unrecorded.
    fn measure(&mut self, step: u64, metrics: &[(&str, f64)]) -> anyhow::Result<()>;

    /// A phase begins.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn phase_started(&mut self, phase: Phase) -> anyhow::Result<()>;

    /// A phase has ended.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn phase_finished(&mut self, phase: Phase, usage: PhaseUsage) -> anyhow::Result<()>;

    /// The architecture that the search arrived at.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn architecture(&mut self, found: &FoundArchitecture) -> anyhow::Result<()>;
}

/// What a search arrived at.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundArchitecture {
    pub arch: ArchSpec,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Weights of convolutions and fully connected layers.
    pub params: u64,
    /// How sure the search was of each choice, block by block; empty where a method has no
    /// probabilities.
    pub probabilities: Vec<ChoiceProbabilities>,
}

/// Final probabilities of the options of one block, in the order of the space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChoiceProbabilities {
    /// `stage.block`
    pub block: String,
    pub types: Vec<f64>,
    pub expansions: Vec<f64>,
    pub widths: Vec<f64>,
}

/// What a phase took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PhaseUsage {
    pub seconds: f64,
    /// Largest number of bytes allocated at once during the phase, on the device that computes.
    pub peak_bytes: u64,
    /// Images processed.
    pub images: u64,
}
