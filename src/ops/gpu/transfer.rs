//! Values between the host and the device of a tensor: the only places where the program moves them.

use super::{Gpu, traffic};
use candle_core::{Device, Result, Shape, Tensor};

/// A tensor on `device` with these values.
///
/// # Errors
/// When the shape does not fit or the device is out of memory.
pub fn upload(values: Vec<f32>, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    if Gpu::of(device)?.is_some() {
        traffic::uploaded(size_of_val(&values[..]));
    }
    Tensor::from_vec(values, shape.into(), device)
}

/// The values of a tensor, in order. On a GPU, waits for what computes them.
///
/// # Errors
/// When the tensor is not f32.
pub fn download(tensor: &Tensor) -> Result<Vec<f32>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    if Gpu::of(tensor.device())?.is_some() {
        traffic::downloaded(size_of_val(&values[..]));
    }
    Ok(values)
}
