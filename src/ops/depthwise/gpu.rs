//! Depthwise convolution on a GPU; `depthwise.cu` has the kernels.
//!
//! With an expansion, the raw hidden map x W of a chunk of images is written to working memory by
//! cuBLAS; batch norm and activation are applied as it is read. No hidden map lives longer than that.

mod backward;
mod batch_sums;

pub(super) use backward::backward;

use super::{Expand, TileGeometry};
use crate::ops::activation::number;
use crate::ops::gpu::{
    Arg, Gpu, Launch, Matrix, Parts, Source, StructArg, WARP, chunk_images, source, total,
};
use crate::ops::norm::gpu::finish_moments;
use crate::ops::sums::Moments;
use crate::tiling::{GPU_TILE_WARPS, GpuTiles};
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("depthwise");

/// Which map a kernel divides into tiles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Divided {
    Output,
    Input,
}

/// How a map is divided among blocks: each takes 32 channels of some tiles.
struct Tiles<'a> {
    g: &'a TileGeometry,
    divided: Divided,
    of_image: GpuTiles,
    /// Tiles that one block takes.
    each: usize,
    /// Blocks that the largest chunk of images has for 32 channels.
    parts: usize,
}

impl<'a> Tiles<'a> {
    /// For chunks of at most `images` images.
    fn new(g: &'a TileGeometry, divided: Divided, images: usize) -> Self {
        let of_image = match divided {
            Divided::Output => GpuTiles::of_output((g.oh, g.ow), g.k, g.stride),
            Divided::Input => GpuTiles::of_input((g.h, g.w), g.k, g.stride),
        };
        let (each, parts) = of_image.parts(images, g.c);
        Self { g, divided, of_image, each, parts }
    }

    /// The kernel `name_k` on one chunk.
    fn launch(&self, [three, five]: [&'static str; 2], images: usize) -> Launch {
        let GpuTiles { rows, shift, down, across, read, .. } = self.of_image;
        let groups = rows << shift;
        let block = groups.div_ceil(groups.div_ceil(GPU_TILE_WARPS)) * WARP;
        let tile = read.0 * read.1 * WARP * size_of::<f32>();
        let parts = (images * down * across).div_ceil(self.each);
        let kernel = if self.g.k == 3 { three } else { five };
        let parts = Parts { parts, rows: self.each };
        let sums = parts.launch(SOURCE, kernel, self.g.c).with_threads(block);
        Launch { shared: tile.max(sums.shared), ..sums }
    }

    /// `DepthwiseShape` of depthwise.cu for one chunk; `accumulate` adds to the sums of earlier chunks.
    fn shape(&self, images: usize, accumulate: bool) -> Arg<'static> {
        let g = self.g;
        let (height, width) = match self.divided {
            Divided::Output => (g.oh, g.ow),
            Divided::Input => (g.h, g.w),
        };
        let GpuTiles { rows, shift, down, across, read, .. } = self.of_image;
        let mut shape = StructArg::default();
        shape.sizes(6, [g.h, g.w, g.oh, g.ow, g.c, g.stride]);
        shape.sizes(6, [height, width, rows, shift, down, across]);
        shape.sizes(4, [images * down * across, self.each, read.0, read.1]);
        shape.sizes(1, [usize::from(accumulate)]);
        Arg::Struct(shape)
    }
}

/// What the filter reads, chunk by chunk.
struct Front<'a> {
    gpu: &'a Gpu,
    g: &'a TileGeometry,
    x: &'a Tensor,
    expand: Option<&'a Expand>,
    /// Images in a chunk.
    chunk: usize,
    /// x W of one chunk.
    raw: Option<Tensor>,
}

impl<'a> Front<'a> {
    fn new(
        gpu: &'a Gpu,
        g: &'a TileGeometry,
        x: &'a Tensor,
        expand: Option<&'a Expand>,
    ) -> Result<Self> {
        let n = x.dim(0)?;
        if expand.is_none() {
            return Ok(Self { gpu, g, x, expand, chunk: n.max(1), raw: None });
        }
        let chunk = chunk_images(n, g.in_pixels() * g.c);
        let raw = Some(gpu.output((chunk * g.in_pixels(), g.c))?);
        Ok(Self { gpu, g, x, expand, chunk, raw })
    }

    /// First image and number of images of every chunk.
    fn chunks(&self) -> Result<Vec<(usize, usize)>> {
        let n = self.x.dim(0)?;
        let from = (0..n).step_by(self.chunk);
        Ok(from.map(|from| (from, self.chunk.min(n - from))).collect())
    }

    /// The map of one chunk: x, or x W, which stays until the next call.
    fn map(&self, (from, images): (usize, usize)) -> Result<Tensor> {
        let x = self.x.narrow(0, from, images)?;
        let (Some(expand), Some(raw)) = (self.expand, &self.raw) else { return Ok(x) };
        let (rows, c_in, c) = (images * self.g.in_pixels(), x.dim(3)?, self.g.c);
        let raw_rows = raw.narrow(0, 0, rows)?;
        let w = Matrix::new(&expand.w, c_in, c);
        self.gpu.matmul(Matrix::new(&x, rows, c_in), w, Matrix::new(&raw_rows, rows, c), false)?;
        Ok(raw_rows)
    }

    /// `DepthwiseFront` of depthwise.cu.
    fn norm(&self) -> Arg<'_> {
        let norm = self.expand.map(|expand| &expand.norm);
        let rows = norm.map(|norm| [&norm.mean, &norm.inverse, &norm.gamma, &norm.beta]);
        let mut front = StructArg::default();
        front.pointers(4, rows.into_iter().flatten());
        front.sizes(1, norm.map(|norm| number(norm.activation)));
        Arg::Struct(front.padded())
    }
}

pub(super) fn forward(
    gpu: &Gpu,
    x: &Tensor,
    expand: Option<&Expand>,
    filter: &Tensor,
    g: &TileGeometry,
    statistics: bool,
) -> Result<(Tensor, Option<Moments>)> {
    let n = x.dim(0)?;
    let y = gpu.output((n, g.oh, g.ow, g.c))?;
    let front = Front::new(gpu, g, x, expand)?;
    let tiles = Tiles::new(g, Divided::Output, front.chunk);
    let sums = statistics.then(|| gpu.output_f64((tiles.parts, 2 * g.c))).transpose()?;
    for (from, images) in front.chunks()? {
        let map = front.map((from, images))?;
        let y = y.narrow(0, from, images)?;
        let mut args = vec![Arg::In(&map)];
        args.push(front.norm());
        args.extend([Arg::In(filter), Arg::Out(&y), Arg::maybe_out(sums.as_ref())]);
        args.push(tiles.shape(images, from > 0));
        gpu.launch(&tiles.launch(["depthwise_forward_3", "depthwise_forward_5"], images), &args)?;
    }
    let moments = sums.map(|sums| finish_moments(gpu, &total(gpu, &sums)?, n * g.out_pixels()));
    Ok((y, moments.transpose()?))
}
