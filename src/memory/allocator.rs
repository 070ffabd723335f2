//! The allocator of the whole process: it counts every byte, and keeps the pages of freed large blocks
//! for the next ones.
//!
//! A training step frees and allocates the same large buffers again and again. Pages that were returned
//! to the operating system come back zeroed, with a page fault each. A general allocator that keeps them
//! fragments, and its resident size grows beyond the bytes in use. Here, freed pages are kept as long as
//! they and the pages in use are no more than were ever in use at once; beyond that, some are returned
//! before new ones are mapped. So the resident size follows the bytes in use, which the memory study
//! is about.
//!
//! Blocks of at least 512 bytes begin at a cache line. A load that crosses two lines takes twice as long; a
//! depthwise convolution ran at less than half its speed.
//!
//! Why it is not mimalloc (0.1.52) or jemalloc (0.6.1): the sequence of blocks of a masked step of the F
//! space on CIFAR-10, from the memory model, replayed 20 times on one thread, every page touched. CPU
//! time is that of allocation and page faults in one step, which takes 300 to 600 ms. The machine was
//! busy; resident sizes and page faults do not depend on that.
//!
//! | batch 64 | in use | resident | page faults per step | CPU per step |
//! |---|--:|--:|--:|--:|
//! | this allocator | 192.6 MiB | 198.6 MiB | 1,940 | 6 ms |
//! | mimalloc | 192.6 MiB | 263.0 MiB | 0 | 2 ms |
//! | jemalloc | 192.6 MiB | 222.1 MiB | 18,185 | 37 ms |
//! | system (glibc) | 192.6 MiB | 197.7 MiB | 2,139 | 5 ms |
//! | this allocator, blocks recomputed | 74.0 MiB | 77.5 MiB | 6,830 | 14 ms |
//! | mimalloc, blocks recomputed | 74.0 MiB | 147.0 MiB | 0 | 2 ms |
//! | jemalloc, blocks recomputed | 74.0 MiB | 102.2 MiB | 18,897 | 39 ms |
//! | system (glibc), blocks recomputed | 74.0 MiB | 96.6 MiB | 12,227 | 27 ms |
//!
//! mimalloc saves at most 3 % of a step and takes 32 to 90 % more memory. Told to return pages at once,
//! mimalloc and jemalloc take at least 189 ms per step. glibc does well on one thread; in a real step
//! with two threads it took 203.8 and 102.1 MiB, this allocator 198.5 and 77.0 (benches/VERSIONS.md).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes allocated now, and the most since the last [`reset_peak`].
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

pub(super) fn live() -> usize {
    LIVE.load(Relaxed)
}

pub(super) fn peak() -> usize {
    PEAK.load(Relaxed)
}

pub(super) fn reset_peak() {
    PEAK.store(live(), Relaxed);
}

/// Returns all kept pages to the operating system.
pub(super) fn release() {
    #[cfg(unix)]
    pages::release();
}

struct Counting;

/// Smaller blocks, in bytes, are not read in a kernel's inner loop.
const VECTORS: usize = 512;

/// Bytes of a cache line, and of a vector of 16 channels.
const LINE: usize = 64;

/// The layout of a block as `System` sees it.
fn aligned(layout: Layout) -> Layout {
    let align = if layout.size() < VECTORS { layout.align() } else { layout.align().max(LINE) };
    // What cannot be aligned is too large for any allocator.
    Layout::from_size_align(layout.size(), align).unwrap_or(layout)
}

fn count_more(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
    #[cfg(feature = "emulator")]
    super::emulated::count_more(bytes);
}

fn count_less(bytes: usize) {
    LIVE.fetch_sub(bytes, Relaxed);
    #[cfg(feature = "emulator")]
    super::emulated::count_less(bytes);
}

// SAFETY: the layout alone decides whether a block comes from `System` or from pages of its own, so
// each block is freed where it was allocated; counting touches no block.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: upheld by the caller.
        let block = unsafe { take(layout, false) };
        if !block.is_null() {
            count_more(layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: upheld by the caller.
        let block = unsafe { take(layout, true) };
        if !block.is_null() {
            count_more(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count_less(layout.size());
        #[cfg(unix)]
        if pages::are_for(layout) {
            pages::free(block, layout.size());
            return;
        }
        // SAFETY: upheld by the caller; the block came from `System`.
        unsafe { System.dealloc(block, aligned(layout)) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size`, rounded up, does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if layout.size().max(size) < VECTORS {
            // SAFETY: upheld by the caller; the block came from `System` and stays there.
            let moved = unsafe { System.realloc(block, layout, size) };
            if !moved.is_null() {
                count_less(layout.size());
                count_more(size);
            }
            return moved;
        }
        // `System` would not keep the alignment of a block that it moves.
        // SAFETY: upheld by the caller; both blocks hold at least as many bytes as are copied.
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// A block, zeroed if asked for; null if there is no memory.
///
/// # Safety
/// As [`GlobalAlloc::alloc`].
#[allow(unsafe_code)]
unsafe fn take(layout: Layout, zeroed: bool) -> *mut u8 {
    #[cfg(unix)]
    if pages::are_for(layout) {
        let Some((block, is_zero)) = pages::take(layout.size()) else {
            return std::ptr::null_mut();
        };
        if zeroed && !is_zero {
            // SAFETY: the block is new and holds at least as many bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        return block;
    }
    let layout = aligned(layout);
    // SAFETY: upheld by the caller.
    unsafe { if zeroed { System.alloc_zeroed(layout) } else { System.alloc(layout) } }
}

#[cfg(unix)]
mod pages {
    use crate::memory::spans::{PAGE, Span, Spans};
    use std::alloc::Layout;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Smaller blocks go to the system allocator, which is faster; in total they are few bytes.
    const LARGE: usize = 128 << 10;

    static SPANS: Mutex<Spans> = Mutex::new(Spans::new());

    fn spans() -> MutexGuard<'static, Spans> {
        SPANS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn are_for(layout: Layout) -> bool {
        layout.size() >= LARGE && layout.align() <= PAGE
    }

    /// A block of `size` bytes, and whether it is known to be all zeros.
    pub fn take(size: usize) -> Option<(*mut u8, bool)> {
        let mut spans = spans();
        let len = size.checked_next_multiple_of(PAGE)?;
        if let Some(start) = spans.take(len) {
            return Some((start as *mut u8, false));
        }
        spans.map_new(len, unmap);
        let start = map(len);
        if start.is_none() {
            spans.map_failed(len);
        }
        start.map(|start| (start, true))
    }

    pub fn free(block: *mut u8, size: usize) {
        let span = Span { start: block as usize, len: size.next_multiple_of(PAGE) };
        if let Some(span) = spans().free(span) {
            unmap(span);
        }
    }

    pub fn release() {
        spans().release_all(unmap);
    }

    #[allow(unsafe_code)]
    fn map(len: usize) -> Option<*mut u8> {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: it maps new pages at an address of the system's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
        (start != libc::MAP_FAILED).then_some(start.cast())
    }

    #[allow(unsafe_code)]
    fn unmap(span: Span) {
        // SAFETY: whole pages that came from `map` and belong to no block any more. If it fails, they
        // stay mapped and nothing else happens.
        unsafe { libc::munmap(span.start as *mut libc::c_void, span.len) };
    }
}
