//! The weights of grouped convolutions on a GPU; `groups.cu` has the kernels.

use super::{GroupOrder, Groups};
use crate::ops::gpu::{Arg, Gpu, Launch, Source, source};
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("groups");

pub(super) fn dense(gpu: &Gpu, w: &Tensor, groups: Groups) -> Result<Tensor> {
    let (each, columns) = w.dims2()?;
    let y = gpu.output((each * groups.number, columns))?;
    launch(gpu, "groups_dense", [w, &y], [each * groups.number, columns], groups)?;
    Ok(y)
}

pub(super) fn backward(gpu: &Gpu, ddense: &Tensor, groups: Groups) -> Result<Tensor> {
    let (rows, columns) = ddense.dims2()?;
    let dw = gpu.output((rows / groups.number, columns))?;
    launch(gpu, "groups_backward", [ddense, &dw], [rows, columns], groups)?;
    Ok(dw)
}

/// Launches a kernel over the dense matrix.
fn launch(
    gpu: &Gpu,
    name: &'static str,
    [from, to]: [&Tensor; 2],
    [rows, columns]: [usize; 2],
    groups: Groups,
) -> Result<()> {
    let mut args = vec![Arg::In(from), Arg::Out(to)];
    args.extend([rows, columns, groups.number].map(Arg::size));
    args.push(Arg::Int(i32::from(groups.order == GroupOrder::Shuffled)));
    gpu.launch(&Launch::map(SOURCE, name, rows, columns), &args)
}
