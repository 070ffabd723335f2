//! The GPU: launches of kernels and matrix products.
//!
//! The host code of an operator (grid, block, shared memory, scratch, order of arguments) is written
//! once, against [`Gpu`]. [`Gpu::of`] finds what runs it for a tensor's device: a real GPU, by cudarc
//! through candle's CUDA device (feature `cuda`), or the emulator, which runs the same `.cu` sources on the
//! CPU (feature `emulator`, for tests). Both take the same launches, so what is tested is also how a kernel
//! is launched.
//!
//! All buffers are candle tensors. Nothing here waits for the GPU: only [`download`] does.

// Without either feature there is no value of type `Gpu`, and nothing here is ever called.
#![cfg_attr(not(any(feature = "cuda", feature = "emulator")), allow(dead_code, unused_variables))]

#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod driver;
#[cfg(feature = "emulator")]
mod emulator;
mod launch;
mod scratch;
mod self_test;
mod slots;
mod structs;
mod sums;
mod tensors;
mod traffic;
mod transfer;

pub use device::{count_memory, is_out_of_memory, memory, open, reset_peak, synchronize, toolkit};
pub use driver::{
    CudaVersion, DriverInfo, GpuInfo, GpuMemory, GpuProblem, Toolkit, check, driver_info,
};
#[cfg(feature = "emulator")]
pub use emulator::{
    Fault, SOURCES as EMULATOR_SOURCES, emulate, limit_memory, make_fault, on_host,
};
pub(super) use launch::{Launch, Source, source};
pub(super) use scratch::chunk_images;
pub use scratch::limit_scratch;
pub use self_test::self_test;
pub(super) use sums::{ImageParts, Parts, divided, sum_columns, total};
pub(super) use tensors::{Operands, TensorList, appended};
pub use tensors::{copy, ones, ones_like, zeros_like};
pub use traffic::Traffic;
pub use transfer::{Deferred, download, in_use, read, upload, upload_rows};

use super::no_kernel;
use crate::recipe::Precision;
use crate::tiling::Backend;
use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use std::sync::atomic::{AtomicU8, Ordering};

/// Threads in a warp.
pub(super) const WARP: usize = 32;

/// An argument of a kernel.
pub(super) enum Arg<'a> {
    /// A buffer that the kernel reads (`const T*`).
    In(&'a Tensor),
    /// A buffer that it writes, or reads and writes (`T*`).
    Out(&'a Tensor),
    /// A null pointer, for an operand that is absent.
    Absent,
    Int(i32),
    Unsigned(u32),
    Float(f32),
    /// A struct that is passed by value.
    Struct(StructArg<'a>),
}

/// The bytes of a struct, and the buffers that it points to.
#[derive(Default)]
pub(super) struct StructArg<'a> {
    pub bytes: Vec<u8>,
    /// Offset of the pointer in the struct, the buffer, and whether the kernel writes it.
    pub pointers: Vec<(usize, &'a Tensor, bool)>,
}

impl<'a> Arg<'a> {
    /// A buffer to read, or a null pointer.
    pub(super) fn maybe(tensor: Option<&'a Tensor>) -> Self {
        tensor.map_or(Self::Absent, Self::In)
    }

    /// A buffer to write, or a null pointer.
    pub(super) fn maybe_out(tensor: Option<&'a Tensor>) -> Self {
        tensor.map_or(Self::Absent, Self::Out)
    }

    /// A size or an index.
    pub(super) fn size(value: usize) -> Self {
        Self::Int(size(value))
    }

    /// Whether it holds a size that kernels cannot take.
    fn too_large(&self) -> bool {
        match self {
            Self::Int(value) => *value == TOO_LARGE,
            // Fields are aligned to four bytes, and pointers are still zero.
            Self::Struct(StructArg { bytes, .. }) => {
                bytes.chunks_exact(4).any(|field| field == TOO_LARGE.to_ne_bytes())
            }
            _ => false,
        }
    }
}

/// Stands for a size that kernels cannot take; [`Gpu::launch`] refuses it.
const TOO_LARGE: i32 = i32::MAX;

/// The largest size. A kernel's index into that many rows may step over their end by up to 2²¹.
const LARGEST: usize = (1 << 31) - (1 << 22);

/// A size as kernels take it, in 32 bits.
pub(super) fn size(value: usize) -> i32 {
    if value <= LARGEST { value as i32 } else { TOO_LARGE }
}

/// A row-major matrix in a contiguous tensor, beginning at its first value.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub tensor: &'a Tensor,
    /// Rows and columns as they are stored.
    pub rows: usize,
    pub columns: usize,
    /// Values from one row to the next.
    pub pitch: usize,
    /// Whether the product takes the transpose.
    pub transposed: bool,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow each other.
    pub(super) fn new(tensor: &'a Tensor, rows: usize, columns: usize) -> Self {
        Self { tensor, rows, columns, pitch: columns, transposed: false }
    }

    /// Its transpose.
    pub(super) fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Rows and columns as the product sees them.
    fn shape(&self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }
}

/// A matrix product in the conventions of cuBLAS: column-major, C \[m, n\] = α op(A) op(B) + β C.
pub(super) struct Gemm<'a> {
    pub transpose_a: bool,
    pub transpose_b: bool,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub alpha: f32,
    pub a: &'a Tensor,
    pub lda: usize,
    pub b: &'a Tensor,
    pub ldb: usize,
    pub beta: f32,
    pub c: &'a Tensor,
    pub ldc: usize,
}

/// What runs the launches for a tensor's device.
#[derive(Clone)]
pub(super) enum Gpu {
    #[cfg(feature = "cuda")]
    Cuda(cuda::Cuda),
    #[cfg(feature = "emulator")]
    Emulated(&'static emulator::Emulator),
}

impl Gpu {
    /// What runs the launches for this device; `None` for the CPU.
    ///
    /// # Errors
    /// When nothing here can compute on the device.
    pub(super) fn of(device: &Device) -> Result<Option<Self>> {
        match device {
            #[cfg(feature = "emulator")]
            Device::Cpu => Ok(emulator::active().map(Self::Emulated)),
            #[cfg(not(feature = "emulator"))]
            Device::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => Ok(Some(Self::Cuda(cuda::Cuda::of(device)?))),
            #[allow(unreachable_patterns)]
            device => no_kernel("this program", device),
        }
    }

    /// A tensor for a kernel to write in full; its content is arbitrary (NaN on the emulator).
    ///
    /// # Errors
    /// When the GPU is out of memory.
    pub(super) fn output(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        self.empty(shape.into(), DType::F32)
    }

    /// [`Gpu::output`] in f64, for partial sums.
    ///
    /// # Errors
    /// When the GPU is out of memory.
    pub(super) fn output_f64(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        self.empty(shape.into(), DType::F64)
    }

    fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ref cuda) => cuda.empty(shape, dtype),
            #[cfg(feature = "emulator")]
            Self::Emulated(_) => emulator::empty(shape, dtype),
        }
    }

    /// Launches a kernel; does not wait for it.
    ///
    /// # Errors
    /// When the kernel cannot be compiled or launched.
    pub(super) fn launch(&self, launch: &Launch, args: &[Arg<'_>]) -> Result<()> {
        let (x, y, z) = launch.grid;
        if x * y * z == 0 {
            return Ok(());
        }
        if [x, y, z].map(size).contains(&TOO_LARGE) || args.iter().any(Arg::too_large) {
            bail!("{}: a size is larger than {LARGEST}", launch.kernel);
        }
        traffic::launched();
        match *self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ref cuda) => cuda.launch(launch, args),
            #[cfg(feature = "emulator")]
            Self::Emulated(emulator) => emulator.launch(launch, args),
        }
    }

    /// c = a · b, or c += a · b where `accumulate`, all row-major.
    ///
    /// # Errors
    /// When the shapes do not fit or cuBLAS fails.
    pub(super) fn matmul(
        &self,
        a: Matrix<'_>,
        b: Matrix<'_>,
        c: Matrix<'_>,
        accumulate: bool,
    ) -> Result<()> {
        self.product([a, b, c], accumulate, precision())
    }

    /// c = a · b, never with operands that are rounded to TF32.
    ///
    /// # Errors
    /// As [`Gpu::matmul`].
    pub(super) fn matmul_f32(&self, a: Matrix<'_>, b: Matrix<'_>, c: Matrix<'_>) -> Result<()> {
        self.product([a, b, c], false, Precision::F32)
    }

    fn product(
        &self,
        [a, b, c]: [Matrix<'_>; 3],
        accumulate: bool,
        precision: Precision,
    ) -> Result<()> {
        let ((rows, depth), (b_rows, columns)) = (a.shape(), b.shape());
        if b_rows != depth || c.shape() != (rows, columns) || c.transposed {
            bail!("matmul: {:?} by {:?} is not {:?}", a.shape(), b.shape(), c.shape());
        }
        if rows * columns == 0 {
            return Ok(());
        }
        let sizes = [rows, columns, depth, a.pitch, b.pitch, c.pitch];
        if sizes.map(size).contains(&TOO_LARGE) {
            bail!("matmul: a size of {sizes:?} is larger than {LARGEST}");
        }
        // A row-major matrix is the transpose of a column-major one, and Cᵀ = Bᵀ Aᵀ.
        let gemm = Gemm {
            transpose_a: b.transposed,
            transpose_b: a.transposed,
            m: columns,
            n: rows,
            k: depth,
            alpha: 1.0,
            a: b.tensor,
            lda: b.pitch,
            b: a.tensor,
            ldb: a.pitch,
            beta: if accumulate { 1.0 } else { 0.0 },
            c: c.tensor,
            ldc: c.pitch,
        };
        traffic::launched();
        match *self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ref cuda) => cuda.gemm(&gemm, precision),
            #[cfg(feature = "emulator")]
            Self::Emulated(emulator) => emulator.gemm(&gemm, precision),
        }
    }
}

/// The kernels for tensors on a device.
///
/// # Errors
/// When nothing here can compute on the device.
pub fn backend(device: &Device) -> Result<Backend> {
    Ok(match Gpu::of(device)? {
        None => Backend::Cpu,
        #[cfg(feature = "cuda")]
        Some(Gpu::Cuda(_)) => Backend::Gpu,
        #[cfg(feature = "emulator")]
        Some(Gpu::Emulated(_)) => Backend::EmulatedGpu,
    })
}

static PRECISION: AtomicU8 = AtomicU8::new(Precision::F32 as u8);

/// How matrix products on a GPU round their operands from now on.
pub fn set_precision(precision: Precision) {
    PRECISION.store(precision as u8, Ordering::Relaxed);
}

fn precision() -> Precision {
    if PRECISION.load(Ordering::Relaxed) == Precision::Tf32 as u8 {
        Precision::Tf32
    } else {
        Precision::F32
    }
}
