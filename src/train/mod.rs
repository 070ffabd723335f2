//! Trains a network from scratch and evaluates it.

mod average;
mod epochs;
mod network;
mod optimizer;
mod step;
mod steps;

pub use average::{WeightAverage, decay_after};
pub use epochs::{Epoch, Epochs, Learner};
pub use network::NetworkTraining;
pub use optimizer::{LoopLength, OptimizerState, learning_rate};
pub use step::{Step, StepSeconds, training_step};
pub use steps::{Diverged, LoopMetrics, Steps, ensure_finite};

use crate::checkpoint::Stage;
use crate::data::{Batch, Dataset, Loader, Split, prefetched};
use crate::monitor::{Interrupted, Monitor};
use crate::net::Network;
use crate::nn::Params;
use crate::ops::gpu;
use crate::ops::loss::{BatchLoss, cross_entropy};
use crate::recipe::TrainConfig;
use crate::record::Metric;
use crate::rng::Seed;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};

/// Images per evaluation batch on the CPU.
const EVALUATION_BATCH: usize = 200;

/// How well a network does on some images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Training images.
    pub images: &'a [usize],
    /// Held-out training images, evaluated after every epoch; may be empty.
    pub validation: &'a [usize],
    pub config: &'a TrainConfig,
    pub seed: Seed,
    /// Label of the random stream that shuffles and augments the images.
    pub label: &'a str,
    /// The name of the loop in checkpoints.
    pub stage: &'a str,
}

/// Trains the network whose weights are `params`; returns the number of images processed. With `ema_decay` the
/// weights are their average in the end.
///
/// # Errors
/// When an operator fails, the loss is no longer a number ([`Diverged`]), the recorder fails, or the
/// run was asked to stop.
pub fn train(
    training: &TrainingRun<'_>,
    params: &mut Params,
    monitor: &mut Monitor<'_>,
) -> Result<u64> {
    let TrainingRun { dataset, images, config, seed, label, stage, .. } = *training;
    let (device, size) = (params.device().clone(), config.batch_size);
    let loader = Loader::training(dataset, images.to_vec(), size, config.augment, seed, label);
    let loader = &loader.share(config.scale).mixing(config.mixup).on(&device);
    let network = NetworkTraining::new(training.net, params, config, (seed, label))?;
    let epochs = Epochs {
        epochs: config.epochs as u64,
        loader,
        config: &config.optimizer.sgd,
        metrics: LoopMetrics::TRAINING,
        task: "training",
        stage,
        classes: dataset.classes.len(),
        device: &device,
    };
    let mut learner = NetworkLearner { training, network };
    epochs.run(&mut learner, monitor)?;
    learner.network.finish();
    Ok((config.epochs * loader.images()) as u64)
}

/// A network that is trained.
struct NetworkLearner<'a> {
    training: &'a TrainingRun<'a>,
    network: NetworkTraining<'a>,
}

impl Learner for NetworkLearner<'_> {
    fn step(&mut self, batch: &Batch, number: u64, rate: f64) -> Result<Step> {
        Ok(self.network.step(batch, number, rate)?)
    }

    fn epoch_ended(&mut self, epoch: &Epoch, monitor: &mut Monitor<'_>) -> Result<()> {
        let TrainingRun { net, dataset, validation, .. } = *self.training;
        let Epoch { number, mean, seconds, .. } = *epoch;
        let mut metrics = vec![
            (Metric::TRAIN_LOSS, mean.score().loss),
            (Metric::TRAIN_TOP1, mean.score().top1),
            (Metric::TRAIN_IMAGES_PER_SECOND, mean.images() as f64 / seconds),
        ];
        if !validation.is_empty() {
            let (split, images) = (&dataset.train, validation.to_vec());
            let of_images = (split, images);
            let size = self.training.config.batch_size;
            let score =
                evaluate(net, self.network.weights(), dataset, of_images, size, monitor.stop)?;
            metrics.push((Metric::VALIDATION_LOSS, score.loss));
            metrics.push((Metric::VALIDATION_TOP1, score.top1));
        }
        monitor.measure(number, &metrics)
    }

    fn save(&self, stage: &mut Stage) -> Result<()> {
        self.network.save(stage);
        Ok(())
    }

    fn restore(&mut self, stage: &Stage) -> Result<()> {
        self.network.restore(stage)
    }
}

/// Adds weights and running statistics to a state. A state with these is to be written at once, since
/// steps change them in place.
pub fn save_weights(stage: &mut Stage, params: &Params) {
    stage.put_tensors("weights", params.named());
}

/// Sets weights and running statistics to those of a group of tensors of a state: `weights`, or their
/// average.
///
/// # Errors
/// When they are of another network.
pub fn restore_weights(stage: &Stage, group: &str, params: &mut Params) -> Result<()> {
    let tensors = stage.tensors(group)?;
    ensure!(tensors.len() == params.named().count(), "the weights of another network");
    for (name, tensor) in tensors {
        params.set(name, tensor)?;
    }
    Ok(())
}

/// Scores `net` on the images `indices` of `split`, with running batch norm statistics. A GPU, whose memory is
/// checked for training steps, takes `batch_size` images at once, as these do.
///
/// # Errors
/// When an operator fails, or with [`Interrupted`] when `stop` is set.
pub fn evaluate(
    net: &Network,
    params: &Params,
    dataset: &Dataset,
    (split, indices): (&Split, Vec<usize>),
    batch_size: usize,
    stop: &AtomicBool,
) -> Result<Score> {
    let device = params.device().clone();
    let size = if gpu::in_use(&device)? { batch_size } else { EVALUATION_BATCH };
    let loader = Loader::evaluation(dataset, split, indices, size).on(&device);
    let network = net.freeze(params)?;
    prefetched(&device, loader.epoch(0), |batches| {
        let mut mean = Mean::default();
        for batch in batches {
            if stop.load(Ordering::Relaxed) {
                return Err(Interrupted.into());
            }
            let batch = batch?;
            let logits = network.forward(&batch.xs)?;
            let result = cross_entropy(&logits, &batch.labels, 0.0)?.read()?;
            mean.add(&result, batch.labels.len());
        }
        Ok(mean.score())
    })
}

/// A running mean over batches.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Mean {
    loss: f64,
    correct: f64,
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

    /// Images whose largest logit is that of their class, where none are mixed.
    #[must_use]
    pub fn correct(&self) -> usize {
        self.correct as usize
    }

    #[must_use]
    pub fn score(&self) -> Score {
        let images = self.images.max(1) as f64;
        Score { loss: self.loss / images, top1: self.correct / images }
    }

    /// A short text for the progress display.
    #[must_use]
    pub fn note(&self) -> String {
        let score = self.score();
        format!("loss {:.3}, top-1 {:.1} %", score.loss, 100.0 * score.top1)
    }
}
