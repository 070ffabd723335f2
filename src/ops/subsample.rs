//! Every s-th pixel in both directions: what a strided 1x1 convolution reads.

use super::host::{Host, expect, nhwc, tensor};
use super::no_kernel;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// x `[n, h, w, c]` → `[n, ⌈h/s⌉, ⌈w/s⌉, c]`.
///
/// # Errors
/// When x is not an activation or the device has no kernel.
pub fn forward(x: &Tensor, stride: usize) -> Result<Tensor> {
    let (n, h, w, c) = nhwc(x)?;
    let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
    match x.device() {
        Device::Cpu => {
            let xs = Host::of(x)?;
            let mut y = vec![0f32; n * oh * ow * c];
            y.par_chunks_mut(ow * c).enumerate().for_each(|(row, y)| {
                let from = (row / oh * h + row % oh * stride) * w * c;
                for (i, y) in y.chunks_exact_mut(c).enumerate() {
                    y.copy_from_slice(&xs[from + i * stride * c..][..c]);
                }
            });
            tensor(y, (n, oh, ow, c))
        }
        device => no_kernel("subsample", device),
    }
}

/// Puts dy back where [`forward`] read and zero elsewhere.
///
/// # Errors
/// As [`forward`], and when dy has other sizes than [`forward`] gives.
pub fn backward(dy: &Tensor, stride: usize, (h, w): (usize, usize)) -> Result<Tensor> {
    let (n, oh, ow, c) = nhwc(dy)?;
    expect("subsample", "dy", dy, &[n, h.div_ceil(stride), w.div_ceil(stride), c])?;
    match dy.device() {
        Device::Cpu => {
            let dys = Host::of(dy)?;
            let mut dx = vec![0f32; n * h * w * c];
            dx.par_chunks_mut(h * w * c).zip(dys.par_chunks(oh * ow * c)).for_each(|(dx, dy)| {
                for (i, dy) in dy.chunks_exact(c).enumerate() {
                    let to = (i / ow * stride * w + i % ow * stride) * c;
                    dx[to..to + c].copy_from_slice(dy);
                }
            });
            tensor(dx, (n, h, w, c))
        }
        device => no_kernel("subsample", device),
    }
}
