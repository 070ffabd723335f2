//! What operators read, as values on the tape, and the same as plain tensors.

use super::{Contributions, Value};
use crate::ops::gram::Gram;
use crate::ops::{depthwise, norm, project};
use crate::space::Activation;
use candle_core::Tensor;
use std::rc::Rc;

/// How a raw convolution output is read, see [`norm::Norm`].
#[derive(Clone)]
pub struct Norm {
    pub mean: Tensor,
    pub inverse: Tensor,
    pub gamma: Value,
    pub beta: Value,
    pub activation: Activation,
}

/// A raw convolution output and how it is read: an activation that has not been computed.
#[derive(Clone)]
pub struct Candidate {
    pub z: Value,
    pub norm: Norm,
}

/// The 1x1 convolution in front of a depthwise one, see [`depthwise::Expand`].
#[derive(Clone)]
pub struct Expand {
    pub w: Value,
    pub norm: Norm,
    /// Describes the input of the convolution; the way back needs it.
    pub gram: Option<Rc<Gram>>,
}

/// The layers of a squeeze-excite, see [`project::SqueezeExcite`].
#[derive(Clone)]
pub struct SqueezeExcite {
    pub squeeze: Value,
    pub squeeze_bias: Value,
    pub excite: Value,
    pub excite_bias: Value,
    pub mask: Option<Value>,
    pub activation: Activation,
}

/// What [`Tape::norm`] sums, see [`norm::Sum`].
#[derive(Default)]
pub struct Sum {
    pub candidates: Vec<Candidate>,
    pub gates: Option<Value>,
    pub identity: Option<(Value, Value)>,
    pub mask: Option<Value>,
}

impl Norm {
    pub(super) fn plain(&self) -> norm::Norm {
        norm::Norm {
            mean: self.mean.clone(),
            inverse: self.inverse.clone(),
            gamma: self.gamma.tensor.clone(),
            beta: self.beta.tensor.clone(),
            activation: self.activation,
        }
    }
}

impl Candidate {
    pub(super) fn plain(&self) -> norm::Candidate {
        norm::Candidate { z: self.z.tensor.clone(), norm: self.norm.plain() }
    }
}

impl Expand {
    pub(super) fn plain(&self) -> depthwise::Expand {
        depthwise::Expand { w: self.w.tensor.clone(), norm: self.norm.plain() }
    }
}

impl SqueezeExcite {
    pub(super) fn plain(&self) -> project::SqueezeExcite {
        project::SqueezeExcite {
            squeeze: self.squeeze.tensor.clone(),
            squeeze_bias: self.squeeze_bias.tensor.clone(),
            excite: self.excite.tensor.clone(),
            excite_bias: self.excite_bias.tensor.clone(),
            mask: self.mask.as_ref().map(|m| m.tensor.clone()),
            activation: self.activation,
        }
    }

    pub(super) fn slots(&self) -> [Option<usize>; 5] {
        let mask = self.mask.as_ref().and_then(|m| m.slot);
        [self.squeeze.slot, self.squeeze_bias.slot, self.excite.slot, self.excite_bias.slot, mask]
    }
}

/// Where the gradients of a [`Sum`] go.
pub(super) struct SumSlots {
    candidates: Vec<[Option<usize>; 3]>,
    gates: Option<usize>,
    identity: [Option<usize>; 2],
    mask: Option<usize>,
}

impl SumSlots {
    pub(super) fn of(sum: &Sum) -> Self {
        let slot = |value: &Option<Value>| value.as_ref().and_then(|v| v.slot);
        let candidates = sum.candidates.iter();
        Self {
            candidates: candidates
                .map(|c| [c.z.slot, c.norm.gamma.slot, c.norm.beta.slot])
                .collect(),
            gates: slot(&sum.gates),
            identity: sum.identity.as_ref().map_or([None; 2], |(x, rho)| [x.slot, rho.slot]),
            mask: slot(&sum.mask),
        }
    }

    pub(super) fn all(&self) -> Vec<Option<usize>> {
        let rest = self.identity.iter().chain([&self.gates, &self.mask]);
        self.candidates.iter().flatten().chain(rest).copied().collect()
    }

    pub(super) fn wanted(&self) -> norm::Wanted {
        norm::Wanted {
            candidates: self.candidates.iter().map(|slots| slots[0].is_some()).collect(),
            identity: self.identity[0].is_some(),
        }
    }

    pub(super) fn contributions(self, gradients: norm::Gradients) -> Contributions {
        let mut parts = Vec::new();
        for ([z, gamma, beta], found) in self.candidates.into_iter().zip(gradients.candidates) {
            parts.extend(found.dz.map(|d| (z, d)));
            parts.extend([(gamma, found.dgamma), (beta, found.dbeta)]);
        }
        let rest = [
            (self.gates, gradients.gates),
            (self.identity[0], gradients.dx),
            (self.identity[1], gradients.drho),
            (self.mask, gradients.mask),
        ];
        parts.extend(rest.into_iter().filter_map(|(slot, d)| d.map(|d| (slot, d))));
        parts
    }
}
