//! Settings of the optimizers: SGD for weights, Adam for architecture parameters.

use serde::{Deserialize, Serialize};

/// Stochastic gradient descent with momentum (Sutskever's form, as in common frameworks):
/// v ← μ v + g + λ w, w ← w - η v.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// η, the highest of the schedule.
    pub learning_rate: f64,
    pub momentum: f64,
    /// λ; not applied to batch norm and biases.
    pub weight_decay: f64,
    pub schedule: Schedule,
    /// Epochs, or parts of them, in which η rises linearly from zero (Goyal et al. 2017, section 2.2).
    /// The schedule takes the steps that are left.
    pub warmup_epochs: f64,
    /// Gradients are scaled down to this global L2 norm when they exceed it.
    pub clip_norm: Option<f64>,
}

/// How a learning rate changes over a phase.
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
    /// Times `decay` after every `every_epochs` epochs, which may be fractions. They count from the first
    /// step, also where there is a warm-up (as in the code of Tan & Le 2019).
    Steps {
        every_epochs: f64,
        decay: f64,
    },
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
