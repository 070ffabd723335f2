//! Factors of columns and rows on a GPU, and the gradients of masks; `scale.cu` has the kernel.

use crate::ops::gpu::{Arg, Gpu, Launch, Source, source};
use crate::ops::host::rows_of;
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("scale");

/// Threads of a block: all that it may have, since there are few blocks.
const BLOCK: usize = 1024;

pub(super) fn times(gpu: &Gpu, w: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (rows, c) = rows_of(w)?;
    let y = gpu.output(w.shape())?;
    let args = [Arg::In(w), Arg::In(mask), Arg::Out(&y), Arg::size(rows), Arg::size(c)];
    gpu.launch(&Launch::map(SOURCE, "scale_columns", rows, c), &args)?;
    Ok(y)
}

pub(super) fn rows(gpu: &Gpu, x: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let (n, y) = (x.dim(0)?, gpu.output(x.shape())?);
    let len = x.elem_count() / n.max(1);
    let args = [Arg::In(x), Arg::In(factors), Arg::Out(&y), Arg::size(n), Arg::size(len)];
    gpu.launch(&Launch::map(SOURCE, "scale_rows", n, len), &args)?;
    Ok(y)
}

pub(super) fn backward_mask(gpu: &Gpu, w: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, c) = rows_of(w)?;
    let dmask = gpu.output(c)?;
    let launch = Launch::columns(SOURCE, "scale_mask_gradient", c).with_threads(BLOCK);
    let args = [Arg::In(w), Arg::In(dy), Arg::Out(&dmask), Arg::size(rows), Arg::size(c)];
    gpu.launch(&launch, &args)?;
    Ok(dmask)
}
