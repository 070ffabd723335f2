//! Padded tiles: one block of channels of one image, with a border of zeros. A depthwise convolution
//! over a tile needs no bounds checks, and the tile fits the processor's cache.

use super::lanes::{Instructions, L, Lanes, in_groups};
use crate::space::conv_out;
use crate::tiling::{tile_len, tile_pitch};

/// Shapes of a depthwise convolution with padding `k / 2`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileGeometry {
    pub h: usize,
    pub w: usize,
    /// Channels of the output.
    pub c: usize,
    pub k: usize,
    pub stride: usize,
    pub oh: usize,
    pub ow: usize,
}

impl TileGeometry {
    pub(super) fn new((h, w): (usize, usize), c: usize, k: usize, stride: usize) -> Self {
        Self { h, w, c, k, stride, oh: conv_out(h, k, stride), ow: conv_out(w, k, stride) }
    }

    pub(super) fn pad(&self) -> usize {
        self.k / 2
    }

    pub(super) fn in_pixels(&self) -> usize {
        self.h * self.w
    }

    pub(super) fn out_pixels(&self) -> usize {
        self.oh * self.ow
    }

    /// Values from one row of the padded input tile to the next.
    pub(super) fn in_pitch(&self) -> usize {
        tile_pitch(self.w, self.k)
    }

    /// The same for the padded tile of the output's gradient.
    pub(super) fn out_pitch(&self) -> usize {
        tile_pitch(self.ow, self.k)
    }

    /// Values in the padded input tile.
    pub(super) fn in_tile(&self) -> usize {
        tile_len(self.h, self.w, self.k)
    }

    /// Values in the padded tile of the output's gradient.
    pub(super) fn out_tile(&self) -> usize {
        tile_len(self.oh, self.ow, self.k)
    }

    /// Zeroes the border of a padded input tile.
    pub(super) fn clear_in_border(&self, tile: &mut [f32]) {
        clear_border(tile, self.in_pitch(), self.pad());
    }

    /// Zeroes the border of a padded tile of the output's gradient.
    pub(super) fn clear_out_border(&self, tile: &mut [f32]) {
        clear_border(tile, self.out_pitch(), self.pad());
    }

    /// Offset of pixel (row, column) of the input in its padded tile.
    #[inline(always)]
    pub(super) fn in_at(&self, row: usize, column: usize) -> usize {
        (row + self.pad()) * self.in_pitch() + (column + self.pad()) * L
    }

    /// Offset of pixel (row, column) of the output in its padded tile.
    #[inline(always)]
    pub(super) fn out_at(&self, row: usize, column: usize) -> usize {
        (row + self.pad()) * self.out_pitch() + (column + self.pad()) * L
    }
}

fn clear_border(tile: &mut [f32], pitch: usize, pad: usize) {
    let rows = tile.len() / pitch;
    for (i, row) in tile.chunks_exact_mut(pitch).enumerate() {
        if i < pad || i >= rows - pad {
            row.fill(0.0);
        } else {
            row[..pad * L].fill(0.0);
            row[pitch - pad * L..].fill(0.0);
        }
    }
}

/// The taps of a correlation over a tile: the offset at which each reads, relative to the output's, and
/// its weights.
#[derive(Clone, Debug, Default)]
pub(super) struct TileTaps {
    offsets: Vec<usize>,
    weights: Vec<f32>,
}

impl TileTaps {
    /// The taps of the convolution over the padded input tile. Output (row, column) begins at
    /// `(row · in_pitch + column · L) · stride`.
    pub(super) fn forward(g: &TileGeometry, weights: &BlockWeights) -> Self {
        let mut taps = Self::default();
        for kh in 0..g.k {
            for kw in 0..g.k {
                taps.push(kh * g.in_pitch() + kw * L, weights.tap(kh * g.k + kw));
            }
        }
        taps
    }

    /// The taps of the transposed convolution over the padded tile of the output's gradient, for the
    /// inputs whose row and column are `phase` modulo the stride s. Input (phase.0 + s i,
    /// phase.1 + s j) begins at `i · out_pitch + j · L`.
    pub(super) fn backward(
        g: &TileGeometry,
        phase: (usize, usize),
        weights: &BlockWeights,
    ) -> Self {
        let mut taps = Self::default();
        let (pad, s) = (g.pad(), g.stride);
        // Output o reads input o·s + tap - pad. So input p + s·i is read by o = i + (p + pad - tap) / s
        // if that is an integer. The tile's border adds another pad.
        let shift = |phase: usize, tap: usize| {
            let distance = phase + pad + s * pad - tap;
            distance.is_multiple_of(s).then_some(distance / s)
        };
        for kh in 0..g.k {
            for kw in 0..g.k {
                if let (Some(row), Some(column)) = (shift(phase.0, kh), shift(phase.1, kw)) {
                    taps.push(row * g.out_pitch() + column * L, weights.tap(kh * g.k + kw));
                }
            }
        }
        taps
    }

    fn push(&mut self, offset: usize, weights: &[f32]) {
        self.offsets.push(offset);
        self.weights.extend_from_slice(weights);
    }

    /// The convolution's outputs of one image and one block of channels, pixel by pixel.
    #[inline(always)]
    pub(super) fn convolve<I: Instructions>(
        &self,
        g: &TileGeometry,
        tile: &[f32],
        mut to: impl PixelSink,
    ) {
        for row in 0..g.oh {
            in_groups!(I, g.ow, (column, M) => {
                let base = (row * g.in_pitch() + column * L) * g.stride;
                let outputs = self.correlate::<I, M>(tile, base, g.stride * L);
                for (m, z) in outputs.iter().enumerate() {
                    to.put(row * g.ow + column + m, z);
                }
            });
        }
    }

    /// `M` adjacent outputs, the first at `base`, `step` values apart.
    #[inline(always)]
    pub(super) fn correlate<I: Instructions, const M: usize>(
        &self,
        tile: &[f32],
        base: usize,
        step: usize,
    ) -> [Lanes; M] {
        let mut sums = [I::splat(0.0); M];
        for (offset, weights) in self.offsets.iter().zip(self.weights.chunks_exact(L)) {
            let tile = &tile[base + offset..][..(M - 1) * step + L];
            let weights = I::load(weights, 0);
            for m in 0..M {
                sums[m] = I::multiply_add(I::load(tile, m * step), weights, sums[m]);
            }
        }
        I::lanes(sums)
    }
}

/// Receives the outputs of a convolution. Like everything that a kernel's `run` calls, `put` must be
/// `#[inline(always)]`.
pub(super) trait PixelSink {
    /// One block of channels of pixel number `pixel`.
    fn put(&mut self, pixel: usize, z: &Lanes);
}

/// One block of channels of a filter `[k·k, c]`, padded with zeros to full lanes.
pub(super) struct BlockWeights(Vec<f32>);

impl BlockWeights {
    pub(super) fn new(filter: &[f32], c: usize, (at, valid): (usize, usize)) -> Self {
        let taps = filter.len() / c;
        let mut block = vec![0f32; taps * L];
        for (tap, block) in block.chunks_exact_mut(L).enumerate() {
            block[..valid].copy_from_slice(&filter[tap * c + at..][..valid]);
        }
        Self(block)
    }

    fn tap(&self, tap: usize) -> &[f32] {
        &self.0[tap * L..][..L]
    }
}
