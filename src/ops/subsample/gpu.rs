//! Subsampling and merging on a GPU; `subsample.cu` has the kernels.

use super::Grid;
use crate::ops::gpu::{Arg, Gpu, Launch, Source, StructArg, source};
use crate::ops::host::nhwc;
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("subsample");

/// `MERGE_PARTS`.
const PARTS: usize = 16;

pub(super) fn forward(gpu: &Gpu, x: &Tensor, grid: Grid) -> Result<Tensor> {
    let (n, h, w, c) = nhwc(x)?;
    let (size, columns) = grid.size;
    let y = gpu.output((n, size, columns, c))?;
    let mut args = vec![Arg::In(x), Arg::Out(&y)];
    args.extend([n * size, h, w, c, grid.ratio.0, grid.ratio.1, size, columns].map(Arg::size));
    gpu.launch(&Launch::map(SOURCE, "subsample_forward", n * size, columns * c), &args)?;
    Ok(y)
}

pub(super) fn merge(
    gpu: &Gpu,
    parts: &[(&Tensor, Grid)],
    (n, h, w, c): (usize, usize, usize, usize),
) -> Result<Tensor> {
    let y = gpu.output((n, h, w, c))?;
    for (i, parts) in parts.chunks(PARTS).enumerate() {
        let mut all = StructArg::default();
        all.pointers(PARTS, parts.iter().map(|(part, _)| *part));
        all.sizes(PARTS, parts.iter().map(|(_, grid)| grid.ratio.0));
        all.sizes(PARTS, parts.iter().map(|(_, grid)| grid.ratio.1));
        all.sizes(PARTS, parts.iter().map(|(_, grid)| grid.size.0));
        all.sizes(PARTS, parts.iter().map(|(_, grid)| grid.size.1));
        all.sizes(1, [parts.len()]);
        let mut args = vec![Arg::Struct(all.padded()), Arg::Out(&y), Arg::Int(i32::from(i > 0))];
        args.extend([n * h, h, w, c].map(Arg::size));
        gpu.launch(&Launch::map(SOURCE, "subsample_merge", n * h, w * c), &args)?;
    }
    Ok(y)
}
