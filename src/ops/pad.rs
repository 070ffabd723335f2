//! Sum of activations of different widths: y = Σ_i pad(x_i), each padded with zero channels. It is
//! linear and keeps nothing for the backward pass.

mod gpu;

use super::gpu::Gpu;
use super::host::{Host, expect, nhwc, tensor};
use crate::tiling::elementwise_rows;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Each x `[n, h, w, c_i]` with c_i ≤ `width` → `[n, h, w, width]`.
///
/// # Errors
/// When there is nothing to sum, the sizes do not fit or the device has no kernel.
pub fn sum(parts: &[&Tensor], width: usize) -> Result<Tensor> {
    let Some(first) = parts.first() else { bail!("pad: nothing to sum") };
    let (n, h, w, _) = nhwc(first)?;
    let mut summands = Vec::with_capacity(parts.len());
    for x in parts {
        let c = x.dim(3)?.min(width);
        expect("pad", "a summand", x, &[n, h, w, c])?;
        summands.push((*x, c));
    }
    if let Some(gpu) = Gpu::of(first.device())? {
        return gpu::sum(&gpu, &summands, &[n, h, w, width]);
    }
    let hosts = summands.into_iter().map(|(x, c)| Ok((Host::of(x)?, c)));
    let hosts = hosts.collect::<Result<Vec<_>>>()?;
    let mut y = vec![0f32; n * h * w * width];
    let chunk = elementwise_rows(width);
    y.par_chunks_mut(chunk * width).enumerate().for_each(|(i, y)| {
        for (x, c) in &hosts {
            let x = &x[i * chunk * c..][..y.len() / width * c];
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(*c)) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
            }
        }
    });
    tensor(y, (n, h, w, width))
}

/// The gradient of a summand of `width` channels: the first channels of dy, in memory of its own.
///
/// # Errors
/// When dy has fewer channels.
pub fn backward(dy: &Tensor, width: usize) -> Result<Tensor> {
    cut(dy, width)
}

/// The first `width` channels of x `[n, h, w, c]`, in memory of their own.
///
/// # Errors
/// When x has fewer channels.
pub fn cut(x: &Tensor, width: usize) -> Result<Tensor> {
    let first = x.narrow(3, 0, width)?;
    if let Some(gpu) = Gpu::of(x.device())? {
        return gpu::sum(&gpu, &[(x, x.dim(3)?)], first.dims());
    }
    first.force_contiguous()
}

/// The gradient of [`cut`] from `c` channels: dy, and zeros behind its channels.
///
/// # Errors
/// When dy has more channels.
pub fn cut_backward(dy: &Tensor, c: usize) -> Result<Tensor> {
    let (n, h, w, width) = nhwc(dy)?;
    if width > c {
        bail!("pad: {width} of {c} channels cannot be kept");
    }
    if let Some(gpu) = Gpu::of(dy.device())? {
        return gpu::sum(&gpu, &[(dy, width)], &[n, h, w, c]);
    }
    dy.pad_with_zeros(3, 0, c - width)?.contiguous()
}
