//! One step of shared weights: all that its time and memory depend on, besides the space and the
//! images.

use super::{Augment, GateKind, MaskPlace, MethodName, ResidualRule, Schedule, Sgd};
use serde::{Deserialize, Serialize};

/// One step of the weights of a supernet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepConfig {
    pub kind: StepKind,
    /// Without effect on [`StepKind::Path`], whose networks are decided.
    pub residual: ResidualRule,
    pub batch_size: usize,
    pub augment: Augment,
    pub recompute: Recompute,
    /// Optimizer of the weights.
    pub weights: Sgd,
}

/// Which networks a step trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// All options of a supernet at once, weighted by gates.
    Gated(SupernetKind, GateRule),
    /// One network of the space, drawn for this step.
    Path,
}

/// How a supernet under gates holds its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupernetKind {
    /// One block per block type; all its widths and expansions are masks of the largest.
    Masked(MaskPlace),
    /// One block per option.
    Explicit,
}

/// How architecture parameters become gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateRule {
    /// softmax((α + Gumbel noise) / τ).
    Gumbel(GateKind),
    /// softmax(α / τ), without noise.
    Softmax,
}

impl StepConfig {
    /// A step of `method`'s supernet with the optimizer of FBNet v1, whose numbers change neither
    /// time nor memory. `None` where the method has no supernet.
    #[must_use]
    pub fn new(method: MethodName, recompute: Recompute, batch_size: usize) -> Option<Self> {
        let kind = match method {
            MethodName::Dmasking => {
                let masks = SupernetKind::Masked(MaskPlace::default());
                StepKind::Gated(masks, GateRule::Gumbel(GateKind::Soft))
            }
            MethodName::Dnas => {
                StepKind::Gated(SupernetKind::Explicit, GateRule::Gumbel(GateKind::Soft))
            }
            MethodName::Darts | MethodName::Darts2 => {
                StepKind::Gated(SupernetKind::Explicit, GateRule::Softmax)
            }
            MethodName::RsWs | MethodName::Evolution => StepKind::Path,
            MethodName::Random | MethodName::RandomSearch => return None,
        };
        let weights = Sgd {
            learning_rate: 0.1,
            momentum: 0.9,
            weight_decay: 1e-4,
            schedule: Schedule::Constant,
            warmup_epochs: 0.0,
            clip_norm: Some(5.0),
        };
        let augment = Augment { flip: true, crop_padding: 4, ..Augment::default() };
        let residual = ResidualRule::default();
        Some(Self { kind, residual, batch_size, augment, recompute, weights })
    }
}

/// What the backward pass computes again instead of keeping it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Only the hidden maps of inverted residuals, which are never kept.
    #[default]
    None,
    /// Whole blocks: only their inputs are kept.
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

/// How the matrix products of a GPU round their operands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// To ten bits of the mantissa, on tensor cores.
    Tf32,
}
