//! Depthwise convolution on a GPU; `depthwise.cu` has the kernels.
//!
//! With an expansion, the raw hidden map x W of a chunk of images is written to working memory by
//! cuBLAS; batch norm and activation are applied as it is read. No hidden map lives longer than that.

mod backward;
mod batch_sums;

pub(super) use backward::backward;

use super::{Expand, TileGeometry};
use crate::ops::gpu::{
    Arg, Gpu, Launch, Matrix, SUM_SHARED, Source, StructArg, WARP, chunk_images, source, total,
};
use crate::ops::norm::gpu::{activation, finish_moments, norm_rows};
use crate::ops::sums::Moments;
use crate::tiling::gpu_tiles_each;
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("depthwise");

/// Adjacent pixels that a thread computes.
const GROUP: usize = 4;

/// Pixels that a tile reads, of 32 channels: 24 KiB, so that a multiprocessor runs several blocks.
const READ_PIXELS: usize = 192;

/// Rows of a tile, at most.
const MOST_ROWS: usize = 16;

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
    rows: usize,
    /// Groups in a row of a tile, 1 << shift.
    shift: usize,
    down: usize,
    across: usize,
    read: (usize, usize),
    /// Tiles that one block takes.
    each: usize,
    /// Blocks that the largest chunk of images has for 32 channels.
    parts: usize,
}

impl<'a> Tiles<'a> {
    /// For chunks of at most `images` images.
    fn new(g: &'a TileGeometry, divided: Divided, images: usize) -> Self {
        let (height, width) = match divided {
            Divided::Output => (g.oh, g.ow),
            Divided::Input => (g.h, g.w),
        };
        // Pixels of the other map that a side reads.
        let read = |side: usize| match divided {
            Divided::Output => (side - 1) * g.stride + g.k,
            Divided::Input => (side - 1 + 2 * g.pad()) / g.stride + 1,
        };
        let shift = usize::from(width > GROUP && g.stride <= 2);
        let read_columns = read(GROUP << shift);
        let fits = |rows: &usize| read(*rows) * read_columns <= READ_PIXELS;
        let most = (1..=MOST_ROWS).rev().find(fits).unwrap_or(1);
        // Tiles of equal height.
        let down = height.div_ceil(most).max(1);
        let rows = height.div_ceil(down).max(1);
        let across = width.div_ceil(GROUP << shift);
        let tiles = images * down * across;
        let each = gpu_tiles_each(tiles, g.c);
        let read = (read(rows), read_columns);
        Self { g, divided, rows, shift, down, across, read, each, parts: tiles.div_ceil(each) }
    }

    /// The kernel `name_k` on one chunk.
    fn launch(&self, [three, five]: [&'static str; 2], images: usize) -> Launch {
        let groups = self.rows << self.shift;
        let rounds = groups.div_ceil(MOST_WARPS);
        let tile = self.read.0 * self.read.1 * WARP * size_of::<f32>();
        let parts = (images * self.down * self.across).div_ceil(self.each);
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
        let fields = [
            [g.h, g.w, g.oh, g.ow, g.c, g.stride],
            [height, width, self.rows, self.shift, self.down, self.across],
            [images * self.down * self.across, self.each, self.read.0, self.read.1, 0, 0],
        ];
        let mut fields: Vec<i32> = fields
            .iter()
            .flatten()
            .map(|field| i32::try_from(*field).unwrap_or(i32::MAX))
            .take(16)
            .collect();
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
