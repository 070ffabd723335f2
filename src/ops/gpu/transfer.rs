//! Values between the host and the device of a tensor: the only places where the program moves them.

use super::tensors::concatenated;
use super::{Gpu, traffic};
use candle_core::{Device, Result, Shape, Tensor, bail};

/// Whether operators on this device run on a GPU, or on its emulator.
///
/// # Errors
/// When nothing here can compute on the device.
pub fn in_use(device: &Device) -> Result<bool> {
    Ok(Gpu::of(device)?.is_some())
}

/// A tensor on `device` with these values. Does not wait for a GPU.
///
/// # Errors
/// When the shape does not fit or the device is out of memory.
pub fn upload(values: Vec<f32>, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    match Gpu::of(device)? {
        None => Tensor::from_vec(values, shape.into(), device),
        Some(gpu) => {
            traffic::uploaded(size_of_val(&values[..]));
            gpu.upload(&values, shape.into())
        }
    }
}

impl Gpu {
    fn upload(&self, values: &[f32], shape: Shape) -> Result<Tensor> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ref cuda) => cuda.upload(values, shape),
            #[cfg(feature = "emulator")]
            Self::Emulated(_) => super::emulator::upload(values, shape),
        }
    }

    fn download(&self, row: &Tensor) -> Result<Vec<f32>> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ref cuda) => cuda.download(row),
            #[cfg(feature = "emulator")]
            Self::Emulated(_) => row.to_vec1(),
        }
    }
}

/// Rows of several lengths, in one upload. On a GPU they are parts of one buffer.
///
/// # Errors
/// When the device is out of memory.
pub fn upload_rows(rows: Vec<Vec<f32>>, device: &Device) -> Result<Vec<Tensor>> {
    if !in_use(device)? {
        let row = |row: Vec<f32>| {
            let len = row.len();
            Tensor::from_vec(row, len, device)
        };
        return rows.into_iter().map(row).collect();
    }
    // Each row begins at a multiple of 16 bytes, where kernels may read four values at once.
    let padded = |len: usize| len.next_multiple_of(4);
    let mut all = Vec::with_capacity(rows.iter().map(|row| padded(row.len())).sum());
    for row in &rows {
        all.extend_from_slice(row);
        all.resize(padded(all.len()), 0.0);
    }
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let len = all.len();
    let all = upload(all, len, device)?;
    let mut from = 0;
    let views = rows.iter().map(|row| {
        let view = all.narrow(0, from, row.len());
        from += padded(row.len());
        view
    });
    views.collect()
}

/// The values of a tensor, in order. On a GPU, waits for what computes them.
///
/// # Errors
/// When the tensor is not f32, or the device fails.
pub fn download(tensor: &Tensor) -> Result<Vec<f32>> {
    let row = tensor.flatten_all()?;
    let Some(gpu) = Gpu::of(tensor.device())? else { return row.to_vec1() };
    let values = gpu.download(&row)?;
    traffic::downloaded(size_of_val(&values[..]));
    Ok(values)
}

/// Numbers that an operator computes. On a GPU they stay there until they are read.
#[derive(Clone, Debug)]
pub struct Deferred(Place);

#[derive(Clone, Debug)]
enum Place {
    Known(Vec<f64>),
    /// `[count, 2]`: each number is the sum of two.
    OnGpu(Tensor),
}

impl Deferred {
    /// Numbers that are known already.
    #[must_use]
    pub fn known(numbers: Vec<f64>) -> Self {
        Self(Place::Known(numbers))
    }

    /// Numbers on a GPU, each as a pair whose sum it is, `[count, 2]`.
    pub(in crate::ops) fn pairs(pairs: Tensor) -> Self {
        Self(Place::OnGpu(pairs))
    }

    /// The numbers. On a GPU, one download.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&self) -> Result<Vec<f64>> {
        Ok(read(&[self], &[])?.0.remove(0))
    }
}

/// What [`read`] has read: the numbers, and the values of the tensors.
pub type Downloaded = (Vec<Vec<f64>>, Vec<Vec<f32>>);

/// Numbers and the values of tensors, all in one download.
///
/// # Errors
/// When a tensor is not f32, or the device fails.
pub fn read(numbers: &[&Deferred], tensors: &[&Tensor]) -> Result<Downloaded> {
    let on_gpu = numbers.iter().filter_map(|numbers| match &numbers.0 {
        Place::Known(_) => None,
        Place::OnGpu(pairs) => Some(pairs),
    });
    let all: Vec<&Tensor> = on_gpu.chain(tensors.iter().copied()).collect();
    let mut values = download_all(&all)?.into_iter();
    let mut next = || match values.next() {
        Some(values) => Ok(values),
        None => bail!("a download brought too few values"),
    };
    let numbers = numbers.iter().map(|numbers| match &numbers.0 {
        Place::Known(numbers) => Ok(numbers.clone()),
        Place::OnGpu(_) => {
            let pairs = next()?;
            Ok(pairs.chunks_exact(2).map(|p| f64::from(p[0]) + f64::from(p[1])).collect())
        }
    });
    let numbers = numbers.collect::<Result<_>>()?;
    Ok((numbers, values.collect()))
}

/// The values of several tensors of one device, in one download.
fn download_all(tensors: &[&Tensor]) -> Result<Vec<Vec<f32>>> {
    let several = tensors.first().filter(|_| tensors.len() > 1);
    let gpu = several.map_or(Ok(None), |tensor| Gpu::of(tensor.device()))?;
    let Some(gpu) = gpu else { return tensors.iter().map(|tensor| download(tensor)).collect() };
    let all = download(&concatenated(&gpu, tensors)?)?;
    let mut rest = &all[..];
    let parts = tensors.iter().map(|tensor| {
        let (part, after) = rest.split_at(tensor.elem_count());
        rest = after;
        part.to_vec()
    });
    Ok(parts.collect())
}
