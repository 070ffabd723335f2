//! The recipe for the derived network.

use super::{Augment, Recompute, Sgd};

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
    /// How many times a run trains and tests its network, each time from a seed of its own.
    pub repeats: usize,
}
