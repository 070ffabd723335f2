//! Copies batches to the GPU while it computes.
//!
//! A copy from ordinary memory waits until the GPU has done everything that was launched before. From
//! pinned memory, on a stream of its own, it does not. The values go through one of two slots: pinned
//! memory, from there to a buffer of the slot on the GPU (copy stream), from there to the tensor
//! (compute stream). The last copy is within the GPU's memory and takes little time. It lets the tensor
//! be allocated and freed in the order of the compute stream, like all others.

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use cudarc::driver::result::{free_host, malloc_host, memcpy_dtod_async, memcpy_htod_async};
use cudarc::driver::{CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, sys};
use std::sync::Arc;

/// Smaller uploads need no slot: the driver copies their values before it returns.
pub(super) const SMALLEST: usize = 64 << 10;

/// Two slots, so that one is filled while the other is copied.
pub(super) struct Uploads {
    compute: Arc<CudaStream>,
    copy: Arc<CudaStream>,
    slots: [Option<Slot>; 2],
    next: usize,
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
        Ok(Self { compute, copy, slots: [const { None }; 2], next: 0 })
    }

    /// Copies `values` to `address`, in the order of the compute stream. Returns once they are in pinned
    /// memory.
    pub(super) fn upload(&mut self, values: &[f32], address: sys::CUdeviceptr) -> Result<()> {
        self.next = (self.next + 1) % self.slots.len();
        let slot = &mut self.slots[self.next];
        if slot.as_ref().is_none_or(|slot| slot.host.len < values.len()) {
            // The old one is freed first, once the GPU is done with it.
            *slot = None;
            *slot = Some(Slot::new(&self.copy, values.len())?);
        }
        let Some(slot) = slot else { return Ok(()) };
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
