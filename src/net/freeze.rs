//! A decided network with fixed weights, for inference.

use super::{HeadLayers, Net};
use crate::nn::Params;
use crate::ops::inference::{Layer, Network};
use crate::space::Activation;
use candle_core::Result;

impl Net {
    /// The network under the present weights and running statistics: what the layers compute, fused
    /// and laid out for inference. It does not follow `params`.
    ///
    /// # Errors
    /// When a block has several branches (a supernet), or the device has no kernel.
    pub fn freeze(&self, params: &Params) -> Result<Network> {
        let mut layers = vec![self.stem.freeze(params, &self.stem_norm, self.stem_activation)?];
        for block in &self.blocks {
            layers.push(block.freeze(params)?);
        }
        layers.extend(self.head.freeze(params)?);
        Network::new(&layers, params.device())
    }
}

impl HeadLayers {
    fn freeze(&self, params: &Params) -> Result<Vec<Layer>> {
        let conv = self.conv.freeze(params, &self.norm, self.activation, 1)?;
        let mut layers = vec![conv, Layer::Pool];
        if let Some(conv) = &self.after_pool {
            let w = params.value(conv.weight).clone();
            layers.push(Layer::Linear { w, bias: None, activation: self.activation });
        }
        layers.push(self.classifier.freeze(params, Activation::Identity));
        Ok(layers)
    }
}
