//! Trains a network only for its score: a candidate of random search, or a network of a rank
//! correlation.

use super::Scorer;
use crate::cost;
use crate::data::Dataset;
use crate::monitor::Monitor;
use crate::net::Network;
use crate::progress::Quiet;
use crate::recipe::TrainConfig;
use crate::record::{NullRecorder, Work};
use crate::rng::Seed;
use crate::space::ArchSpec;
use crate::train::{self, Diverged, Score, TrainingRun};
use anyhow::Result;
use candle_core::Device;

/// Images and recipe, the same for all networks.
pub struct Trial<'a> {
    pub dataset: &'a Dataset,
    /// Training images that the network is trained on.
    pub images: &'a [usize],
    pub scorer: &'a Scorer<'a>,
    pub config: &'a TrainConfig,
    /// Label of the random stream that shuffles and augments the images.
    pub label: &'static str,
    /// The name of the training in checkpoints.
    pub stage: &'static str,
    pub device: &'a Device,
}

/// The score of a network that was trained for it.
#[derive(Clone, Copy, Debug)]
pub struct TrialResult {
    pub score: Score,
    /// Steps of the network's weights, the one that diverged included.
    pub weight_steps: u64,
}

impl Trial<'_> {
    /// Trains the network from scratch and scores it; adds its compute to `work`. Nothing is recorded or
    /// shown.
    ///
    /// # Errors
    /// When an operator fails, or the run was asked to stop. Divergence is no error: the loss of the
    /// score is then not finite.
    pub fn score(
        &self,
        arch: &ArchSpec,
        seed: Seed,
        work: &mut Work,
        monitor: &mut Monitor<'_>,
    ) -> Result<TrialResult> {
        let Self { dataset, images, scorer, config, label, stage, device } = *self;
        let (net, mut params) = Network::of_arch(arch, seed, device)?;
        let training =
            TrainingRun { net: &net, dataset, images, validation: &[], config, seed, label, stage };
        let mut recorder = NullRecorder(Some(&mut *monitor.recorder));
        let mut quiet = Monitor {
            recorder: &mut recorder,
            progress: &Quiet,
            stop: monitor.stop,
            checkpoints: &mut *monitor.checkpoints,
        };
        let macs = cost::count(arch).macs;
        work.architectures += 1;
        let weight_steps = match train::train(&training, &mut params, &mut quiet) {
            Ok(processed) => {
                work.add_training(macs, processed as usize);
                // Without validation images; incomplete batches are left out.
                processed / config.batch_size as u64
            }
            Err(error) => {
                let Diverged { loss, step, .. } = error.downcast()?;
                work.add_training(macs, (step as usize + 1) * config.batch_size);
                return Ok(TrialResult {
                    score: Score { loss, top1: 0.0 },
                    weight_steps: step + 1,
                });
            }
        };
        let score = scorer.evaluate(&net, &mut params, macs, work, monitor.stop)?;
        Ok(TrialResult { score, weight_steps })
    }
}
