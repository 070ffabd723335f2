//! A decided network with fixed weights, for inference.

use super::{Network, resolution};
use crate::nn::Params;
use crate::ops::inference::InferenceNetwork;
use candle_core::{Result, Tensor};

/// A network for inference, see [`Network::freeze`].
pub struct FrozenNetwork {
    resolution: usize,
    network: InferenceNetwork,
}

impl Network {
    /// The network with the current weights and running statistics, its layers fused for inference.
    /// Later changes of `params` do not affect it.
    ///
    /// # Errors
    /// When a block has several branches (a supernet), or the device has no kernel.
    pub fn freeze(&self, params: &Params) -> Result<FrozenNetwork> {
        let mut layers = vec![self.stem.freeze(params)?];
        for block in &self.blocks {
            layers.push(block.freeze(params)?);
        }
        layers.extend(self.head.freeze(params)?);
        layers.extend(self.classifier.freeze(params)?);
        let network = InferenceNetwork::new(&layers, params.device())?;
        Ok(FrozenNetwork { resolution: self.resolution, network })
    }
}

impl FrozenNetwork {
    /// Images `[n, h, w, c]` → logits `[n, classes]`. Larger images are subsampled as in
    /// [`Network::forward`].
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.network.forward(&resolution::subsampled(images, self.resolution)?)
    }
}
