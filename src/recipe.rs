//! The settings of a run as plain data: which images, how the search goes, how the derived network
//! is trained. Manifests are read into these; data, training and search use them.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which images, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct DataConfig {
    pub dataset: DatasetName,
    /// How many training images are held out to monitor the training of the derived network; they
    /// are drawn by the seed, once per run.
    pub validation_images: usize,
    /// Images are scaled to so many pixels on each side; as they are when `None`. Always there for
    /// `DatasetName::ImageFolder`.
    pub side: Option<usize>,
    /// Always there for `DatasetName::ImageFolder`.
    pub folder: Option<ImageFolder>,
}

/// The whole data set as it is.
impl From<DatasetName> for DataConfig {
    fn from(dataset: DatasetName) -> Self {
        Self { dataset, validation_images: 0, side: None, folder: None }
    }
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
    /// JPEGs and PNGs of a person's own, in a folder for each class.
    ImageFolder,
}

/// Where images lie, and how they are normalised: (pixel / 255 - mean) / sd, for red, green and blue.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFolder {
    /// From the data folder, unless it is absolute.
    pub path: PathBuf,
    pub mean: [f32; 3],
    pub sd: [f32; 3],
}

impl ImageFolder {
    /// Of ImageNet's training images, as torchvision gives them; most published networks use them.
    pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// The standard deviations beside [`Self::MEAN`].
    pub const SD: [f32; 3] = [0.229, 0.224, 0.225];
}

/// How the architecture is found.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchConfig {
    pub method: Method,
    pub epochs: usize,
    /// Share of its batches that an epoch has, in (0, 1]; 1 takes all.
    pub scale: f64,
    /// Epochs before the architecture parameters begin to move.
    pub warmup_epochs: usize,
    pub batch_size: usize,
    /// Training images that the search sees, drawn by the seed; all of them when `None`.
    pub images: Option<usize>,
    /// It sees images of so many classes only, drawn by the seed; of all of them when `None`.
    pub classes: Option<usize>,
    /// Share of those that trains the weights; the rest trains the architecture parameters.
    pub weight_share: f64,
    pub augment: Augment,
    pub recompute: Recompute,
    pub weights: Sgd,
    pub alpha: Adam,
    pub temperature: Temperature,
    pub gates: GateKind,
    pub masks: MaskPlace,
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

impl SearchConfig {
    /// The temperature of an epoch: DARTS has none, its softmax is that of τ = 1.
    #[must_use]
    pub fn tau(&self, epoch: usize) -> f64 {
        if self.method.is_darts() { 1.0 } else { self.temperature.at(epoch, self.epochs) }
    }
}

/// How many of an epoch's batches are left of so many by a share of them: at least one.
#[must_use]
pub fn scaled(batches: usize, share: f64) -> usize {
    ((batches as f64 * share).round() as usize).clamp(batches.min(1), batches)
}

/// How many of the search's images train the weights; the rest trains the architecture parameters.
#[must_use]
pub fn for_weights(images: usize, weight_share: f64) -> usize {
    (images as f64 * weight_share).round() as usize
}

/// The search methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// The name in manifests and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
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

    /// Whether its gates are softmax(α), without noise and temperature, and its turns minibatches.
    #[must_use]
    pub fn is_darts(self) -> bool {
        match self {
            Self::Darts | Self::Darts2 => true,
            Self::Dmasking
            | Self::Dnas
            | Self::Random
            | Self::RandomSearch
            | Self::RsWs
            | Self::Evolution => false,
        }
    }

    /// Whether it trains weights that its networks share.
    #[must_use]
    pub fn has_supernet(self) -> bool {
        match self {
            Self::Random | Self::RandomSearch => false,
            Self::Dmasking
            | Self::Dnas
            | Self::Darts
            | Self::Darts2
            | Self::RsWs
            | Self::Evolution => true,
        }
    }

    /// Whether its supernet has a block for every option.
    #[must_use]
    pub fn is_explicit(self) -> bool {
        match self {
            Self::Dnas | Self::Darts | Self::Darts2 => true,
            Self::Dmasking | Self::Random | Self::RandomSearch | Self::RsWs | Self::Evolution => {
                false
            }
        }
    }

    /// Whether its supernet has gates that learn.
    #[must_use]
    pub fn has_arch_params(self) -> bool {
        self == Self::Dmasking || self.is_explicit()
    }

    /// Whether the gradient of its architecture parameters looks through a step of the weights.
    #[must_use]
    pub fn looks_ahead(self) -> bool {
        match self {
            Self::Darts2 => true,
            Self::Dmasking
            | Self::Dnas
            | Self::Darts
            | Self::Random
            | Self::RandomSearch
            | Self::RsWs
            | Self::Evolution => false,
        }
    }

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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Constant,
    /// Half a cosine from the learning rate to `last`, step by step.
    Cosine {
        last: f64,
    },
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

/// Gumbel-Softmax temperature τ, epoch by epoch from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    pub initial: f64,
    pub schedule: TemperatureSchedule,
}

/// How τ moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TemperatureSchedule {
    /// τ = initial · decay^epoch (FBNet v1 and FBNetV2).
    Exponential {
        decay: f64,
    },
    /// From initial in the first epoch to `last` in the last, in equal steps.
    Linear {
        last: f64,
    },
    Constant,
}

impl Temperature {
    /// τ in the epoch `epoch` of `epochs`.
    #[must_use]
    pub fn at(&self, epoch: usize, epochs: usize) -> f64 {
        match self.schedule {
            TemperatureSchedule::Exponential { decay } => self.initial * decay.powi(epoch as i32),
            TemperatureSchedule::Linear { last } => {
                let way = epoch as f64 / epochs.saturating_sub(1).max(1) as f64;
                self.initial + (last - self.initial) * way
            }
            TemperatureSchedule::Constant => self.initial,
        }
    }
}

/// What a drawn vector of Gumbel-Softmax weights becomes in the forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateKind {
    /// The weights themselves: all options are mixed.
    #[default]
    Soft,
    /// One for the largest weight, zero for the others; the gradient goes to the weights as if
    /// they had been used (straight-through Gumbel-Softmax, Jang et al. 2017).
    StraightThrough,
}

/// Where the masks of a supernet's widths and hidden channels act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskPlace {
    /// Behind batch norm and activation.
    #[default]
    AfterNorm,
    /// In front of batch norm, which takes out again what they put in, as any factor of a channel.
    BeforeNorm,
}

/// How cross-entropy (CE) and expected cost become one number to minimise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchLoss {
    pub objective: Objective,
    pub form: LossForm,
    /// The cost is counted in this many (1e6: millions of MACs or parameters).
    pub cost_unit: f64,
    pub input_channels: InputChannels,
}

/// The number of input channels that the expected cost of a layer counts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputChannels {
    /// The expected output channels of the layer before (FBNetV2 section 3.3).
    #[default]
    Effective,
    /// The supernet's, as if the layer before had kept its largest width: the choice of one layer
    /// does not show in the cost of the next.
    Nominal,
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
    /// CE + λ · max(0, cost / target - 1), the target counted as the cost is.
    Hinge { lambda: f64, target: f64 },
}

/// The recipe for the derived network.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    pub epochs: usize,
    /// Share of its batches that an epoch has, in (0, 1].
    pub scale: f64,
    pub batch_size: usize,
    pub optimizer: Sgd,
    pub label_smoothing: f64,
    pub augment: Augment,
    pub recompute: Recompute,
    /// How many times a run trains and tests its network, each from a seed of its own.
    pub repeats: usize,
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

impl Recompute {
    /// The name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Block => "block",
        }
    }
}

/// Random changes to training images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Mirror left-right with probability one half.
    pub flip: bool,
    /// Pad with this many zero pixels (after normalisation, before scaling) and crop back at a
    /// random offset. Zero for images of a folder.
    pub crop_padding: usize,
    /// Cut out a random part of at least this share of the area; the middle when `None`. For images
    /// of a folder alone.
    pub crop_area: Option<f64>,
}

/// What the found network may cost: from `bound · (1 - tolerance)` to `bound · (1 + above)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    pub objective: Objective,
    pub bound: f64,
    pub tolerance: f64,
    /// Zero, unless costs around `bound` are asked for.
    pub above: f64,
}

impl Budget {
    /// The costs that are allowed.
    #[must_use]
    pub fn band(&self) -> std::ops::RangeInclusive<u64> {
        let low = (self.bound * (1.0 - self.tolerance)).ceil() as u64;
        low..=(self.bound * (1.0 + self.above)).floor() as u64
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
    pub paths: PathRange,
}

/// Among which networks a minibatch draws the one that it trains, where weights are shared by paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathRange {
    /// All of the space.
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

/// How well shared weights rank networks: a sample is scored with them and trained by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankCorrelation {
    pub architectures: usize,
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_begin_and_end_where_they_should() {
        let at = |schedule, epoch| Temperature { initial: 10.0, schedule }.at(epoch, 5);
        let exponential = TemperatureSchedule::Exponential { decay: 0.5 };
        assert_eq!([0, 1, 4].map(|epoch| at(exponential, epoch)), [10.0, 5.0, 0.625]);
        let linear = TemperatureSchedule::Linear { last: 2.0 };
        assert_eq!([0, 1, 4].map(|epoch| at(linear, epoch)), [10.0, 8.0, 2.0]);
        assert_eq!([0, 4].map(|epoch| at(TemperatureSchedule::Constant, epoch)), [10.0, 10.0]);
        // A single epoch has the first temperature, not none.
        assert_eq!(Temperature { initial: 3.0, schedule: linear }.at(0, 1), 3.0);
    }
}
