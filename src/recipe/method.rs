//! The search methods: their names, and each with the settings that are its own.

use super::{
    Adam, GateKind, MaskPlace, ResidualRule, SearchLoss, Temperature, TemperatureSchedule,
};

/// A search method with its own settings. What all methods share is in [`super::SearchConfig`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// `DMaskingNAS`: one block per type, all widths by masks (FBNetV2, section 3).
    Dmasking { alpha: AlphaConfig, gumbel: GumbelSoftmax, residual: ResidualRule, masks: MaskPlace },
    /// DNAS (FBNet v1): one block per option, otherwise like `Dmasking`.
    Dnas { alpha: AlphaConfig, gumbel: GumbelSoftmax, residual: ResidualRule },
    /// DARTS (Liu et al. 2019): one block per option, gates without noise, weights and architecture
    /// parameters alternating by minibatch.
    Darts { alpha: AlphaConfig, residual: ResidualRule, order: Order },
    /// One uniform draw: the mean of the space.
    Random,
    /// The best of several draws, each trained on its own for a short time.
    RandomSearch(RandomSearch),
    /// The best of several draws under shared weights that were trained along random paths (Li &
    /// Talwalkar 2019).
    RsWs(SharedScores),
    /// Ageing evolution (Real et al. 2019) under the same shared weights.
    Evolution { scores: SharedScores, evolution: Evolution },
}

impl Method {
    #[must_use]
    pub const fn name(&self) -> MethodName {
        match self {
            Self::Dmasking { .. } => MethodName::Dmasking,
            Self::Dnas { .. } => MethodName::Dnas,
            Self::Darts { order: Order::First, .. } => MethodName::Darts,
            Self::Darts { order: Order::Second, .. } => MethodName::Darts2,
            Self::Random => MethodName::Random,
            Self::RandomSearch(_) => MethodName::RandomSearch,
            Self::RsWs(_) => MethodName::RsWs,
            Self::Evolution { .. } => MethodName::Evolution,
        }
    }

    /// How it learns architecture parameters by gradients; `None` where it learns none.
    #[must_use]
    pub fn gradient(&self) -> Option<GradientSearch> {
        let by_epoch = |alpha: &AlphaConfig, gumbel: &GumbelSoftmax| GradientSearch {
            alpha: *alpha,
            temperature: gumbel.temperature,
            alternation: Alternation::Epochs,
            order: Order::First,
        };
        match self {
            Self::Dmasking { alpha, gumbel, .. } | Self::Dnas { alpha, gumbel, .. } => {
                Some(by_epoch(alpha, gumbel))
            }
            Self::Darts { alpha, order, .. } => Some(GradientSearch {
                alpha: *alpha,
                temperature: Temperature { initial: 1.0, schedule: TemperatureSchedule::Constant },
                alternation: Alternation::Minibatches,
                order: *order,
            }),
            Self::Random | Self::RandomSearch(_) | Self::RsWs(_) | Self::Evolution { .. } => None,
        }
    }
}

/// A method's name, as it is in manifests, in the database and on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodName {
    Dmasking,
    Dnas,
    /// DARTS, first order.
    Darts,
    /// DARTS, second order.
    Darts2,
    Random,
    RandomSearch,
    RsWs,
    Evolution,
}

impl MethodName {
    pub const ALL: [Self; 8] = [
        Self::Dmasking,
        Self::Dnas,
        Self::Darts,
        Self::Darts2,
        Self::Random,
        Self::RandomSearch,
        Self::RsWs,
        Self::Evolution,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dmasking => "dmasking",
            Self::Dnas => "dnas",
            Self::Darts => "darts",
            Self::Darts2 => "darts2",
            Self::Random => "random",
            Self::RandomSearch => "random_search",
            Self::RsWs => "rs_ws",
            Self::Evolution => "evolution",
        }
    }

    /// Whether it trains weights that its networks share.
    #[must_use]
    pub fn has_supernet(self) -> bool {
        !matches!(self, Self::Random | Self::RandomSearch)
    }

    /// Whether its supernet has one block per option.
    #[must_use]
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::Dnas | Self::Darts | Self::Darts2)
    }

    /// Whether it is DARTS of either order: its gates have neither noise nor temperature.
    #[must_use]
    pub fn is_darts(self) -> bool {
        matches!(self, Self::Darts | Self::Darts2)
    }

    /// Whether it learns architecture parameters.
    #[must_use]
    pub fn has_arch_params(self) -> bool {
        self == Self::Dmasking || self.is_explicit()
    }

    /// Whether it ends with weights that all networks of the space share.
    #[must_use]
    pub fn shares_weights(self) -> bool {
        matches!(self, Self::Dmasking | Self::RsWs | Self::Evolution)
    }
}

impl std::fmt::Display for MethodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How architecture parameters α learn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlphaConfig {
    /// Epochs before α starts to learn.
    pub warmup_epochs: usize,
    pub optimizer: Adam,
    pub loss: SearchLoss,
}

/// Gates drawn by Gumbel-Softmax (Jang et al. 2017).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GumbelSoftmax {
    pub kind: GateKind,
    pub temperature: Temperature,
}

/// How a search learns α by gradients, whatever its supernet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientSearch {
    pub alpha: AlphaConfig,
    pub temperature: Temperature,
    pub alternation: Alternation,
    pub order: Order,
}

/// How training alternates between weights and α.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alternation {
    /// By epoch: the whole weight split, then the whole architecture split.
    Epochs,
    /// By minibatch: one of the architecture split, then one of the weight split. An epoch is one
    /// pass over the weight split.
    Minibatches,
}

/// How the gradient of α treats the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As constants.
    First,
    /// As a function of α, through one step of SGD (DARTS, section 2.3).
    Second,
}

/// How many networks a random search trains, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomSearch {
    pub candidates: usize,
    /// Epochs of the weight split, for each of them.
    pub epochs: usize,
    /// Training batches that each network's batch norm statistics are estimated on before it is
    /// scored.
    pub calibration_batches: usize,
}

/// How networks are scored under shared weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedScores {
    /// How many networks a search scores.
    pub candidates: usize,
    /// Training batches that each network's batch norm statistics are estimated on.
    pub calibration_batches: usize,
    pub paths: PathRange,
}

/// Which networks a minibatch draws from when shared weights are trained along paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathRange {
    /// The whole space.
    #[default]
    Space,
    /// Those within the budget.
    Budget,
}

/// Ageing evolution (Real et al. 2019).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evolution {
    /// How many networks live at once.
    pub population: usize,
    /// How many of them compete to be the parent.
    pub sample: usize,
}

/// How well shared weights rank networks: a sample is scored with them and trained from scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankCorrelation {
    pub architectures: usize,
    /// As in [`SharedScores`].
    pub calibration_batches: usize,
}
