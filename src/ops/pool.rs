//! Global average pooling.

use super::host::{Host, nhwc, tensor};
use super::no_kernel;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// x `[n, h, w, c]` → the mean over pixels `[n, c]`.
///
/// # Errors
/// When x is not an activation or the device has no kernel.
pub fn forward(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = nhwc(x)?;
    match x.device() {
        Device::Cpu => {
            let xs = Host::of(x)?;
            let mut y = vec![0f32; n * c];
            let share = 1.0 / (h * w) as f32;
            y.par_chunks_mut(c).zip(xs.par_chunks(h * w * c)).for_each(|(y, x)| {
                for pixel in x.chunks_exact(c) {
                    for (y, x) in y.iter_mut().zip(pixel) {
                        *y += x;
                    }
                }
                for y in y.iter_mut() {
                    *y *= share;
                }
            });
            tensor(y, (n, c))
        }
        device => no_kernel("pool", device),
    }
}

/// dy `[n, c]` → dx `[n, h, w, c]`: every pixel gets its share.
///
/// # Errors
/// As [`forward`].
pub fn backward(dy: &Tensor, (h, w): (usize, usize)) -> Result<Tensor> {
    let (n, c) = dy.dims2()?;
    match dy.device() {
        Device::Cpu => {
            let dys = Host::of(dy)?;
            let mut dx = vec![0f32; n * h * w * c];
            let share = 1.0 / (h * w) as f32;
            dx.par_chunks_mut(h * w * c).zip(dys.par_chunks(c)).for_each(|(dx, dy)| {
                for pixel in dx.chunks_exact_mut(c) {
                    for (dx, dy) in pixel.iter_mut().zip(dy) {
                        *dx = dy * share;
                    }
                }
            });
            tensor(dx, (n, h, w, c))
        }
        device => no_kernel("pool", device),
    }
}
