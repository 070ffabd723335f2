//! What a run reports while it works. The database implements [`Recorder`]; only the runner and the
//! command line know of it.

mod checkpoint_id;
mod metric;

pub use checkpoint_id::{CheckpointId, KnownCheckpoints};
pub use metric::{Metric, MetricUnit, Per};

use crate::space::ArchSpec;
use serde::{Deserialize, Serialize};

/// The parts of a run that are timed and whose memory is measured separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Reading and preparing the data set.
    Data,
    Search,
    /// From the probabilities of the choices to an architecture.
    Derive,
    /// Scoring networks with the search's shared weights and training each on its own. Only where the
    /// manifest asks for it.
    Rank,
    /// Training the derived network from scratch.
    Train,
    /// The only evaluation on the test images.
    Test,
}

impl Phase {
    pub const ALL: [Self; 6] =
        [Self::Data, Self::Search, Self::Derive, Self::Rank, Self::Train, Self::Test];

    /// The name in the database and in the names of metrics.
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

/// Receives what a run measures, as it is measured. Only measurements must be received; the defaults keep
/// nothing.
pub trait Recorder {
    /// Metrics of one step, which counts what [`Metric::per`] says. Values are finite, and a
    /// metric has one per step.
    ///
    /// # Errors
    /// When they cannot be stored: the run must not continue without a record.
    fn measure(&mut self, step: u64, metrics: &[(Metric, f64)]) -> anyhow::Result<()>;

    /// A phase starts.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn phase_started(&mut self, _: Phase) -> anyhow::Result<()> {
        Ok(())
    }

    /// A phase has ended.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn phase_finished(&mut self, _: Phase, _: PhaseUsage) -> anyhow::Result<()> {
        Ok(())
    }

    /// Stores all that was measured so far. Returns the checkpoint that may now be written:
    /// what is measured from now on comes after it. `None` where storing takes too long.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn mark(&mut self) -> anyhow::Result<Option<CheckpointId>> {
        Ok(None)
    }

    /// The images that the run has read.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn data(&mut self, _: &DataFingerprint) -> anyhow::Result<()> {
        Ok(())
    }

    /// The result of the search.
    ///
    /// # Errors
    /// As [`Recorder::measure`].
    fn architecture(&mut self, _: &SearchedArchitecture) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Keeps nothing, for loops of which only the result counts.
pub struct NullRecorder<'a>(
    /// The recorder of the run, for its checkpoints.
    pub Option<&'a mut dyn Recorder>,
);

impl Recorder for NullRecorder<'_> {
    fn measure(&mut self, _: u64, _: &[(Metric, f64)]) -> anyhow::Result<()> {
        Ok(())
    }
    fn mark(&mut self) -> anyhow::Result<Option<CheckpointId>> {
        self.0.as_mut().map_or(Ok(None), |recorder| recorder.mark())
    }
}

/// Tells data sets with the same name apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataFingerprint {
    /// Before any are held out.
    pub train_images: u64,
    pub test_images: u64,
    /// Of the images and their classes, in hex.
    pub sha256: String,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchedArchitecture {
    pub arch: ArchSpec,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Weights of convolutions and fully connected layers.
    pub params: u64,
    /// Final probabilities of the choices, block by block; empty where a method has none.
    pub probabilities: Vec<ChoiceProbabilities>,
    /// Those of the input resolutions, ascending; empty where there was no choice.
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

/// What a phase used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseUsage {
    pub seconds: f64,
    /// Largest number of bytes allocated at once during the phase, on the device that computes.
    pub peak_bytes: u64,
    /// Images processed.
    pub images: u64,
    /// See [`Work::macs`]; `None` where an earlier version recorded the phase.
    pub macs: Option<u64>,
    /// Networks evaluated; `None` likewise.
    pub architectures: Option<u64>,
}

/// What a phase processed.
///
/// Multiply-accumulates are those of convolutions and fully connected layers that were executed: once
/// for the forward pass, once for the gradients of activations, and once for the gradients of
/// weights. What is recomputed to save memory is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Images that passed through a network, counted each time.
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

    /// Adds steps that computed the gradients of a network's activations on `images`, but not of its
    /// weights.
    pub fn add_arch_gradient(&mut self, macs: u64, images: usize) {
        self.images += images as u64;
        self.macs += 2 * macs * images as u64;
    }

    /// Adds forward passes of a network on `images`.
    pub fn add_inference(&mut self, macs: u64, images: usize) {
        self.images += images as u64;
        self.macs += macs * images as u64;
    }
}

/// What one training step of a supernet's weights used: medians over the steps of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepUsage {
    /// The whole step; the next three are its parts.
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
    /// What the peak consists of.
    pub weight_bytes: u64,
    pub velocity_bytes: u64,
    pub activation_bytes: u64,
    pub gradient_bytes: u64,
    pub scratch_bytes: u64,
    /// Growth of the resident size; `None` where the operating system does not report it.
    pub resident_bytes: Option<u64>,
    /// Processor cores that other programs or virtual machines kept busy meanwhile; `None` where that was not measured.
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
    /// The memory model's peak.
    pub predicted_bytes: u64,
    /// `None` where it was only predicted: it needs more memory than was free or allowed.
    pub measured: Option<StepUsage>,
}
