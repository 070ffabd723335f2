//! Settings of the optimizers: SGD and RMSProp for weights, Adam for architecture parameters.

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

/// The optimizer of a network's weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// What SGD and RMSProp share; all of SGD.
    pub sgd: Sgd,
    pub rmsprop: Option<RmsProp>,
}

impl From<Sgd> for Optimizer {
    fn from(sgd: Sgd) -> Self {
        Self { sgd, rmsprop: None }
    }
}

/// RMSProp (Tieleman & Hinton 2012) in the form of TensorFlow, with momentum:
/// s ← ρ s + (1 - ρ) g², v ← μ v + η g / √(s + ε), w ← w - v. The mean square s is one at first. Weight
/// decay is added to the gradient g.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// ρ
    pub rho: f64,
    /// ε, below the root.
    pub epsilon: f64,
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
