//! The interface of both supernets: a network whose options are weighted by gates.

use super::NetGates;
use crate::cost::Cost;
use crate::nn::Pass;
use crate::space::SearchSpace;
use crate::tape::{LeafGradients, Value};
use candle_core::{Result, Tensor};

/// A network with all options of a space, each weighted by a gate.
pub trait GatedNetwork {
    /// The gates on the tape of one pass, whose gradients can be read after the backward pass.
    type TapeGates;

    fn space(&self) -> &SearchSpace;

    /// The cost of one image, with all options.
    fn cost(&self) -> Cost<u64>;

    /// Images `[n, h, w, c]` of the largest resolution → logits `[n, classes]` under these gates.
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

    /// The gradients of the gates, after the backward pass.
    ///
    /// # Errors
    /// When a gradient cannot be read from the device.
    fn gate_gradients(
        &self,
        bound: &Self::TapeGates,
        gradients: &mut LeafGradients,
    ) -> Result<NetGates>;
}
