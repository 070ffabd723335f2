//! Depthwise convolution on a GPU; `depthwise.cu` has the kernels.
//!
//! With an expansion, the raw hidden map x W of a chunk of images is written to working memory by
//! cuBLAS; batch norm and activation are applied as it is read. No hidden map lives longer than that.

mod backward;
mod batch_sums;

pub(super) use backward::backward;

use super::{Expand, TileGeometry};
use crate::ops::gpu::{
    Arg, Gpu, Launch, Matrix, SUM_SHARED, Source, StructArg, WARP, chunk_images, size, source,
    total,
};
use crate::ops::norm::gpu::{activation, finish_moments, norm_rows};
use crate::ops::sums::Moments;
use crate::tiling::GpuTiles;
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("depthwise");

/// Warps of a block, at most. The kernels declare it.
const MOST_WARPS: usize = 8;

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
        let GpuTiles { rows, shift, down, across, read } = self.of_image;
        let groups = rows << shift;
        let rounds = groups.div_ceil(MOST_WARPS);
        let tile = read.0 * read.1 * WARP * size_of::<f32>();
        let parts = (images * down * across).div_ceil(self.each);
        Launch {
            source: SOURCE,
            kernel: if self.g.k == 3 { three } else { five },
            grid: (self.g.c.div_ceil(WARP), parts, 1),
            block: groups.div_ceil(rounds) * WARP,
            shared: tile.max(SUM_SHARED),
        }
    }

    /// `DepthwiseShape` of depthwise.cu for one chunk; `accumulate` adds to the sums of earlier chunks.
    fn shape(&self, images: usize, accumulate: bool) -> Arg<'static> {
        let g = self.g;
        let (height, width) = match self.divided {
            Divided::Output => (g.oh, g.ow),
            Divided::Input => (g.h, g.w),
        };
        let GpuTiles { rows, shift, down, across, read } = self.of_image;
        let fields = [
            [g.h, g.w, g.oh, g.ow, g.c, g.stride],
            [height, width, rows, shift, down, across],
            [images * down * across, self.each, read.0, read.1, 0, 0],
        ];
        let mut fields: Vec<i32> =
            fields.iter().flatten().map(|field| size(*field)).take(16).collect();
        fields.push(i32::from(accumulate));
        let bytes = fields.iter().flat_map(|field| field.to_ne_bytes()).collect();
        Arg::Struct(StructArg { bytes, pointers: Vec::new() })
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

    /// Mean, inverse, gamma and beta, and the number of the activation.
    fn norm(&self) -> [Arg<'_>; 5] {
        let Some(Expand { norm, .. }) = self.expand else {
            return [Arg::Absent, Arg::Absent, Arg::Absent, Arg::Absent, Arg::Int(0)];
        };
        let [mean, inverse, gamma, beta] = norm_rows(norm);
        [mean, inverse, gamma, beta, activation(norm)]
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
        args.extend(front.norm());
        args.extend([Arg::In(filter), Arg::Out(&y), Arg::maybe_out(sums.as_ref())]);
        args.push(tiles.shape(images, from > 0));
        gpu.launch(&tiles.launch(["depthwise_forward_3", "depthwise_forward_5"], images), &args)?;
    }
    let moments = sums.map(|sums| finish_moments(gpu, &total(gpu, &sums)?, n * g.out_pixels()));
    Ok((y, moments.transpose()?))
}
