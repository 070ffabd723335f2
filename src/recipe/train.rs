//! The recipe for the derived network.

use super::{Augment, Optimizer, Recompute};

/// The recipe for the derived network.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    pub epochs: usize,
    /// Share of its batches that an epoch has, in (0, 1].
    pub scale: f64,
    pub batch_size: usize,
    pub optimizer: Optimizer,
    /// The decay of the exponential moving average of the weights, which is evaluated and stored instead of
    /// them. `None`: the weights themselves.
    pub ema_decay: Option<f64>,
    pub label_smoothing: f64,
    pub drops: DropRates,
    pub augment: Augment,
    /// α of the Beta distribution of mixup's shares; `None`: images stay as they are.
    pub mixup: Option<f64>,
    pub recompute: Recompute,
    /// How many times a run trains and tests its network, each time from a seed of its own.
    pub repeats: usize,
}

impl TrainConfig {
    /// What a step of this recipe has besides those of plain SGD.
    #[must_use]
    pub fn extras(&self) -> StepExtras {
        StepExtras {
            squares: self.optimizer.rmsprop.is_some(),
            average: self.ema_decay.is_some(),
            dropout: self.drops.dropout > 0.0,
            drop_connect: self.drops.drop_connect > 0.0,
        }
    }
}

/// The probabilities with which a training step leaves out what; zero: never.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DropRates {
    /// Of each feature that the classifier reads, for each image.
    pub dropout: f64,
    /// Of the last block, for each image; it grows linearly with depth.
    pub drop_connect: f64,
}

/// What a step has in memory that a step of plain SGD does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct StepExtras {
    /// The mean squares of RMSProp, one for each weight.
    pub squares: bool,
    /// The average of all weights and running statistics.
    pub average: bool,
    /// The factors of dropout, and the features that they multiply.
    pub dropout: bool,
    /// The maps of blocks before their input is added.
    pub drop_connect: bool,
}
