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
            y.par_chunks_mut(c).zip(xs.par_chunks(h * w * c)).for_each(|(y, x)| {
                mean_of_rows(x, y);
            });
            tensor(y, (n, c))
        }
        device => no_kernel("pool", device),
    }
}

/// The mean of the rows of `x`, each as long as `mean`.
#[inline(always)]
pub(super) fn mean_of_rows(x: &[f32], mean: &mut [f32]) {
    mean.fill(0.0);
    for row in x.chunks_exact(mean.len()) {
        for (sum, x) in mean.iter_mut().zip(row) {
            *sum += x;
        }
    }
    let share = 1.0 / (x.len() / mean.len()) as f32;
    for mean in mean {
        *mean *= share;
    }
}

/// dy `[n, c]` → dx `[n, h, w, c]`: every pixel gets an equal share.
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
