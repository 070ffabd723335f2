//! What a run reports while it works. The database implements [`Recorder`]; nothing below the
//! runner knows that there is one.

mod metric;

pub use metric::{Metric, Per, Unit};

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
    /// Scoring networks with the search's shared weights and training each by itself, where a run is
    /// asked to.
    Rank,
    /// Training the derived network from scratch.
    Train,
    /// The single look at the test images.
    Test,
}

impl Phase {
    pub const ALL: [Self; 6] =
        [Self::Data, Self::Search, Self::Derive, Self::Rank, Self::Train, Self::Test];

    /// The name in the database and in metric paths.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Search => "search",
            Self::Derive => "derive",
            Self::Rank => "rank",
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Receives what a run measures, as it is measured.
pub trait Recorder {
    /// Metrics of one step, which counts what [`Metric::per`] says. Values are finite, and a
    /// metric has one per step.
    ///
    /// # Errors
    /// When they cannot be stored: the run must not go on unrecorded.
    fn measure(&mut self, step: u64, metrics: &[(Metric, f64)]) -> anyhow::Result<()>;

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

    /// Which images the run has read.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn data(&mut self, _: &DataFingerprint) -> anyhow::Result<()> {
        Ok(())
    }

    /// The architecture that the search arrived at.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn architecture(&mut self, found: &FoundArchitecture) -> anyhow::Result<()>;
}

/// Keeps nothing: of some loops only the end is told.
#[derive(Clone, Copy, Debug)]
pub struct NullRecorder;

impl Recorder for NullRecorder {
    fn measure(&mut self, _: u64, _: &[(Metric, f64)]) -> anyhow::Result<()> {
        Ok(())
    }
    fn phase_started(&mut self, _: Phase) -> anyhow::Result<()> {
        Ok(())
    }
    fn phase_finished(&mut self, _: Phase, _: PhaseUsage) -> anyhow::Result<()> {
        Ok(())
    }
    fn architecture(&mut self, _: &FoundArchitecture) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Tells data sets apart, also those of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataFingerprint {
    /// Before any are held out.
    pub train_images: u64,
    pub test_images: u64,
    /// Of the images and their classes, in hex.
    pub sha256: String,
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
    /// How sure it was of each input resolution, ascending; empty where there was no choice.
    pub resolutions: Vec<ResolutionProbability>,
}

/// The final probability of an input resolution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolutionProbability {
    /// Pixels a side.
    pub side: usize,
    pub probability: f64,
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
    /// See [`Work::macs`]; `None` where a version recorded the phase that did not count them.
    pub macs: Option<u64>,
    /// Networks evaluated; `None` likewise.
    pub architectures: Option<u64>,
}

/// What a phase worked through.
///
/// Multiply-accumulates are those of convolutions and fully connected layers of what really ran: once
/// for the way forward, once more for the gradients of activations, and once more for those of
/// weights. What is computed again to save memory is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Images that went through a network, counted each time.
    pub images: u64,
    pub macs: u64,
    /// Networks that were evaluated.
    pub architectures: u64,
}

impl Work {
    /// Adds steps that trained a network's weights on `images`; `macs` is its cost for one.
    pub fn add_training(&mut self, macs: u64, images: usize) {
        self.images += images as u64;
        self.macs += 3 * macs * images as u64;
    }

    /// Adds steps that had the gradients of a network's activations on `images`, not of its weights.
    pub fn add_arch_gradient(&mut self, macs: u64, images: usize) {
        self.images += images as u64;
        self.macs += 2 * macs * images as u64;
    }

    /// Adds `images` that a network only looked at.
    pub fn add_inference(&mut self, macs: u64, images: usize) {
        self.images += images as u64;
        self.macs += macs * images as u64;
    }
}

/// What one training step of a supernet's weights took: medians over the steps of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepUsage {
    /// Of which up to the loss, back from it, and for the update.
    pub seconds: f64,
    pub forward_seconds: f64,
    pub backward_seconds: f64,
    pub optimizer_seconds: f64,
    /// The most bytes allocated at once, above those of the process before the supernet was built.
    pub peak_bytes: u64,
    /// The same of each part of the step.
    pub forward_bytes: u64,
    pub backward_bytes: u64,
    pub optimizer_bytes: u64,
    /// Whose bytes the peak is made of: their sum is the peak.
    pub weight_bytes: u64,
    pub velocity_bytes: u64,
    pub activation_bytes: u64,
    pub gradient_bytes: u64,
    pub scratch_bytes: u64,
    /// How far the resident size rose; `None` where the operating system does not tell.
    pub resident_bytes: Option<u64>,
    /// Processor cores that other programs kept busy meanwhile; `None` where that was not measured.
    pub other_cores: Option<f64>,
}

/// One point of a memory study: a supernet of a space with so many options.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScalingPoint {
    /// What grows, as in the manifest: `width`, ..., or `all`.
    pub dimension: String,
    /// Options that a block has along it at most.
    pub options: u64,
    /// As in manifests: `none` or `block`.
    pub recompute: String,
    /// From 0; each is a process of its own.
    pub repeat: u64,
    /// Images of a step.
    pub batch: u64,
    /// Networks of the space.
    pub log10_candidates: f64,
    /// What the memory model says of the peak.
    pub predicted_bytes: u64,
    /// `None` where it was only predicted: it needs more memory than was free or allowed.
    pub measured: Option<StepUsage>,
}
