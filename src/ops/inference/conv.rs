//! Dense convolutions, alone and in residual blocks.

use super::map::{HostMap, Threads};
use super::matrix::{Matrix, Rows};
use super::{HostLayer, InferenceConv, InferenceResidual, MapShape};
use crate::ops::host::Scratch;
use crate::ops::lanes::L;
use crate::space::conv_out;
use candle_core::Result;

/// A product without a matrix of windows: in images `[h, w, c]` with a border of zeros, each row of a
/// window is a run of values.
pub(super) struct HostConv {
    matrix: Matrix,
    kernel: usize,
    stride: usize,
}

impl HostConv {
    pub(super) fn new(conv: &InferenceConv) -> Result<Self> {
        let InferenceConv { kernel, stride, .. } = *conv;
        let matrix = Matrix::folded(&conv.w.flatten_to(1)?, &conv.norm)?;
        Ok(Self { matrix, kernel, stride })
    }

    /// The shape of the output for an input of this shape, which must fit.
    fn behind(&self, shape: MapShape) -> MapShape {
        let [h, w] = [shape.h, shape.w].map(|side| conv_out(side, self.kernel, self.stride));
        MapShape { h, w, c: self.matrix.c_out() }
    }

    /// `fill` writes the pixels of a row, whose number it gets.
    fn convolve(
        &self,
        (shape, images): (MapShape, usize),
        fill: impl Fn(usize, &mut [f32]),
        y: &mut [f32],
        threads: Threads,
    ) {
        let (MapShape { h, w, c }, k, s) = (shape, self.kernel, self.stride);
        let MapShape { h: oh, w: ow, .. } = self.behind(shape);
        let (pad, pitch) = (k / 2, (w + 2 * (k / 2)) * c);
        let padded_len = (h + 2 * pad) * pitch;
        let mut padded = Scratch::new(images * padded_len);
        padded.fill(0.0);
        for (image, padded) in padded.chunks_exact_mut(padded_len).enumerate() {
            for (row, padded) in padded.chunks_exact_mut(pitch).skip(pad).take(h).enumerate() {
                fill(image * h + row, &mut padded[pad * c..][..w * c]);
            }
        }
        let windows = Rows {
            values: &padded,
            runs: k,
            depth: k * c,
            row_pitch: s * c,
            run_pitch: pitch,
            block_pitch: L,
        };
        // Every part is a row of pixels.
        let at = |row: usize| row / (oh * ow) * padded_len + row / ow % oh * s * pitch;
        self.matrix.apply((windows, at), y, (images * oh * ow, ow), None, threads);
    }
}

impl HostLayer for HostConv {
    fn inner_len(&self, MapShape { h, w, c }: MapShape) -> usize {
        let border = 2 * (self.kernel / 2);
        (h + border) * (w + border) * c
    }

    fn run(&self, x: HostMap<'_>, y: &mut [f32], threads: Threads) {
        let MapShape { w, c, .. } = x.shape;
        let fill = |row: usize, to: &mut [f32]| {
            for (pixel, to) in (row * w..).zip(to.chunks_exact_mut(c)) {
                for (block, to) in to.chunks_mut(L).enumerate() {
                    to.copy_from_slice(&x.block(block)[pixel * L..][..to.len()]);
                }
            }
        };
        self.convolve((x.shape, x.images), fill, y, threads);
    }

    fn run_rows(&self, shape: MapShape, x: &[f32], y: &mut [f32], threads: Threads) {
        let fill = |row: usize, to: &mut [f32]| {
            to.copy_from_slice(&x[row * to.len()..][..to.len()]);
        };
        self.convolve((shape, x.len() / shape.len()), fill, y, threads);
    }
}

pub(super) struct HostResidual {
    first: HostConv,
    second: HostConv,
}

impl HostResidual {
    pub(super) fn new(block: &InferenceResidual) -> Result<Self> {
        Ok(Self { first: HostConv::new(&block.first)?, second: HostConv::new(&block.second)? })
    }
}

impl HostLayer for HostResidual {
    fn inner_len(&self, shape: MapShape) -> usize {
        let between = self.first.behind(shape);
        between.map_len(1) + self.first.inner_len(shape).max(self.second.inner_len(between))
    }

    fn run(&self, x: HostMap<'_>, y: &mut [f32], threads: Threads) {
        let shape = self.first.behind(x.shape);
        let mut values = Scratch::new(shape.map_len(x.images));
        self.first.run(x, &mut values, threads);
        self.second.run(HostMap { shape, images: x.images, values: &values }, y, threads);
        // The channels that both sides have, of every stride-th pixel of every stride-th row.
        let (stride, behind) = (self.first.stride, self.second.behind(shape));
        let c = x.shape.c.min(behind.c);
        let block_len = x.images * behind.pixels() * L;
        for (block, y) in y.chunks_exact_mut(block_len).enumerate().take(c.div_ceil(L)) {
            let (x_block, valid) = (x.block(block), L.min(c - block * L));
            for (row, y) in y.chunks_exact_mut(behind.w * L).enumerate() {
                let (image, row) = (row / behind.h, row % behind.h);
                let x = &x_block[(image * x.shape.h + row * stride) * x.shape.w * L..];
                for (y, x) in y.chunks_exact_mut(L).zip(x.chunks_exact(L).step_by(stride)) {
                    y[..valid].iter_mut().zip(x).for_each(|(y, x)| *y += x);
                }
            }
        }
    }
}
