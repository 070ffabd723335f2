//! Global average pooling.

use super::gpu::{Arg, Gpu, ImageParts, Launch, Source, source};
use super::host::{Host, nhwc, tensor};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

const SOURCE: &Source = &source!("pool");

/// x `[n, h, w, c]` → the mean over pixels `[n, c]`.
///
/// # Errors
/// When x is not an activation or the device has no kernel.
pub fn forward(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = nhwc(x)?;
    if let Some(gpu) = Gpu::of(x.device())? {
        return gpu_forward(&gpu, x);
    }
    let xs = Host::of(x)?;
    let mut y = vec![0f32; n * c];
    y.par_chunks_mut(c).zip(xs.par_chunks(h * w * c)).for_each(|(y, x)| {
        mean_of_rows(x, y);
    });
    tensor(y, (n, c))
}

fn gpu_forward(gpu: &Gpu, x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = nhwc(x)?;
    let pixels = h * w;
    let parts = ImageParts::of(n, pixels, c);
    let means = gpu.output((parts.parts, n, c))?;
    let mut args = vec![Arg::In(x), Arg::Out(&means), Arg::Float(1.0 / pixels as f32)];
    args.extend(parts.sizes());
    gpu.launch(&parts.launch(SOURCE, "pool_forward"), &args)?;
    parts.total(gpu, &means)
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
    if let Some(gpu) = Gpu::of(dy.device())? {
        return gpu_backward(&gpu, dy, (h, w));
    }
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

fn gpu_backward(gpu: &Gpu, dy: &Tensor, (h, w): (usize, usize)) -> Result<Tensor> {
    let (n, c) = dy.dims2()?;
    let dx = gpu.output((n, h, w, c))?;
    let (pixels, rows) = (h * w, n * h * w);
    let mut args = vec![Arg::In(dy), Arg::Out(&dx), Arg::Float(1.0 / pixels as f32)];
    args.extend([Arg::size(pixels), Arg::size(rows), Arg::size(c)]);
    gpu.launch(&Launch::map(SOURCE, "pool_backward", rows, c), &args)?;
    Ok(dx)
}
