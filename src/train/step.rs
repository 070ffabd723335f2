//! One step of SGD: forward pass, loss, backward pass, update. Search and training share it.

use super::SgdState;
use crate::nn::{Params, Pass};
use crate::ops::loss::{BatchLoss, Labels, cross_entropy};
use crate::recipe::Recompute;
use crate::tape::Value;
use candle_core::Result;
use std::time::Instant;

/// The loss of a step, and how long its parts took.
pub struct Step {
    pub result: BatchLoss,
    pub seconds: StepSeconds,
}

/// Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSeconds {
    /// Including the loss.
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
}

/// One step of SGD on the mean cross-entropy of the logits that `forward` returns.
///
/// # Errors
/// When an operator fails.
pub fn sgd_step(
    params: &mut Params,
    optimizer: &mut SgdState,
    learning_rate: f64,
    (labels, smoothing): (&Labels, f64),
    recompute: Recompute,
    forward: impl FnOnce(&mut Pass<'_>) -> Result<Value>,
) -> Result<Step> {
    let start = Instant::now();
    let mut pass = Pass::training(params).recomputing(recompute);
    let logits = forward(&mut pass)?;
    let result = cross_entropy(logits.tensor(), labels, smoothing)?;
    let after_forward = Instant::now();
    let (gradients, _) = pass.backward(&logits, result.dlogits.clone())?;
    let after_backward = Instant::now();
    optimizer.step(params, &gradients, learning_rate)?;
    // On a GPU the only wait of the step.
    let result = result.read()?;
    let seconds = StepSeconds {
        forward: (after_forward - start).as_secs_f64(),
        backward: (after_backward - after_forward).as_secs_f64(),
        optimizer: after_backward.elapsed().as_secs_f64(),
    };
    Ok(Step { result, seconds })
}
