//! SGD and RMSProp over all parameters of a network, and the schedules of learning rates.

use crate::checkpoint::Stage;
use crate::nn::Params;
use crate::ops::gpu;
use crate::ops::update::{RmsPropOperands, RmsPropStep, SgdOperands, SgdStep};
use crate::recipe::{Optimizer, RmsProp, Schedule, Sgd};
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

/// What an optimizer keeps from step to step.
pub struct OptimizerState {
    config: Optimizer,
    velocities: Vec<Tensor>,
    /// The mean squares of RMSProp; empty for SGD.
    squares: Vec<Tensor>,
}

impl OptimizerState {
    /// Velocities of zero for all parameters, and mean squares of one where the optimizer has them.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(config: impl Into<Optimizer>, params: &Params) -> Result<Self> {
        let config = config.into();
        let tensors = || params.tensors().map(|(tensor, _)| tensor);
        let velocities = tensors().map(gpu::zeros_like).collect::<Result<_>>()?;
        let squares = match config.rmsprop {
            Some(_) => tensors().map(gpu::ones_like).collect::<Result<_>>()?,
            None => Vec::new(),
        };
        Ok(Self { config, velocities, squares })
    }

    /// SGD that continues from these velocities, which are in the parameters' order and change in place.
    #[must_use]
    pub fn resumed(config: Sgd, velocities: Vec<Tensor>) -> Self {
        Self { config: config.into(), velocities, squares: Vec::new() }
    }

    /// The same with the tensors that [`OptimizerState::save`] has added to a state.
    ///
    /// # Errors
    /// When they are of another network.
    pub fn continued(&self, stage: &Stage, params: &Params) -> anyhow::Result<Self> {
        let like: Vec<&Tensor> = params.tensors().map(|(tensor, _)| tensor).collect();
        let velocities = stage.tensors_like("velocities", like.iter().copied())?;
        let squares = match self.config.rmsprop {
            Some(_) => stage.tensors_like("squares", like.into_iter())?,
            None => Vec::new(),
        };
        Ok(Self { config: self.config, velocities, squares })
    }

    /// Adds all that later steps depend on to a state, which is to be written at once, since steps change it
    /// in place.
    pub fn save(&self, stage: &mut Stage, params: &Params) {
        let names = || params.named().map(|(name, _)| name);
        stage.put_tensors("velocities", names().zip(&self.velocities));
        if self.config.rmsprop.is_some() {
            stage.put_tensors("squares", names().zip(&self.squares));
        }
    }

    /// The velocities, in the parameters' order.
    #[must_use]
    pub fn velocities(&self) -> &[Tensor] {
        &self.velocities
    }

    /// One step along `gradients`, which are in the parameters' order and may be overwritten. Parameters
    /// without a gradient stay as they are.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn step(
        &mut self,
        params: &Params,
        gradients: &[Option<Tensor>],
        learning_rate: f64,
    ) -> Result<()> {
        let Sgd { momentum, weight_decay, clip_norm, .. } = self.config.sgd;
        let all = params.tensors().zip(&self.velocities).zip(gradients);
        let moved = all.map(|(((weight, decays), velocity), gradient)| {
            Some(SgdOperands { weight, velocity, gradient: gradient.as_ref()?, decays })
        });
        let sgd = SgdStep { learning_rate, momentum, weight_decay, clip_norm };
        let Some(RmsProp { rho, epsilon }) = self.config.rmsprop else {
            return sgd.apply(&moved.flatten().collect::<Vec<_>>());
        };
        let moved = moved.zip(&self.squares);
        let moved = moved.filter_map(|(sgd, square)| Some(RmsPropOperands { sgd: sgd?, square }));
        RmsPropStep { sgd, rho, epsilon }.apply(&moved.collect::<Vec<_>>())
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
