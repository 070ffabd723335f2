//! Bias and activation of a matrix: behind the pooling and the classifier.

use super::activation::{differentiate, evaluate};
use super::host::{Host, expect, rows_of, tensor};
use super::no_kernel;
use crate::space::Activation;
use candle_core::{Device, Result, Tensor};

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
    match x.device() {
        Device::Cpu => {
            let (xs, bias) = (Host::of(x)?, bias.map(Host::of).transpose()?);
            let bias = |i: usize| bias.as_ref().map_or(0.0, |bias| bias[i % c]);
            let y = xs.iter().enumerate().map(|(i, x)| evaluate(activation, x + bias(i)));
            tensor(y.collect(), x.shape())
        }
        device => no_kernel("bias", device),
    }
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
    match x.device() {
        Device::Cpu => {
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
        device => no_kernel("bias", device),
    }
}

/// The number of channels of x, which must also be that of the bias.
fn channels(x: &Tensor, bias: Option<&Tensor>) -> Result<usize> {
    let (_, c) = rows_of(x)?;
    bias.map_or(Ok(()), |bias| expect("bias", "bias", bias, &[c]))?;
    Ok(c)
}
