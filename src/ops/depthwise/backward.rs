//! The backward pass of the depthwise convolution and of the expansion in front of it.

use super::batch_sums::{BatchSums, ExpandGradients};
use super::tile_gradients::{filter, hidden, outer, plain, spread, through_norm};
use super::{Expand, Front, block_taps};
use crate::ops::host::{Host, Scratch, tensor, to_fill};
use crate::ops::lanes::{self, Instructions, Kernel, L, Layout, Mode, blocks, dispatch, multiply};
use crate::ops::sums::{ChannelSums, sum_parts};
use crate::ops::tile::{TileGeometry, TileTaps};
use crate::tiling::chunk_images;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Which gradients to compute.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseWanted {
    pub input: bool,
    pub weights: bool,
}

/// Gradients of [`super::forward`]; `None` where not wanted.
pub struct DepthwiseGradients {
    /// `[n, h, w, c_in]`
    pub dx: Option<Tensor>,
    /// `[k·k, c]`
    pub dfilter: Option<Tensor>,
    /// If weights are wanted and there is an expansion.
    pub expand: Option<ExpandGradients>,
}

/// [`super::backward`] in host memory, of checked operands.
pub(super) fn backward(
    (x, dy): (&Tensor, &Tensor),
    expand: Option<&Expand>,
    filter: &Tensor,
    g: &TileGeometry,
    wanted: DepthwiseWanted,
) -> Result<DepthwiseGradients> {
    let n = x.dim(0)?;
    let (xs, dys, filters) = (Host::of(x)?, Host::of(dy)?, Host::of(filter)?);
    let front = Front::of(x, expand)?;
    let shared = DepthwiseShared::new(g, &front, &filters, wanted);
    let (in_len, out_len) = (g.in_pixels() * front.c_in, g.out_pixels() * g.c);
    // SAFETY: every image is stored in full.
    #[allow(unsafe_code)]
    let mut dx = unsafe { to_fill(if wanted.input { n * in_len } else { 0 }) };
    let chunk = chunk_images(n);
    let dx_chunks: Vec<&mut [f32]> = if wanted.input {
        dx.chunks_mut(chunk * in_len).collect()
    } else {
        (0..n.div_ceil(chunk)).map(|_| &mut [][..]).collect()
    };
    let parts: Vec<DepthwisePartials> = dx_chunks
        .into_par_iter()
        .zip(xs.par_chunks(chunk * in_len))
        .zip(dys.par_chunks(chunk * out_len))
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
        let Some(gram) = gram else { bail!("depthwise: no gram of the expansion's input") };
        let last = BatchSums::new(&host.norm, &host.w, gram.host()?, &total.sums, rows);
        if wanted.input {
            last.correct_input(&mut dx, &xs);
        }
        if wanted.weights {
            expand_gradients = Some(last.weights(&total.products)?);
        }
    }
    let dx = wanted.input.then(|| tensor(dx, x.shape())).transpose()?;
    let dfilter = wanted.weights.then(|| tensor(total.filter, filter.shape()));
    let dfilter = dfilter.transpose()?;
    Ok(DepthwiseGradients { dx, dfilter, expand: expand_gradients })
}

/// What the tasks of all chunks read.
struct DepthwiseShared<'a> {
    g: &'a TileGeometry,
    front: &'a Front<'a>,
    wanted: DepthwiseWanted,
    /// The taps of the transposed convolution, per block of channels and per phase.
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

/// The sums of one chunk.
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

/// The backward pass of one chunk of the batch.
struct DepthwiseBackward<'a> {
    shared: &'a DepthwiseShared<'a>,
    x: &'a [f32],
    dy: &'a [f32],
    /// Empty if not wanted.
    dx: &'a mut [f32],
    parts: &'a mut DepthwisePartials,
}

impl Kernel for DepthwiseBackward<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
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
                    front.fill::<I>(g, x, (at, valid), &mut tile, &mut q);
                }
                spread(g, dy, (at, valid), &mut dy_tile);
                if wanted.weights {
                    filter::<I>(g, &tile, &dy_tile, &mut self.parts.filter, (at, valid));
                }
                let Some(expand) = &front.expand else {
                    if wanted.input {
                        for (phase, taps) in &taps[b] {
                            plain::<I>(g, taps, *phase, &dy_tile, dx, (at, valid));
                        }
                    }
                    continue;
                };
                for (phase, taps) in &taps[b] {
                    hidden::<I>(g, taps, *phase, &dy_tile, &mut da);
                }
                through_norm::<I>(&expand.norm, (at, valid), &da, &mut q, &mut self.parts.sums);
                if wanted.weights {
                    let part = &mut self.parts.products;
                    outer::<I>(x, front.c_in, &q, part, g.c, (at, valid));
                }
                if wanted.input {
                    let how = if b == 0 { Mode::Store } else { Mode::Add };
                    let shape = (g.in_pixels(), L, padded);
                    let layout = Layout::Rows(L);
                    multiply::<I>(shape, &q, layout, &back[b], &mut dx_tile, how);
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
