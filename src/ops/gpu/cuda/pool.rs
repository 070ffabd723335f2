//! The memory of a GPU.

use candle_core::cuda_backend::WrapErr;
use candle_core::{Result, bail};
use cudarc::driver::result::{device, mem_get_info};
use cudarc::driver::{CudaContext, sys};
use sys::CUmemPool_attribute_enum as Attribute;

/// The driver's default pool, from which candle takes the memory of tensors.
pub(super) struct Pool(sys::CUmemoryPool);

// SAFETY: a handle of the driver, which may be used by any thread.
#[allow(unsafe_code)]
unsafe impl Send for Pool {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Pool {}

impl Pool {
    /// Freed memory stays in the pool. By default it returns to the driver whenever the program waits
    /// for the GPU, and the next step would have to take it again, piece by piece.
    pub(super) fn new(context: &CudaContext) -> Result<Self> {
        if !context.has_async_alloc() {
            bail!("this GPU or its driver has no memory pools");
        }
        // SAFETY: the context exists, and with it the device and its pool.
        #[allow(unsafe_code)]
        let pool = Self(unsafe { device::get_default_mem_pool(context.cu_device()) }.w()?);
        pool.set(Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
        Ok(pool)
    }

    /// Bytes of tensors now.
    pub(super) fn used(&self) -> Result<u64> {
        self.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
    }

    /// The most bytes of tensors at once since [`Pool::reset_peak`].
    pub(super) fn peak(&self) -> Result<u64> {
        self.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
    }

    pub(super) fn reset_peak(&self) -> Result<()> {
        self.set(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
    }

    /// Bytes that the pool has taken from the driver.
    pub(super) fn reserved(&self) -> Result<u64> {
        self.get(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)
    }

    fn get(&self, attribute: Attribute) -> Result<u64> {
        let mut value = 0u64;
        // SAFETY: these attributes are numbers of 64 bits.
        #[allow(unsafe_code)]
        unsafe { sys::cuMemPoolGetAttribute(self.0, attribute, (&raw mut value).cast()) }
            .result()
            .w()?;
        Ok(value)
    }

    fn set(&self, attribute: Attribute, mut value: u64) -> Result<()> {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe { sys::cuMemPoolSetAttribute(self.0, attribute, (&raw mut value).cast()) }
            .result()
            .w()
    }
}

/// Free bytes and all bytes of the thread's GPU, whoever uses them.
pub(super) fn free_and_total() -> Result<(u64, u64)> {
    let (free, total) = mem_get_info().w()?;
    Ok((free as u64, total as u64))
}
