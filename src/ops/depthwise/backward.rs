//! The way back through the depthwise convolution and the expansion in front of it.

use super::batch_sums::{BatchSums, ExpandGradients};
use super::{Expand, Front, block_taps, shape};
use crate::ops::activation::{ActivationFn, by_activation};
use crate::ops::host::{Host, Scratch, expect, tensor, to_fill};
use crate::ops::lanes::{
    self, Kernel, L, Lanes, Layout, Mode, ROWS, add_some, blocks, dispatch, load, load_some,
    multiply, multiply_add, one_row_at_a_time, product, store, store_some,
};
use crate::ops::no_kernel;
use crate::ops::norm::HostNorm;
use crate::ops::sums::{ChannelSums, sum_parts};
use crate::ops::tile::{TileGeometry, TileTaps};
use crate::tiling::chunk_images;
use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Which gradients are asked for.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseWanted {
    pub input: bool,
    pub weights: bool,
}

/// DepthwiseGradients of [`super::forward`].
pub struct DepthwiseGradients {
    /// `[n, h, w, c_in]`
    pub dx: Option<Tensor>,
    /// `[k·k, c]`
    pub dfilter: Option<Tensor>,
    /// When weights are wanted and there is an expansion.
    pub expand: Option<ExpandGradients>,
}

/// The gradients of [`super::forward`]; an expansion's statistics are seen as functions of its
/// input (training mode), which is described by `gram`.
///
/// # Errors
/// As [`super::forward`], and when an expansion comes without its gram.
pub fn backward(
    x: &Tensor,
    expand: Option<&Expand>,
    filter: &Tensor,
    stride: usize,
    dy: &Tensor,
    wanted: DepthwiseWanted,
) -> Result<DepthwiseGradients> {
    let (n, geometry) = shape(x, expand, filter, stride)?;
    let g = &geometry;
    expect("depthwise", "dy", dy, &[n, g.oh, g.ow, g.c])?;
    match dy.device() {
        Device::Cpu => {
            let (xs, dys, filters) = (Host::of(x)?, Host::of(dy)?, Host::of(filter)?);
            let front = Front::of(x, expand)?;
            let shared = DepthwiseShared::new(g, &front, &filters, wanted);
            let (in_len, out_len) = (g.in_pixels() * front.c_in, g.out_pixels() * g.c);
            // SAFETY: each image is stored in full.
            #[allow(unsafe_code)]
            let mut dx = unsafe { to_fill(if wanted.input { n * in_len } else { 0 }) };
            let piece = chunk_images(n);
            let dx_pieces: Vec<&mut [f32]> = if wanted.input {
                dx.chunks_mut(piece * in_len).collect()
            } else {
                (0..n.div_ceil(piece)).map(|_| &mut [][..]).collect()
            };
            let parts: Vec<DepthwisePartials> = dx_pieces
                .into_par_iter()
                .zip(xs.par_chunks(piece * in_len))
                .zip(dys.par_chunks(piece * out_len))
                .map(|((dx, x), dy)| {
                    let mut parts = DepthwisePartials::new(g, &front, wanted);
                    dispatch(DepthwiseBackward { shared: &shared, x, dy, dx, parts: &mut parts });
                    parts
                })
                .collect();
            let total = DepthwisePartials::total(parts, g.c);
            let rows = n * g.in_pixels();
            let mut expand_gradients = None;
            if let (Some(host), Some(Expand { gram, .. })) = (&front.expand, expand) {
                let Some(gram) = gram else { bail!("depthwise: no gram of the expanded input") };
                let last = BatchSums::new(&host.norm, &host.w, gram, &total.sums, rows);
                if wanted.input {
                    last.correct_input(&mut dx, &xs);
                }
                if wanted.weights {
                    expand_gradients = Some(last.weights(&total.products)?);
                }
            }
            Ok(DepthwiseGradients {
                dx: wanted.input.then(|| tensor(dx, x.shape())).transpose()?,
                dfilter: wanted
                    .weights
                    .then(|| tensor(total.filter, filter.shape()))
                    .transpose()?,
                expand: expand_gradients,
            })
        }
        device => no_kernel("depthwise", device),
    }
}

/// What all pieces read.
struct DepthwiseShared<'a> {
    g: &'a TileGeometry,
    front: &'a Front<'a>,
    wanted: DepthwiseWanted,
    /// Per block of channels, per phase: the transposed convolution's taps.
    taps: Vec<Vec<((usize, usize), TileTaps)>>,
    /// Per block of channels: (W s)ᵀ `[16, c_in]`, packed.
    back: Vec<Vec<f32>>,
}

impl<'a> DepthwiseShared<'a> {
    fn new(
        g: &'a TileGeometry,
        front: &'a Front<'a>,
        filter: &[f32],
        wanted: DepthwiseWanted,
    ) -> Self {
        let phases = || (0..g.stride).flat_map(|row| (0..g.stride).map(move |col| (row, col)));
        let taps = block_taps(filter, g.c, |w| {
            phases().map(|phase| (phase, TileTaps::backward(g, phase, w))).collect()
        });
        let back = front.expand.as_ref().map_or(vec![], |expand| {
            blocks(g.c)
                .map(|(at, valid)| {
                    let (scale, _) = expand.norm.affine(at);
                    let mut rows = vec![0f32; L * front.c_in];
                    for (l, row) in rows.chunks_exact_mut(front.c_in).take(valid).enumerate() {
                        for (i, to) in row.iter_mut().enumerate() {
                            *to = expand.w[i * g.c + at + l] * scale[l];
                        }
                    }
                    lanes::pack(&rows, L, front.c_in)
                })
                .collect()
        });
        Self { g, front, wanted, taps, back }
    }
}

/// Sums over one piece.
struct DepthwisePartials {
    /// dL/d filter `[k·k, c]`.
    filter: Vec<f32>,
    /// xᵀq `[c_in, c]`.
    products: Vec<f32>,
    /// Σq and Σq(z - μ).
    sums: ChannelSums,
}

impl DepthwisePartials {
    fn new(g: &TileGeometry, front: &Front<'_>, wanted: DepthwiseWanted) -> Self {
        let len = |n: usize| if wanted.weights { n } else { 0 };
        let products = if front.expand.is_some() { front.c_in * g.c } else { 0 };
        Self {
            filter: vec![0.0; len(g.k * g.k * g.c)],
            products: vec![0.0; len(products)],
            sums: ChannelSums::new(g.c),
        }
    }

    fn total(parts: Vec<Self>, c: usize) -> Self {
        let (mut filters, mut products, mut sums) = (vec![], vec![], vec![]);
        for part in parts {
            filters.push(part.filter);
            products.push(part.products);
            sums.push(part.sums);
        }
        Self {
            filter: sum_parts(&filters),
            products: sum_parts(&products),
            sums: ChannelSums::total(sums, c),
        }
    }
}

/// One piece of the batch on one thread.
struct DepthwiseBackward<'a> {
    shared: &'a DepthwiseShared<'a>,
    x: &'a [f32],
    dy: &'a [f32],
    /// Empty when not wanted.
    dx: &'a mut [f32],
    parts: &'a mut DepthwisePartials,
}

impl Kernel for DepthwiseBackward<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let DepthwiseShared { g, front, wanted, taps, back } = self.shared;
        let in_len = g.in_pixels() * front.c_in;
        let mut tile = Scratch::new(g.in_tile());
        g.clear_in_border(&mut tile);
        let mut dy_tile = Scratch::new(g.out_tile());
        g.clear_out_border(&mut dy_tile);
        let mut q = Scratch::new(g.in_pixels() * L);
        let mut da = Scratch::new(g.in_pixels() * L);
        // dx with its channels padded to full blocks.
        let padded = front.c_in.next_multiple_of(L);
        let mut dx_tile = Scratch::new(g.in_pixels() * padded);
        let expanded = front.expand.is_some();
        let images = self.x.chunks_exact(in_len).zip(self.dy.chunks_exact(g.out_pixels() * g.c));
        for (i, (x, dy)) in images.enumerate() {
            let dx_len = if wanted.input { in_len } else { 0 };
            let dx = &mut self.dx[i * dx_len..][..dx_len];
            for (b, (at, valid)) in blocks(g.c).enumerate() {
                if expanded || wanted.weights {
                    front.fill::<FUSED>(g, x, (at, valid), &mut tile, &mut q);
                }
                match valid {
                    L => spread::<true>(g, dy, (at, valid), &mut dy_tile),
                    _ => spread::<false>(g, dy, (at, valid), &mut dy_tile),
                }
                if wanted.weights {
                    let part = &mut self.parts.filter;
                    match g.k {
                        3 => filter::<FUSED, 3>(g, &tile, &dy_tile, part, (at, valid)),
                        _ => filter::<FUSED, 5>(g, &tile, &dy_tile, part, (at, valid)),
                    }
                }
                let Some(expand) = &front.expand else {
                    if wanted.input {
                        for (phase, taps) in &taps[b] {
                            plain::<FUSED>(g, taps, *phase, &dy_tile, dx, (at, valid));
                        }
                    }
                    continue;
                };
                for (phase, taps) in &taps[b] {
                    hidden::<FUSED>(g, taps, *phase, &dy_tile, &mut da);
                }
                slopes::<FUSED>(&expand.norm, (at, valid), &da, &mut q, &mut self.parts.sums);
                if wanted.weights {
                    let part = &mut self.parts.products;
                    outer::<FUSED>(x, front.c_in, &q, part, g.c, (at, valid));
                }
                if wanted.input {
                    let how = if b == 0 { Mode::Store } else { Mode::Add };
                    let shape = (g.in_pixels(), L, padded);
                    let layout = Layout::Rows(L);
                    multiply::<FUSED>(shape, &q, layout, &back[b], &mut dx_tile, how);
                }
            }
            if wanted.input && expanded {
                let rows = dx_tile.chunks_exact(padded);
                for (dx, from) in dx.chunks_exact_mut(front.c_in).zip(rows) {
                    dx.copy_from_slice(&from[..front.c_in]);
                }
            }
        }
    }
}

/// Copies one block of channels of an output map into its padded tile.
#[inline(always)]
fn spread<const FULL: bool>(
    g: &TileGeometry,
    dy: &[f32],
    (at, valid): (usize, usize),
    tile: &mut [f32],
) {
    for row in 0..g.oh {
        for column in 0..g.ow {
            one_row_at_a_time();
            let pixel = load_some::<FULL>(dy, (row * g.ow + column) * g.c + at, valid);
            store(&pixel, tile, g.out_at(row, column));
        }
    }
}

/// Adds Σ dy · tile to every tap.
#[inline(always)]
fn filter<const FUSED: bool, const K: usize>(
    g: &TileGeometry,
    tile: &[f32],
    dy_tile: &[f32],
    part: &mut [f32],
    (at, valid): (usize, usize),
) {
    for kh in 0..K {
        let sums = filter_row::<FUSED, K>(g, tile, dy_tile, kh);
        for kw in 0..K {
            add_some(&sums[kw], part, (kh * K + kw) * g.c + at, valid);
        }
    }
}

/// Σ dy · tile for the taps of one row of the filter.
#[inline(always)]
fn filter_row<const FUSED: bool, const K: usize>(
    g: &TileGeometry,
    tile: &[f32],
    dy_tile: &[f32],
    kh: usize,
) -> [Lanes; K] {
    let mut sums = [[0f32; L]; K];
    for row in 0..g.oh {
        let tile = &tile[(row * g.stride + kh) * g.in_pitch()..][..g.in_pitch()];
        let dy_row = &dy_tile[g.out_at(row, 0)..][..g.ow * L];
        for (column, dy) in dy_row.chunks_exact(L).enumerate() {
            one_row_at_a_time();
            let dy = load(dy, 0);
            let window = &tile[column * g.stride * L..][..K * L];
            for kw in 0..K {
                let x = load(window, kw * L);
                for l in 0..L {
                    sums[kw][l] = multiply_add::<FUSED>(x[l], dy[l], sums[kw][l]);
                }
            }
        }
    }
    sums
}

/// dx of the inputs of one phase, without an expansion.
#[inline(always)]
fn plain<const FUSED: bool>(
    g: &TileGeometry,
    taps: &TileTaps,
    phase: (usize, usize),
    dy_tile: &[f32],
    dx: &mut [f32],
    (at, valid): (usize, usize),
) {
    for (i, row) in (phase.0..g.h).step_by(g.stride).enumerate() {
        for (j, column) in (phase.1..g.w).step_by(g.stride).enumerate() {
            let [d] = taps.correlate::<FUSED, 1>(dy_tile, i * g.out_pitch() + j * L, L);
            store_some::<false>(&d, dx, (row * g.w + column) * g.c + at, valid);
        }
    }
}

/// dL/da of the hidden inputs of one phase, pixel by pixel.
#[inline(always)]
fn hidden<const FUSED: bool>(
    g: &TileGeometry,
    taps: &TileTaps,
    phase: (usize, usize),
    dy_tile: &[f32],
    da: &mut [f32],
) {
    let s = g.stride;
    let columns = g.w.saturating_sub(phase.1).div_ceil(s);
    let grouped = columns - columns % ROWS;
    for (i, row) in (phase.0..g.h).step_by(s).enumerate() {
        let base = i * g.out_pitch();
        let first = row * g.w + phase.1;
        for j in (0..grouped).step_by(ROWS) {
            let d = taps.correlate::<FUSED, ROWS>(dy_tile, base + j * L, L);
            for (m, d) in d.iter().enumerate() {
                store(d, da, (first + (j + m) * s) * L);
            }
        }
        for j in grouped..columns {
            let [d] = taps.correlate::<FUSED, 1>(dy_tile, base + j * L, L);
            store(&d, da, (first + j * s) * L);
        }
    }
}

/// Turns the raw x W in `q` into q = dL/da · act'(u), and gathers its sums.
#[inline(always)]
fn slopes<const FUSED: bool>(
    norm: &HostNorm,
    (at, valid): (usize, usize),
    da: &[f32],
    q: &mut [f32],
    sums: &mut ChannelSums,
) {
    let (sum, sum_z) = by_activation!(norm.activation, A => slopes_by::<FUSED, A>(norm, at, da, q));
    sums.add(at, valid, &sum, &sum_z);
}

#[inline(always)]
fn slopes_by<const FUSED: bool, A: ActivationFn>(
    norm: &HostNorm,
    at: usize,
    da: &[f32],
    q: &mut [f32],
) -> (Lanes, Lanes) {
    let (scale, shift) = norm.affine(at);
    let mean = load(&norm.mean, at);
    let (mut sum, mut sum_z) = ([0f32; L], [0f32; L]);
    for (d, q) in da.chunks_exact(L).zip(q.chunks_exact_mut(L)) {
        one_row_at_a_time();
        let (d, z) = (load(d, 0), load(q, 0));
        let mut slope = [0f32; L];
        for l in 0..L {
            slope[l] = d[l] * A::slope(multiply_add::<FUSED>(z[l], scale[l], shift[l]));
            sum[l] += slope[l];
            sum_z[l] = multiply_add::<FUSED>(slope[l], z[l] - mean[l], sum_z[l]);
        }
        store(&slope, q, 0);
    }
    (sum, sum_z)
}

/// Adds xᵀq for one block of channels.
#[inline(always)]
fn outer<const FUSED: bool>(
    x: &[f32],
    c_in: usize,
    q: &[f32],
    part: &mut [f32],
    c: usize,
    (at, valid): (usize, usize),
) {
    let pixels = q.len() / L;
    let grouped = c_in - c_in % ROWS;
    for i in (0..grouped).step_by(ROWS) {
        let sums = product::<FUSED, ROWS>(pixels, &x[i..], Layout::Columns(c_in), q);
        for (m, sum) in sums.iter().enumerate() {
            add_some(sum, part, (i + m) * c + at, valid);
        }
    }
    for i in grouped..c_in {
        let sums = product::<FUSED, 1>(pixels, &x[i..], Layout::Columns(c_in), q);
        add_some(&sums[0], part, i * c + at, valid);
    }
}
