//! SGD with momentum over all parameters of a network.

use crate::checkpoint::Stage;
use crate::nn::Params;
use crate::ops::gpu;
use crate::ops::update::{SgdOperands, SgdStep};
use crate::recipe::{Schedule, Sgd};
use candle_core::{Result, Tensor};

/// How many steps a loop has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopLength {
    pub epochs: u64,
    /// Steps of an epoch.
    pub per_epoch: u64,
}

impl LoopLength {
    #[must_use]
    pub fn steps(self) -> u64 {
        self.epochs * self.per_epoch
    }
}

/// The learning rate of `step` in a loop of this length, at the middle of the step.
#[must_use]
pub fn learning_rate(config: &Sgd, step: u64, length: LoopLength) -> f64 {
    let (now, per_epoch) = (step as f64 + 0.5, length.per_epoch as f64);
    let (first, warmup) = (config.learning_rate, config.warmup_epochs * per_epoch);
    if now < warmup {
        return first * (now / warmup);
    }
    let at = (now - warmup) / (length.steps().max(1) as f64 - warmup);
    match config.schedule {
        Schedule::Constant => first,
        Schedule::Cosine { last } => {
            last + (first - last) * (0.5 * (1.0 + (std::f64::consts::PI * at).cos()))
        }
        Schedule::Triangle => first * (at / 0.2).min((1.0 - at) / 0.8),
        Schedule::Steps { every_epochs, decay } => {
            first * decay.powi((now / (every_epochs * per_epoch)).floor() as i32)
        }
    }
}

/// The velocities of SGD with momentum.
pub struct SgdState {
    config: Sgd,
    velocities: Vec<Tensor>,
}

impl SgdState {
    /// Velocities of zero for all parameters.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(config: Sgd, params: &Params) -> Result<Self> {
        let velocities = params.tensors().map(|(tensor, _)| gpu::zeros_like(tensor));
        Ok(Self { config, velocities: velocities.collect::<Result<_>>()? })
    }

    /// Continues from these velocities, which are in the parameters' order and change in place.
    #[must_use]
    pub fn resumed(config: Sgd, velocities: Vec<Tensor>) -> Self {
        Self { config, velocities }
    }

    /// The same with the velocities of a state that [`super::save_weights`] has written.
    ///
    /// # Errors
    /// When they are of another network.
    pub fn continued(&self, stage: &Stage, params: &Params) -> anyhow::Result<Self> {
        let like: Vec<&Tensor> = params.tensors().map(|(tensor, _)| tensor).collect();
        Ok(Self::resumed(self.config, stage.tensors_like("velocities", like.into_iter())?))
    }

    /// The velocities, in the parameters' order.
    #[must_use]
    pub fn velocities(&self) -> &[Tensor] {
        &self.velocities
    }

    /// One step along `gradients`, which are in the parameters' order. Parameters without a gradient
    /// stay as they are.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn step(
        &mut self,
        params: &Params,
        gradients: &[Option<Tensor>],
        learning_rate: f64,
    ) -> Result<()> {
        let Sgd { momentum, weight_decay, clip_norm, .. } = self.config;
        let all = params.tensors().zip(&self.velocities).zip(gradients);
        let moved = all.filter_map(|(((weight, decays), velocity), gradient)| {
            Some(SgdOperands { weight, velocity, gradient: gradient.as_ref()?, decays })
        });
        let step = SgdStep { learning_rate, momentum, weight_decay, clip_norm };
        step.apply(&moved.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_start_and_end_as_configured() {
        let at = |schedule, step| {
            let config = Sgd {
                learning_rate: 0.5,
                momentum: 0.0,
                weight_decay: 0.0,
                schedule,
                warmup_epochs: 0.0,
                clip_norm: None,
            };
            learning_rate(&config, step, LoopLength { epochs: 10, per_epoch: 100 })
        };
        assert_eq!(at(Schedule::Constant, 999), 0.5);
        let cosine = |last, step| at(Schedule::Cosine { last }, step);
        assert!(cosine(0.0, 0) > 0.499 && cosine(0.0, 999) < 1e-5);
        assert!(cosine(0.1, 0) > 0.499 && (cosine(0.1, 999) - 0.1).abs() < 1e-5);
        assert!((cosine(0.1, 499) - 0.3).abs() < 1e-3);
        assert!(at(Schedule::Triangle, 0) < 2e-3 && at(Schedule::Triangle, 999) < 1e-3);
        assert!((at(Schedule::Triangle, 199) - 0.5).abs() < 2e-3);
    }
}
