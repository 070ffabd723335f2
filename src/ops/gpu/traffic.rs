//! Counts what a step asks of the GPU and what it moves between it and the host.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the program began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Kernels and matrix products.
    pub launches: u64,
    pub uploads: u64,
    pub uploaded_bytes: u64,
    /// Each waits for the GPU.
    pub downloads: u64,
    pub downloaded_bytes: u64,
}

static LAUNCHES: AtomicU64 = AtomicU64::new(0);
static UPLOADS: AtomicU64 = AtomicU64::new(0);
static UPLOADED: AtomicU64 = AtomicU64::new(0);
static DOWNLOADS: AtomicU64 = AtomicU64::new(0);
static DOWNLOADED: AtomicU64 = AtomicU64::new(0);

impl Traffic {
    /// The counts so far.
    #[must_use]
    pub fn now() -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            launches: read(&LAUNCHES),
            uploads: read(&UPLOADS),
            uploaded_bytes: read(&UPLOADED),
            downloads: read(&DOWNLOADS),
            downloaded_bytes: read(&DOWNLOADED),
        }
    }

    /// The counts since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            launches: self.launches - earlier.launches,
            uploads: self.uploads - earlier.uploads,
            uploaded_bytes: self.uploaded_bytes - earlier.uploaded_bytes,
            downloads: self.downloads - earlier.downloads,
            downloaded_bytes: self.downloaded_bytes - earlier.downloaded_bytes,
        }
    }
}

pub(super) fn launched() {
    LAUNCHES.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn uploaded(bytes: usize) {
    UPLOADS.fetch_add(1, Ordering::Relaxed);
    UPLOADED.fetch_add(bytes as u64, Ordering::Relaxed);
}

pub(super) fn downloaded(bytes: usize) {
    DOWNLOADS.fetch_add(1, Ordering::Relaxed);
    DOWNLOADED.fetch_add(bytes as u64, Ordering::Relaxed);
}
