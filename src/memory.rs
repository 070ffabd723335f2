//! Bytes in use, counted by the allocator itself.
//!
//! Every allocation of the process goes through a counter, so live and peak bytes are exact and
//! can be reset between phases. What the operating system saw (`VmHWM`) is the cross-check.

use peak_alloc::PeakAlloc;
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Asks the system's allocator to keep what is freed: a step frees and allocates the same large
/// buffers again and again, and pages that went back to the operating system come back zeroed, one
/// fault each. Without glibc there is nothing to ask.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // The most that glibc documents for blocks taken from its heap; and never trim the heap.
        const SETTINGS: [(libc::c_int, libc::c_int); 2] =
            [(libc::M_MMAP_THRESHOLD, 32 << 20), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX)];
        for (which, value) in SETTINGS {
            // A setting that is refused only costs time.
            // SAFETY: mallopt sets one number of the allocator, under its lock.
            #[allow(unsafe_code)]
            let _ = unsafe { libc::mallopt(which, value) };
        }
    }
}

/// Gives what is freed back to the operating system, where it can be asked (glibc): the resident
/// size then says what is in use.
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim takes the allocator's lock and touches only what is free.
        #[allow(unsafe_code)]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// Bytes allocated now.
#[must_use]
pub fn live_bytes() -> u64 {
    ALLOCATOR.current_usage() as u64
}

/// The most bytes allocated at once since the last [`reset_peak`].
#[must_use]
pub fn peak_bytes() -> u64 {
    ALLOCATOR.peak_usage() as u64
}

/// Starts a new peak from what is live now.
pub fn reset_peak() {
    ALLOCATOR.reset_peak_usage();
}

/// Who holds the bytes at the peak of a backward pass, above what was live when the trace began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    pub bytes: u64,
    /// Gradients that are there, and those that the operator at work gives.
    pub gradients: u64,
    /// What the forward pass, or a block that was computed again, left for the operators that have
    /// not run back yet.
    pub activations: u64,
    /// What the operator at work holds besides; a lower bound, for a gradient that it gives need
    /// not be there yet.
    pub scratch: u64,
}

struct Trace {
    base: u64,
    peak: Peak,
}

static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

/// Begins to look at who holds the bytes of backward passes. Until [`end_trace`] there is no other
/// use for [`peak_bytes`].
pub fn begin_trace() {
    let mut trace = TRACE.lock().unwrap_or_else(PoisonError::into_inner);
    *trace = Some(Trace { base: live_bytes(), peak: Peak::default() });
}

/// The highest peak since [`begin_trace`]; nothing when there was no backward pass.
#[must_use]
pub fn end_trace() -> Peak {
    let mut trace = TRACE.lock().unwrap_or_else(PoisonError::into_inner);
    trace.take().map(|trace| trace.peak).unwrap_or_default()
}

/// Runs one operator back. `held` bytes of gradients are there, its input among them; `made` tells
/// the bytes of those that it gives.
///
/// # Errors
/// Those of the operator.
pub fn traced<T, E>(
    held: impl Fn() -> u64,
    made: impl Fn(&T) -> u64,
    operator: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if TRACE.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        return operator();
    }
    let (held, before) = (held(), live_bytes());
    reset_peak();
    let output = operator()?;
    let peak = peak_bytes();
    if let Some(trace) = TRACE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let bytes = peak.saturating_sub(trace.base);
        if bytes > trace.peak.bytes {
            let activations = before.saturating_sub(trace.base + held);
            let gradients = held + made(&output);
            let scratch = bytes.saturating_sub(activations + gradients);
            trace.peak = Peak { bytes, gradients, activations, scratch };
        }
    }
    Ok(output)
}

/// The largest resident size that the operating system has seen, where it tells (Linux).
#[must_use]
pub fn high_water_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// The resident size now, where the operating system tells (Linux).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// Starts the high-water mark anew from the present size, where the operating system can (Linux).
pub fn reset_high_water() {
    // Without it the mark is that of the whole process, which is still an upper bound.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
