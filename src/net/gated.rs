//! What the supernets have in common: a network under the gates of its choices.

use super::NetGates;
use crate::cost::Cost;
use crate::nn::Pass;
use crate::space::SearchSpace;
use crate::tape::{LeafGradients, Value};
use candle_core::{Result, Tensor};

/// A network with all options of a space, each weighed by a gate.
pub trait GatedNetwork {
    /// Gates on a tape, to ask for their gradients afterwards.
    type TapeGates;

    fn space(&self) -> &SearchSpace;

    /// What one image costs, all options included.
    fn cost(&self) -> Cost<u64>;

    /// Images `[n, h, w, c]` of the largest resolution → logits `[n, classes]` under the given gates.
    ///
    /// # Errors
    /// When an operator fails.
    fn forward(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        gates: &NetGates,
        gradients_wanted: bool,
    ) -> Result<(Value, Self::TapeGates)>;

    /// What the reverse pass found for the gates.
    ///
    /// # Errors
    /// When a gradient cannot be read from the device.
    fn gate_gradients(
        &self,
        bound: &Self::TapeGates,
        gradients: &mut LeafGradients,
    ) -> Result<NetGates>;
}
