//! Inference with fixed weights: batch norm is folded into the convolutions. No map is kept.
//!
//! On the CPU, weights are packed for the kernels once, and a few images at a time pass through all
//! layers while their maps are in the cache. On a GPU a batch passes layer by layer.

mod gpu;
mod inverted_residual;
mod matrix;
mod residual;
mod shape;

use super::depthwise::Expand;
use super::gpu::Gpu;
use super::host::{Host, Scratch, nhwc, tensor, to_fill};
use super::lanes::{Kernel, dispatch};
use super::norm::Norm;
use super::pool::mean_of_rows;
use super::project::{HostSqueezeExcite, SqueezeExciteWeights};
use crate::space::Activation;
use crate::tiling::chunk_images;
use candle_core::{Device, Result, Tensor, bail};
use gpu::GpuNetwork;
use inverted_residual::HostInvertedResidual;
use matrix::{HostConv, HostConv1x1, Matrix};
use rayon::prelude::*;
use residual::HostResidual;
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

/// The most bytes that the two maps of a task may take together, so that they stay in a core's cache.
const CACHE: usize = 1 << 20;

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

/// A layer in host memory.
pub(super) trait HostLayer: Send + Sync {
    /// Runs on the images of `shape` in x; writes every value of `y`.
    fn run(&self, shape: MapShape, x: &[f32], y: &mut [f32]);
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
            None => DeviceLayers::Host(HostNetwork {
                layers: layers.iter().map(host_layer).collect::<Result<_>>()?,
            }),
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

/// The layers in host memory.
struct HostNetwork {
    layers: Vec<Box<dyn HostLayer>>,
}

impl HostNetwork {
    /// The output for images of the first of `shapes`; the others are the shapes behind each layer.
    fn forward(&self, shapes: &[MapShape], images: &Tensor) -> Result<Tensor> {
        let n = images.dim(0)?;
        let (first, last) = (shapes[0], shapes[shapes.len() - 1]);
        let xs = Host::of(images)?;
        // SAFETY: `run` writes all of y, and scratch is initialised.
        #[allow(unsafe_code)]
        let mut y = unsafe { to_fill(n * last.len()) };
        let chunk = chunk_images(n).min((CACHE / (2 * size_of::<f32>() * largest(shapes))).max(1));
        y.par_chunks_mut(chunk * last.len())
            .zip(xs.par_chunks(chunk * first.len()))
            .for_each(|(y, x)| self.run(shapes, x, y));
        tensor(y, (n, last.h, last.w, last.c))
    }

    /// Passes a few images through all layers.
    fn run(&self, shapes: &[MapShape], x: &[f32], y: &mut [f32]) {
        let images = x.len() / shapes[0].len();
        let len = images * largest(shapes);
        let mut maps = [Scratch::new(len), Scratch::new(len)];
        maps[0][..x.len()].copy_from_slice(x);
        for (layer, pair) in self.layers.iter().zip(shapes.windows(2)) {
            let [from, to] = &mut maps;
            layer.run(pair[0], &from[..images * pair[0].len()], &mut to[..images * pair[1].len()]);
            maps.swap(0, 1);
        }
        y.copy_from_slice(&maps[0][..y.len()]);
    }
}

/// Values in the largest map, at least one.
fn largest(shapes: &[MapShape]) -> usize {
    shapes.iter().map(|shape| shape.len()).fold(1, usize::max)
}

fn host_layer(layer: &InferenceLayer) -> Result<Box<dyn HostLayer>> {
    Ok(match layer {
        InferenceLayer::Conv(conv) => Box::new(HostConv::new(conv)?),
        InferenceLayer::Conv1x1 { w, stride, norm } => {
            Box::new(HostConv1x1 { matrix: Matrix::folded(w, norm)?, stride: *stride })
        }
        InferenceLayer::InvertedResidual(block) => Box::new(HostInvertedResidual::new(block)?),
        InferenceLayer::Residual(block) => Box::new(HostResidual::new(block)?),
        InferenceLayer::Cut { width } => Box::new(HostCut { width: *width }),
        InferenceLayer::Pool => Box::new(HostPool),
        InferenceLayer::SqueezeExcite(layers) => Box::new(HostSqueezeExcite::of(layers)?),
        InferenceLayer::Linear { w, bias, activation } => {
            let matrix = Matrix::with_bias(w, bias.as_ref(), *activation)?;
            Box::new(HostConv1x1 { matrix, stride: 1 })
        }
    })
}

struct HostCut {
    width: usize,
}

impl HostLayer for HostCut {
    fn run(&self, shape: MapShape, x: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks_exact(shape.c).zip(y.chunks_exact_mut(self.width)) {
            y.copy_from_slice(&x[..self.width]);
        }
    }
}

/// On pooled features.
impl HostLayer for HostSqueezeExcite {
    fn run(&self, shape: MapShape, x: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks_exact(shape.c).zip(y.chunks_exact_mut(shape.c)) {
            let gates = self.gates_of(x.to_vec()).gates;
            y.iter_mut().zip(x).zip(gates).for_each(|((y, x), gate)| *y = x * gate);
        }
    }
}

struct HostPool;

impl HostLayer for HostPool {
    fn run(&self, shape: MapShape, x: &[f32], y: &mut [f32]) {
        dispatch(Pool { shape, x, y });
    }
}

struct Pool<'a> {
    shape: MapShape,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Pool<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (x, y) in
            self.x.chunks_exact(self.shape.len()).zip(self.y.chunks_exact_mut(self.shape.c))
        {
            mean_of_rows(x, y);
        }
    }
}
