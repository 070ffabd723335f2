//! What a run reports while it works. The database implements [`Recorder`]; nothing below the
//! runner knows that there is one.

use crate::space::ArchSpec;

/// The parts of a run that are timed and whose memory is measured separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// run's phase; a metric of the whole run uses step 0.
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
    fn architecture(&mut self, arch: &ArchSpec, macs: u64, params: u64) -> anyhow::Result<()>;
}

/// What a phase took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PhaseUsage {
    pub seconds: f64,
    /// Largest number of bytes allocated at once during the phase, on the device that computes.
    pub peak_bytes: u64,
    /// Training images processed.
    pub images: u64,
}
