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
