//! The last step of squeeze-excite: every channel of an image times its gate.

use super::host::{Host, nhwc, tensor};
use super::no_kernel;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// `y[n, h, w, c] = x[n, h, w, c] · s[n, c]`.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn forward(x: &Tensor, s: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = nhwc(x)?;
    match x.device() {
        Device::Cpu => {
            let (xs, ss) = (Host::of(x)?, Host::of(s)?);
            let mut y = vec![0f32; xs.len()];
            y.par_chunks_mut(h * w * c)
                .zip(xs.par_chunks(h * w * c))
                .zip(ss.par_chunks(c))
                .for_each(|((y, x), s)| {
                    for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                        for ((y, x), s) in y.iter_mut().zip(x).zip(s) {
                            *y = x * s;
                        }
                    }
                });
            tensor(y, (n, h, w, c))
        }
        device => no_kernel("gate", device),
    }
}

/// `(dx, ds)`: `dx = dy · s`, `ds[n, c] = Σ_pixels dy · x`.
///
/// # Errors
/// As [`forward`].
pub fn backward(x: &Tensor, s: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
    let (n, h, w, c) = nhwc(x)?;
    match x.device() {
        Device::Cpu => {
            let (xs, ss, dys) = (Host::of(x)?, Host::of(s)?, Host::of(dy)?);
            let (mut dx, mut ds) = (vec![0f32; xs.len()], vec![0f32; n * c]);
            dx.par_chunks_mut(h * w * c).zip(ds.par_chunks_mut(c)).enumerate().for_each(
                |(i, (dx, ds))| {
                    let (x, dy) = (&xs[i * h * w * c..], &dys[i * h * w * c..]);
                    let s = &ss[i * c..][..c];
                    for ((dx, x), dy) in
                        dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(dy.chunks_exact(c))
                    {
                        for j in 0..c {
                            dx[j] = dy[j] * s[j];
                            ds[j] += dy[j] * x[j];
                        }
                    }
                },
            );
            Ok((tensor(dx, (n, h, w, c))?, tensor(ds, (n, c))?))
        }
        device => no_kernel("gate", device),
    }
}
