//! Access to candle's tensors as plain slices in host memory, and uninitialised outputs.

use crate::memory;
use candle_core::{CpuStorage, DType, Device, Result, Shape, Storage, StorageRef, Tensor, bail};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// A read-only view of a contiguous f32 tensor on the CPU.
pub(super) struct Host<'a> {
    storage: StorageRef<'a>,
    start: usize,
    len: usize,
}

impl<'a> Host<'a> {
    /// # Errors
    /// When the tensor is not f32, not contiguous or not on the CPU.
    pub(super) fn of(x: &'a Tensor) -> Result<Self> {
        let (storage, layout) = x.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("operators read contiguous tensors, got {:?}", x.layout())
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => Ok(Self { storage, start, len: end - start }),
            _ => bail!("operators read f32 tensors in host memory, got {:?}", x.dtype()),
        }
    }
}

impl Deref for Host<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.start..self.start + self.len],
            _ => unreachable!("Host::of has checked the storage"),
        }
    }
}

/// A tensor that owns `data` (moved, not copied).
pub(super) fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &Device::Cpu)
}

/// The shape of an activation `[n, h, w, c]`.
///
/// # Errors
/// When it has other axes or is not f32.
pub(super) fn nhwc(x: &Tensor) -> Result<(usize, usize, usize, usize)> {
    let shape = x.dims4()?;
    expect_f32(x)?;
    Ok(shape)
}

/// Refuses other numbers, which a kernel on a GPU would take for f32.
fn expect_f32(x: &Tensor) -> Result<()> {
    if x.dtype() != DType::F32 {
        bail!("operators read f32 tensors, got {:?}", x.dtype());
    }
    Ok(())
}

/// Checks the shape of `x`.
///
/// # Errors
/// When it is not `dims`.
pub(super) fn expect(op: &str, what: &str, x: &Tensor, dims: &[usize]) -> Result<()> {
    if x.dims() != dims {
        bail!("{op}: {what} is {:?}, expected {dims:?}", x.dims());
    }
    Ok(())
}

/// Checks the stride of a convolution.
///
/// # Errors
/// When the stride is zero.
pub(super) fn check_stride(op: &str, stride: usize) -> Result<()> {
    if stride == 0 {
        bail!("{op}: the stride is 0, it must be at least 1");
    }
    Ok(())
}

/// Rows and channels of a tensor seen as a matrix `[rows, c]`.
///
/// # Errors
/// When it is not f32.
pub(super) fn rows_of(x: &Tensor) -> Result<(usize, usize)> {
    let c = x.dim(candle_core::D::Minus1)?;
    expect_f32(x)?;
    Ok((x.elem_count() / c.max(1), c))
}

/// Adds up vectors in order, in f64.
pub(super) fn ordered_sum(parts: &[Vec<f32>]) -> Vec<f64> {
    let mut total = vec![0f64; parts.first().map_or(0, Vec::len)];
    for part in parts {
        for (t, p) in total.iter_mut().zip(part) {
            *t += f64::from(*p);
        }
    }
    total
}

/// `len` values with arbitrary content, which a kernel overwrites. Zeroing them first would cost a
/// seventh of an inference.
///
/// # Safety
/// Every value must be written before it is read. `Vec::set_len` asks for more: that the values are
/// initialised when it is called. For f32, where every bit pattern is a value, this has no consequence.
#[allow(unsafe_code, clippy::uninit_vec)]
pub(super) unsafe fn to_fill(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity suffices, and the caller writes every value before it is read.
    unsafe { values.set_len(len) };
    if POISON.load(Ordering::Relaxed) {
        values.fill(f32::NAN);
    }
    values
}

static POISON: AtomicBool = AtomicBool::new(false);

/// For tests: from now on, outputs and working memory are filled with NaN before a kernel runs, so
/// that a value that is read before it is written shows in the result.
pub fn poison_outputs() {
    POISON.store(true, Ordering::Relaxed);
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Working memory of one task, borrowed from its thread: initialised, with arbitrary content.
pub(super) struct Scratch {
    /// At least `len`.
    values: Vec<f32>,
    len: usize,
}

impl Scratch {
    pub(super) fn new(len: usize) -> Self {
        let mut values = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
        let before = values.capacity();
        if values.len() < len {
            // No more than is asked for, since the thread keeps the largest size of each buffer.
            values.reserve_exact(len - values.len());
            values.resize(len, 0.0);
        }
        memory::add_scratch(size_of::<f32>() * (values.capacity() - before));
        let mut scratch = Self { values, len };
        if POISON.load(Ordering::Relaxed) {
            scratch.fill(f32::NAN);
        }
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SCRATCH.with_borrow_mut(|pool| pool.push(std::mem::take(&mut self.values)));
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}
