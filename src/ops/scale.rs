//! The columns of a matrix times a mask: filters whose output channels are masked.

mod gpu;

use super::gpu::Gpu;
use super::host::expect;
use candle_core::{D, Result, Tensor};

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
