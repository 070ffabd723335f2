//! Sums over a batch, taken in two stages: a kernel writes one row per part, and this adds up the rows
//! in a fixed order.

use super::{Arg, Gpu, Launch, Source, WARP, source};
use crate::ops::host::rows_of;
use candle_core::{Result, Shape, Tensor};

const SOURCE: &Source = &source!("sums");

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

    /// The launch of a kernel whose blocks take 32 of c channels of one part. `rows_part` of common.cuh.
    pub(in crate::ops) fn launch(
        &self,
        source: &'static Source,
        kernel: &'static str,
        c: usize,
    ) -> Launch {
        Launch::one(source, kernel).with_blocks(c.div_ceil(WARP) * self.parts)
    }
}

/// How sums over the pixels of each image are divided: `parts` parts of `pixels_each` pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) struct ImageParts {
    pub parts: usize,
    images: usize,
    pixels: usize,
    pixels_each: usize,
    c: usize,
}

impl ImageParts {
    pub(in crate::ops) fn of(images: usize, pixels: usize, c: usize) -> Self {
        let pixels_each = crate::tiling::gpu_part_pixels(images, pixels, c);
        Self { parts: pixels.div_ceil(pixels_each).max(1), images, pixels, pixels_each, c }
    }

    /// The launch of a kernel whose blocks take 32 channels of one part of one image, and which writes
    /// `[parts, images, c]`. `image_part` of common.cuh.
    pub(in crate::ops) fn launch(&self, source: &'static Source, kernel: &'static str) -> Launch {
        let blocks = self.c.div_ceil(WARP) * self.images * self.parts;
        Launch::one(source, kernel).with_blocks(blocks)
    }

    /// The last arguments of such a kernel.
    pub(in crate::ops) fn sizes(&self) -> [Arg<'static>; 4] {
        [self.images, self.pixels, self.pixels_each, self.c].map(Arg::size)
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
    let args = [Arg::In(parts), Arg::Out(&total), Arg::size(count), Arg::size(width)];
    gpu.launch(&Launch::columns(SOURCE, "total_parts", width), &args)?;
    Ok(total)
}

/// Sums in f64, divided and rounded to f32, in another shape.
///
/// # Errors
/// When the launch fails.
pub(in crate::ops) fn divided(
    gpu: &Gpu,
    sums: &Tensor,
    divisor: usize,
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    let quotients = gpu.output(shape)?;
    let count = sums.elem_count();
    let args = [Arg::In(sums), Arg::Out(&quotients), Arg::size(divisor), Arg::size(count)];
    gpu.launch(&Launch::values(SOURCE, "divide_sums", count), &args)?;
    Ok(quotients)
}

/// parts `[count, …]` (f32) → `[…]`, summed in f64.
///
/// # Errors
/// When the launch fails.
pub(in crate::ops) fn total_f32(gpu: &Gpu, parts: &Tensor) -> Result<Tensor> {
    let shape = &parts.dims()[1..];
    let (count, width) = (parts.dim(0)?, shape.iter().product::<usize>());
    let total = gpu.output(shape)?;
    let args = [Arg::In(parts), Arg::Out(&total), Arg::size(count), Arg::size(width)];
    gpu.launch(&Launch::values(SOURCE, "total_parts_f32", width), &args)?;
    Ok(total)
}

/// x `[rows, width]` → the sum of its rows `[width]`: for matrices with a row per image.
///
/// # Errors
/// When the launch fails.
pub(in crate::ops) fn sum_columns(gpu: &Gpu, x: &Tensor) -> Result<Tensor> {
    let (rows, width) = rows_of(x)?;
    let sums = gpu.output(width)?;
    let args = [Arg::In(x), Arg::Out(&sums), Arg::size(rows), Arg::size(width)];
    gpu.launch(&Launch::columns(SOURCE, "sum_columns", width), &args)?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_of_large_maps_grow_in_x() {
        let sums = Parts::of(1 << 30, 33).launch(SOURCE, "", 33);
        assert_eq!(sums.grid, (2 << 20, 1, 1));
        let images = ImageParts::of(1 << 20, 49, 33).launch(SOURCE, "");
        assert_eq!(images.grid, (2 << 20, 1, 1));
        let map = Launch::map(SOURCE, "", 1 << 30, 33);
        assert_eq!(map.grid, (2, 65_535, 1));
    }
}
