//! The score of a network on images that did not train its weights.
//!
//! Each network gets batch norm statistics of its own, estimated on a few training batches. Those of
//! shared weights would be a mixture of many networks (Bender et al. 2018; Guo et al. 2020), and the
//! running statistics of a network that was trained for a few steps are still near their initial
//! values.

use crate::cost;
use crate::data::{Batch, Dataset, Loader};
use crate::net::{Network, SharedWeights};
use crate::nn::{Params, Pass};
use crate::recipe::{SearchConfig, for_weights};
use crate::record::Work;
use crate::space::Decisions;
use crate::train::{self, Score};
use anyhow::Result;
use candle_core::Device;
use std::sync::atomic::AtomicBool;

/// Scores networks, all on the same images.
pub struct Scorer<'a> {
    dataset: &'a Dataset,
    /// Images of the weight split without augmentation, the same for every network.
    calibration: Vec<Batch>,
    held_out: Vec<usize>,
    batch_size: usize,
}

impl<'a> Scorer<'a> {
    /// `weights` and `held_out` are training images: `batches` of the first calibrate batch norm, the
    /// second give the score. Without calibration batches networks keep their running statistics.
    ///
    /// # Errors
    /// When the device is out of memory.
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
        Ok(Self { dataset, calibration, held_out: held_out.to_vec(), batch_size })
    }

    /// The score of the network of these `decisions`; adds its compute to `work`.
    ///
    /// # Errors
    /// When an operator fails, or [`Interrupted`](crate::monitor::Interrupted) when `stop` is set.
    pub fn score(
        &self,
        weights: &SharedWeights,
        decisions: &Decisions,
        work: &mut Work,
        stop: &AtomicBool,
    ) -> Result<Score> {
        let mut cut = weights.extract(decisions)?;
        let macs = cost::count(&weights.space().decide(decisions)).macs;
        work.architectures += 1;
        self.evaluate(&cut.net, &mut cut.params, macs, work, stop)
    }

    /// Calibrates and scores a network of so many multiply-accumulates per image; adds its compute to
    /// `work`.
    ///
    /// # Errors
    /// When an operator fails, or [`Interrupted`](crate::monitor::Interrupted) when `stop` is set.
    pub fn evaluate(
        &self,
        net: &Network,
        params: &mut Params,
        macs: u64,
        work: &mut Work,
        stop: &AtomicBool,
    ) -> Result<Score> {
        for (seen, batch) in self.calibration.iter().enumerate() {
            let mut pass = Pass::calibrating(params, seen);
            net.forward(&mut pass, &batch.xs)?;
        }
        let calibrating: usize = self.calibration.iter().map(|batch| batch.labels.len()).sum();
        work.add_inference(macs, calibrating + self.held_out.len());
        let images = (&self.dataset.train, self.held_out.clone());
        train::evaluate(net, params, self.dataset, images, self.batch_size, stop)
    }
}

/// The weight split and the architecture split.
#[must_use]
pub fn split<'a>(indices: &'a [usize], config: &SearchConfig) -> (&'a [usize], &'a [usize]) {
    indices.split_at(for_weights(indices.len(), config.weight_share))
}

/// Whether the first score is better, by accuracy, then by loss.
#[must_use]
pub fn better(a: &Score, b: &Score) -> bool {
    a.top1 > b.top1 || a.top1 == b.top1 && a.loss < b.loss
}
