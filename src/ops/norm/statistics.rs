//! What follows from the statistics of a batch: running statistics and the inverse deviation.

use super::{EPSILON, Running, gpu};
use crate::ops::gpu::Gpu;
use crate::ops::host::expect;
use crate::ops::sums::Moments;
use candle_core::{Result, Tensor};

/// 1 / √(σ² + ε) for a row of variances.
///
/// # Errors
/// When the row is not on a device that candle can compute on.
pub fn inverse_deviation(variance: &Tensor) -> Result<Tensor> {
    match Gpu::of(variance.device())? {
        Some(gpu) => gpu::inverse_deviation(&gpu, variance),
        None => (variance + EPSILON)?.sqrt()?.recip(),
    }
}

/// The inverse deviation of a batch, and `running` moved towards its statistics by the share
/// `momentum`, in new tensors.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn follow(
    batch: &Moments,
    running: Running<&Tensor>,
    momentum: f64,
) -> Result<(Tensor, Running)> {
    let Moments { mean, variance, count } = batch;
    for row in [variance, running.mean, running.variance] {
        expect("norm", "a row of statistics", row, mean.dims())?;
    }
    // From the biased variance to the unbiased one.
    let unbiased = *count as f64 / (*count as f64 - 1.0).max(1.0);
    if let Some(gpu) = Gpu::of(mean.device())? {
        return gpu::follow(&gpu, batch, running, momentum, unbiased);
    }
    let moved =
        |running: &Tensor, batch: &Tensor| (running * (1.0 - momentum))? + (batch * momentum)?;
    let unbiased = (variance * unbiased)?;
    let running =
        Running { mean: moved(running.mean, mean)?, variance: moved(running.variance, &unbiased)? };
    Ok((inverse_deviation(variance)?, running))
}
