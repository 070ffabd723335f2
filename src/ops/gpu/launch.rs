//! How kernels are launched.

use super::WARP;

/// The source of one `.cu` file. Every kernel has a name of its own across all files.
pub(in crate::ops) struct Source {
    /// The file's name without its ending.
    pub name: &'static str,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub text: &'static str,
}

/// Names the `.cu` file beside the file that calls this.
macro_rules! source {
    ($name:literal) => {
        $crate::ops::gpu::Source { name: $name, text: include_str!(concat!($name, ".cu")) }
    };
}
pub(in crate::ops) use source;

/// Threads of a block, where nothing else decides.
const BLOCK: usize = 256;

/// The most blocks that a grid has in y and z. In x there may be 2³¹ - 1.
const MOST_BLOCKS: usize = 65_535;

/// A kernel's name, and how it is launched.
pub(in crate::ops) struct Launch {
    pub source: &'static Source,
    pub kernel: &'static str,
    pub grid: (usize, usize, usize),
    /// Threads of a block, a multiple of [`WARP`] and at most 1024.
    pub block: usize,
    /// Bytes of shared memory per block, at most 48 KiB.
    pub shared: usize,
}

impl Launch {
    /// A kernel with a thread for each of `count` values.
    pub(in crate::ops) fn values(
        source: &'static Source,
        kernel: &'static str,
        count: usize,
    ) -> Self {
        Self { source, kernel, grid: (count.div_ceil(BLOCK), 1, 1), block: BLOCK, shared: 0 }
    }

    /// A kernel that works on `rows` rows of c channels: a thread takes one channel of at least four
    /// rows.
    pub(in crate::ops) fn map(
        source: &'static Source,
        kernel: &'static str,
        rows: usize,
        c: usize,
    ) -> Self {
        let down = rows.div_ceil(4 * BLOCK / WARP).min(MOST_BLOCKS);
        Self { source, kernel, grid: (c.div_ceil(WARP), down, 1), block: BLOCK, shared: 0 }
    }

    /// A kernel that sums c columns at once: a block takes 32 of them, and its eight warps every eighth
    /// row.
    pub(in crate::ops) fn columns(source: &'static Source, kernel: &'static str, c: usize) -> Self {
        Self::one(source, kernel).with_blocks(c.div_ceil(WARP))
    }

    /// A kernel of one block whose threads share a sum.
    pub(in crate::ops) const fn one(source: &'static Source, kernel: &'static str) -> Self {
        Self { source, kernel, grid: (1, 1, 1), block: BLOCK, shared: BLOCK * size_of::<f64>() }
    }

    /// The same with so many blocks.
    pub(in crate::ops) fn with_blocks(self, blocks: usize) -> Self {
        Self { grid: (blocks, 1, 1), ..self }
    }

    /// The same with so many threads in a block, each with a double in shared memory.
    pub(in crate::ops) fn with_threads(self, block: usize) -> Self {
        Self { block, shared: block * size_of::<f64>(), ..self }
    }
}
