//! Dense convolution on a GPU; `conv.cu` has the kernels.
//!
//! With many input channels the windows of a few images go through memory and cuBLAS multiplies them
//! by the filter. With few, as in the stem, the windows would be several times as large as the input and
//! the output together, and the product would be too thin for cuBLAS: both read and write memory far
//! longer than they compute. Then the forward pass reads the input directly.

use super::{ConvGeometry, ConvGradients};
use crate::ops::gpu::{Arg, Gpu, Launch, Matrix, Source, chunk_images, source};
use crate::ops::norm;
use crate::ops::sums::Moments;
use crate::tiling::GPU_FEW_CHANNELS;
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("conv");

/// Output channels of a block of `conv_direct`.
const DIRECT_CHANNELS: usize = 16;
/// Pixels of a block of `conv_direct`.
const DIRECT_PIXELS: usize = 256;

/// A batch of images, their convolution and its filter.
pub(in crate::ops) struct GpuConv<'a> {
    pub gpu: &'a Gpu,
    pub n: usize,
    pub g: ConvGeometry,
    pub c_out: usize,
}

/// Images that are taken at once: the first, and their number.
type Chunk = (usize, usize);

impl GpuConv<'_> {
    pub(super) fn forward(
        &self,
        x: &Tensor,
        w: &Tensor,
        statistics: bool,
    ) -> Result<(Tensor, Option<Moments>)> {
        let y = self.product(x, w)?;
        let moments = statistics.then(|| norm::moments(&y)).transpose()?;
        Ok((y, moments))
    }

    /// x `[n, h, w, c]`, w `[k·k, c, c_out]` or `[k·k·c, c_out]` → y `[n, oh, ow, c_out]`.
    pub(in crate::ops) fn product(&self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let Self { gpu, n, g, c_out } = *self;
        let y = gpu.output((n, g.oh, g.ow, c_out))?;
        let shared = size_of::<f32>() * g.window() * DIRECT_CHANNELS;
        let fits = shared <= 48 << 10 && i32::try_from(x.elem_count()).is_ok();
        if g.c <= GPU_FEW_CHANNELS && fits {
            let rows = n * g.oh * g.ow;
            let launch = Launch {
                source: SOURCE,
                kernel: "conv_direct",
                grid: (rows.div_ceil(DIRECT_PIXELS), c_out.div_ceil(DIRECT_CHANNELS), 1),
                block: 256,
                shared,
            };
            let mut args = vec![Arg::In(x), Arg::In(w), Arg::Out(&y), Arg::size(rows)];
            args.extend(sizes(g));
            args.push(Arg::size(c_out));
            gpu.launch(&launch, &args)?;
            return Ok(y);
        }
        for chunk in self.chunks() {
            let (windows, y) = (self.windows(x, chunk)?, images(&y, chunk)?);
            let filter = Matrix::new(w, g.window(), c_out);
            gpu.matmul(self.rows(&windows, chunk), filter, self.outputs(&y, chunk), false)?;
        }
        Ok(y)
    }

    pub(super) fn backward(
        &self,
        x: &Tensor,
        w: &Tensor,
        dy: &Tensor,
        (input, weights): (bool, bool),
    ) -> Result<ConvGradients> {
        let Self { gpu, g, c_out, .. } = *self;
        let dw = weights.then(|| gpu.output(w.shape())).transpose()?;
        let dx = input.then(|| gpu.output(x.shape())).transpose()?;
        for chunk in self.chunks() {
            let dy = images(dy, chunk)?;
            let dys = self.outputs(&dy, chunk);
            if let Some(dw) = &dw {
                let windows = self.windows(x, chunk)?;
                let dw = Matrix::new(dw, g.window(), c_out);
                gpu.matmul(self.rows(&windows, chunk).t(), dys, dw, chunk.0 > 0)?;
            }
            if let Some(dx) = &dx {
                let windows = gpu.output((chunk.1 * g.oh * g.ow, g.window()))?;
                let filter = Matrix::new(w, g.window(), c_out);
                gpu.matmul(dys, filter.t(), self.rows(&windows, chunk), false)?;
                let (dx, rows) = (images(dx, chunk)?, chunk.1 * g.h * g.w);
                let mut args = vec![Arg::In(&windows), Arg::Out(&dx), Arg::size(rows)];
                args.extend(sizes(g));
                gpu.launch(&Launch::map(SOURCE, "conv_gather", rows, g.c), &args)?;
            }
        }
        Ok(ConvGradients { dx, dw })
    }

    fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let (n, g) = (self.n, self.g);
        let each = chunk_images(n, g.oh * g.ow * g.window());
        (0..n).step_by(each).map(move |first| (first, each.min(n - first)))
    }

    /// The windows of a chunk, one row for each pixel of the output.
    fn windows(&self, x: &Tensor, chunk: Chunk) -> Result<Tensor> {
        let Self { gpu, g, .. } = *self;
        let (x, rows) = (images(x, chunk)?, chunk.1 * g.oh * g.ow);
        let windows = gpu.output((rows, g.window()))?;
        let mut args = vec![Arg::In(&x), Arg::Out(&windows), Arg::size(rows)];
        args.extend(sizes(g));
        gpu.launch(&Launch::map(SOURCE, "conv_windows", rows, g.window()), &args)?;
        Ok(windows)
    }

    fn rows<'t>(&self, windows: &'t Tensor, chunk: Chunk) -> Matrix<'t> {
        Matrix::new(windows, chunk.1 * self.g.oh * self.g.ow, self.g.window())
    }

    fn outputs<'t>(&self, y: &'t Tensor, chunk: Chunk) -> Matrix<'t> {
        Matrix::new(y, chunk.1 * self.g.oh * self.g.ow, self.c_out)
    }
}

/// A chunk of a batch, in place.
fn images(batch: &Tensor, (first, count): Chunk) -> Result<Tensor> {
    batch.narrow(0, first, count)
}

/// The arguments that every kernel has.
fn sizes(g: ConvGeometry) -> [Arg<'static>; 7] {
    [g.h, g.w, g.c, g.k, g.stride, g.oh, g.ow].map(Arg::size)
}
