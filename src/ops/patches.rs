//! A dense convolution's windows as rows of a matrix (im2col): with a matmul behind it, this is a
//! convolution. The stem uses it; its three input channels leave nothing to vectorise otherwise.

use super::host::{Host, expect, nhwc, tensor};
use super::no_kernel;
use crate::space::conv_out;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// x `[n, h, w, c]` → `[n, ⌈h/s⌉, ⌈w/s⌉, k·k·c]`, zero outside the image, padding k / 2.
///
/// # Errors
/// When x is not an activation or the device has no kernel.
pub fn forward(x: &Tensor, k: usize, stride: usize) -> Result<Tensor> {
    let (n, h, w, c) = nhwc(x)?;
    let (oh, ow) = (conv_out(h, k, stride), conv_out(w, k, stride));
    match x.device() {
        Device::Cpu => {
            let xs = Host::of(x)?;
            let mut y = vec![0f32; n * oh * ow * k * k * c];
            y.par_chunks_mut(oh * ow * k * k * c).zip(xs.par_chunks(h * w * c)).for_each(
                |(y, x)| {
                    windows((h, w), k, stride, |row, pixel| {
                        y[row * c..][..c].copy_from_slice(&x[pixel * c..][..c]);
                    });
                },
            );
            tensor(y, (n, oh, ow, k * k * c))
        }
        device => no_kernel("patches", device),
    }
}

/// The gradient with respect to an x of side `(h, w)` and `c` channels.
///
/// # Errors
/// As [`forward`], and when dy has other sizes than [`forward`] gives.
pub fn backward(
    dy: &Tensor,
    k: usize,
    stride: usize,
    (h, w, c): (usize, usize, usize),
) -> Result<Tensor> {
    let (n, ..) = nhwc(dy)?;
    let (oh, ow) = (conv_out(h, k, stride), conv_out(w, k, stride));
    expect("patches", "dy", dy, &[n, oh, ow, k * k * c])?;
    match dy.device() {
        Device::Cpu => {
            let dys = Host::of(dy)?;
            let mut dx = vec![0f32; n * h * w * c];
            dx.par_chunks_mut(h * w * c).zip(dys.par_chunks(oh * ow * k * k * c)).for_each(
                |(dx, dy)| {
                    windows((h, w), k, stride, |row, pixel| {
                        for (dx, dy) in dx[pixel * c..][..c].iter_mut().zip(&dy[row * c..]) {
                            *dx += dy;
                        }
                    });
                },
            );
            tensor(dx, (n, h, w, c))
        }
        device => no_kernel("patches", device),
    }
}

/// Calls `visit(window position, pixel)` for every window position inside the image.
fn windows((h, w): (usize, usize), k: usize, stride: usize, mut visit: impl FnMut(usize, usize)) {
    let (oh, ow, pad) = (conv_out(h, k, stride), conv_out(w, k, stride), k / 2);
    for o in 0..oh * ow {
        for kh in 0..k {
            let ih = (o / ow * stride + kh).wrapping_sub(pad);
            for kw in 0..k {
                let iw = (o % ow * stride + kw).wrapping_sub(pad);
                if ih < h && iw < w {
                    visit((o * k + kh) * k + kw, ih * w + iw);
                }
            }
        }
    }
}
