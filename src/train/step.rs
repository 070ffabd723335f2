//! One step of the weights: forward pass, loss, backward pass, update. Search and training share it.

use super::OptimizerState;
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
    /// Where a loss comes from that is not finite, if that was found. The weights are then those before the
    /// step; running statistics have moved.
    pub fault: Option<String>,
}

/// Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSeconds {
    /// Including the loss.
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
}

/// One step of the optimizer on the mean cross-entropy of the logits that `forward` returns.
///
/// # Errors
/// When an operator fails.
pub fn training_step(
    params: &mut Params,
    optimizer: &mut OptimizerState,
    learning_rate: f64,
    (labels, smoothing): (&Labels, f64),
    recompute: Recompute,
    forward: impl Fn(&mut Pass<'_>) -> Result<Value>,
) -> Result<Step> {
    let start = Instant::now();
    let mut pass = Pass::training(params).recomputing(recompute);
    let logits = forward(&mut pass)?;
    let result = cross_entropy(logits.tensor(), labels, smoothing)?;
    let after_forward = Instant::now();
    let (gradients, _) = pass.backward(&logits, result.dlogits.clone())?;
    // On a GPU the only wait of the step.
    let result = result.read()?;
    let after_backward = Instant::now();
    let fault = if result.loss.is_finite() {
        optimizer.step(params, &gradients, learning_rate)?;
        None
    } else {
        drop(gradients);
        // The loss is what failed, also where this does.
        find_fault(params, recompute, forward).ok()
    };
    let seconds = StepSeconds {
        forward: (after_forward - start).as_secs_f64(),
        backward: (after_backward - after_forward).as_secs_f64(),
        optimizer: after_backward.elapsed().as_secs_f64(),
    };
    Ok(Step { result, seconds, fault })
}

/// Where values that are not finite come from in a forward pass.
fn find_fault(
    params: &mut Params,
    recompute: Recompute,
    forward: impl Fn(&mut Pass<'_>) -> Result<Value>,
) -> Result<String> {
    if let Some(name) = params.first_not_finite()? {
        return Ok(format!("{name} was not finite after the step before"));
    }
    let mut pass = Pass::searching_fault(params).recomputing(recompute);
    forward(&mut pass)?;
    Ok(match pass.fault() {
        Some(operator) => format!("the first output that is not finite is that of {operator}"),
        None => "the logits are finite, but too large for the cross-entropy".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Init;
    use crate::recipe::{Schedule, Sgd};
    use crate::rng::Seed;
    use candle_core::{Device, Tensor};

    /// A step of two matrix products, the second of which reads these weights.
    fn fault(weights: [f32; 4], inputs: [f32; 2]) -> Option<String> {
        let mut params = Params::new(Seed(1), &Device::Cpu);
        let first = params.add("first".into(), &[2, 2], Init::Constant(1.0)).unwrap();
        let second = params.add("second".into(), &[2, 2], Init::Constant(1.0)).unwrap();
        let value = Tensor::from_slice(&weights, (2, 2), &Device::Cpu).unwrap();
        params.set("second", &value).unwrap();
        let before = params.sha256().unwrap();
        let config = Sgd {
            learning_rate: 0.1,
            momentum: 0.0,
            weight_decay: 0.0,
            schedule: Schedule::Constant,
            warmup_epochs: 0.0,
            clip_norm: None,
        };
        let mut optimizer = OptimizerState::new(config, &params).unwrap();
        let xs = Tensor::new(&[inputs], &Device::Cpu).unwrap();
        let labels: Labels = vec![0].into();
        let none = Recompute::None;
        let step = training_step(&mut params, &mut optimizer, 0.1, (&labels, 0.0), none, |pass| {
            let (first, second) = (pass.param(first), pass.param(second));
            let hidden = pass.tape.matmul(&Value::constant(xs.clone()), &first)?;
            pass.tape.matmul(&hidden, &second)
        })
        .unwrap();
        assert_eq!(step.fault.is_some(), params.sha256().unwrap() == before);
        assert_eq!(step.fault.is_none(), step.result.loss.is_finite());
        step.fault
    }

    #[test]
    fn the_first_operator_that_overflows_is_named() {
        assert_eq!(fault([1.0, 2.0, 3.0, 4.0], [1.0, 1.0]), None);
        let found = fault([3e38, 1.0, 3e38, 1.0], [1.0, 1.0]).unwrap();
        assert!(found.ends_with("that of matmul with second"), "{found}");
        let found = fault([1.0; 4], [3e38, 3e38]).unwrap();
        assert!(found.ends_with("that of matmul with first"), "{found}");
        let found = fault([f32::NAN, 1.0, 1.0, 1.0], [1.0, 1.0]).unwrap();
        assert_eq!(found, "second was not finite after the step before");
    }
}
