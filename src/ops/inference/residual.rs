//! A residual block at inference, a few images at a time: the map between its two dense convolutions
//! stays in the cache.

use super::matrix::HostConv;
use super::{HostLayer, InferenceResidual, MapShape};
use crate::ops::host::Scratch;
use candle_core::Result;

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
    fn run(&self, shape: MapShape, x: &[f32], y: &mut [f32]) {
        let between = self.first.behind(shape);
        let mut inner = Scratch::new(x.len() / shape.len() * between.len());
        self.first.run(shape, x, &mut inner);
        self.second.run(between, &inner, y);
        // Every stride-th pixel of every stride-th row of every image.
        let stride = self.first.stride;
        let images = x.chunks_exact(shape.len());
        let rows = images.flat_map(|x| x.chunks_exact(shape.w * shape.c).step_by(stride));
        let kept = rows.flat_map(|row| row.chunks_exact(shape.c).step_by(stride));
        let c_out = self.second.behind(between).c;
        for (y, x) in y.chunks_exact_mut(c_out).zip(kept) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        }
    }
}
