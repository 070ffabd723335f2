//! What judges a claim: a small closed set, with what each of them compares.

/// What judges a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Judge {
    /// Counts the ways to choose all widths of a space, and compares with the first published number.
    SpaceGrowth,
    /// Compares steps of supernets of growing spaces: equivalence within the tolerance.
    ConstantCost,
    /// Compares two kinds of runs with the same seed.
    PairedSuperiority(Box<PairedEvidence>),
    /// Divides a published cost by a measured one, and compares with the first published number.
    CostRatio(CostEvidence),
}

/// Two kinds of runs. The claim is that the first exceed the second by the first published number, or at all
/// where none was published.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedEvidence {
    pub measure: Measure,
    /// Of the data set, where the claim is about one.
    pub classes: Option<usize>,
    /// Fewer decide nothing.
    pub least_seeds: usize,
    pub better: RunFilter,
    pub worse: RunFilter,
}

/// Searches by DMaskingNAS on a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct CostEvidence {
    pub classes: usize,
    /// What the other search costs, in GPU-hours.
    pub reference: f64,
}

/// What is measured in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// In percentage points.
    TestTop1,
    MacsPerParam,
}

/// Which runs count; what is `None` is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// The experiment's name.
    pub experiment: Option<String>,
    /// The name of a published network.
    pub network: Option<String>,
    /// `search.loss.objective`
    pub objective: Option<String>,
    /// `search.loss.input_channels`
    pub input_channels: Option<String>,
}

impl Measure {
    /// Its unit, after a number.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::TestTop1 => "percentage points of top-1",
            Self::MacsPerParam => "MACs per parameter",
        }
    }
}
