//! Sums over a batch, taken in two stages: a kernel writes one row per part, and this adds up the rows
//! in a fixed order.

use super::{Arg, Gpu, Launch, Source, WARP, source};
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("sums");

/// Threads of a block that sums columns: eight rows of a warp each.
pub(in crate::ops) const SUM_BLOCK: usize = 8 * WARP;

/// Bytes of shared memory of [`SUM_BLOCK`] threads that call `column_sum`.
pub(in crate::ops) const SUM_SHARED: usize = SUM_BLOCK * size_of::<f64>();

/// How a sum over `rows` rows of `c` channels is divided: `parts` parts of `rows` rows. A part is small
/// enough for a thread's sum in f32, and there are enough of them to fill a large GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) struct Parts {
    pub parts: usize,
    pub rows: usize,
}

impl Parts {
    pub(in crate::ops) fn of(rows: usize, c: usize) -> Self {
        let rows_each = crate::tiling::gpu_part_rows(rows, c);
        Self { parts: rows.div_ceil(rows_each).max(1), rows: rows_each }
    }

    /// The grid of a kernel whose blocks take 32 channels of one part.
    pub(in crate::ops) fn grid(&self, c: usize) -> (usize, usize, usize) {
        (c.div_ceil(WARP), self.parts, 1)
    }
}

/// parts `[count, width]` (f64) → `[width]` (f64).
///
/// # Errors
/// When the launch fails.
pub(in crate::ops) fn total(gpu: &Gpu, parts: &Tensor) -> Result<Tensor> {
    let (count, width) = parts.dims2()?;
    let total = gpu.output_f64(width)?;
    let launch = Launch {
        source: SOURCE,
        kernel: "total_parts",
        grid: (width.div_ceil(WARP), 1, 1),
        block: SUM_BLOCK,
        shared: SUM_SHARED,
    };
    let args = [Arg::In(parts), Arg::Out(&total), Arg::size(count), Arg::size(width)];
    gpu.launch(&launch, &args)?;
    Ok(total)
}

/// parts `[count, …]` (f32) → `[…]`, summed in f64.
///
/// # Errors
/// When the launch fails.
pub(in crate::ops) fn total_f32(gpu: &Gpu, parts: &Tensor) -> Result<Tensor> {
    let shape = &parts.dims()[1..];
    let (count, width) = (parts.dim(0)?, shape.iter().product::<usize>());
    let total = gpu.output(shape)?;
    let launch = Launch {
        source: SOURCE,
        kernel: "total_parts_f32",
        grid: (width.div_ceil(256), 1, 1),
        block: 256,
        shared: 0,
    };
    let args = [Arg::In(parts), Arg::Out(&total), Arg::size(count), Arg::size(width)];
    gpu.launch(&launch, &args)?;
    Ok(total)
}
