//! The memory of an emulated GPU: blocks of the host, counted in the units of a GPU's memory pool.
//!
//! A tensor frees its block by itself, so only the allocator sees the end of each. It knows the blocks of
//! tensors by their sizes: a multiple of [`UNIT`], and [`MARK`] more. Blocks of the host have such a size
//! by chance only.

use super::TensorMemory;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of which a tensor takes a multiple.
pub const UNIT: usize = 512;

/// Bytes that the block of a tensor is larger than what it counts as. A multiple of four and of eight.
pub const MARK: usize = 264;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// What a block of `size` bytes counts as.
fn of_tensor(size: usize) -> usize {
    if size % UNIT == MARK { size - MARK } else { 0 }
}

pub(super) fn count_more(size: usize) {
    let bytes = of_tensor(size);
    if bytes > 0 {
        let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(live, Relaxed);
    }
}

pub(super) fn count_less(size: usize) {
    LIVE.fetch_sub(of_tensor(size), Relaxed);
}

/// The tensors of the emulated GPU.
#[derive(Clone, Copy, Debug)]
pub struct EmulatedMemory;

impl TensorMemory for EmulatedMemory {
    fn live(&self) -> u64 {
        LIVE.load(Relaxed) as u64
    }

    fn peak(&self) -> u64 {
        PEAK.load(Relaxed) as u64
    }

    fn reset_peak(&self) {
        PEAK.store(LIVE.load(Relaxed), Relaxed);
    }
}
