//! The plain residual block, [`crate::space::BlockKind::Residual`]: two dense convolutions and a shortcut.
//!
//! The shortcut has no weights (He et al. 2016, their variant A): where the shape changes it is every
//! `stride`-th pixel of the channels that input and output share. So it exists for every choice of
//! widths. Under masks it equals the shortcut of the narrower block: the mask of the input has already
//! zeroed the missing channels, and the mask at the end of the block zeroes those beyond its width.

use super::masked_norm::masked_norm;
use crate::nn::{BatchNorm, Conv, Params, Pass};
use crate::ops::inference::{InferenceLayer, InferenceResidual};
use crate::ops::norm::PreActivation;
use crate::ops::subsample::Grid;
use crate::space::{Activation, BlockPlan};
use crate::tape::Value;
use candle_core::Result;

/// 3x3 convolution, batch norm, ReLU, 3x3 convolution, batch norm.
#[derive(Debug)]
pub(super) struct ResidualBlock {
    first: Conv,
    first_norm: BatchNorm,
    second: Conv,
    second_norm: BatchNorm,
}

impl ResidualBlock {
    pub(super) fn new(
        params: &mut Params,
        name: &str,
        plan: &BlockPlan,
        mid: usize,
    ) -> Result<Self> {
        let (first, second) = (format!("{name}.first"), format!("{name}.second"));
        Ok(Self {
            first: Conv::new(params, &first, (plan.input, mid), (3, plan.stride))?,
            first_norm: BatchNorm::new(params, &first, mid)?,
            second: Conv::new(params, &second, (mid, plan.width), (3, 1))?,
            second_norm: BatchNorm::new(params, &second, plan.width)?,
        })
    }

    /// x `[n, h, w, c_in]` → `[n, ⌈h/s⌉, ⌈w/s⌉, width]`, before its last batch norm. `inner` masks the
    /// channels between the convolutions, `filters` the filters of both.
    pub(super) fn forward(
        &self,
        pass: &mut Pass<'_>,
        x: &Value,
        inner: Option<Value>,
        filters: Option<&Value>,
    ) -> Result<PreActivation<Value>> {
        let (z, moments) = self.first.forward(pass, x, filters)?;
        let norm = self.first_norm.norm(pass, Activation::Relu, moments)?;
        let inner = masked_norm(pass, PreActivation { z, norm }, inner)?;
        let (z, moments) = self.second.forward(pass, &inner, filters)?;
        let norm = self.second_norm.norm(pass, Activation::Identity, moments)?;
        Ok(PreActivation { z, norm })
    }

    /// The layer for inference, with its shortcut.
    pub(super) fn freeze(&self, params: &Params) -> Result<InferenceLayer> {
        let first = self.first.freeze(params, &self.first_norm, Activation::Relu)?;
        let second = self.second.freeze(params, &self.second_norm, Activation::Identity)?;
        Ok(InferenceLayer::Residual(Box::new(InferenceResidual { first, second })))
    }
}

/// Every `stride`-th pixel of x `[n, h, w, c]`, cut or zero-padded to `width` channels.
pub(super) fn shortcut(
    pass: &mut Pass<'_>,
    x: &Value,
    stride: usize,
    width: usize,
) -> Result<Value> {
    let (_, h, w, c) = x.tensor().dims4()?;
    let x = pass.tape.subsample(x, Grid::strided(stride, (h, w)))?;
    if width > c {
        return pass.tape.sum_padded(&[x], width);
    }
    pass.tape.cut(&x, width)
}
