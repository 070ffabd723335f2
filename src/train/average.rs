//! An exponential moving average of weights and running statistics, which is evaluated and stored in their
//! place (Polyak & Juditsky 1992; with a constant decay as in Szegedy et al. 2016, section 8).

use crate::nn::Params;
use crate::ops::update;
use candle_core::{Result, Tensor};

/// The running average of a network's weights and running statistics.
pub struct WeightAverage {
    decay: f64,
    params: Params,
}

impl WeightAverage {
    /// Starts with the weights themselves.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(decay: f64, params: &Params) -> Result<Self> {
        Ok(Self { decay, params: params.copied()? })
    }

    /// Follows the weights after step `number`, which counts from zero.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn follow(&self, params: &Params, number: u64) -> Result<()> {
        let pairs = self.params.named().zip(params.named());
        let pairs: Vec<(&Tensor, &Tensor)> = pairs.map(|((_, to), (_, from))| (to, from)).collect();
        update::average(&pairs, 1.0 - decay_after(self.decay, number))
    }

    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// To replace the average, not to add parameters.
    pub fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    #[must_use]
    pub fn into_params(self) -> Params {
        self.params
    }
}

/// The decay after step `number`: at most (1 + n) / (10 + n) after n steps, as in TensorFlow, so that the
/// initial weights are soon forgotten.
#[must_use]
pub fn decay_after(decay: f64, number: u64) -> f64 {
    let steps = number as f64 + 1.0;
    decay.min((1.0 + steps) / (10.0 + steps))
}
