//! How much working memory an operator takes at once: it works on a few images at a time.

use crate::tiling;
use std::sync::atomic::{AtomicUsize, Ordering};

static VALUES: AtomicUsize = AtomicUsize::new(tiling::GPU_SCRATCH_VALUES);

/// For tests: from now on, the working memory of a chunk of images has about this many values, so that
/// small batches have several chunks.
pub fn limit_scratch(values: usize) {
    VALUES.store(values, Ordering::Relaxed);
}

/// Images in one chunk of a batch, where each takes `values` values of working memory; the last chunk
/// may have fewer.
pub(in crate::ops) fn chunk_images(images: usize, values: usize) -> usize {
    tiling::gpu_chunk_images(images, values, VALUES.load(Ordering::Relaxed))
}
