//! Slices on a GPU; `slice.cu` has the kernel. candle's would upload the strides of each tensor, and the
//! host might wait for that.

use crate::ops::gpu::{self, Arg, Gpu, Launch, Source, source};
use candle_core::{Result, Tensor, bail};

const SOURCE: &Source = &source!("slice");

pub(super) fn first(gpu: &Gpu, whole: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let part = gpu.output(dims)?;
    copy(gpu, whole, &part, dims)?;
    Ok(part)
}

pub(super) fn with_first(gpu: &Gpu, whole: &Tensor, part: &Tensor) -> Result<Tensor> {
    let all = gpu::copy(whole)?;
    copy(gpu, part, &all, part.dims())?;
    Ok(all)
}

/// Copies the first `dims` entries.
fn copy(gpu: &Gpu, from: &Tensor, to: &Tensor, dims: &[usize]) -> Result<()> {
    let [planes, rows, columns] = matrices(dims)?;
    let ([_, from_rows, from_pitch], [_, to_rows, to_pitch]) =
        (matrices(from.dims())?, matrices(to.dims())?);
    let all = planes * rows;
    let mut args = vec![Arg::In(from), Arg::Out(to)];
    args.extend([all, rows, columns, from_rows, from_pitch, to_rows, to_pitch].map(Arg::size));
    gpu.launch(&Launch::map(SOURCE, "slice_copy", all, columns), &args)
}

/// A tensor as a row of matrices: their number, rows and columns.
fn matrices(dims: &[usize]) -> Result<[usize; 3]> {
    Ok(match *dims {
        [columns] => [1, 1, columns],
        [rows, columns] => [1, rows, columns],
        [planes, rows, columns] => [planes, rows, columns],
        _ => bail!("slice: {dims:?} has not one to three axes"),
    })
}
