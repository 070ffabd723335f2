//! Dense k x k convolution with padding k / 2, by im2col: the windows of one image are the rows of a
//! matrix that is multiplied by the filters. The stem is such a convolution, and its three input
//! channels are too few to vectorise over. The windows stay in the cache, and the backward pass
//! computes them again.

mod gpu;

pub(super) use gpu::GpuConv;

use super::gpu::Gpu;
use super::host::{Host, Scratch, check_stride, expect, nhwc, tensor, to_fill};
use super::lanes::{self, Instructions, Kernel, Layout, Mode, blocks, dispatch, multiply};
use super::sums::{ChannelSums, Moments, sum_parts};
use crate::space::conv_out;
use crate::tiling::chunk_images;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Gradients of [`forward`]; `None` where not asked for.
pub struct ConvGradients {
    /// `[n, h, w, c_in]`
    pub dx: Option<Tensor>,
    /// `[k·k, c_in, c_out]`
    pub dw: Option<Tensor>,
}

/// Shapes of a convolution on one image.
#[derive(Clone, Copy)]
pub(super) struct ConvGeometry {
    h: usize,
    w: usize,
    c: usize,
    k: usize,
    stride: usize,
    pub oh: usize,
    pub ow: usize,
}

/// x `[n, h, w, c_in]`, w `[k·k, c_in, c_out]` → y `[n, ⌈h/s⌉, ⌈w/s⌉, c_out]`, and its moments if
/// `statistics` are asked for.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn forward(
    x: &Tensor,
    w: &Tensor,
    (k, stride): (usize, usize),
    statistics: bool,
) -> Result<(Tensor, Option<Moments>)> {
    let (n, g, c_out) = shape(x, w, k, stride)?;
    if let Some(gpu) = Gpu::of(x.device())? {
        return GpuConv { gpu: &gpu, n, g, c_out }.forward(x, w, statistics);
    }
    let xs = Host::of(x)?;
    let packed = lanes::pack(&Host::of(w)?, g.window(), c_out);
    let pixels = g.oh * g.ow;
    // SAFETY: the product of every image is stored in full.
    #[allow(unsafe_code)]
    let mut y = unsafe { to_fill(n * pixels * c_out) };
    let chunk = chunk_images(n);
    let sums = y
        .par_chunks_mut(chunk * pixels * c_out)
        .zip(xs.par_chunks(chunk * g.image()))
        .map(|(y, x)| {
            let mut sums = ChannelSums::new(c_out);
            let sums_of = statistics.then_some(&mut sums);
            dispatch(ConvForward { g, c_out, w: &packed, x, y, sums: sums_of });
            sums
        })
        .collect();
    let sums = ChannelSums::total(sums, c_out);
    let moments = statistics.then(|| sums.moments(n * pixels)).transpose()?;
    Ok((tensor(y, (n, g.oh, g.ow, c_out))?, moments))
}

/// The gradients of [`forward`] with respect to the input and the weights, where asked for.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    x: &Tensor,
    w: &Tensor,
    (k, stride): (usize, usize),
    dy: &Tensor,
    (input, weights): (bool, bool),
) -> Result<ConvGradients> {
    let (n, g, c_out) = shape(x, w, k, stride)?;
    expect("conv", "dy", dy, &[n, g.oh, g.ow, c_out])?;
    if let Some(gpu) = Gpu::of(dy.device())? {
        return GpuConv { gpu: &gpu, n, g, c_out }.backward(x, w, dy, (input, weights));
    }
    let (xs, dys) = (Host::of(x)?, Host::of(dy)?);
    let (chunk, out) = (chunk_images(n), g.oh * g.ow * c_out);
    let mut gradients = ConvGradients { dx: None, dw: None };
    if weights {
        let parts: Vec<Vec<f32>> = xs
            .par_chunks(chunk * g.image())
            .zip(dys.par_chunks(chunk * out))
            .map(|(x, dy)| {
                let mut dw = vec![0f32; g.window() * c_out];
                dispatch(ConvBackwardWeights { g, c_out, x, dy, dw: &mut dw });
                dw
            })
            .collect();
        gradients.dw = Some(tensor(sum_parts(&parts), w.shape())?);
    }
    if input {
        let packed = lanes::pack_transposed(&Host::of(w)?, g.window(), c_out);
        let mut dx = vec![0f32; xs.len()];
        dx.par_chunks_mut(chunk * g.image())
            .zip(dys.par_chunks(chunk * out))
            .for_each(|(dx, dy)| dispatch(ConvBackwardInput { g, c_out, w: &packed, dy, dx }));
        gradients.dx = Some(tensor(dx, x.shape())?);
    }
    Ok(gradients)
}

fn shape(x: &Tensor, w: &Tensor, k: usize, stride: usize) -> Result<(usize, ConvGeometry, usize)> {
    let (n, h, width, c) = nhwc(x)?;
    let (_, _, c_out) = w.dims3()?;
    expect("conv", "w", w, &[k * k, c, c_out])?;
    check_stride("conv", stride)?;
    Ok((n, ConvGeometry::new((h, width, c), k, stride), c_out))
}

impl ConvGeometry {
    pub(super) fn new((h, w, c): (usize, usize, usize), k: usize, stride: usize) -> Self {
        Self { h, w, c, k, stride, oh: conv_out(h, k, stride), ow: conv_out(w, k, stride) }
    }

    pub(super) fn image(&self) -> usize {
        self.h * self.w * self.c
    }

    /// Values in one window.
    pub(super) fn window(&self) -> usize {
        self.k * self.k * self.c
    }

    /// Calls `visit(offset in the windows, offset in the image, length)` for every contiguous run of
    /// values that a window shares with the image: at most one in each row of the window.
    #[inline(always)]
    fn runs(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let pad = self.k / 2;
        for o in 0..self.oh * self.ow {
            let (row, column) = (o / self.ow * self.stride, o % self.ow * self.stride);
            // Taps whose column lies inside the image.
            let from = pad.saturating_sub(column);
            let to = self.k.min(self.w + pad - column);
            for kh in 0..self.k {
                let ih = (row + kh).wrapping_sub(pad);
                if ih < self.h && from < to {
                    let window = o * self.window() + (kh * self.k + from) * self.c;
                    let image = (ih * self.w + column + from - pad) * self.c;
                    visit(window, image, (to - from) * self.c);
                }
            }
        }
    }

    /// The windows of one image, `[oh·ow, k·k·c]`.
    #[inline(always)]
    pub(super) fn fill(&self, x: &[f32], windows: &mut [f32]) {
        windows.fill(0.0);
        self.runs(|window, image, len| {
            windows[window..window + len].copy_from_slice(&x[image..image + len]);
        });
    }
}

struct ConvForward<'a> {
    g: ConvGeometry,
    c_out: usize,
    w: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
    sums: Option<&'a mut ChannelSums>,
}

impl Kernel for ConvForward<'_> {
    #[inline(always)]
    fn run<I: Instructions>(mut self) {
        let (g, pixels, depth) = (self.g, self.g.oh * self.g.ow, self.g.window());
        let mut windows = Scratch::new(pixels * depth);
        let images = self.x.chunks_exact(g.image());
        for (x, y) in images.zip(self.y.chunks_exact_mut(pixels * self.c_out)) {
            g.fill(x, &mut windows);
            let shape = (pixels, depth, self.c_out);
            multiply::<I>(shape, &windows, Layout::Rows(depth), self.w, y, Mode::Store);
            if let Some(sums) = &mut self.sums {
                for block in blocks(self.c_out) {
                    sums.gather::<I>(y, block);
                }
            }
        }
    }
}

struct ConvBackwardWeights<'a> {
    g: ConvGeometry,
    c_out: usize,
    x: &'a [f32],
    dy: &'a [f32],
    dw: &'a mut [f32],
}

impl Kernel for ConvBackwardWeights<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        let (g, pixels, depth) = (self.g, self.g.oh * self.g.ow, self.g.window());
        let mut windows = Scratch::new(pixels * depth);
        let images = self.x.chunks_exact(g.image());
        for (x, dy) in images.zip(self.dy.chunks_exact(pixels * self.c_out)) {
            g.fill(x, &mut windows);
            let packed = lanes::pack(dy, pixels, self.c_out);
            let (shape, layout) = ((depth, pixels, self.c_out), Layout::Columns(depth));
            multiply::<I>(shape, &windows, layout, &packed, self.dw, Mode::Add);
        }
    }
}

struct ConvBackwardInput<'a> {
    g: ConvGeometry,
    c_out: usize,
    w: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for ConvBackwardInput<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        let (g, pixels, depth) = (self.g, self.g.oh * self.g.ow, self.g.window());
        let mut windows = Scratch::new(pixels * depth);
        let gradients = self.dy.chunks_exact(pixels * self.c_out);
        for (dx, dy) in self.dx.chunks_exact_mut(g.image()).zip(gradients) {
            let (shape, layout) = ((pixels, self.c_out, depth), Layout::Rows(self.c_out));
            multiply::<I>(shape, dy, layout, self.w, &mut windows, Mode::Store);
            g.runs(|window, image, len| {
                for (dx, d) in dx[image..image + len].iter_mut().zip(&windows[window..]) {
                    *dx += d;
                }
            });
        }
    }
}
