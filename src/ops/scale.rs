//! Tensors times one factor per column or per row: filters whose output channels are masked, and images that
//! are dropped.

mod gpu;

use super::gpu::Gpu;
use super::host::{Host, expect, tensor};
use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

/// w `[…, c]` times the mask `[c]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn forward(w: &Tensor, mask: &Tensor) -> Result<Tensor> {
    times(w, mask)
}

/// a ∘ b, of the same shape.
///
/// # Errors
/// When the shapes differ.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    expect("scale", "the second factor", b, a.dims())?;
    // A matrix of one row.
    let count = a.elem_count();
    times(&a.reshape((1, count))?, &b.flatten_all()?)?.reshape(a.shape())
}

/// Each x_i of x `[n, …]` times factor i of `factors` `[n]`; also the gradient by x, where x is dy.
///
/// # Errors
/// When the shapes do not fit.
pub fn rows(x: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let n = x.dim(0)?;
    expect("scale", "the factors", factors, &[n])?;
    if let Some(gpu) = Gpu::of(x.device())? {
        return gpu::rows(&gpu, x, factors);
    }
    let (xs, factors) = (Host::of(x)?, Host::of(factors)?);
    let len = (x.elem_count() / n.max(1)).max(1);
    let mut y = vec![0f32; x.elem_count()];
    let parts = y.par_chunks_mut(len).zip(xs.par_chunks(len)).zip(factors.par_iter());
    parts.for_each(|((y, x), factor)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor);
    });
    tensor(y, x.shape())
}

/// The gradient of [`forward`] with respect to w.
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(mask: &Tensor, dy: &Tensor) -> Result<Tensor> {
    times(dy, mask)
}

fn times(w: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let Some(gpu) = Gpu::of(w.device())? else { return w.broadcast_mul(mask) };
    expect("scale", "the mask", mask, &[w.dim(D::Minus1)?])?;
    gpu::times(&gpu, w, mask)
}

/// The gradient of [`forward`] with respect to the mask.
///
/// # Errors
/// As [`forward`].
pub fn backward_mask(w: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if let Some(gpu) = Gpu::of(w.device())? {
        expect("scale", "dy", dy, w.dims())?;
        return gpu::backward_mask(&gpu, w, dy);
    }
    (dy * w)?.flatten_to(D::Minus2)?.sum(0)
}
