//! A network in training: one step by its recipe, for the training loop and for measurements of a step.

use super::{OptimizerState, Step, WeightAverage, restore_weights, save_weights, training_step};
use crate::checkpoint::Stage;
use crate::data::Batch;
use crate::net::{DropNoise, Network};
use crate::nn::Params;
use crate::recipe::{DropRates, TrainConfig};
use crate::rng::Seed;
use anyhow::Result;

/// The weights of a network with all that its recipe keeps from step to step.
pub struct NetworkTraining<'a> {
    net: &'a Network,
    config: &'a TrainConfig,
    /// Seed and label of what steps leave out.
    noise: (Seed, &'a str),
    params: &'a mut Params,
    optimizer: OptimizerState,
    average: Option<WeightAverage>,
}

impl<'a> NetworkTraining<'a> {
    /// Starts with the weights `params`. `noise` is the seed of the random streams, and their label.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(
        net: &'a Network,
        params: &'a mut Params,
        config: &'a TrainConfig,
        noise: (Seed, &'a str),
    ) -> candle_core::Result<Self> {
        let optimizer = OptimizerState::new(config.optimizer, params)?;
        let average = config.ema_decay.map(|decay| WeightAverage::new(decay, params));
        Ok(Self { net, config, noise, params, optimizer, average: average.transpose()? })
    }

    /// One step, whose number counts from zero.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn step(&mut self, batch: &Batch, number: u64, rate: f64) -> candle_core::Result<Step> {
        let Self { net, config, noise: (seed, label), params, optimizer, average } = self;
        let noise = DropNoise { rates: config.drops, seed: *seed, label, step: number };
        let target = (&batch.labels, config.label_smoothing);
        let step = training_step(params, optimizer, rate, target, config.recompute, |pass| {
            if config.drops == DropRates::default() {
                return net.forward(pass, &batch.xs);
            }
            net.forward_dropping(pass, &batch.xs, &noise)
        })?;
        if let Some(average) = average {
            average.follow(params, number)?;
        }
        Ok(step)
    }

    /// The weights to evaluate: their average, if the recipe has one.
    #[must_use]
    pub fn weights(&self) -> &Params {
        self.average.as_ref().map_or(self.params, WeightAverage::params)
    }

    /// Ends the training: the weights become those to evaluate.
    pub fn finish(self) {
        if let Some(average) = self.average {
            *self.params = average.into_params();
        }
    }

    /// Adds all that later steps depend on to a state, which is to be written at once.
    pub fn save(&self, stage: &mut Stage) {
        save_weights(stage, self.params);
        self.optimizer.save(stage, self.params);
        if let Some(average) = &self.average {
            stage.put_tensors("average", average.params().named());
        }
    }

    /// The inverse of [`NetworkTraining::save`].
    ///
    /// # Errors
    /// When the state is of another network.
    pub fn restore(&mut self, stage: &Stage) -> Result<()> {
        restore_weights(stage, "weights", self.params)?;
        self.optimizer = self.optimizer.continued(stage, self.params)?;
        if let Some(average) = &mut self.average {
            restore_weights(stage, "average", average.params_mut())?;
        }
        Ok(())
    }
}
