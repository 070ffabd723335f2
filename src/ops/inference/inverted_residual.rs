//! An inverted residual at inference, image by image. Its hidden map is in the cache twice: as tiles
//! that the filter reads, and as rows that the projection reads.

use super::matrix::{Matrix, Pitch};
use super::{HostLayer, InferenceInvertedResidual, MapShape};
use crate::ops::activation::{ActivationFn, by_activation};
use crate::ops::depthwise::{Expand, block_taps, copy, kernel_of};
use crate::ops::host::{Host, Scratch};
use crate::ops::lanes::{Kernel, L, Lanes, blocks, dispatch, load, store};
use crate::ops::norm::HostNorm;
use crate::ops::pool::mean_of_rows;
use crate::ops::project::{HostSqueezeExcite, scale_rows};
use crate::ops::tile::{PixelSink, TileGeometry, TileTaps};
use crate::space::Activation;
use candle_core::Result;
use std::marker::PhantomData;

pub(super) struct HostInvertedResidual {
    /// Channels of the input.
    c_in: usize,
    /// Hidden channels.
    c: usize,
    expand: Option<Matrix>,
    /// The filter times the scale of the batch norm behind it, `[k·k, c]`.
    filter: Vec<f32>,
    kernel: usize,
    stride: usize,
    /// The shift of that batch norm, padded.
    bias: Vec<f32>,
    activation: Activation,
    squeeze_excite: Option<HostSqueezeExcite>,
    project: Matrix,
    residual: bool,
}

impl HostInvertedResidual {
    pub(super) fn new(block: &InferenceInvertedResidual) -> Result<Self> {
        let c = block.filter.dim(1)?;
        let folded = |expand: &Expand| Matrix::folded(&expand.w, &expand.norm);
        let expand = block.expand.as_ref().map(folded).transpose()?;
        let HostNorm { scale, shift, activation, .. } = HostNorm::of(&block.norm)?;
        let mut filter = Host::of(&block.filter)?.to_vec();
        scale_rows(&mut filter, c, &scale);
        Ok(Self {
            c_in: expand.as_ref().map_or(c, |expand| expand.c_in),
            c,
            expand,
            filter,
            kernel: kernel_of(&block.filter)?,
            stride: block.stride,
            bias: shift,
            activation,
            squeeze_excite: block.squeeze_excite.as_ref().map(HostSqueezeExcite::of).transpose()?,
            project: Matrix::folded(&block.project, &block.project_norm)?,
            residual: block.residual,
        })
    }

    fn geometry(&self, shape: MapShape) -> TileGeometry {
        TileGeometry::new((shape.h, shape.w), self.c, self.kernel, self.stride)
    }
}

impl HostLayer for HostInvertedResidual {
    fn run(&self, shape: MapShape, x: &[f32], y: &mut [f32]) {
        let g = self.geometry(shape);
        let taps = block_taps(&self.filter, g.c, |w| TileTaps::forward(&g, w));
        dispatch(InvertedResidualForward { layer: self, g, taps, x, y });
    }
}

struct InvertedResidualForward<'a> {
    layer: &'a HostInvertedResidual,
    g: TileGeometry,
    taps: Vec<TileTaps>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for InvertedResidualForward<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (layer, g) = (self.layer, &self.g);
        let (c_in, c_out) = (layer.c_in, layer.project.c_out);
        // Rows of hidden channels are padded to full blocks.
        let pitch = layer.c.next_multiple_of(L);
        let mut tile = Scratch::new(g.in_tile());
        g.clear_in_border(&mut tile);
        let mut hidden = Scratch::new(g.out_pixels() * pitch);
        let mut pooled = Scratch::new(pitch);
        let images = self.x.chunks_exact(g.in_pixels() * c_in);
        for (x, y) in images.zip(self.y.chunks_exact_mut(g.out_pixels() * c_out)) {
            for (block, taps) in blocks(g.c).zip(&self.taps) {
                layer.fill::<FUSED>(g, x, block, &mut tile);
                layer.convolve::<FUSED>(g, taps, &tile, block.0, &mut hidden[block.0..], pitch);
            }
            if let Some(squeeze_excite) = &layer.squeeze_excite {
                mean_of_rows(&hidden, &mut pooled);
                let gates = squeeze_excite.gates_of(pooled[..layer.c].to_vec());
                scale_rows(&mut hidden, pitch, &gates.gates);
            }
            let added = layer.residual.then_some((x, c_in));
            let pitch = Pitch { x: pitch, y: c_out };
            layer.project.apply::<FUSED>(g.out_pixels(), &hidden, y, pitch, added);
        }
    }
}

impl HostInvertedResidual {
    /// Computes the tile of one block of hidden channels.
    #[inline(always)]
    fn fill<const FUSED: bool>(
        &self,
        g: &TileGeometry,
        x: &[f32],
        (at, valid): (usize, usize),
        tile: &mut [f32],
    ) {
        let Some(expand) = &self.expand else {
            return match valid {
                L => copy::<true>(g, x, (at, valid), tile),
                _ => copy::<false>(g, x, (at, valid), tile),
            };
        };
        for (row, x) in x.chunks_exact(g.w * self.c_in).enumerate() {
            let to = &mut tile[g.in_at(row, 0)..][..g.w * L];
            expand.apply_block::<FUSED>(at, g.w, x, to, Pitch { x: self.c_in, y: L });
        }
    }

    /// One block of act(filter(tile) + bias), its pixels `pitch` values apart.
    #[inline(always)]
    fn convolve<const FUSED: bool>(
        &self,
        g: &TileGeometry,
        taps: &TileTaps,
        tile: &[f32],
        at: usize,
        hidden: &mut [f32],
        pitch: usize,
    ) {
        let bias = load(&self.bias, at);
        by_activation!(self.activation, A => {
            let to = Activated::<A> { bias, hidden, pitch, activation: PhantomData };
            taps.convolve::<FUSED>(g, tile, to);
        });
    }
}

/// Stores one block of hidden channels after bias and activation.
struct Activated<'a, A> {
    bias: Lanes,
    hidden: &'a mut [f32],
    pitch: usize,
    activation: PhantomData<A>,
}

impl<A: ActivationFn> PixelSink for Activated<'_, A> {
    #[inline(always)]
    fn put(&mut self, pixel: usize, z: &Lanes) {
        let mut a = [0f32; L];
        for l in 0..L {
            a[l] = A::value(z[l] + self.bias[l]);
        }
        store(&a, self.hidden, pixel * self.pitch);
    }
}
