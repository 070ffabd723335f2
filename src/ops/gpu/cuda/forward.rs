//! The driver's functions, as symbols of this program that jump into the driver's library once it is
//! open.
//!
//! candle links the driver's library, and a program that needs a library does not start without it. With
//! these symbols the linker does not need the library, so the same program runs where there is no
//! driver, such as the login node of a cluster. Only calls to a GPU fail there.

#![allow(unsafe_code, non_snake_case, non_upper_case_globals)]

use crate::ops::gpu::driver::Driver;
use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Lets the functions below call this driver.
pub(super) fn forward_to(driver: Driver) {
    for (name, slot) in FUNCTIONS {
        let symbol = driver.symbol(name);
        let missing = missing as *mut ();
        slot.store(if symbol.is_null() { missing } else { symbol.cast() }, Ordering::Release);
    }
}

// Numbers of `cuda.h`.
const NOT_INITIALIZED: c_int = 3;
const NOT_SUPPORTED: c_int = 801;

/// Stands for every function before [`forward_to`].
extern "C" fn not_open() -> c_int {
    NOT_INITIALIZED
}

/// Stands for a function that this driver lacks.
extern "C" fn missing() -> c_int {
    NOT_SUPPORTED
}

/// A function jumps to the address in its slot. It has touched neither arguments nor stack, so it need
/// not know its own type.
macro_rules! forward {
    ($($name:ident)*) => {
        mod slots {
            use super::*;
            $(pub(super) static $name: AtomicPtr<()> = AtomicPtr::new(not_open as *mut ());)*
        }

        $(
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                #[cfg(target_arch = "x86_64")]
                std::arch::naked_asm!("jmp qword ptr [rip + {slot}]", slot = sym slots::$name);
                // x16 is free for jumps between functions.
                #[cfg(target_arch = "aarch64")]
                std::arch::naked_asm!(
                    "adrp x16, {slot}",
                    "ldr x16, [x16, :lo12:{slot}]",
                    "br x16",
                    slot = sym slots::$name,
                );
            }
        )*

        static FUNCTIONS: &[(&CStr, &AtomicPtr<()>)] = &[$(
            (
                match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                },
                &slots::$name,
            ),
        )*];

        /// Refers to every function, so that a linker that reads libraries in order finds them here.
        #[used]
        static REFERENCES: &[unsafe extern "C" fn()] = &[$($name),*];
    };
}

// What cudarc calls, and `cuda`. A program that lacks one does not link.
forward! {
    cuCtxCreate_v3 cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxGetCacheConfig cuCtxGetCurrent cuCtxGetLimit
    cuCtxGetStreamPriorityRange cuCtxSetCacheConfig cuCtxSetCurrent cuCtxSetFlags cuCtxSetLimit
    cuCtxSynchronize cuDestroyExternalMemory cuDeviceGet cuDeviceGetAttribute cuDeviceGetCount
    cuDeviceGetDefaultMemPool cuDeviceGetMemPool cuDeviceGetName cuDeviceGetUuid cuDeviceGetUuid_v2
    cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxRetain cuDeviceSetMemPool cuDeviceTotalMem_v2
    cuDriverGetVersion cuEventCreate cuEventDestroy_v2 cuEventElapsedTime cuEventElapsedTime_v2
    cuEventQuery cuEventRecord cuEventSynchronize cuExternalMemoryGetMappedBuffer cuFuncGetAttribute
    cuFuncGetParamInfo cuFuncSetAttribute cuFuncSetCacheConfig cuGetErrorName cuGetErrorString
    cuGraphDestroy cuGraphExecDestroy cuGraphInstantiateWithFlags cuGraphLaunch cuGraphUpload
    cuImportExternalMemory cuInit cuLaunchCooperativeKernel cuLaunchHostFunc cuLaunchKernel
    cuMemAdvise_v2 cuMemAllocAsync cuMemAllocFromPoolAsync cuMemAllocManaged cuMemAlloc_v2
    cuMemFreeAsync cuMemFreeHost cuMemFree_v2 cuMemGetInfo_v2 cuMemHostAlloc cuMemPoolCreate
    cuMemPoolDestroy cuMemPoolGetAttribute cuMemPoolSetAttribute cuMemPoolTrimTo
    cuMemPrefetchAsync_v2 cuMemcpyDtoDAsync_v2 cuMemcpyDtoD_v2 cuMemcpyDtoHAsync_v2 cuMemcpyDtoH_v2
    cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2 cuMemcpyPeerAsync cuMemsetD8Async cuMemsetD8_v2
    cuModuleGetFunction cuModuleGetGlobal_v2 cuModuleLoad cuModuleLoadData cuModuleUnload
    cuOccupancyAvailableDynamicSMemPerBlock cuOccupancyMaxActiveBlocksPerMultiprocessor
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags cuOccupancyMaxActiveClusters
    cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags
    cuOccupancyMaxPotentialClusterSize cuProfilerStart cuProfilerStop cuStreamAttachMemAsync
    cuStreamBeginCapture_v2 cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2
    cuStreamEndCapture cuStreamIsCapturing cuStreamSynchronize cuStreamWaitEvent
}
