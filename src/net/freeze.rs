//! A decided network with fixed weights, for inference.

use super::{Network, resolution};
use crate::nn::Params;
use crate::ops::inference::InferenceNetwork;
use candle_core::{Result, Tensor};

/// What [`Network::freeze`] gives.
pub struct FrozenNetwork {
    resolution: usize,
    network: InferenceNetwork,
}

impl Network {
    /// The network under the present weights and running statistics: what the layers compute, fused
    /// and laid out for inference. It does not follow `params`.
    ///
    /// # Errors
    /// When a block has several branches (a supernet), or the device has no kernel.
    pub fn freeze(&self, params: &Params) -> Result<FrozenNetwork> {
        let mut layers = vec![self.stem.freeze(params)?];
        for block in &self.blocks {
            layers.push(block.freeze(params)?);
        }
        layers.extend(self.head.freeze(params)?);
        layers.extend(self.classifier.freeze(params));
        let network = InferenceNetwork::new(&layers, params.device())?;
        Ok(FrozenNetwork { resolution: self.resolution, network })
    }
}

impl FrozenNetwork {
    /// Images `[n, h, w, c]` → logits `[n, classes]`; of larger images it sees what [`Network::forward`]
    /// does.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.network.forward(&resolution::seen(images, self.resolution)?)
    }
}
