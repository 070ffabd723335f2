//! The slots of an operator's operands, in the order of its gradients.

use super::{Contributions, Value};
use crate::ops::norm::{GatedSum, NormGradients, NormWanted};
use crate::ops::project::SqueezeExciteWeights;

/// The slots of a squeeze-excite's weights, in the order of the fields.
pub(super) fn squeeze_excite_slots(weights: &SqueezeExciteWeights<Value>) -> [Option<usize>; 5] {
    let mask = weights.mask.as_ref().and_then(|mask| mask.slot);
    let SqueezeExciteWeights { squeeze, squeeze_bias, excite, excite_bias, .. } = weights;
    [squeeze.slot, squeeze_bias.slot, excite.slot, excite_bias.slot, mask]
}

/// The slots of a [`GatedSum`].
pub(super) struct GatedSumSlots {
    /// z, γ and β of each branch.
    branches: Vec<[Option<usize>; 3]>,
    gates: Option<usize>,
    /// x and ρ.
    identity: [Option<usize>; 2],
    mask: Option<usize>,
}

impl GatedSumSlots {
    pub(super) fn of(sum: &GatedSum<Value>) -> Self {
        let slot = |value: &Option<Value>| value.as_ref().and_then(|value| value.slot);
        let branches = sum.branches.iter();
        Self {
            branches: branches.map(|b| [b.z.slot, b.norm.gamma.slot, b.norm.beta.slot]).collect(),
            gates: slot(&sum.gates),
            identity: sum.identity.as_ref().map_or([None; 2], |(x, rho)| [x.slot, rho.slot]),
            mask: slot(&sum.mask),
        }
    }

    pub(super) fn all(&self) -> Vec<Option<usize>> {
        let rest = self.identity.iter().chain([&self.gates, &self.mask]);
        self.branches.iter().flatten().chain(rest).copied().collect()
    }

    pub(super) fn wanted(&self) -> NormWanted {
        NormWanted {
            branches: self.branches.iter().map(|slots| slots[0].is_some()).collect(),
            identity: self.identity[0].is_some(),
        }
    }

    pub(super) fn contributions(self, gradients: NormGradients) -> Contributions {
        let mut parts = Vec::new();
        for ([z, gamma, beta], of_branch) in self.branches.into_iter().zip(gradients.branches) {
            parts.extend(of_branch.dz.map(|d| (z, d)));
            parts.extend([(gamma, of_branch.dgamma), (beta, of_branch.dbeta)]);
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
