//! Pixels on a uniform grid: the input of a strided 1x1 convolution, or a map at a smaller resolution
//! (FBNetV2 section 3.2).
//!
//! Nearest neighbour, rounding down, as the common frameworks resize: pixel i of the small map is pixel
//! ⌊i · ratio⌋ of the large one, along both axes. [`forward`] reads these pixels; [`merge`] writes them
//! back, with zeros elsewhere, and sums several such maps.

mod gpu;

use super::gpu::Gpu;
use super::host::{Host, expect, nhwc, tensor};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Which pixels of a large map make up a small one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Pixels of the large map per pixels of the small one: (3, 2) reads pixels 0, 1, 3, 4, 6, …
    pub ratio: (usize, usize),
    /// Height and width of the small map.
    pub size: (usize, usize),
}

impl Grid {
    /// Every `stride`-th pixel of a map of `(h, w)`.
    #[must_use]
    pub fn strided(stride: usize, (h, w): (usize, usize)) -> Self {
        // A stride of zero gives a ratio of zero, which `check` refuses.
        let ceil = |side: usize| side.div_ceil(stride.max(1));
        Self { ratio: (stride, 1), size: (ceil(h), ceil(w)) }
    }

    /// The position in the large map of pixel `i` of the small one.
    #[must_use]
    pub fn at(&self, i: usize) -> usize {
        i * self.ratio.0 / self.ratio.1
    }

    /// Refuses a grid that repeats pixels or reaches outside a map of `(h, w)`.
    fn check(&self, (h, w): (usize, usize)) -> Result<()> {
        let (from, to) = self.ratio;
        let fits = |small: usize, large: usize| small > 0 && self.at(small - 1) < large;
        if to == 0 || from < to || !fits(self.size.0, h) || !fits(self.size.1, w) {
            bail!("subsample: {self:?} does not fit a map of {h}x{w}");
        }
        Ok(())
    }
}

/// x `[n, h, w, c]` → the pixels of the grid `[n, h', w', c]`.
///
/// # Errors
/// When x is not an activation, the grid does not fit or the device has no kernel.
pub fn forward(x: &Tensor, grid: Grid) -> Result<Tensor> {
    let (n, h, w, c) = nhwc(x)?;
    grid.check((h, w))?;
    let (rows, columns) = grid.size;
    if let Some(gpu) = Gpu::of(x.device())? {
        return gpu::forward(&gpu, x, grid);
    }
    let xs = Host::of(x)?;
    let mut y = vec![0f32; n * rows * columns * c];
    y.par_chunks_mut(columns * c).enumerate().for_each(|(row, y)| {
        let from = (row / rows * h + grid.at(row % rows)) * w * c;
        for (i, y) in y.chunks_exact_mut(c).enumerate() {
            y.copy_from_slice(&xs[from + grid.at(i) * c..][..c]);
        }
    });
    tensor(y, (n, rows, columns, c))
}

/// dy at the pixels that [`forward`] has read, zeros elsewhere.
///
/// # Errors
/// As [`forward`], and when dy is not of the grid's size.
pub fn backward(dy: &Tensor, grid: Grid, size: (usize, usize)) -> Result<Tensor> {
    merge(&[(dy, grid)], size)
}

/// The sum `[n, h, w, c]` of parts `[n, h', w', c]`, each at the pixels of its grid, with zeros elsewhere.
///
/// # Errors
/// When there is no part, a grid does not fit or the device has no kernel.
pub fn merge(parts: &[(&Tensor, Grid)], (h, w): (usize, usize)) -> Result<Tensor> {
    let Some((first, _)) = parts.first() else { bail!("subsample: nothing to merge") };
    let (n, _, _, c) = nhwc(first)?;
    for (part, grid) in parts {
        grid.check((h, w))?;
        expect("subsample", "dy", part, &[n, grid.size.0, grid.size.1, c])?;
    }
    if let Some(gpu) = Gpu::of(first.device())? {
        return gpu::merge(&gpu, parts, (n, h, w, c));
    }
    let mut y = vec![0f32; n * h * w * c];
    for (part, grid) in parts {
        let ((rows, columns), part) = (grid.size, Host::of(part)?);
        let images = y.par_chunks_mut(h * w * c).zip(part.par_chunks(rows * columns * c));
        images.for_each(|(y, part)| {
            for (i, part) in part.chunks_exact(c).enumerate() {
                let to = (grid.at(i / columns) * w + grid.at(i % columns)) * c;
                for (y, part) in y[to..to + c].iter_mut().zip(part) {
                    *y += part;
                }
            }
        });
    }
    tensor(y, (n, h, w, c))
}
