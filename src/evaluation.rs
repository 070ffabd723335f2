//! Evaluates a network with trained weights on labelled images. The result is stored like that of a run.

use crate::cost;
use crate::data::{DataError, Dataset, Loader, Normalisation, ReadableBatch, ahead};
use crate::monitor::{Interrupted, Monitor};
use crate::ops::loss::cross_entropy;
use crate::progress::Amount;
use crate::record::{Metric, Phase, Work};
use crate::runner::{manifest_record, record_data, record_given};
use crate::space::{ArchFile, Count};
use crate::store::{FinalResult, ManifestRecord};
use crate::train::Mean;
use crate::trained::TrainedNetwork;
use anyhow::{Result, ensure};
use candle_core::Tensor;
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// The method of evaluations in the database.
pub const METHOD: &str = "eval";

/// What is evaluated, on which images.
pub struct Evaluation<'a> {
    pub trained: &'a TrainedNetwork,
    /// Its test images are evaluated.
    pub dataset: &'a Dataset,
    /// Images of a batch.
    pub batch_size: usize,
    /// Of the weights, in hex.
    pub weights_sha256: &'a str,
}

/// How well a network does.
#[derive(Debug)]
pub struct Accuracy {
    /// Images that were evaluated.
    pub images: usize,
    /// How many have the largest logit at their class.
    pub top1: usize,
    /// How many have their class among the five largest logits.
    pub top5: usize,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// What is wrong with the images that were left out.
    pub damaged: Vec<DataError>,
}

impl Accuracy {
    /// The share of the images, in 0..=1.
    #[must_use]
    pub fn share(&self, images: usize) -> f64 {
        images as f64 / self.images.max(1) as f64
    }
}

/// What the database stores of an evaluation: `name`, the network, its weights and the data as TOML.
#[must_use]
pub fn record(
    network: &ArchFile,
    weights_sha256: &str,
    (data, dataset): (&str, &Dataset),
) -> ManifestRecord {
    let name = format!("eval_{}", network.name);
    let mut text = String::new();
    for (key, value) in [
        ("name", &name[..]),
        ("arch", &network.name),
        ("evaluation.weights_sha256", weights_sha256),
        ("evaluation.data", data),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key} = {}", toml::Value::String(value.to_owned()));
    }
    let Normalisation { mean, sd } = &dataset.normalisation;
    let classes = dataset.classes.iter().map(|name| toml::Value::String(name.clone()));
    let classes = toml::Value::Array(classes.collect());
    let _ = writeln!(text, "evaluation.mean = {mean:?}\nevaluation.sd = {sd:?}");
    let _ = writeln!(text, "evaluation.classes = {classes}");
    let unpublished = ArchFile { published: None, ..network.clone() };
    let texts = (&text[..], &unpublished.to_toml()[..]);
    manifest_record(&name, texts, &network.name, &Count::one())
}

impl Evaluation<'_> {
    /// Evaluates all images, and records phases, the network and its accuracy.
    ///
    /// # Errors
    /// When no image can be read, an operator or the recorder fails, or with [`Interrupted`].
    pub fn execute(&self, monitor: &mut Monitor<'_>) -> Result<(Accuracy, FinalResult)> {
        let Self { trained, dataset, .. } = *self;
        monitor
            .phase(Phase::Data, |monitor| Ok((record_data(dataset, monitor)?, Work::default())))?;
        let arch = &trained.file.arch;
        record_given(arch, monitor)?;
        let accuracy = monitor.phase(Phase::Test, |monitor| {
            let accuracy = self.accuracy(monitor)?;
            let mut work = Work::default();
            work.add_inference(cost::count(arch).macs, accuracy.images);
            Ok((accuracy, work))
        })?;
        let [top1, top5] = [accuracy.top1, accuracy.top5].map(|images| accuracy.share(images));
        monitor.measure(
            0,
            &[
                (Metric::TEST_TOP1, top1),
                (Metric::TEST_TOP5, top5),
                (Metric::TEST_LOSS, accuracy.loss),
                (Metric::TEST_DAMAGED, accuracy.damaged.len() as f64),
            ],
        )?;
        let result = FinalResult {
            test_top1: top1,
            test_loss: accuracy.loss,
            test_images: accuracy.images as u64,
            weights_sha256: self.weights_sha256.to_owned(),
        };
        Ok((accuracy, result))
    }

    /// While the network sees a batch, the next one is decoded.
    fn accuracy(&self, monitor: &Monitor<'_>) -> Result<Accuracy> {
        let Self { trained, dataset, batch_size, .. } = *self;
        let network = trained.net.freeze(&trained.params)?;
        let test = (0..dataset.test.len()).collect();
        let loader = Loader::evaluation(dataset, &dataset.test, test, batch_size);
        let loader = loader.centred(trained.seen_share()).on(trained.params.device());
        let progress = monitor.progress;
        progress.started("evaluating", Amount::Steps(loader.batches() as u64));
        let (mut mean, mut top5, mut damaged) = (Mean::default(), 0, Vec::new());
        ahead(loader.readable(), |batches| {
            for (done, batch) in (1..).zip(batches) {
                if monitor.stop.load(Ordering::Relaxed) {
                    return Err(Interrupted.into());
                }
                let ReadableBatch { batch, damaged: more } = batch?;
                damaged.extend(more);
                if !batch.labels.is_empty() {
                    let logits = network.forward(&batch.xs)?;
                    let result = cross_entropy(&logits, &batch.labels, 0.0)?.read()?;
                    mean.add(&result, batch.labels.len());
                    top5 += among_first(&logits, &batch.labels, 5)?;
                }
                progress.advanced(done, &mean.note());
            }
            anyhow::Ok(())
        })?;
        progress.finished();
        ensure!(mean.images() > 0, "none of the {} images can be read", dataset.test.len());
        let score = mean.score();
        ensure!(score.loss.is_finite(), "the network's outputs are not finite; check the weights");
        let (images, top1) = (mean.images(), mean.correct());
        Ok(Accuracy { images, top1, top5, loss: score.loss, damaged })
    }
}

/// How many images have their class among the `n` largest logits; of equal logits the first counts.
fn among_first(logits: &Tensor, labels: &[u32], n: usize) -> Result<usize> {
    let is_among = |logits: &[f32], label: usize| {
        let before = |(k, logit): &(usize, &f32)| {
            **logit > logits[label] || **logit == logits[label] && *k < label
        };
        logits.iter().enumerate().filter(before).count() < n
    };
    let rows = logits.to_vec2::<f32>()?;
    Ok(rows.iter().zip(labels).filter(|(row, label)| is_among(row, **label as usize)).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn equal_logits_count_in_order() {
        let logits = Tensor::new(&[[3_f32, 1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]], &Device::Cpu);
        let logits = logits.unwrap();
        let counts =
            |labels: [u32; 2]| [1, 2, 3, 4].map(|n| among_first(&logits, &labels, n).unwrap());
        assert_eq!(counts([0, 0]), [2, 2, 2, 2]);
        assert_eq!(counts([1, 1]), [0, 1, 2, 2]);
        assert_eq!(counts([2, 3]), [0, 0, 0, 2]);
    }
}
