//! A decided network with fixed weights, for inference.

use super::Net;
use crate::nn::Params;
use crate::ops::inference::Network;
use candle_core::Result;

impl Net {
    /// The network under the present weights and running statistics: what the layers compute, fused
    /// and laid out for inference. It does not follow `params`.
    ///
    /// # Errors
    /// When a block has several branches (a supernet), or the device has no kernel.
    pub fn freeze(&self, params: &Params) -> Result<Network> {
        let mut layers = vec![self.stem.freeze(params)?];
        for block in &self.blocks {
            layers.push(block.freeze(params)?);
        }
        layers.extend(self.head.freeze(params)?);
        Network::new(&layers, params.device())
    }
}
