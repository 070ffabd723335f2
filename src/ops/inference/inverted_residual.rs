//! An inverted residual at inference. Its expansion and its filter alternate, row by row, so that the
//! filter reads what is still in the cache.

use super::map::{HostMap, PANEL, Part, Threads, parts};
use super::matrix::{Bias, Matrix, Rows, filter_blocks};
use super::squeeze_excite::InferenceSqueezeExcite;
use super::{HostLayer, InferenceInvertedResidual, MapShape};
use crate::ops::depthwise::{Expand, kernel_of};
use crate::ops::host::{Host, Scratch};
use crate::ops::lanes::{Instructions, Kernel, L, dispatch, load, one_row_at_a_time};
use crate::ops::norm::HostNorm;
use crate::ops::project::scale_rows;
use crate::space::conv_out;
use candle_core::Result;
use std::hint::black_box;

pub(super) struct HostInvertedResidual {
    /// Hidden channels.
    c: usize,
    expand: Option<Matrix>,
    /// The filter times the scale of the batch norm behind it, as [`filter_blocks`] packs it.
    filter: Vec<f32>,
    kernel: usize,
    stride: usize,
    /// Of that batch norm.
    bias: Bias,
    squeeze_excite: Option<InferenceSqueezeExcite>,
    project: Matrix,
    residual: bool,
}

impl HostInvertedResidual {
    pub(super) fn new(block: &InferenceInvertedResidual) -> Result<Self> {
        let c = block.filter.dim(1)?;
        let folded = |expand: &Expand| Matrix::folded(&expand.w, &expand.norm);
        let HostNorm { scale, shift, activation, .. } = HostNorm::of(&block.norm)?;
        let mut filter = Host::of(&block.filter)?.to_vec();
        scale_rows(&mut filter, c, &scale);
        let squeeze_excite = block.squeeze_excite.as_ref();
        Ok(Self {
            c,
            expand: block.expand.as_ref().map(folded).transpose()?,
            filter: filter_blocks(&filter, c),
            kernel: kernel_of(&block.filter)?,
            stride: block.stride,
            bias: Bias { values: shift, activation },
            squeeze_excite: squeeze_excite.map(InferenceSqueezeExcite::new).transpose()?,
            project: Matrix::folded(&block.project, &block.project_norm)?,
            residual: block.residual,
        })
    }

    /// The shape of the hidden map behind the filter.
    fn hidden(&self, shape: MapShape) -> MapShape {
        let [h, w] = [shape.h, shape.w].map(|side| conv_out(side, self.kernel, self.stride));
        MapShape { h, w, c: self.c }
    }

    /// How many rows of pixels of the hidden map one part has. Threads that share an image need several
    /// parts each, but the expansion of the rows between two parts is computed twice.
    fn band(&self, shape: MapShape, images: usize, threads: Threads) -> usize {
        if threads == Threads::One || images > 1 {
            return shape.h;
        }
        let panels = shape.blocks().div_ceil(PANEL);
        let wanted = (4 * rayon::current_num_threads()).div_ceil(panels);
        shape.h.div_ceil(wanted).max(2 * self.kernel).min(shape.h)
    }
}

impl HostLayer for HostInvertedResidual {
    fn inner_len(&self, shape: MapShape) -> usize {
        self.hidden(shape).map_len(1)
    }

    fn run(&self, x: HostMap<'_>, y: &mut [f32], threads: Threads) {
        let (shape, images) = (self.hidden(x.shape), x.images);
        let (pixels, rows) = (shape.pixels(), images * shape.pixels());
        let mut values = Scratch::new(shape.map_len(images));
        let band = self.band(shape, images, threads) * shape.w;
        threads.each(parts(&mut values, rows, band), |part| {
            dispatch(Hidden { layer: self, x, shape, part });
        });
        if let Some(squeeze_excite) = &self.squeeze_excite {
            let hidden = HostMap { shape, images, values: &values };
            let mut gates = Scratch::new(MapShape { h: 1, w: 1, ..shape }.map_len(images));
            squeeze_excite.gates(hidden, &mut gates, threads);
            let threads = threads.on(values.len());
            threads.each(parts(&mut values, rows, pixels), |part| {
                dispatch(Scale { part, gates: &gates, pixels, images });
            });
        }
        let hidden = HostMap { shape, images, values: &values };
        self.project.apply_to(hidden, y, self.residual.then_some(x), threads);
    }
}

/// Computes some rows of a panel of the hidden map.
struct Hidden<'a> {
    layer: &'a HostInvertedResidual,
    x: HostMap<'a>,
    shape: MapShape,
    /// Some rows of pixels of one image.
    part: Part<'a>,
}

impl Kernel for Hidden<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        match (self.layer.kernel, self.layer.stride) {
            (3, 1) => self.convolve::<I, 3, 1>(),
            (3, 2) => self.convolve::<I, 3, 2>(),
            (3, _) => self.convolve::<I, 3, 0>(),
            (_, 1) => self.convolve::<I, 5, 1>(),
            (_, 2) => self.convolve::<I, 5, 2>(),
            _ => self.convolve::<I, 5, 0>(),
        }
    }
}

impl Hidden<'_> {
    /// With a `K` x `K` filter, and stride `S` or, for 0, any other.
    #[inline(always)]
    fn convolve<I: Instructions, const K: usize, const S: usize>(mut self) {
        let layer = self.layer;
        let stride = if S == 0 { layer.stride } else { S };
        let (block, [first, second]) = (self.part.block, &mut self.part.blocks);
        let pitch = (self.x.shape.w + 2 * (K / 2)) * L;
        // The last K rows of the input with its border, of each block.
        let mut rings = Scratch::new(PANEL * K * pitch);
        let row_len = self.shape.w * L;
        let first_row = self.part.row / self.shape.w;
        let (image, first_row) = (first_row / self.shape.h, first_row % self.shape.h);
        let mut filled = first_row * stride;
        let mut seconds = second.chunks_exact_mut(row_len);
        for (row, first) in (first_row..).zip(first.chunks_exact_mut(row_len)) {
            while filled < row * stride + K {
                let empty = filled < first_row * stride + K;
                fill::<I, K>(layer, self.x, (block, image), (filled, empty), &mut rings);
                filled += 1;
            }
            let ys = [Some(first), seconds.next()].into_iter().flatten();
            for ((i, y), ring) in ys.enumerate().zip(rings.chunks_exact(K * pitch)) {
                let rows =
                    std::array::from_fn(|kh| &ring[(row * stride + kh) % K * pitch..][..pitch]);
                let taps = &layer.filter[(block + i) * K * K * L..][..K * K * L];
                filter::<I, K, S>(rows, stride, taps, y);
                layer.bias.finish(block + i, y);
            }
        }
    }
}

/// Computes row `row` of the input with its border, in the rings of a panel; `empty` means that they have
/// no border yet.
#[inline(always)]
fn fill<I: Instructions, const K: usize>(
    layer: &HostInvertedResidual,
    x: HostMap<'_>,
    (block, image): (usize, usize),
    (row, empty): (usize, bool),
    rings: &mut [f32],
) {
    let (MapShape { h, w, .. }, pad) = (x.shape, K / 2);
    let pitch = (w + 2 * pad) * L;
    let (first, second) = rings.split_at_mut(K * pitch);
    let [first, second] = [first, second].map(|ring| &mut ring[row % K * pitch..][..pitch]);
    if empty || row < pad || row >= h + pad {
        first.fill(0.0);
        second.fill(0.0);
    }
    if row < pad || row >= h + pad {
        return;
    }
    let at = (image * h + row - pad) * w * L;
    let [first, second] = [first, second].map(|row| &mut row[pad * L..][..w * L]);
    let alone = block + 1 == layer.c.div_ceil(L);
    let Some(expand) = &layer.expand else {
        first.copy_from_slice(&x.block(block)[at..at + w * L]);
        if !alone {
            second.copy_from_slice(&x.block(block + 1)[at..at + w * L]);
        }
        return;
    };
    let second = if alone { &mut [] } else { second };
    let mut panel = [first, second];
    expand.multiply::<I>(block, Rows::of(x, 1).starting_at(at), &mut panel);
    for (block, row) in (block..).zip(panel) {
        if !row.is_empty() {
            expand.bias().finish(block, row);
        }
    }
}

/// One row of a depthwise convolution of one block.
#[inline(always)]
fn filter<I: Instructions, const K: usize, const S: usize>(
    rows: [&[f32]; K],
    stride: usize,
    taps: &[f32],
    y: &mut [f32],
) {
    // `black_box` keeps the compiler from unrolling the filter's rows: all at once need too many registers.
    let rows = black_box(&rows[..]);
    if I::WIDE && (y.len() / L).is_multiple_of(7) {
        filter_groups::<I, K, S, 7>(rows, stride, taps, y);
    } else if I::WIDE {
        filter_groups::<I, K, S, 8>(rows, stride, taps, y);
    } else {
        filter_groups::<I, K, S, 4>(rows, stride, taps, y);
    }
}

#[inline(always)]
fn filter_groups<I: Instructions, const K: usize, const S: usize, const M: usize>(
    rows: &[&[f32]],
    stride: usize,
    taps: &[f32],
    y: &mut [f32],
) {
    let columns = y.len() / L;
    if S > 0 && columns >= M {
        for column in (0..columns).step_by(M) {
            filter_columns::<I, K, S, M>(column.min(columns - M), rows, stride, taps, y);
        }
    } else if S > 0 && columns >= 4 {
        for column in [0, columns - 4] {
            filter_columns::<I, K, S, 4>(column, rows, stride, taps, y);
        }
    } else {
        for column in 0..columns {
            filter_columns::<I, K, S, 1>(column, rows, stride, taps, y);
        }
    }
}

#[inline(always)]
fn filter_columns<I: Instructions, const K: usize, const S: usize, const M: usize>(
    column: usize,
    rows: &[&[f32]],
    stride: usize,
    taps: &[f32],
    y: &mut [f32],
) {
    let mut sums = [I::splat(0.0); M];
    for (row, taps) in rows.iter().zip(taps.chunks_exact(K * L)) {
        let row = &row[column * stride * L..][..((M - 1) * S + K) * L];
        for kw in 0..K {
            let tap = I::load(taps, kw * L);
            for m in 0..M {
                sums[m] = I::multiply_add(I::load(row, (m * S + kw) * L), tap, sums[m]);
            }
        }
    }
    for m in 0..M {
        I::store(sums[m], y, (column + m) * L);
    }
}

/// Multiplies the hidden map of one image by its gates.
struct Scale<'a> {
    part: Part<'a>,
    /// `[blocks, images, 16]`
    gates: &'a [f32],
    pixels: usize,
    images: usize,
}

impl Kernel for Scale<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        let Self { part: Part { block, row, blocks }, gates, pixels, images } = self;
        for (block, hidden) in (block..).zip(blocks).filter(|(_, hidden)| !hidden.is_empty()) {
            let gate = load(gates, (block * images + row / pixels) * L);
            for pixel in hidden.chunks_exact_mut(L) {
                one_row_at_a_time();
                for l in 0..L {
                    pixel[l] *= gate[l];
                }
            }
        }
    }
}
