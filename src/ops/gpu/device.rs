//! GPUs as a whole: opening one, its memory, its errors.

use super::Gpu;
use super::driver::{GpuMemory, GpuProblem, Toolkit};
#[cfg(any(feature = "cuda", feature = "emulator"))]
use crate::memory::count_by;
use candle_core::{Device, Error, Result};

/// Opens GPU `number`. Kernels are compiled later, at their first use.
///
/// # Errors
/// Why it cannot be used.
#[cfg(feature = "cuda")]
pub fn open(number: usize) -> std::result::Result<Device, GpuProblem> {
    super::cuda::open(number)
}

/// Says that this program has no GPU support.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cuda"))]
pub fn open(_number: usize) -> std::result::Result<Device, GpuProblem> {
    Err(GpuProblem::NotBuilt)
}

/// What this program was built with; `None` without GPU support.
#[must_use]
pub fn toolkit() -> Option<Toolkit> {
    #[cfg(feature = "cuda")]
    let toolkit = Some(super::cuda::toolkit());
    #[cfg(not(feature = "cuda"))]
    let toolkit = None;
    toolkit
}

impl GpuMemory {
    /// What this program can still take for tensors.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.free + self.reserved.saturating_sub(self.used)
    }
}

/// The memory of a GPU; `None` for the CPU, and for an emulator without a limit.
///
/// # Errors
/// When the driver reports an error, which may be one of an earlier launch.
pub fn memory(device: &Device) -> Result<Option<GpuMemory>> {
    match Gpu::of(device)? {
        #[cfg(feature = "cuda")]
        Some(Gpu::Cuda(cuda)) => cuda.memory().map(Some),
        #[cfg(feature = "emulator")]
        Some(Gpu::Emulated(_)) => Ok(super::emulator::memory()),
        _ => Ok(None),
    }
}

/// The tensors of a GPU.
#[cfg(feature = "cuda")]
struct Tensors(Device);

#[cfg(feature = "cuda")]
impl crate::memory::TensorMemory for Tensors {
    fn live(&self) -> u64 {
        // An error shows in the next operator.
        memory(&self.0).ok().flatten().map_or(0, |memory| memory.used)
    }

    fn peak(&self) -> u64 {
        memory(&self.0).ok().flatten().map_or(0, |memory| memory.peak)
    }

    fn reset_peak(&self) {
        let _ = reset_peak(&self.0);
    }
}

/// From now on, peaks of memory are those of this GPU, or of the emulated one. Changes nothing for the CPU.
pub fn count_memory(device: &Device) {
    match Gpu::of(device) {
        #[cfg(feature = "cuda")]
        Ok(Some(Gpu::Cuda(_))) => count_by(Box::new(Tensors(device.clone()))),
        #[cfg(feature = "emulator")]
        Ok(Some(Gpu::Emulated(_))) => count_by(Box::new(crate::memory::EmulatedMemory)),
        _ => {}
    }
}

/// Sets the peak of [`memory`] to what is used now.
///
/// # Errors
/// As [`memory`].
pub fn reset_peak(device: &Device) -> Result<()> {
    match Gpu::of(device)? {
        #[cfg(feature = "cuda")]
        Some(Gpu::Cuda(cuda)) => cuda.reset_peak(),
        _ => Ok(()),
    }
}

/// Waits until everything that was launched is done, so that a clock can be read.
///
/// # Errors
/// When a launch failed.
pub fn synchronize(device: &Device) -> Result<()> {
    match Gpu::of(device)? {
        #[cfg(feature = "cuda")]
        Some(Gpu::Cuda(cuda)) => cuda.synchronize(),
        _ => Ok(()),
    }
}

/// Whether an error says that a GPU is out of memory.
#[must_use]
pub fn is_out_of_memory(error: &Error) -> bool {
    match error {
        #[cfg(feature = "cuda")]
        Error::Cuda(error) => super::cuda::is_out_of_memory(&**error),
        #[cfg(feature = "emulator")]
        Error::Msg(message) => message == super::emulator::OUT_OF_MEMORY,
        Error::Context { inner, .. }
        | Error::WithPath { inner, .. }
        | Error::WithBacktrace { inner, .. } => is_out_of_memory(inner),
        _ => false,
    }
}
