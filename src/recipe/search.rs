//! What all search methods share: images, epochs, the optimizer of the weights, the cost budget.

use super::{
    Augment, GateRule, Method, Objective, Recompute, ResidualRule, Sgd, StepConfig, StepKind,
    SupernetKind,
};

/// The settings of a search that do not depend on its method.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchConfig {
    pub epochs: usize,
    /// Share of its batches that an epoch has, in (0, 1]; 1 takes all.
    pub scale: f64,
    pub batch_size: usize,
    /// Training images that the search sees, drawn by the seed; all of them when `None`.
    pub images: Option<usize>,
    /// Classes whose images the search sees, drawn by the seed; all of them when `None`.
    pub classes: Option<usize>,
    /// Share of the images in the weight split; the others are the architecture split.
    pub weight_share: f64,
    pub augment: Augment,
    pub recompute: Recompute,
    /// Optimizer of the weights.
    pub weights: Sgd,
    /// What the derived network may cost; anything when `None`.
    pub budget: Option<Budget>,
}

impl SearchConfig {
    /// A step of the weights that `method` shares between networks; `None` where it shares none.
    #[must_use]
    pub fn step(&self, method: &Method) -> Option<StepConfig> {
        let (kind, residual) = match method {
            Method::Dmasking { gumbel, residual, masks, .. } => {
                let supernet = SupernetKind::Masked(*masks);
                (StepKind::Gated(supernet, GateRule::Gumbel(gumbel.kind)), *residual)
            }
            Method::Dnas { gumbel, residual, .. } => {
                let rule = GateRule::Gumbel(gumbel.kind);
                (StepKind::Gated(SupernetKind::Explicit, rule), *residual)
            }
            Method::Darts { residual, .. } => {
                (StepKind::Gated(SupernetKind::Explicit, GateRule::Softmax), *residual)
            }
            Method::RsWs(_) | Method::Evolution { .. } => (StepKind::Path, ResidualRule::default()),
            Method::Random | Method::RandomSearch(_) => return None,
        };
        let Self { batch_size, augment, recompute, weights, .. } = *self;
        Some(StepConfig { kind, residual, batch_size, augment, recompute, weights })
    }
}

/// How many of an epoch's batches a share of them leaves: at least one.
#[must_use]
pub fn scaled(batches: usize, share: f64) -> usize {
    ((batches as f64 * share).round() as usize).clamp(batches.min(1), batches)
}

/// How many of the search's images are in the weight split; the others are the architecture split.
#[must_use]
pub fn for_weights(images: usize, weight_share: f64) -> usize {
    (images as f64 * weight_share).round() as usize
}

/// What the derived network may cost: from `bound · (1 - tolerance)` to `bound · (1 + above)`.
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
