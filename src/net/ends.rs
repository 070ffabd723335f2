//! What every network begins and ends with: the stem in front of its blocks, the head behind them.

use super::block::single;
use super::plan::Plan;
use crate::nn::{BatchNorm, Conv, Conv1x1, Dense, Params, Pass};
use crate::ops::inference::Layer;
use crate::space::{Activation, Head};
use crate::tape::{Candidate, Value};
use candle_core::{Result, Tensor};

/// Dense convolution, batch norm, activation.
#[derive(Debug)]
pub(super) struct Stem {
    conv: Conv,
    norm: BatchNorm,
    activation: Activation,
}

/// 1x1 convolution, pooling and classifier.
#[derive(Debug)]
pub(super) struct HeadLayers {
    conv: Conv1x1,
    norm: BatchNorm,
    activation: Activation,
    /// The released networks' 1x1 convolution behind the pooling.
    after_pool: Option<Conv1x1>,
    classifier: Dense,
}

impl Stem {
    pub(super) fn new(params: &mut Params, plan: &Plan) -> Result<Self> {
        let stem = &plan.stem;
        let channels = (plan.image_channels, stem.width);
        Ok(Self {
            conv: Conv::new(params, "stem", channels, (stem.kernel, stem.stride))?,
            norm: BatchNorm::new(params, "stem", stem.width)?,
            activation: stem.activation,
        })
    }

    /// Images `[n, h, w, c]` → `[n, h/s, w/s, width]`.
    pub(super) fn forward(&self, pass: &mut Pass<'_>, images: &Tensor) -> Result<Value> {
        let images = Value::constant(images.clone());
        let (z, moments) = self.conv.forward(pass, &images)?;
        let norm = self.norm.norm(pass, self.activation, moments)?;
        single(pass, Candidate { z, norm }, None)
    }

    /// The layer at inference.
    pub(super) fn freeze(&self, params: &Params) -> Result<Layer> {
        self.conv.freeze(params, &self.norm, self.activation)
    }
}

impl HeadLayers {
    pub(super) fn new(params: &mut Params, plan: &Plan) -> Result<Self> {
        let input = plan.blocks.last().map_or(plan.stem.width, |block| block.width);
        let (mid, width, activation) = match plan.head {
            Head::Conv { width, activation } => (width, None, activation),
            Head::IrPool { mid, width, activation } => (mid, Some(width), activation),
        };
        let after_pool = match width {
            Some(width) => Some(Conv1x1::new(params, "head.after_pool", mid, width)?),
            None => None,
        };
        Ok(Self {
            conv: Conv1x1::new(params, "head", input, mid)?,
            norm: BatchNorm::new(params, "head", mid)?,
            activation,
            after_pool,
            classifier: Dense::new(params, "classifier", width.unwrap_or(mid), plan.classes)?,
        })
    }

    /// x `[n, h, w, c]` → logits `[n, classes]`.
    pub(super) fn forward(&self, pass: &mut Pass<'_>, x: Value) -> Result<Value> {
        let z = self.conv.forward(pass, &x)?;
        drop(x);
        let candidate = self.norm.candidate(pass, z, self.activation)?;
        let x = single(pass, candidate, None)?;
        let mut x = pass.tape.pool(&x)?; // [n, c]
        if let Some(conv) = &self.after_pool {
            let z = conv.forward(pass, &x)?;
            let zero = pass.row(&vec![0.0; z.tensor().dim(1)?], false)?;
            x = pass.tape.rows(&z, &zero, self.activation, None)?;
        }
        self.classifier.forward(pass, &x, Activation::Identity, None)
    }

    /// The layers at inference.
    pub(super) fn freeze(&self, params: &Params) -> Result<Vec<Layer>> {
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
