//! Sums over a batch, taken in two stages: a kernel writes one row per part, and this adds up the rows
//! in a fixed order.

use super::{Arg, Gpu, Launch, Source, WARP, source};
use crate::ops::host::rows_of;
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

/// How sums over the pixels of each image are divided: `parts` parts of `pixels` pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) struct ImageParts {
    pub parts: usize,
    pub pixels: usize,
}

impl ImageParts {
    pub(in crate::ops) fn of(images: usize, pixels: usize, c: usize) -> Self {
        let pixels_each = crate::tiling::gpu_part_pixels(images, pixels, c);
        Self { parts: pixels.div_ceil(pixels_each).max(1), pixels: pixels_each }
    }

    /// The launch of a kernel whose blocks take 32 channels of one part of one image, and which writes
    /// `[parts, images, c]`.
    pub(in crate::ops) fn launch(
        &self,
        source: &'static Source,
        kernel: &'static str,
        images: usize,
        c: usize,
    ) -> Launch {
        let grid = (c.div_ceil(WARP), images, self.parts);
        Launch { source, kernel, grid, block: SUM_BLOCK, shared: SUM_SHARED }
    }

    /// parts `[parts, images, c]` → `[images, c]`.
    ///
    /// # Errors
    /// When the launch fails.
    pub(in crate::ops) fn total(&self, gpu: &Gpu, parts: &Tensor) -> Result<Tensor> {
        if self.parts > 1 { total_f32(gpu, parts) } else { parts.squeeze(0) }
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

/// x `[rows, width]` → the sum of its rows `[width]`: for matrices with a row per image.
///
/// # Errors
/// When the launch fails.
pub(in crate::ops) fn sum_columns(gpu: &Gpu, x: &Tensor) -> Result<Tensor> {
    let (rows, width) = rows_of(x)?;
    let sums = gpu.output(width)?;
    let launch = Launch {
        source: SOURCE,
        kernel: "sum_columns",
        grid: (width.div_ceil(WARP), 1, 1),
        block: SUM_BLOCK,
        shared: SUM_SHARED,
    };
    gpu.launch(&launch, &[Arg::In(x), Arg::Out(&sums), Arg::size(rows), Arg::size(width)])?;
    Ok(sums)
}
