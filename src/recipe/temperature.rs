//! The temperature of Gumbel-Softmax and its schedule.

/// Gumbel-Softmax temperature τ, epoch by epoch from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    pub initial: f64,
    pub schedule: TemperatureSchedule,
}

/// How τ changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TemperatureSchedule {
    /// τ = initial · decay^epoch (FBNet v1 and FBNetV2).
    Exponential {
        decay: f64,
    },
    /// From initial in the first epoch to `last` in the last, in equal steps.
    Linear {
        last: f64,
    },
    Constant,
}

impl Temperature {
    /// τ in the epoch `epoch` of `epochs`.
    #[must_use]
    pub fn at(&self, epoch: usize, epochs: usize) -> f64 {
        match self.schedule {
            TemperatureSchedule::Exponential { decay } => self.initial * decay.powi(epoch as i32),
            TemperatureSchedule::Linear { last } => {
                let share = epoch as f64 / epochs.saturating_sub(1).max(1) as f64;
                self.initial + (last - self.initial) * share
            }
            TemperatureSchedule::Constant => self.initial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_start_and_end_as_configured() {
        let at = |schedule, epoch| Temperature { initial: 10.0, schedule }.at(epoch, 5);
        let exponential = TemperatureSchedule::Exponential { decay: 0.5 };
        assert_eq!([0, 1, 4].map(|epoch| at(exponential, epoch)), [10.0, 5.0, 0.625]);
        let linear = TemperatureSchedule::Linear { last: 2.0 };
        assert_eq!([0, 1, 4].map(|epoch| at(linear, epoch)), [10.0, 8.0, 2.0]);
        assert_eq!([0, 4].map(|epoch| at(TemperatureSchedule::Constant, epoch)), [10.0, 10.0]);
        // A single epoch has the first temperature, not the last.
        assert_eq!(Temperature { initial: 3.0, schedule: linear }.at(0, 1), 3.0);
    }
}
