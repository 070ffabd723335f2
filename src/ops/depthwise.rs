//! Depthwise convolution with a k x k filter per channel and padding k / 2, optionally with an
//! expansion in front:
//!
//! y = depthwise(act(BN(x W))) or y = depthwise(x)
//!
//! The first form is the first half of an inverted residual (Sandler et al. 2018). The hidden map
//! act(BN(x W)) is the largest of the whole network, so it is never stored. Each of its tiles (one image,
//! one block of channels) is computed, used while it is in the cache and dropped; the backward pass
//! computes it once more. Only x is kept. This is possible because batch norm follows a linear map:
//!
//! - Its statistics follow from those of x ([`super::gram`]): mean μ_x W and variance diag(Wᵀ Σ W).
//! - dz depends on sums over the whole batch. But dW and dx are linear in dz, so the terms with these
//!   sums can be added at the end, from Σ W and x alone. With q = dL/du · act'(u), R rows, s = γ/σ,
//!   m₁ = Σq/R and m₂ = Σqẑ/R:
//!
//!   dW = s ∘ (xᵀq - R μ_x m₁ - R (m₂/σ) ∘ Σ W),
//!   dx = q (W s)ᵀ - x W diag(s m₂/σ) Wᵀ - W (s m₁ - s m₂ μ/σ).

mod backward;
mod batch_sums;
mod gpu;
mod tile_gradients;

pub use backward::{DepthwiseGradients, DepthwiseWanted};
pub use batch_sums::ExpandGradients;

use super::activation::{ActivationFn, by_activation};
use super::gpu::Gpu;
use super::gram::Gram;
use super::host::{Host, Scratch, check_stride, expect, nhwc, tensor, to_fill};
use super::lanes::{
    self, Instructions, Kernel, L, Lanes, Layout, Mode, blocks, dispatch, load, load_some,
    multiply, multiply_add, one_row_at_a_time, store, store_some,
};
use super::norm::{HostNorm, Norm};
use super::sums::{ChannelSums, Moments};
use super::tile::{BlockWeights, PixelSink, TileGeometry, TileTaps};
use crate::tiling::chunk_images;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::rc::Rc;

/// The 1x1 convolution in front, with its batch norm and activation. `T` is a tensor, or a value on
/// the tape.
#[derive(Clone)]
pub struct Expand<T = Tensor> {
    /// `[c_in, c]`
    pub w: T,
    pub norm: Norm<T>,
    /// Of the input x; only [`backward`] needs it.
    pub gram: Option<Rc<Gram>>,
}

impl<T> Expand<T> {
    /// The same with `f` of each operand.
    pub(crate) fn map<U>(&self, f: impl Fn(&T) -> U) -> Expand<U> {
        Expand { w: f(&self.w), norm: self.norm.map(f), gram: self.gram.clone() }
    }
}

/// x `[n, h, w, c_in]`, filter `[k·k, c]` → y `[n, ⌈h/s⌉, ⌈w/s⌉, c]`, and its moments if `statistics`
/// are asked for. Without an expansion c_in = c.
///
/// # Errors
/// When the shapes do not fit, the kernel is neither 3 nor 5, or the device has no kernel.
pub fn forward(
    x: &Tensor,
    expand: Option<&Expand>,
    filter: &Tensor,
    stride: usize,
    statistics: bool,
) -> Result<(Tensor, Option<Moments>)> {
    let (n, geometry) = shape(x, expand, filter, stride)?;
    let g = &geometry;
    if let Some(gpu) = Gpu::of(x.device())? {
        return gpu::forward(&gpu, x, expand, filter, g, statistics);
    }
    let xs = Host::of(x)?;
    let front = Front::of(x, expand)?;
    let taps = block_taps(&Host::of(filter)?, g.c, |w| TileTaps::forward(g, w));
    let (in_len, out_len) = (g.in_pixels() * front.c_in, g.out_pixels() * g.c);
    // SAFETY: every pixel of every block of channels is written.
    #[allow(unsafe_code)]
    let mut y = unsafe { to_fill(n * out_len) };
    let chunk = chunk_images(n);
    let sums: Vec<ChannelSums> = y
        .par_chunks_mut(chunk * out_len)
        .zip(xs.par_chunks(chunk * in_len))
        .map(|(y, x)| {
            let mut sums = ChannelSums::new(g.c);
            let sums_of = &mut sums;
            let sums_of = statistics.then_some(sums_of);
            dispatch(DepthwiseForward { g, front: &front, taps: &taps, x, y, sums: sums_of });
            sums
        })
        .collect();
    let sums = ChannelSums::total(sums, g.c);
    let moments = statistics.then(|| sums.moments(n * g.out_pixels())).transpose()?;
    Ok((tensor(y, (n, g.oh, g.ow, g.c))?, moments))
}

/// The gradients of [`forward`], with an expansion's statistics as functions of its input (training
/// mode).
///
/// # Errors
/// As [`forward`], and when an expansion has no gram.
pub fn backward(
    x: &Tensor,
    expand: Option<&Expand>,
    filter: &Tensor,
    stride: usize,
    dy: &Tensor,
    wanted: DepthwiseWanted,
) -> Result<DepthwiseGradients> {
    let (n, g) = shape(x, expand, filter, stride)?;
    expect("depthwise", "dy", dy, &[n, g.oh, g.ow, g.c])?;
    match Gpu::of(dy.device())? {
        Some(gpu) => gpu::backward(&gpu, (x, dy), expand, filter, &g, wanted),
        None => backward::backward((x, dy), expand, filter, &g, wanted),
    }
}

/// Checks the shapes; returns the batch size and the geometry.
fn shape(
    x: &Tensor,
    expand: Option<&Expand>,
    filter: &Tensor,
    stride: usize,
) -> Result<(usize, TileGeometry)> {
    let (n, h, w, c_in) = nhwc(x)?;
    let (k, c) = (kernel_of(filter)?, filter.dim(1)?);
    let fits = expand.map_or(c_in == c, |expand| expand.w.dims() == [c_in, c]);
    if !fits {
        bail!("depthwise: x has {c_in} channels, the filter {c}, and no expansion fits between");
    }
    if let Some(expand) = expand {
        expand.norm.check("depthwise", c)?;
    }
    check_stride("depthwise", stride)?;
    Ok((n, TileGeometry::new((h, w), c, k, stride)))
}

/// The side of a filter `[k·k, c]`.
///
/// # Errors
/// When it is neither 3 nor 5.
pub(super) fn kernel_of(filter: &Tensor) -> Result<usize> {
    match filter.dims2()? {
        (9, _) => Ok(3),
        (25, _) => Ok(5),
        (taps, _) => bail!("depthwise: kernels are 3x3 or 5x5, got {taps} taps"),
    }
}

/// Computes the tiles that the filter reads.
struct Front<'a> {
    c_in: usize,
    expand: Option<HostExpand<'a>>,
}

struct HostExpand<'a> {
    /// `[c_in, c]`, row-major and packed.
    w: Host<'a>,
    packed: Vec<f32>,
    norm: HostNorm,
}

impl<'a> Front<'a> {
    fn of(x: &Tensor, expand: Option<&'a Expand>) -> Result<Self> {
        let c_in = x.dim(3)?;
        let Some(Expand { w, norm, .. }) = expand else { return Ok(Self { c_in, expand: None }) };
        let c = w.dim(1)?;
        let w = Host::of(w)?;
        let packed = lanes::pack(&w, c_in, c);
        Ok(Self { c_in, expand: Some(HostExpand { w, packed, norm: HostNorm::of(norm)? }) })
    }
}

fn block_taps<T>(filter: &[f32], c: usize, of: impl Fn(&BlockWeights) -> T) -> Vec<T> {
    blocks(c).map(|block| of(&BlockWeights::new(filter, c, block))).collect()
}

/// The forward pass of one chunk of the batch.
struct DepthwiseForward<'a> {
    g: &'a TileGeometry,
    front: &'a Front<'a>,
    taps: &'a [TileTaps],
    x: &'a [f32],
    y: &'a mut [f32],
    /// Where to add the statistics, if they are asked for.
    sums: Option<&'a mut ChannelSums>,
}

impl Kernel for DepthwiseForward<'_> {
    #[inline(always)]
    fn run<I: Instructions>(mut self) {
        let g = self.g;
        let mut tile = Scratch::new(g.in_tile());
        g.clear_in_border(&mut tile);
        let mut raw = Scratch::new(g.in_pixels() * L);
        let images = self.x.chunks_exact(g.in_pixels() * self.front.c_in);
        for (x, y) in images.zip(self.y.chunks_exact_mut(g.out_pixels() * g.c)) {
            for ((at, valid), taps) in blocks(g.c).zip(self.taps) {
                self.front.fill::<I>(g, x, (at, valid), &mut tile, &mut raw);
                match valid {
                    L => convolve::<I, true>(g, taps, &tile, y, (at, valid)),
                    _ => convolve::<I, false>(g, taps, &tile, y, (at, valid)),
                }
                if let Some(sums) = &mut self.sums {
                    sums.gather::<I>(y, (at, valid));
                }
            }
        }
    }
}

impl Front<'_> {
    /// Computes the tile of one image and one block of channels. An expansion writes x W to `raw`, pixel
    /// by pixel.
    #[inline(always)]
    fn fill<I: Instructions>(
        &self,
        g: &TileGeometry,
        x: &[f32],
        block: (usize, usize),
        tile: &mut [f32],
        raw: &mut [f32],
    ) {
        let Some(expand) = &self.expand else {
            return match block.1 {
                L => copy::<true>(g, x, block, tile),
                _ => copy::<false>(g, x, block, tile),
            };
        };
        by_activation!(expand.norm.activation, A => {
            expand.fill::<I, A>(g, x, block, tile, raw);
        });
    }
}

/// Copies one block of the channels of x into its tile.
#[inline(always)]
fn copy<const FULL: bool>(
    g: &TileGeometry,
    x: &[f32],
    (at, valid): (usize, usize),
    tile: &mut [f32],
) {
    for row in 0..g.h {
        for column in 0..g.w {
            one_row_at_a_time();
            let pixel = load_some::<FULL>(x, (row * g.w + column) * g.c + at, valid);
            store(&pixel, tile, g.in_at(row, column));
        }
    }
}

impl HostExpand<'_> {
    #[inline(always)]
    fn fill<I: Instructions, A: ActivationFn>(
        &self,
        g: &TileGeometry,
        x: &[f32],
        (at, _): (usize, usize),
        tile: &mut [f32],
        raw: &mut [f32],
    ) {
        let c_in = x.len() / g.in_pixels();
        let w = &self.packed[at * c_in..][..c_in * L];
        let (scale, shift) = self.norm.affine(at);
        // Row by row, so that the raw values are still in the cache when they are activated.
        let rows = x.chunks_exact(g.w * c_in).zip(raw.chunks_exact_mut(g.w * L));
        for (row, (x, raw)) in rows.enumerate() {
            multiply::<I>((g.w, c_in, L), x, Layout::Rows(c_in), w, raw, Mode::Store);
            let tile = &mut tile[g.in_at(row, 0)..][..g.w * L];
            for (z, to) in raw.chunks_exact(L).zip(tile.chunks_exact_mut(L)) {
                one_row_at_a_time();
                let z = load(z, 0);
                let mut a = [0f32; L];
                for l in 0..L {
                    a[l] = A::value(multiply_add::<I>(z[l], scale[l], shift[l]));
                }
                store(&a, to, 0);
            }
        }
    }
}

#[inline(always)]
fn convolve<I: Instructions, const FULL: bool>(
    g: &TileGeometry,
    taps: &TileTaps,
    tile: &[f32],
    y: &mut [f32],
    (at, valid): (usize, usize),
) {
    taps.convolve::<I>(g, tile, Channels::<FULL> { y, c: g.c, at, valid });
}

/// A block of the channels of one image `[h, w, c]`.
struct Channels<'a, const FULL: bool> {
    y: &'a mut [f32],
    c: usize,
    at: usize,
    valid: usize,
}

impl<const FULL: bool> PixelSink for Channels<'_, FULL> {
    #[inline(always)]
    fn put(&mut self, pixel: usize, z: &Lanes) {
        store_some::<FULL>(z, self.y, pixel * self.c + self.at, self.valid);
    }
}
