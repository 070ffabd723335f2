//! Copies values to the GPU while it computes.
//!
//! A copy from ordinary memory waits until the GPU has done everything that was launched before, or it
//! still reads that memory after the call. From pinned memory, on a stream of its own, it does neither.
//! The values go through a slot: pinned memory, from there to a buffer of the slot on the GPU (copy
//! stream), from there to the tensor (compute stream). The last copy is within the GPU's memory and takes
//! little time. It lets the tensor be allocated and freed in the order of the compute stream, like all
//! others.

use crate::ops::gpu::slots::Slots;
use crate::tiling::{GPU_LARGE_SLOTS, GPU_SMALL_SLOTS, GPU_SMALL_UPLOAD};
use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use cudarc::driver::result::{free_host, malloc_host, memcpy_dtod_async, memcpy_htod_async};
use cudarc::driver::{CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, sys};
use std::sync::Arc;

/// Slots that are used in turn. A slot can be filled again once the GPU has reached its last upload but
/// one, so their number is how many uploads the program may be ahead of the GPU.
pub(super) struct Uploads {
    compute: Arc<CudaStream>,
    copy: Arc<CudaStream>,
    /// For batches: one is filled while another is copied.
    large: Slots<Slot, GPU_LARGE_SLOTS>,
    /// For all that a step takes besides its batch. They never grow.
    small: Slots<Slot, GPU_SMALL_SLOTS>,
}

struct Slot {
    host: Pinned,
    device: CudaSlice<f32>,
    /// The pinned memory has been read.
    copied: CudaEvent,
    /// The buffer on the GPU has been read.
    taken: CudaEvent,
}

impl Uploads {
    pub(super) fn new(compute: Arc<CudaStream>) -> Result<Self> {
        let copy = compute.context().new_stream().w()?;
        Ok(Self { compute, copy, large: Slots::new(), small: Slots::new() })
    }

    /// Copies `values` to `address`, in the order of the compute stream. Returns once they are in pinned
    /// memory.
    pub(super) fn upload(&mut self, values: &[f32], address: sys::CUdeviceptr) -> Result<()> {
        let new = |len| Slot::new(&self.copy, len);
        let slot = if values.len() <= GPU_SMALL_UPLOAD {
            self.small.next(GPU_SMALL_UPLOAD, new)?
        } else {
            self.large.next(values.len(), new)?
        };
        slot.copied.synchronize().w()?;
        slot.host.write(values);
        self.copy.wait(&slot.taken).w()?;
        let staged = slot.device.device_ptr(&self.copy).0;
        // SAFETY: the slot and the tensor at `address` have room for all values. The pinned memory is
        // not written before `copied`, nor the slot's buffer before `taken`.
        #[allow(unsafe_code)]
        unsafe {
            let values = slot.host.values(values.len());
            memcpy_htod_async(staged, values, self.copy.cu_stream()).w()?;
            slot.copied.record(&self.copy).w()?;
            self.compute.wait(&slot.copied).w()?;
            let bytes = size_of_val(values);
            memcpy_dtod_async(address, staged, bytes, self.compute.cu_stream()).w()?;
        }
        slot.taken.record(&self.compute).w()
    }
}

impl Slot {
    fn new(copy: &Arc<CudaStream>, len: usize) -> Result<Self> {
        let context = copy.context();
        let event = || context.new_event(Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)).w();
        Ok(Self {
            host: Pinned::new(context, len)?,
            // SAFETY: it is written before it is read.
            #[allow(unsafe_code)]
            device: unsafe { copy.alloc(len) }.w()?,
            copied: event()?,
            taken: event()?,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Errors show at the next use of the GPU.
        let _ = self.copied.synchronize();
        let _ = self.taken.synchronize();
    }
}

/// Memory of the host that the GPU reads by itself.
struct Pinned {
    data: *mut f32,
    len: usize,
    context: Arc<CudaContext>,
}

// SAFETY: it owns its memory.
#[allow(unsafe_code)]
unsafe impl Send for Pinned {}

#[allow(unsafe_code)]
impl Pinned {
    fn new(context: &Arc<CudaContext>, len: usize) -> Result<Self> {
        context.bind_to_thread().w()?;
        // SAFETY: the thread has a context.
        let data = unsafe { malloc_host(len * size_of::<f32>(), 0) }.w()?.cast::<f32>();
        // SAFETY: the memory is new, aligned to a page, and has this length.
        unsafe { data.write_bytes(0, len) };
        Ok(Self { data, len, context: context.clone() })
    }

    fn write(&mut self, values: &[f32]) {
        // SAFETY: the memory is initialised and nothing else refers to it while `self` is borrowed.
        let all = unsafe { std::slice::from_raw_parts_mut(self.data, self.len) };
        all[..values.len()].copy_from_slice(values);
    }

    fn values(&self, len: usize) -> &[f32] {
        // SAFETY: as above.
        let all = unsafe { std::slice::from_raw_parts(self.data, self.len) };
        &all[..len]
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the memory came from `malloc_host`, and the slot has waited for the GPU to read it.
        #[allow(unsafe_code)]
        let freed =
            unsafe { self.context.bind_to_thread().and_then(|()| free_host(self.data.cast())) };
        self.context.record_err(freed);
    }
}
