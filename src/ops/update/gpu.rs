//! Updates on a GPU. Optimizers, norms and copies take one or two launches for up to a thousand tensors.

use super::{RmsPropOperands, RmsPropStep, SgdOperands, SgdStep};
use crate::ops::gpu::{Arg, Deferred, Gpu, Launch, Operands, Source, TensorList, source};
use candle_core::{Result, Tensor, bail};

const SOURCE: &Source = &source!("update");

/// Threads of the block that adds up all squares.
const FINISH_BLOCK: usize = 1024;

pub(super) fn accumulate(gpu: &Gpu, total: &Tensor, part: &Tensor) -> Result<()> {
    let count = total.elem_count();
    if count != part.elem_count() {
        bail!("axpby: {:?} and {:?} do not match", total.layout(), part.layout());
    }
    let count = u32::try_from(count).map_err(candle_core::Error::wrap)?;
    let args = [Arg::Out(total), Arg::In(part), Arg::Unsigned(count)];
    gpu.launch(&values("accumulate", count), &args)
}

pub(super) fn sum(gpu: &Gpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let count = u32::try_from(a.elem_count()).map_err(candle_core::Error::wrap)?;
    let y = gpu.output(a.shape())?;
    let args = [Arg::In(a), Arg::In(b), Arg::Out(&y), Arg::Unsigned(count)];
    gpu.launch(&values("sum_of_two", count), &args)?;
    Ok(y)
}

/// The launch of a kernel whose threads take four values each.
fn values(kernel: &'static str, count: u32) -> Launch {
    let grid = (count.div_ceil(1024) as usize, 1, 1);
    Launch { source: SOURCE, kernel, grid, block: 256, shared: 0 }
}

pub(super) fn sgd(gpu: &Gpu, step: &SgdStep, parameters: &[SgdOperands<'_>]) -> Result<()> {
    let gradients: Vec<&Tensor> = parameters.iter().map(|p| p.gradient).collect();
    let scale = step.clip_norm.map(|bound| gradient_scale(gpu, &gradients, bound)).transpose()?;
    // Those that decay come first.
    let (decaying, others): (Vec<&SgdOperands<'_>>, Vec<_>) =
        parameters.iter().partition(|p| p.decays);
    let ordered = decaying.iter().chain(&others);
    let operands: Vec<Operands<'_>> = ordered
        .map(|p| [Some((p.gradient, false)), Some((p.velocity, true)), Some((p.weight, true))])
        .collect();
    for list in TensorList::of(&operands)? {
        let decaying = decaying.len().saturating_sub(list.first).min(list.count);
        let args = [
            Arg::maybe(scale.as_ref()),
            Arg::Unsigned(decaying as u32),
            Arg::Float(step.learning_rate as f32),
            Arg::Float(step.momentum as f32),
            Arg::Float(step.weight_decay as f32),
        ];
        list.launch(gpu, SOURCE, "sgd_step", args)?;
    }
    Ok(())
}

/// First the mean squares, while gradients become those divided by their roots; then velocities and
/// weights.
pub(super) fn rmsprop(
    gpu: &Gpu,
    step: &RmsPropStep,
    parameters: &[RmsPropOperands<'_>],
) -> Result<()> {
    let RmsPropStep { sgd, rho, epsilon } = *step;
    let gradients: Vec<&Tensor> = parameters.iter().map(|p| p.sgd.gradient).collect();
    let scale = sgd.clip_norm.map(|bound| gradient_scale(gpu, &gradients, bound)).transpose()?;
    // Those that decay come first.
    let (decaying, others): (Vec<&RmsPropOperands<'_>>, Vec<_>) =
        parameters.iter().partition(|p| p.sgd.decays);
    let squares: Vec<Operands<'_>> = (decaying.iter().chain(&others))
        .map(|p| {
            [Some((p.sgd.gradient, true)), Some((p.square, true)), Some((p.sgd.weight, false))]
        })
        .collect();
    for list in TensorList::of(&squares)? {
        let decaying = decaying.len().saturating_sub(list.first).min(list.count);
        let args = [
            Arg::maybe(scale.as_ref()),
            Arg::Unsigned(decaying as u32),
            Arg::Float((1.0 - rho) as f32),
            Arg::Float(epsilon as f32),
            Arg::Float(sgd.weight_decay as f32),
        ];
        list.launch(gpu, SOURCE, "rmsprop_scale", args)?;
    }
    let moves: Vec<Operands<'_>> = (parameters.iter().map(|p| p.sgd))
        .map(|p| [Some((p.gradient, false)), Some((p.velocity, true)), Some((p.weight, true))])
        .collect();
    for list in TensorList::of(&moves)? {
        let args = [Arg::Float(sgd.momentum as f32), Arg::Float(sgd.learning_rate as f32)];
        list.launch(gpu, SOURCE, "rmsprop_move", args)?;
    }
    Ok(())
}

pub(super) fn average(gpu: &Gpu, averages: &[(&Tensor, &Tensor)], share: f64) -> Result<()> {
    let operands: Vec<Operands<'_>> = (averages.iter())
        .map(|(average, x)| [Some((*x, false)), Some((*average, true)), None])
        .collect();
    for list in TensorList::of(&operands)? {
        list.launch(gpu, SOURCE, "average_tensors", [Arg::Float(share as f32)])?;
    }
    Ok(())
}

pub(super) fn moved(
    gpu: &Gpu,
    pairs: &[(&Tensor, Option<&Tensor>)],
    factor: f64,
) -> Result<Vec<Tensor>> {
    let outputs = pairs.iter().map(|(x, _)| gpu.output(x.shape()));
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let operands: Vec<Operands<'_>> = (pairs.iter().zip(&outputs))
        .map(|((x, along), to)| {
            [Some((*x, false)), along.map(|along| (along, false)), Some((to, true))]
        })
        .collect();
    for list in TensorList::of(&operands)? {
        list.launch(gpu, SOURCE, "moved_tensors", [Arg::Float(factor as f32)])?;
    }
    Ok(outputs)
}

pub(super) fn sum_of_squares(gpu: &Gpu, tensors: &[&Tensor]) -> Result<Deferred> {
    let pair = gpu.output((1, 2))?;
    finish_squares(gpu, tensors, Arg::Out(&pair), Arg::Absent, 0.0)?;
    Ok(Deferred::pairs(pair))
}

/// The factor `[1]` that clips the norm of all gradients to `bound`.
fn gradient_scale(gpu: &Gpu, gradients: &[&Tensor], bound: f64) -> Result<Tensor> {
    let scale = gpu.output(1)?;
    finish_squares(gpu, gradients, Arg::Absent, Arg::Out(&scale), bound)?;
    Ok(scale)
}

fn finish_squares(
    gpu: &Gpu,
    tensors: &[&Tensor],
    pair: Arg<'_>,
    scale: Arg<'_>,
    bound: f64,
) -> Result<()> {
    let operands: Vec<Operands<'_>> =
        tensors.iter().map(|tensor| [Some((*tensor, false)), None, None]).collect();
    let lists = TensorList::of(&operands)?;
    let blocks = lists.iter().map(|list| list.blocks).sum::<usize>();
    let parts = gpu.output_f64(blocks.max(1))?;
    for list in &lists {
        let own = parts.narrow(0, list.blocks_before, list.blocks)?;
        list.launch(gpu, SOURCE, "squares_of_tensors", [Arg::Out(&own)])?;
    }
    let launch = Launch::one(SOURCE, "finish_squares").with_threads(FINISH_BLOCK);
    let count = Arg::Unsigned(blocks as u32);
    gpu.launch(&launch, &[Arg::In(&parts), pair, scale, count, Arg::Float(bound as f32)])
}
