//! Inference on a GPU, layer by layer; `inference.cu` has the kernel behind the products.
//!
//! The weights are copied, so that later steps of training do not change them. Hidden maps of inverted
//! residuals exist for a few images at a time.

use super::{InferenceConv, InferenceInvertedResidual, InferenceLayer};
use crate::ops::activation::argument;
use crate::ops::conv::{ConvGeometry, GpuConv};
use crate::ops::depthwise::{self, Expand};
use crate::ops::gpu::{Arg, Gpu, Launch, Source, chunk_images, copy, source};
use crate::ops::host::{nhwc, rows_of};
use crate::ops::norm::{Norm, PreActivation};
use crate::ops::project::gpu::Projection;
use crate::ops::project::{Operands, SqueezeExciteWeights};
use crate::ops::subsample::{self, Grid};
use crate::ops::{bias, matmul, pad, pool, scale, update};
use crate::space::{Activation, conv_out};
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("inference");

/// The layers on a GPU.
pub(super) struct GpuNetwork {
    gpu: Gpu,
    layers: Vec<GpuLayer>,
}

enum GpuLayer {
    Dense(Dense),
    InvertedResidual(Box<InvertedResidual>),
    Residual { first: Dense, second: Dense },
    Cut { width: usize },
    Pool,
    SqueezeExcite(Box<SqueezeExciteWeights>),
}

impl GpuNetwork {
    /// Of layers whose shapes are checked.
    pub(super) fn new(gpu: Gpu, layers: &[InferenceLayer]) -> Result<Self> {
        Ok(Self { gpu, layers: layers.iter().map(GpuLayer::new).collect::<Result<_>>()? })
    }

    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(images.clone(), |x, layer| layer.forward(&self.gpu, &x))
    }
}

impl GpuLayer {
    fn new(layer: &InferenceLayer) -> Result<Self> {
        Ok(match layer {
            InferenceLayer::Conv(conv) => Self::Dense(Dense::conv(conv)?),
            InferenceLayer::Conv1x1 { w, stride, norm } => {
                Self::Dense(Dense::folded(w, norm, (1, *stride))?)
            }
            InferenceLayer::InvertedResidual(block) => {
                Self::InvertedResidual(Box::new(InvertedResidual::new(block)?))
            }
            InferenceLayer::Residual(block) => Self::Residual {
                first: Dense::conv(&block.first)?,
                second: Dense::conv(&block.second)?,
            },
            InferenceLayer::Cut { width } => Self::Cut { width: *width },
            InferenceLayer::Pool => Self::Pool,
            InferenceLayer::SqueezeExcite(layers) => {
                Self::SqueezeExcite(Box::new(squeeze_excite(layers)?))
            }
            InferenceLayer::Linear { w, bias, activation } => Self::Dense(Dense {
                w: copy(w)?,
                bias: bias.as_ref().map(copy).transpose()?,
                activation: *activation,
                kernel: 1,
                stride: 1,
            }),
        })
    }

    fn forward(&self, gpu: &Gpu, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(dense) => dense.forward(gpu, x, None),
            Self::InvertedResidual(block) => block.forward(gpu, x),
            Self::Residual { first, second } => {
                let inner = first.forward(gpu, x, None)?;
                second.forward(gpu, &inner, Some(&strided(x, first.stride)?))
            }
            Self::Cut { width } => pad::cut(x, *width),
            Self::Pool => {
                let (n, _, _, c) = nhwc(x)?;
                pool::forward(x)?.reshape((n, 1, 1, c))
            }
            Self::SqueezeExcite(layers) => {
                let pooled = x.flatten_to(2)?;
                let squeezed = matmul::forward(&pooled, &layers.squeeze)?;
                let squeezed =
                    bias::forward(&squeezed, Some(&layers.squeeze_bias), layers.activation)?;
                let gates = matmul::forward(&squeezed, &layers.excite)?;
                let gates = bias::forward(&gates, Some(&layers.excite_bias), layers.gate)?;
                scale::product(&pooled, &gates)?.reshape(x.shape())
            }
        }
    }
}

/// A convolution or a fully connected layer, w `[k·k·c_in, c_out]`, bias `[c_out]`.
struct Dense {
    w: Tensor,
    bias: Option<Tensor>,
    activation: Activation,
    kernel: usize,
    stride: usize,
}

impl Dense {
    fn conv(conv: &InferenceConv) -> Result<Self> {
        Self::folded(&conv.w.flatten_to(1)?, &conv.norm, (conv.kernel, conv.stride))
    }

    fn folded(w: &Tensor, norm: &Norm, (kernel, stride): (usize, usize)) -> Result<Self> {
        let (w, bias) = folded(w, norm)?;
        Ok(Self { w, bias: Some(bias), activation: norm.activation, kernel, stride })
    }

    /// The output; the channels that it shares with `added` are added to it.
    fn forward(&self, gpu: &Gpu, x: &Tensor, added: Option<&Tensor>) -> Result<Tensor> {
        let (n, h, w, c) = nhwc(x)?;
        let y = if self.kernel == 1 {
            matmul::forward(&strided(x, self.stride)?, &self.w)?
        } else {
            let g = ConvGeometry::new((h, w, c), self.kernel, self.stride);
            GpuConv { gpu, n, g, c_out: self.w.dim(1)? }.product(x, &self.w)?
        };
        finish(gpu, &y, self.bias.as_ref(), self.activation, added)?;
        Ok(y)
    }
}

struct InvertedResidual {
    expand: Option<Expand>,
    filter: Tensor,
    kernel: usize,
    stride: usize,
    norm: Norm,
    squeeze_excite: Option<SqueezeExciteWeights>,
    /// With the scale of the batch norm behind it.
    project: Tensor,
    bias: Tensor,
    activation: Activation,
    residual: bool,
}

impl InvertedResidual {
    fn new(block: &InferenceInvertedResidual) -> Result<Self> {
        let (project, bias) = folded(&block.project, &block.project_norm)?;
        let expand = |expand: &Expand| {
            let (w, norm) = (copy(&expand.w)?, copy_of(&expand.norm)?);
            Ok::<_, candle_core::Error>(Expand { w, norm, gram: None })
        };
        Ok(Self {
            expand: block.expand.as_ref().map(expand).transpose()?,
            filter: copy(&block.filter)?,
            kernel: depthwise::kernel_of(&block.filter)?,
            stride: block.stride,
            norm: copy_of(&block.norm)?,
            squeeze_excite: block.squeeze_excite.as_ref().map(squeeze_excite).transpose()?,
            project,
            bias,
            activation: block.project_norm.activation,
            residual: block.residual,
        })
    }

    fn forward(&self, gpu: &Gpu, x: &Tensor) -> Result<Tensor> {
        let (n, h, w, _) = nhwc(x)?;
        let (hidden, c_out) = self.project.dims2()?;
        let [oh, ow] = [h, w].map(|side| conv_out(side, self.kernel, self.stride));
        let y = gpu.output((n, oh, ow, c_out))?;
        let each = chunk_images(n, h * w * hidden);
        for first in (0..n).step_by(each) {
            let images = each.min(n - first);
            let (x, y) = (x.narrow(0, first, images)?, y.narrow(0, first, images)?);
            let expand = self.expand.as_ref();
            let (z, _) = depthwise::forward(&x, expand, &self.filter, self.stride, false)?;
            let input = PreActivation { z, norm: self.norm.clone() };
            let squeeze_excite = self.squeeze_excite.as_ref();
            let operands = Operands { input: &input, mask: None, squeeze_excite, w: &self.project };
            Projection { gpu, operands }.forward_into(&y)?;
            let added = self.residual.then_some(&x);
            finish(gpu, &y, Some(&self.bias), self.activation, added)?;
        }
        Ok(y)
    }
}

/// w times the scale of the batch norm, and its shift.
fn folded(w: &Tensor, norm: &Norm) -> Result<(Tensor, Tensor)> {
    let scale = scale::forward(&norm.gamma, &norm.inverse)?;
    let scaled_mean = scale::forward(&norm.mean, &scale)?;
    let shift = update::moved(&[(&norm.beta, Some(&scaled_mean))], -1.0)?.remove(0);
    Ok((scale::forward(w, &scale)?, shift))
}

fn copy_of(norm: &Norm) -> Result<Norm> {
    Ok(Norm {
        mean: copy(&norm.mean)?,
        inverse: copy(&norm.inverse)?,
        gamma: copy(&norm.gamma)?,
        beta: copy(&norm.beta)?,
        activation: norm.activation,
    })
}

fn squeeze_excite(layers: &SqueezeExciteWeights) -> Result<SqueezeExciteWeights> {
    Ok(SqueezeExciteWeights {
        squeeze: copy(&layers.squeeze)?,
        squeeze_bias: copy(&layers.squeeze_bias)?,
        excite: copy(&layers.excite)?,
        excite_bias: copy(&layers.excite_bias)?,
        mask: layers.mask.as_ref().map(copy).transpose()?,
        activation: layers.activation,
        gate: layers.gate,
    })
}

/// Every `stride`-th pixel.
fn strided(x: &Tensor, stride: usize) -> Result<Tensor> {
    if stride == 1 {
        return Ok(x.clone());
    }
    let (_, h, w, _) = nhwc(x)?;
    subsample::forward(x, Grid::strided(stride, (h, w)))
}

/// y = act(y + bias), in place; the channels that it shares with `added` are added to it.
fn finish(
    gpu: &Gpu,
    y: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    added: Option<&Tensor>,
) -> Result<()> {
    let (rows, c) = rows_of(y)?;
    let c_added = added.map_or(Ok(0), |added| added.dim(3))?;
    let mut args = vec![Arg::Out(y), Arg::maybe(bias), Arg::maybe(added), argument(activation)];
    args.extend([rows, c, c_added].map(Arg::size));
    gpu.launch(&Launch::map(SOURCE, "inference_finish", rows, c), &args)
}
