//! A network trained by itself for no other purpose than its score: a candidate of random search, or
//! one whose rank is asked for.

use crate::cost;
use crate::data::Dataset;
use crate::monitor::Monitor;
use crate::net::Net;
use crate::progress::Quiet;
use crate::recipe::TrainConfig;
use crate::record::{NullRecorder, Work};
use crate::rng::Seed;
use crate::space::ArchSpec;
use crate::train::{self, Diverged, Score, Training};
use anyhow::Result;
use candle_core::Device;

/// How networks are tried, all alike.
pub struct Trial<'a> {
    pub dataset: &'a Dataset,
    /// Training images that train.
    pub images: &'a [usize],
    /// Training images that the score is taken on.
    pub held_out: &'a [usize],
    pub config: &'a TrainConfig,
    /// Of the stream that images are shuffled and changed by.
    pub label: &'static str,
    pub device: &'a Device,
}

impl Trial<'_> {
    /// Trains the network from scratch and scores it; adds to `work` what it took. Of `monitor` it only
    /// hears whether to stop.
    ///
    /// # Errors
    /// When an operator fails, or the run was asked to stop. A training that diverges is none: its
    /// score has no number for a loss.
    pub fn score(
        &self,
        arch: &ArchSpec,
        seed: Seed,
        work: &mut Work,
        monitor: &Monitor<'_>,
    ) -> Result<Score> {
        let Self { dataset, images, held_out, config, label, device } = *self;
        let (net, mut params) = Net::of_arch(arch, seed, device)?;
        let training =
            Training { net: &net, dataset, images, validation: &[], config, seed, label };
        let mut quiet =
            Monitor { recorder: &mut NullRecorder, progress: &Quiet, stop: monitor.stop };
        let macs = cost::count(arch).macs;
        work.architectures += 1;
        match train::train(&training, &mut params, &mut quiet) {
            Ok(processed) => work.add_training(macs, processed as usize),
            Err(error) => {
                let Diverged { loss, step, .. } = error.downcast()?;
                work.add_training(macs, (step as usize + 1) * config.batch_size);
                return Ok(Score { loss, top1: 0.0 });
            }
        }
        work.add_inference(macs, held_out.len());
        train::evaluate(&net, &params, dataset, &dataset.train, held_out.to_vec())
    }
}
