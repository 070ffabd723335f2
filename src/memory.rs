//! Bytes in use, counted by the allocator itself, or by the GPU that computes ([`count_by`]).
//!
//! Every allocation of the process is counted, so live and peak bytes are exact, and the peak can be
//! reset between phases. The operating system's own peak (`VmHWM`) is the cross-check.

mod allocator;
#[cfg(feature = "emulator")]
mod emulated;
mod limits;
mod spans;
mod trace;

#[cfg(feature = "emulator")]
pub use emulated::{EmulatedMemory, MARK as EMULATED_MARK, UNIT as EMULATED_UNIT};
pub use trace::{Peak, Peaks, add_scratch, begin_trace, end_trace, gradients_made, map_made};

use std::cell::Cell;
use std::sync::OnceLock;

/// Returns freed memory that the process still holds to the operating system, where that is possible.
/// Afterwards the resident size is what is in use.
pub fn release_freed_memory() {
    allocator::release();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim takes the allocator's lock and touches only free memory.
        #[allow(unsafe_code)]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// Counts the bytes of tensors that are not in host memory.
pub trait TensorMemory: Send + Sync {
    fn live(&self) -> u64;
    /// The most at once since [`TensorMemory::reset_peak`].
    fn peak(&self) -> u64;
    fn reset_peak(&self);
}

static ELSEWHERE: OnceLock<Box<dyn TensorMemory>> = OnceLock::new();

thread_local! {
    static ON_HOST: Cell<bool> = const { Cell::new(false) };
}

/// From now on, [`live_bytes`] and [`peak_bytes`] are those of `memory` instead of the host's.
pub fn count_by(memory: Box<dyn TensorMemory>) {
    // The program computes on one device.
    let _ = ELSEWHERE.set(memory);
}

/// Runs `f`, which computes on the CPU, with the host's counts even after [`count_by`].
pub fn on_host<T>(f: impl FnOnce() -> T) -> T {
    let before = ON_HOST.replace(true);
    let result = f();
    ON_HOST.set(before);
    result
}

fn elsewhere() -> Option<&'static dyn TensorMemory> {
    ELSEWHERE.get().filter(|_| !ON_HOST.get()).map(AsRef::as_ref)
}

/// Bytes allocated now.
#[must_use]
pub fn live_bytes() -> u64 {
    elsewhere().map_or_else(|| allocator::live() as u64, TensorMemory::live)
}

/// The most bytes allocated at once since the last [`reset_peak`].
#[must_use]
pub fn peak_bytes() -> u64 {
    elsewhere().map_or_else(|| allocator::peak() as u64, TensorMemory::peak)
}

/// Sets the peak to the bytes that are live now.
pub fn reset_peak() {
    match elsewhere() {
        Some(memory) => memory.reset_peak(),
        None => allocator::reset_peak(),
    }
}

/// The largest resident size of the process, where the operating system tells (Linux).
#[must_use]
pub fn high_water_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// The resident size now, where the operating system tells (Linux).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// The part of [`resident_bytes`] that is pages of files. Those of the program itself become resident
/// at their first use.
#[must_use]
pub fn resident_file_bytes() -> Option<u64> {
    status_bytes("RssFile:")
}

/// Bytes that this process can still take, where the operating system tells (Linux): the smallest of
/// the machine's available memory and what is left by the limits of the process' control groups and
/// by `RLIMIT_AS` and `RLIMIT_DATA`.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    limits::available_bytes()
}

/// Sets [`high_water_bytes`] to the resident size now, where the operating system can (Linux).
pub fn reset_high_water() {
    // If this fails, the mark is that of the whole process, which is still an upper bound.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn status_bytes(field: &str) -> Option<u64> {
    limits::kib_of(&std::fs::read_to_string("/proc/self/status").ok()?, field)
}
