//! Trains a network from scratch and evaluates it.

mod optimizer;
mod step;
mod steps;

pub use optimizer::{SgdState, learning_rate};
pub use step::{Step, StepSeconds, sgd_step};
pub use steps::{Diverged, LoopMetrics, Steps, ensure_finite};

use crate::data::{Dataset, Loader, Split, prefetched};
use crate::monitor::Monitor;
use crate::net::Network;
use crate::nn::Params;
use crate::ops::loss::{BatchLoss, cross_entropy};
use crate::progress::Amount;
use crate::recipe::TrainConfig;
use crate::record::Metric;
use crate::rng::Seed;
use anyhow::Result;
use std::time::Instant;

/// Images per evaluation batch.
const EVALUATION_BATCH: usize = 200;

/// How well a network does on some images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Mean cross-entropy in nats, without label smoothing.
    pub loss: f64,
    /// Share of images whose largest logit is that of their class, in 0..=1.
    pub top1: f64,
}

impl Score {
    /// This score, or chance level where its loss is not finite: that of uniform class
    /// probabilities.
    #[must_use]
    pub fn or_chance(self, classes: usize) -> Self {
        if self.loss.is_finite() { self } else { Self::chance(classes) }
    }

    /// The score of uniform class probabilities.
    #[must_use]
    pub fn chance(classes: usize) -> Self {
        let classes = classes as f64;
        Self { loss: classes.ln(), top1: 1.0 / classes }
    }

    /// Whether the loss is more than twice that of chance. Networks that learn badly stay near it;
    /// beyond are those whose weights have exploded.
    #[must_use]
    pub fn is_far_above_chance(self, classes: usize) -> bool {
        self.loss > 2.0 * Self::chance(classes).loss
    }
}

/// One training run: the network, its images and its recipe.
#[derive(Clone, Copy)]
pub struct TrainingRun<'a> {
    pub net: &'a Network,
    pub dataset: &'a Dataset,
    /// TrainingRun images.
    pub images: &'a [usize],
    /// Held-out training images, evaluated after every epoch; may be empty.
    pub validation: &'a [usize],
    pub config: &'a TrainConfig,
    pub seed: Seed,
    /// Label of the random stream that shuffles and augments the images.
    pub label: &'a str,
}

/// Trains the network whose weights are `params`; returns the number of images processed.
///
/// # Errors
/// When an operator fails, the loss is no longer a number ([`Diverged`]), the recorder fails, or the
/// run was asked to stop.
pub fn train(
    training: &TrainingRun<'_>,
    params: &mut Params,
    monitor: &mut Monitor<'_>,
) -> Result<u64> {
    let TrainingRun { net, dataset, images, validation, config, seed, label } = *training;
    let (device, size) = (params.device().clone(), config.batch_size);
    let loader = Loader::training(dataset, images.to_vec(), size, config.augment, seed, label);
    let loader = loader.share(config.scale).on(&device);
    let all = (config.epochs * loader.batches()) as u64;
    let mut optimizer = SgdState::new(config.optimizer, params)?;
    monitor.progress.started("training", Amount::Steps(all));
    let mut steps = Steps::new(LoopMetrics::TRAINING, &config.optimizer, all, monitor);
    let (mut processed, mut last) = (0, Score::default());
    for epoch in 0..config.epochs as u64 {
        let start = Instant::now();
        let mean = prefetched(&device, loader.epoch(epoch), |batches| {
            steps.epoch(batches, |batch, _, rate| {
                let target = (&batch.labels, config.label_smoothing);
                Ok(sgd_step(params, &mut optimizer, rate, target, config.recompute, |pass| {
                    net.forward(pass, &batch.xs)
                })?)
            })
        })?;
        processed += mean.images() as u64;
        last = mean.score();
        let seconds = start.elapsed().as_secs_f64();
        let mut metrics = vec![
            (Metric::TRAIN_LOSS, mean.score().loss),
            (Metric::TRAIN_TOP1, mean.score().top1),
            (Metric::TRAIN_IMAGES_PER_SECOND, mean.images() as f64 / seconds),
        ];
        if !validation.is_empty() {
            let score = evaluate(net, params, dataset, &dataset.train, validation.to_vec())?;
            metrics.push((Metric::VALIDATION_LOSS, score.loss));
            metrics.push((Metric::VALIDATION_TOP1, score.top1));
        }
        steps.monitor.measure(epoch, &metrics)?;
    }
    steps.finish(last, dataset.classes.len())?;
    Ok(processed)
}

/// Scores `net` on the images `indices` of `split`, with running batch norm statistics.
///
/// # Errors
/// When an operator fails.
pub fn evaluate(
    net: &Network,
    params: &Params,
    dataset: &Dataset,
    split: &Split,
    indices: Vec<usize>,
) -> Result<Score> {
    let device = params.device().clone();
    let loader = Loader::evaluation(dataset, split, indices, EVALUATION_BATCH).on(&device);
    let network = net.freeze(params)?;
    prefetched(&device, loader.epoch(0), |batches| {
        let mut mean = Mean::default();
        for batch in batches {
            let batch = batch?;
            let logits = network.forward(&batch.xs)?;
            let result = cross_entropy(&logits, &batch.labels, 0.0)?.read()?;
            mean.add(&result, batch.labels.len());
        }
        Ok(mean.score())
    })
}

/// A running mean over batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    loss: f64,
    correct: usize,
    images: usize,
}

impl Mean {
    /// Adds a batch of `images`.
    pub fn add(&mut self, result: &BatchLoss, images: usize) {
        self.loss += result.loss * images as f64;
        self.correct += result.correct;
        self.images += images;
    }

    #[must_use]
    pub fn images(&self) -> usize {
        self.images
    }

    #[must_use]
    pub fn score(&self) -> Score {
        let images = self.images.max(1) as f64;
        Score { loss: self.loss / images, top1: self.correct as f64 / images }
    }

    /// A short text for the progress display.
    #[must_use]
    pub fn note(&self) -> String {
        let score = self.score();
        format!("loss {:.3}, top-1 {:.1} %", score.loss, 100.0 * score.top1)
    }
}
