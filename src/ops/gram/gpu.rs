//! Mean and covariance on a GPU; `gram.cu` has the kernels.

use crate::ops::gpu::{Arg, Gpu, Launch, Matrix, Source, divided, source, total};
use crate::ops::host::rows_of;
use crate::ops::norm;
use crate::ops::sums::Moments;
use crate::tiling::gpu_covariance_rows;
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("gram");

/// The side of a block's square of products, and the rows that it loads at once.
const SIDE: usize = 32;

/// Mean and covariance in the memory of a GPU.
#[derive(Clone, Debug)]
pub(in crate::ops) struct GpuGram {
    /// `[c]`
    pub mean: Tensor,
    /// Biased covariance `[c, c]`.
    pub covariance: Tensor,
}

/// Of x `[…, c]`. The products are of centred values, so that sums in f32 do not cancel. They have a
/// kernel of their own because the matrix is small and its sums long: cuBLAS would leave most of the
/// GPU idle.
pub(super) fn of(gpu: &Gpu, x: &Tensor) -> Result<GpuGram> {
    let (rows, c) = rows_of(x)?;
    let mean = norm::moments(x)?.mean;
    let part_rows = gpu_covariance_rows(rows, c);
    let parts = rows.div_ceil(part_rows).max(1);
    let products = gpu.output_f64((parts, c * c))?;
    let squares = c.div_ceil(SIDE) * (c.div_ceil(SIDE) + 1) / 2;
    let launch = Launch {
        source: SOURCE,
        kernel: "gram_products",
        grid: (squares, parts, 1),
        block: 256,
        shared: 2 * SIDE * SIDE * size_of::<f32>(),
    };
    let sizes = [Arg::size(rows), Arg::size(c), Arg::size(part_rows)];
    let mut args = vec![Arg::In(x), Arg::In(&mean), Arg::Out(&products)];
    args.extend(sizes);
    gpu.launch(&launch, &args)?;
    let sums = total(gpu, &products)?;
    let covariance = divided(gpu, &sums, rows, (c, c))?;
    Ok(GpuGram { mean, covariance })
}

impl GpuGram {
    pub(super) fn moments_behind(&self, gpu: &Gpu, w: &Tensor, rows: usize) -> Result<Moments> {
        let (c, c_out) = w.dims2()?;
        let product = self.times(gpu, w)?;
        let (mean, variance) = (gpu.output(c_out)?, gpu.output(c_out)?);
        let args = [
            Arg::In(&self.mean),
            Arg::In(&product),
            Arg::In(w),
            Arg::Out(&mean),
            Arg::Out(&variance),
            Arg::size(c),
            Arg::size(c_out),
        ];
        gpu.launch(&Launch::columns(SOURCE, "gram_moments", c_out), &args)?;
        Ok(Moments { mean, variance, count: rows })
    }

    /// Σ w `[c, c_out]`, Σ being the covariance. In f32 even where products may be rounded to TF32: the
    /// variance wᵀ Σ w can be a small difference of large numbers.
    pub(in crate::ops) fn times(&self, gpu: &Gpu, w: &Tensor) -> Result<Tensor> {
        let (c, c_out) = w.dims2()?;
        let product = gpu.output((c, c_out))?;
        gpu.matmul_f32(
            Matrix::new(&self.covariance, c, c),
            Matrix::new(w, c, c_out),
            Matrix::new(&product, c, c_out),
        )?;
        Ok(product)
    }
}
