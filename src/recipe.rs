//! The settings of a run as plain data: which images, how the search goes, how the derived network
//! is trained. Manifests are read into these; data, training and search use them.

use serde::{Deserialize, Serialize};

/// Which images, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct DataConfig {
    pub dataset: DatasetName,
    /// How many training images are held out to watch the training of the derived network; they
    /// are drawn by the seed, once per run.
    pub validation_images: usize,
}

/// The data sets that the program can load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetName {
    /// 50,000 + 10,000 colour photos, 32x32, 10 classes.
    Cifar10,
    /// 60,000 + 10,000 grey pictures of clothes, 28x28, 10 classes.
    FashionMnist,
    /// The first images of Fashion-MNIST, shipped with the program.
    FashionMnistSlice,
}

/// How the architecture is found.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchConfig {
    pub method: Method,
    pub epochs: usize,
    /// Epochs before the architecture parameters begin to move.
    pub warmup_epochs: usize,
    pub batch_size: usize,
    /// Training images that the search sees, drawn by the seed; all of them when `None`.
    pub images: Option<usize>,
    /// Share of those that trains the weights; the rest trains the architecture parameters.
    pub weight_share: f64,
    pub augment: Augment,
    pub recompute: Recompute,
    pub weights: Sgd,
    pub alpha: Adam,
    pub temperature: Temperature,
    pub loss: SearchLoss,
    /// What the found network may cost; anything when `None`.
    pub budget: Option<Budget>,
    /// Always there for `Method::RandomSearch`.
    pub random: Option<RandomSearch>,
    /// Always there for `Method::RsWs` and `Method::Evolution`.
    pub shared: Option<SharedScores>,
    /// Always there for `Method::Evolution`.
    pub evolution: Option<Evolution>,
}

/// The search methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// `DMaskingNAS`: one block per type, all widths by masks (FBNetV2, section 3).
    Dmasking,
    /// DNAS (FBNet v1): a block per option, otherwise as `Dmasking`.
    Dnas,
    /// DARTS (Liu et al. 2019), first order: a block per option, gates without noise, weights and
    /// architecture parameters in turns by minibatch.
    Darts,
    /// DARTS, second order: the gradient looks through one step of the weights.
    Darts2,
    /// One uniform draw: the mean of the space.
    Random,
    /// The best of several draws, each trained by itself for a short time.
    RandomSearch,
    /// The best of several draws under shared weights that were trained along random paths (Li &
    /// Talwalkar 2019).
    RsWs,
    /// Ageing evolution (Real et al. 2019) under the same shared weights.
    Evolution,
}

impl Method {
    /// Whether it ends with weights that all networks of the space share.
    #[must_use]
    pub fn shares_weights(self) -> bool {
        match self {
            Self::Dmasking | Self::RsWs | Self::Evolution => true,
            Self::Dnas | Self::Darts | Self::Darts2 | Self::Random | Self::RandomSearch => false,
        }
    }
}

/// Stochastic gradient descent with momentum (Sutskever's form, as in common frameworks):
/// v ← μ v + g + λ w, w ← w - η v.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// η at the start of the schedule.
    pub learning_rate: f64,
    pub momentum: f64,
    /// λ; not applied to batch norm and biases.
    pub weight_decay: f64,
    pub schedule: Schedule,
    /// Gradients are scaled down to this global L2 norm when they exceed it.
    pub clip_norm: Option<f64>,
}

/// How a learning rate moves over a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Constant,
    /// Half a cosine from the learning rate to zero, step by step.
    Cosine,
    /// Linear from zero over the first fifth, then linear to zero (a one-cycle triangle).
    Triangle,
}

/// Adam (Kingma & Ba 2015) with L2 weight decay in the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
}

/// Gumbel-Softmax temperature: τ = initial · decay^epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Temperature {
    pub initial: f64,
    pub decay: f64,
}

/// How cross-entropy (CE) and expected cost become one number to minimise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchLoss {
    pub objective: Objective,
    pub form: LossForm,
    /// The cost is counted in this many (1e6: millions of MACs or parameters).
    pub cost_unit: f64,
}

/// What is to be small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    Macs,
    Params,
}

impl Objective {
    /// The name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Macs => "macs",
            Self::Params => "params",
        }
    }
}

/// The shape of the search loss; the paper's exact form is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossForm {
    /// CE · a · ln(cost)^b: FBNet v1's, with a = 0.2 and b = 0.6.
    LogPower { a: f64, b: f64 },
    /// CE + λ · cost.
    Linear { lambda: f64 },
}

/// The recipe for the derived network.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    pub epochs: usize,
    pub batch_size: usize,
    pub optimizer: Sgd,
    pub label_smoothing: f64,
    pub augment: Augment,
    pub recompute: Recompute,
}

/// What the way back computes again instead of keeping it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Only the hidden maps of inverted residuals, which are never kept.
    #[default]
    None,
    /// Whole blocks: their inputs alone are kept.
    Block,
}

/// Random changes to training images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Mirror left-right with probability one half.
    pub flip: bool,
    /// Pad with this many zero pixels (after normalisation) and crop back at a random offset.
    pub crop_padding: usize,
}

/// What the found network may cost: from `bound · (1 - tolerance)` to `bound`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    pub objective: Objective,
    pub bound: f64,
    pub tolerance: f64,
}

impl Budget {
    /// The costs that are allowed.
    #[must_use]
    pub fn band(&self) -> std::ops::RangeInclusive<u64> {
        (self.bound * (1.0 - self.tolerance)).ceil() as u64..=self.bound.floor() as u64
    }
}

/// How many networks a random search trains, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomSearch {
    pub candidates: usize,
    /// Epochs of the weights' images, for each of them.
    pub epochs: usize,
}

/// How networks are scored under shared weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedScores {
    /// How many networks a search scores.
    pub candidates: usize,
    /// Training batches over which each network's batch norms take their statistics.
    pub calibration_batches: usize,
}

/// Ageing evolution (Real et al. 2019).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evolution {
    /// How many networks live at once.
    pub population: usize,
    /// How many of them compete to be the parent.
    pub sample: usize,
}

/// How well shared weights rank networks: a sample is scored with them and trained by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankCorrelation {
    pub architectures: usize,
}
