//! How good a network is before it is trained by itself: its score under shared weights on images
//! that did not train them.
//!
//! The statistics of batch norm are the network's own: they are estimated anew over a few training
//! batches, since those of a shared network would be a mixture (Bender et al. 2018; Guo et al. 2020).

use crate::cost;
use crate::data::{Batch, Dataset, Loader};
use crate::net::SharedWeights;
use crate::nn::Pass;
use crate::recipe::{SearchConfig, for_weights};
use crate::record::Work;
use crate::space::Decisions;
use crate::train::{self, Score};
use anyhow::Result;
use candle_core::Device;

/// Scores networks of one space, all on the same images.
pub struct Scorer<'a> {
    dataset: &'a Dataset,
    /// Unchanged images of the weights' part, the same for every network.
    calibration: Vec<Batch>,
    held_out: Vec<usize>,
}

impl<'a> Scorer<'a> {
    /// `weights` and `held_out` are training images: the first calibrate, the second are scored on.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(
        dataset: &'a Dataset,
        (weights, held_out): (&[usize], &[usize]),
        batch_size: usize,
        batches: usize,
        device: &Device,
    ) -> Result<Self> {
        let images = weights[..weights.len().min(batches * batch_size)].to_vec();
        let loader = Loader::evaluation(dataset, &dataset.train, images, batch_size).on(device);
        let calibration = loader.epoch(0).collect::<Result<_, _>>()?;
        Ok(Self { dataset, calibration, held_out: held_out.to_vec() })
    }

    /// The score of the network that `decisions` name; adds to `work` what it took.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn score(
        &self,
        weights: &SharedWeights,
        decisions: &Decisions,
        work: &mut Work,
    ) -> Result<Score> {
        let mut cut = weights.cut_out(decisions)?;
        for (seen, batch) in self.calibration.iter().enumerate() {
            let mut pass = Pass::calibrating(&mut cut.params, seen);
            cut.net.forward(&mut pass, &batch.xs)?;
        }
        let macs = cost::count(&weights.space().decide(decisions)).macs;
        let calibrating: usize = self.calibration.iter().map(|batch| batch.labels.len()).sum();
        work.add_inference(macs, calibrating + self.held_out.len());
        work.architectures += 1;
        let split = &self.dataset.train;
        train::evaluate(&cut.net, &cut.params, self.dataset, split, self.held_out.clone())
    }
}

/// The images that train weights, and those held out from them.
#[must_use]
pub fn split<'a>(indices: &'a [usize], config: &SearchConfig) -> (&'a [usize], &'a [usize]) {
    indices.split_at(for_weights(indices.len(), config.weight_share))
}

/// Whether the first score is better: by accuracy, then by loss.
#[must_use]
pub fn better(a: &Score, b: &Score) -> bool {
    a.top1 > b.top1 || a.top1 == b.top1 && a.loss < b.loss
}
