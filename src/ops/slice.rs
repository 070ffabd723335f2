//! The first entries of a tensor along every axis: the weights of a subnetwork among shared ones.

mod gpu;

use super::gpu::Gpu;
use candle_core::{Result, Tensor, bail};

/// A copy of the first `dims` entries along every axis.
///
/// # Errors
/// When `whole` has other axes or fewer entries.
pub fn first(whole: &Tensor, dims: &[usize]) -> Result<Tensor> {
    check(whole, dims)?;
    if let Some(gpu) = Gpu::of(whole.device())? {
        return gpu::first(&gpu, whole, dims);
    }
    let mut part = whole.clone();
    for (axis, size) in dims.iter().enumerate() {
        part = part.narrow(axis, 0, *size)?;
    }
    part.force_contiguous()
}

/// A copy of `whole` whose first entries along every axis are those of `part`.
///
/// # Errors
/// As [`first`].
pub fn with_first(whole: &Tensor, part: &Tensor) -> Result<Tensor> {
    check(whole, part.dims())?;
    match Gpu::of(whole.device())? {
        Some(gpu) => gpu::with_first(&gpu, whole, part),
        None => with_first_from(whole, part, 0),
    }
}

/// The same along `axis` and all later axes.
fn with_first_from(whole: &Tensor, part: &Tensor, axis: usize) -> Result<Tensor> {
    if axis == whole.rank() {
        return Ok(part.clone());
    }
    let (size, all) = (part.dim(axis)?, whole.dim(axis)?);
    let begin = with_first_from(&whole.narrow(axis, 0, size)?, part, axis + 1)?;
    if size == all {
        return Ok(begin);
    }
    Tensor::cat(&[&begin, &whole.narrow(axis, size, all - size)?], axis)?.contiguous()
}

fn check(whole: &Tensor, dims: &[usize]) -> Result<()> {
    let mut sizes = whole.dims().iter().zip(dims);
    if whole.rank() != dims.len() || sizes.any(|(all, part)| part > all) {
        bail!("slice: there is no {dims:?} in {:?}", whole.dims());
    }
    Ok(())
}
