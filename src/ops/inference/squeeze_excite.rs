//! Squeeze-excite and the mean over pixels at inference.

use super::map::{HostMap, Part, Threads, parts};
use super::matrix::Matrix;
use super::{HostLayer, MapShape};
use crate::ops::host::Scratch;
use crate::ops::lanes::{Instructions, Kernel, L, dispatch, one_row_at_a_time, store};
use crate::ops::project::SqueezeExciteWeights;
use candle_core::{Result, Tensor};

/// Two fully connected layers that compute the gates.
pub(super) struct InferenceSqueezeExcite {
    squeeze: Matrix,
    excite: Matrix,
}

impl InferenceSqueezeExcite {
    pub(super) fn new(layers: &SqueezeExciteWeights) -> Result<Self> {
        let masked = |mask: &Tensor| layers.excite.broadcast_mul(&mask.unsqueeze(1)?);
        let excite = layers.mask.as_ref().map_or_else(|| Ok(layers.excite.clone()), masked)?;
        let squeeze_bias = Some(&layers.squeeze_bias);
        Ok(Self {
            squeeze: Matrix::with_bias(&layers.squeeze, squeeze_bias, layers.activation)?,
            excite: Matrix::with_bias(&excite, Some(&layers.excite_bias), layers.gate)?,
        })
    }

    /// The gates of every image, `[blocks, images, 16]`.
    pub(super) fn gates(&self, x: HostMap<'_>, gates: &mut [f32], threads: Threads) {
        let pooled = MapShape { h: 1, w: 1, ..x.shape };
        let mut means = Scratch::new(pooled.map_len(x.images));
        pool(x, &mut means, threads);
        self.gates_of(HostMap { shape: pooled, values: &means, ..x }, gates, threads);
    }

    fn gates_of(&self, pooled: HostMap<'_>, gates: &mut [f32], threads: Threads) {
        let squeezed = MapShape { c: self.squeeze.c_out(), ..pooled.shape };
        let mut values = Scratch::new(squeezed.map_len(pooled.images));
        let threads = threads.on(pooled.shape.c * squeezed.c);
        self.squeeze.apply_to(pooled, &mut values, None, threads);
        let squeezed = HostMap { shape: squeezed, values: &values, ..pooled };
        self.excite.apply_to(squeezed, gates, None, threads);
    }
}

/// On pooled features.
impl HostLayer for InferenceSqueezeExcite {
    fn run(&self, x: HostMap<'_>, y: &mut [f32], threads: Threads) {
        self.gates_of(x, y, threads);
        y.iter_mut().zip(x.values).for_each(|(y, x)| *y *= x);
    }
}

pub(super) struct HostPool;

impl HostLayer for HostPool {
    fn run(&self, x: HostMap<'_>, y: &mut [f32], threads: Threads) {
        pool(x, y, threads);
    }
}

/// The mean over the pixels of every image.
fn pool(x: HostMap<'_>, y: &mut [f32], threads: Threads) {
    threads
        .on(x.values.len())
        .each(parts(y, x.images, x.images), |part| dispatch(Pool { x, part }));
}

struct Pool<'a> {
    x: HostMap<'a>,
    /// All images.
    part: Part<'a>,
}

impl Kernel for Pool<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        let Self { x, part: Part { block, blocks, .. } } = self;
        let pixels = x.shape.pixels();
        let share = 1.0 / pixels as f32;
        for (block, means) in (block..).zip(blocks).filter(|(_, means)| !means.is_empty()) {
            let images = x.block(block).chunks_exact(pixels * L);
            for (x, mean) in images.zip(means.chunks_exact_mut(L)) {
                let mut sum = [0f32; L];
                for pixel in x.chunks_exact(L) {
                    one_row_at_a_time();
                    for l in 0..L {
                        sum[l] += pixel[l];
                    }
                }
                store(&sum.map(|sum| sum * share), mean, 0);
            }
        }
    }
}
