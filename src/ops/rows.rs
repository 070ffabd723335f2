//! Bias and activation on the small matrices inside squeeze-excite and behind the classifier.

use super::activation::{differentiate, evaluate};
use super::host::{Host, expect, rows_of, tensor};
use super::no_kernel;
use crate::space::Activation;
use candle_core::{Device, Result, Tensor};

/// Gradients of [`forward`].
pub struct Gradients {
    pub dx: Tensor,
    /// `[c]`
    pub dbias: Tensor,
    /// `[c]`, when there was a mask.
    pub dmask: Option<Tensor>,
}

/// `y = act(x + bias) · mask` with x `[…, c]`, bias and mask `[c]`.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn forward(
    x: &Tensor,
    bias: &Tensor,
    activation: Activation,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let c = channels(x, bias, mask)?;
    match x.device() {
        Device::Cpu => {
            let (xs, bias) = (Host::of(x)?, Host::of(bias)?);
            let mask = mask.map(Host::of).transpose()?;
            let y = xs.iter().enumerate().map(|(i, x)| {
                let m = mask.as_ref().map_or(1.0, |m| m[i % c]);
                evaluate(activation, x + bias[i % c]) * m
            });
            tensor(y.collect(), x.shape())
        }
        device => no_kernel("rows", device),
    }
}

/// The gradients of [`forward`] with respect to x, bias and mask.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    x: &Tensor,
    bias: &Tensor,
    activation: Activation,
    mask: Option<&Tensor>,
    dy: &Tensor,
) -> Result<Gradients> {
    let c = channels(x, bias, mask)?;
    expect("rows", "dy", dy, x.dims())?;
    match x.device() {
        Device::Cpu => {
            let (xs, bias, dys) = (Host::of(x)?, Host::of(bias)?, Host::of(dy)?);
            let masks = mask.map(Host::of).transpose()?;
            let mut dx = vec![0f32; xs.len()];
            let (mut dbias, mut dmask) = (vec![0f32; c], vec![0f32; c]);
            for (i, dx) in dx.iter_mut().enumerate() {
                let j = i % c;
                let z = xs[i] + bias[j];
                *dx = dys[i] * masks.as_ref().map_or(1.0, |m| m[j]) * differentiate(activation, z);
                dbias[j] += *dx;
                dmask[j] += dys[i] * evaluate(activation, z);
            }
            Ok(Gradients {
                dx: tensor(dx, x.shape())?,
                dbias: tensor(dbias, c)?,
                dmask: masks.is_some().then(|| tensor(dmask, c)).transpose()?,
            })
        }
        device => no_kernel("rows", device),
    }
}

/// The channels of x, which bias and mask must have too.
fn channels(x: &Tensor, bias: &Tensor, mask: Option<&Tensor>) -> Result<usize> {
    let (_, c) = rows_of(x)?;
    expect("rows", "bias", bias, &[c])?;
    mask.map_or(Ok(()), |mask| expect("rows", "mask", mask, &[c]))?;
    Ok(c)
}
