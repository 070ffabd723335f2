//! The layers before and after the blocks: the stem, and the head with the classifier.

use super::masked_norm::masked_norm;
use crate::nn::{BatchNorm, Conv, Conv1x1, Linear, Params, Pass, SqueezeExcite};
use crate::ops::inference::InferenceLayer;
use crate::ops::norm::PreActivation;
use crate::space::{Activation, Head, HeadSqueeze, NetworkPlan};
use crate::tape::Value;
use candle_core::Result;

/// Convolution, batch norm, activation.
#[derive(Debug)]
pub(super) struct Stem {
    conv: Conv,
    norm: BatchNorm,
    activation: Activation,
}

/// 1x1 convolution, batch norm, activation, pooling.
#[derive(Debug)]
pub(super) struct HeadLayers {
    conv: Conv1x1,
    norm: BatchNorm,
    activation: Activation,
}

/// The layers from pooled features to logits.
#[derive(Debug)]
pub(super) struct Classifier {
    /// The squeeze-excite of the pooled features: as one before the pooling, since its gates multiply whole
    /// channels.
    squeeze_excite: Option<SqueezeExcite>,
    /// The 1x1 convolution behind the pooling, in the released networks.
    after_pool: Option<(Conv1x1, Activation)>,
    dense: Linear,
    /// Features that the last layer reads.
    features: usize,
}

impl Stem {
    pub(super) fn new(params: &mut Params, plan: &NetworkPlan) -> Result<Self> {
        let stem = &plan.stem;
        let channels = (plan.image_channels, stem.width);
        Ok(Self {
            conv: Conv::new(params, "stem", channels, (stem.kernel, stem.stride))?,
            norm: BatchNorm::new(params, "stem", stem.width)?,
            activation: stem.activation,
        })
    }

    /// Images `[n, h, w, c]` → `[n, ⌈h/s⌉, ⌈w/s⌉, width]`, multiplied by the mask `[width]`.
    pub(super) fn forward(
        &self,
        pass: &mut Pass<'_>,
        images: &Value,
        mask: Option<Value>,
    ) -> Result<Value> {
        let (z, moments) = self.conv.forward(pass, images, None)?;
        let norm = self.norm.norm(pass, self.activation, moments)?;
        masked_norm(pass, PreActivation { z, norm }, mask)
    }

    /// The layer for inference.
    pub(super) fn freeze(&self, params: &Params) -> Result<InferenceLayer> {
        Ok(InferenceLayer::Conv(self.conv.freeze(params, &self.norm, self.activation)?))
    }
}

impl HeadLayers {
    /// The head and the classifier behind it.
    pub(super) fn new(params: &mut Params, plan: &NetworkPlan) -> Result<(Self, Classifier)> {
        let (mid, width, activation, squeeze) = match plan.head {
            Head::Conv { width, activation } => (width, None, activation, None),
            Head::IrPool { mid, width, activation, squeeze } => {
                (mid, Some(width), activation, squeeze)
            }
        };
        let squeeze_excite = match squeeze {
            Some(HeadSqueeze { width, functions }) => {
                let functions = (functions.activation.unwrap_or(activation), functions.gate);
                Some(SqueezeExcite::new(params, "head.se", mid, width, functions)?)
            }
            None => None,
        };
        let after_pool = match width {
            Some(width) => {
                let conv = Conv1x1::new(params, "head.after_pool", mid, width)?;
                Some((conv, activation))
            }
            None => None,
        };
        let head = Self::alone(params, plan)?;
        let features = width.unwrap_or(mid);
        let dense = Linear::new(params, "classifier", features, plan.classes)?;
        Ok((head, Classifier { squeeze_excite, after_pool, dense, features }))
    }

    /// The head without a classifier.
    pub(super) fn alone(params: &mut Params, plan: &NetworkPlan) -> Result<Self> {
        let input = plan.blocks.last().map_or(plan.stem.width, |block| block.width);
        let (Head::Conv { width: mid, activation } | Head::IrPool { mid, activation, .. }) =
            plan.head;
        Ok(Self {
            conv: Conv1x1::new(params, "head", input, mid)?,
            norm: BatchNorm::new(params, "head", mid)?,
            activation,
        })
    }

    /// x `[n, h, w, c]` → features `[n, mid]`, multiplied by the mask `[mid]`.
    pub(super) fn forward(
        &self,
        pass: &mut Pass<'_>,
        x: &Value,
        mask: Option<Value>,
    ) -> Result<Value> {
        let z = self.conv.forward(pass, x)?;
        let candidate = self.norm.pre_activation(pass, z, self.activation)?;
        let x = masked_norm(pass, candidate, mask)?;
        pass.tape.pool(&x)
    }

    /// The layers for inference.
    pub(super) fn freeze(&self, params: &Params) -> Result<[InferenceLayer; 2]> {
        Ok([self.conv.freeze(params, &self.norm, self.activation, 1)?, InferenceLayer::Pool])
    }
}

impl Classifier {
    pub(super) fn features(&self) -> usize {
        self.features
    }

    /// Features `[n, mid]` → logits `[n, classes]`. What the last layer reads is multiplied by `kept`
    /// `[n, features]`.
    pub(super) fn forward(
        &self,
        pass: &mut Pass<'_>,
        mut x: Value,
        kept: Option<&Value>,
    ) -> Result<Value> {
        if let Some(layers) = &self.squeeze_excite {
            x = layers.forward(pass, &x)?;
        }
        if let Some((conv, activation)) = &self.after_pool {
            let z = conv.forward(pass, &x)?;
            x = pass.tape.bias(&z, None, *activation)?;
        }
        if let Some(kept) = kept {
            x = pass.tape.multiply(&x, kept)?;
        }
        self.dense.forward(pass, &x, Activation::Identity)
    }

    /// The layers for inference.
    pub(super) fn freeze(&self, params: &Params) -> Result<Vec<InferenceLayer>> {
        let mut layers = Vec::new();
        if let Some(squeeze_excite) = &self.squeeze_excite {
            layers.push(InferenceLayer::SqueezeExcite(squeeze_excite.freeze(params)));
        }
        if let Some((conv, activation)) = &self.after_pool {
            let (w, activation) = (conv.value(params)?, *activation);
            layers.push(InferenceLayer::Linear { w, bias: None, activation });
        }
        layers.push(self.dense.freeze(params, Activation::Identity));
        Ok(layers)
    }
}
