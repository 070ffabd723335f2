//! What the supernets have in common: a network under the gates of its choices.

use super::{BoundGates, NetGates, Supernet};
use crate::cost::{self, Cost};
use crate::nn::Pass;
use crate::space::SearchSpace;
use crate::tape::{Gradients, Value};
use candle_core::{Result, Tensor};

/// A network with all options of a space, each weighed by a gate.
pub trait Gated {
    /// Gates on a tape, to ask for their gradients afterwards.
    type Bound;

    fn space(&self) -> &SearchSpace;

    /// What one image costs, all options included.
    fn cost(&self) -> Cost<u64>;

    /// Images `[n, h, w, c]` → logits `[n, classes]` under the given gates.
    ///
    /// # Errors
    /// When an operator fails.
    fn forward(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        gates: &NetGates,
        gradients_wanted: bool,
    ) -> Result<(Value, Self::Bound)>;

    /// What the reverse pass found for the gates.
    ///
    /// # Errors
    /// When a gradient cannot be read from the device.
    fn gate_gradients(&self, bound: &Self::Bound, gradients: &mut Gradients) -> Result<NetGates>;
}

impl Gated for Supernet {
    type Bound = BoundGates;

    fn space(&self) -> &SearchSpace {
        self.space()
    }

    fn cost(&self) -> Cost<u64> {
        cost::supernet(self.space())
    }

    fn forward(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        gates: &NetGates,
        gradients_wanted: bool,
    ) -> Result<(Value, BoundGates)> {
        self.forward(pass, images, gates, gradients_wanted)
    }

    fn gate_gradients(&self, bound: &BoundGates, gradients: &mut Gradients) -> Result<NetGates> {
        bound.gradients(self.space(), gradients)
    }
}
