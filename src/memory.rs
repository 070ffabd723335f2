//! Bytes in use, counted by the allocator itself.
//!
//! Every allocation of the process goes through a counter, so live and peak bytes are exact and
//! can be reset between phases. What the operating system saw (`VmHWM`) is the cross-check.

mod allocator;
mod spans;
mod trace;

pub use trace::{Peak, Peaks, begin_trace, end_trace, gradients_made, keep, map_made};

/// Gives what is kept of freed memory back to the operating system, where it can be asked: the
/// resident size then says what is in use.
pub fn release_freed_memory() {
    allocator::release();
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
    allocator::live() as u64
}

/// The most bytes allocated at once since the last [`reset_peak`].
#[must_use]
pub fn peak_bytes() -> u64 {
    allocator::peak() as u64
}

/// Starts a new peak from what is live now.
pub fn reset_peak() {
    allocator::reset_peak();
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

/// How much of it is pages of files: of the program itself, which come as they are first used.
#[must_use]
pub fn resident_file_bytes() -> Option<u64> {
    status_bytes("RssFile:")
}

/// Bytes that can still be used, by this process' share of the machine too, where the operating
/// system tells (Linux).
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = kib_of(&meminfo, "MemAvailable:")?;
    Some(share_bytes().map_or(machine, |share| machine.min(share)))
}

/// What a limit of the process' control group (version 2) leaves; `None` without a limit.
fn share_bytes() -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (limit, used) = (number(&read("max")?)?, number(&read("current")?)?);
    // Files that are only cached give way.
    let stat = read("stat").unwrap_or_default();
    let of = |name: &str| stat.lines().find_map(|line| number(line.strip_prefix(name)?));
    let cached = ["inactive_file ", "active_file "].into_iter().filter_map(of).sum();
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

/// Starts the high-water mark anew from the present size, where the operating system can (Linux).
pub fn reset_high_water() {
    // Without it the mark is that of the whole process, which is still an upper bound.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kib_of(&status, field)
}

/// The bytes of a line such as `VmRSS:   1024 kB`.
fn kib_of(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
