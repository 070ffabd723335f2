//! Bias and activation of a matrix: behind the pooling and the classifier.

use super::activation::{argument, differentiate, evaluate};
use super::gpu::{Arg, Gpu, Launch, Source, source, sum_columns};
use super::host::{Host, expect, rows_of, tensor};
use crate::space::Activation;
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("bias");

/// Gradients of [`forward`].
pub struct BiasGradients {
    pub dx: Tensor,
    /// `[c]`, if there is a bias.
    pub dbias: Option<Tensor>,
}

/// `y = act(x + bias)` with x `[…, c]`, bias `[c]`.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn forward(x: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
    let c = channels(x, bias)?;
    if let Some(gpu) = Gpu::of(x.device())? {
        return gpu_forward(&gpu, x, bias, activation);
    }
    let (xs, bias) = (Host::of(x)?, bias.map(Host::of).transpose()?);
    let bias = |i: usize| bias.as_ref().map_or(0.0, |bias| bias[i % c]);
    let y = xs.iter().enumerate().map(|(i, x)| evaluate(activation, x + bias(i)));
    tensor(y.collect(), x.shape())
}

fn gpu_forward(
    gpu: &Gpu,
    x: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let (rows, c) = rows_of(x)?;
    let y = gpu.output(x.shape())?;
    let sizes = [Arg::size(rows), Arg::size(c)];
    let mut args = vec![Arg::In(x), Arg::maybe(bias), Arg::Out(&y), argument(activation)];
    args.extend(sizes);
    gpu.launch(&Launch::map(SOURCE, "bias_forward", rows, c), &args)?;
    Ok(y)
}

/// The gradients of [`forward`] with respect to x and bias.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    x: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    dy: &Tensor,
) -> Result<BiasGradients> {
    let c = channels(x, bias)?;
    expect("bias", "dy", dy, x.dims())?;
    if let Some(gpu) = Gpu::of(x.device())? {
        return gpu_backward(&gpu, x, bias, activation, dy);
    }
    let (xs, dys) = (Host::of(x)?, Host::of(dy)?);
    let bias = bias.map(Host::of).transpose()?;
    let (mut dx, mut dbias) = (vec![0f32; xs.len()], vec![0f32; c]);
    for (i, dx) in dx.iter_mut().enumerate() {
        let z = xs[i] + bias.as_ref().map_or(0.0, |bias| bias[i % c]);
        *dx = dys[i] * differentiate(activation, z);
        dbias[i % c] += *dx;
    }
    let dbias = bias.is_some().then(|| tensor(dbias, c)).transpose()?;
    Ok(BiasGradients { dx: tensor(dx, x.shape())?, dbias })
}

fn gpu_backward(
    gpu: &Gpu,
    x: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    dy: &Tensor,
) -> Result<BiasGradients> {
    let (rows, c) = rows_of(x)?;
    let dx = gpu.output(x.shape())?;
    let mut args = vec![Arg::In(x), Arg::maybe(bias), Arg::In(dy), Arg::Out(&dx)];
    args.extend([argument(activation), Arg::size(rows), Arg::size(c)]);
    gpu.launch(&Launch::map(SOURCE, "bias_backward", rows, c), &args)?;
    let dbias = bias.map(|_| sum_columns(gpu, &dx)).transpose()?;
    Ok(BiasGradients { dx, dbias })
}

/// The number of channels of x, which must also be that of the bias.
fn channels(x: &Tensor, bias: Option<&Tensor>) -> Result<usize> {
    let (_, c) = rows_of(x)?;
    bias.map_or(Ok(()), |bias| expect("bias", "bias", bias, &[c]))?;
    Ok(c)
}
