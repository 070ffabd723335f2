//! Sum of activations of different widths: y = Σ_i pad(x_i), each padded with zero channels. It is
//! linear and keeps nothing for the backward pass.

use super::host::{Host, expect, nhwc, tensor};
use super::no_kernel;
use crate::tiling::elementwise_rows;
use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Each x `[n, h, w, c_i]` with c_i ≤ `width` → `[n, h, w, width]`.
///
/// # Errors
/// When there is nothing to sum, the sizes do not fit or the device has no kernel.
pub fn sum(parts: &[&Tensor], width: usize) -> Result<Tensor> {
    let Some(first) = parts.first() else { bail!("pad: nothing to sum") };
    let (n, h, w, _) = nhwc(first)?;
    match first.device() {
        Device::Cpu => {
            let mut hosts = Vec::with_capacity(parts.len());
            for x in parts {
                let c = x.dim(3)?.min(width);
                expect("pad", "a summand", x, &[n, h, w, c])?;
                hosts.push((Host::of(x)?, c));
            }
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
        device => no_kernel("pad", device),
    }
}

/// The gradient of a summand of `width` channels: the first channels of dy, in memory of its own.
///
/// # Errors
/// When dy has fewer channels.
pub fn backward(dy: &Tensor, width: usize) -> Result<Tensor> {
    dy.narrow(3, 0, width)?.force_contiguous()
}
