//! Inference with fixed weights: batch norm is folded into the convolutions. No map is kept.
//!
//! On the CPU, weights are packed for the kernels once, and a few images at a time pass through several
//! layers while their maps are in the cache. On a GPU a batch passes layer by layer.

mod conv;
mod gpu;
mod inverted_residual;
mod map;
mod matrix;
mod network;
mod shape;
mod squeeze_excite;

use super::depthwise::Expand;
use super::gpu::Gpu;
use super::host::nhwc;
use super::norm::Norm;
use super::project::SqueezeExciteWeights;
use crate::space::Activation;
use candle_core::{Device, Result, Tensor, bail};
use gpu::GpuNetwork;
use network::{HostLayer, HostNetwork};
use shape::{LayerShape, MapShape};

/// One layer with the batch norm behind it.
pub enum InferenceLayer {
    Conv(InferenceConv),
    /// 1x1 convolution of every `stride`-th pixel, w `[c_in, c_out]`.
    Conv1x1 {
        w: Tensor,
        stride: usize,
        norm: Norm,
    },
    InvertedResidual(Box<InferenceInvertedResidual>),
    Residual(Box<InferenceResidual>),
    /// The first `width` channels.
    Cut {
        width: usize,
    },
    /// The mean over pixels.
    Pool,
    /// Squeeze-excite of pooled features.
    SqueezeExcite(SqueezeExciteWeights),
    /// Fully connected, w `[c_in, c_out]`, bias `[c_out]`.
    Linear {
        w: Tensor,
        bias: Option<Tensor>,
        activation: Activation,
    },
}

impl InferenceLayer {
    fn stride(&self) -> usize {
        match self {
            Self::Conv(conv) => conv.stride,
            Self::Conv1x1 { stride, .. } => *stride,
            Self::InvertedResidual(block) => block.stride,
            Self::Residual(block) => block.first.stride,
            Self::Cut { .. } | Self::Pool | Self::SqueezeExcite(_) | Self::Linear { .. } => 1,
        }
    }
}

/// Expansion, depthwise convolution, squeeze-excite, projection (Sandler et al. 2018; Hu et al.
/// 2018).
pub struct InferenceInvertedResidual {
    pub expand: Option<Expand>,
    /// `[k·k, c]`
    pub filter: Tensor,
    pub stride: usize,
    /// Behind the depthwise convolution.
    pub norm: Norm,
    pub squeeze_excite: Option<SqueezeExciteWeights>,
    /// `[c, c_out]`
    pub project: Tensor,
    /// Behind the projection.
    pub project_norm: Norm,
    /// Whether the first c_out channels of the input are added to the output.
    pub residual: bool,
}

/// Dense k x k convolution.
pub struct InferenceConv {
    /// `[k·k, c_in, c_out]`
    pub w: Tensor,
    pub kernel: usize,
    pub stride: usize,
    pub norm: Norm,
}

/// Two convolutions, the second of stride 1, plus their input (He et al. 2016). The input is subsampled
/// by the stride of the first, and only the channels that both sides have are added.
pub struct InferenceResidual {
    pub first: InferenceConv,
    pub second: InferenceConv,
}

/// A sequence of layers, ready to run.
pub struct InferenceNetwork {
    shapes: Vec<LayerShape>,
    layers: DeviceLayers,
}

enum DeviceLayers {
    Host(HostNetwork),
    Gpu(GpuNetwork),
}

impl InferenceNetwork {
    /// Folds and packs `layers`, which are on one device.
    ///
    /// # Errors
    /// When a layer's shapes do not fit each other or the device has no kernel.
    pub fn new(layers: &[InferenceLayer], device: &Device) -> Result<Self> {
        if layers.iter().any(|layer| layer.stride() == 0) {
            bail!("inference: a layer has a stride of 0");
        }
        let shapes = layers.iter().map(LayerShape::of).collect::<Result<_>>()?;
        let layers = match Gpu::of(device)? {
            Some(gpu) => DeviceLayers::Gpu(GpuNetwork::new(gpu, layers)?),
            None => DeviceLayers::Host(HostNetwork::new(layers)?),
        };
        Ok(Self { shapes, layers })
    }

    /// Images `[n, h, w, c]` → the output of the last layer, `[n, h', w', c']`, or `[n, c']` if it has
    /// one pixel.
    ///
    /// # Errors
    /// When the images do not fit the layers or are on another device.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let (n, h, w, c) = nhwc(images)?;
        let mut shapes = vec![MapShape { h, w, c }];
        for layer in &self.shapes {
            shapes.push(layer.behind(shapes[shapes.len() - 1])?);
        }
        let y = match &self.layers {
            DeviceLayers::Host(network) => network.forward(&shapes, images)?,
            DeviceLayers::Gpu(network) => network.forward(images)?,
        };
        let last = shapes[shapes.len() - 1];
        match last.pixels() {
            1 => y.reshape((n, last.c)),
            _ => Ok(y),
        }
    }
}
