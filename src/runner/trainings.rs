//! The trainings of the found network from scratch, each from a seed of its own, and one look at the
//! test images for each.
//!
//! `test.top1` and `test.loss` of training i are those metrics at step i. What training 1, 2, …
//! measures on its way is called `repeat.1.train.loss` and so on; that of training 0 has no such
//! prefix, so that a run of one training is called as ever.

use super::{Prepared, RunPlan, hex};
use crate::cost;
use crate::monitor::Monitor;
use crate::net::Net;
use crate::nn::Params;
use crate::record::{FoundArchitecture, Phase, PhaseUsage, Recorder, Work};
use crate::rng::Seed;
use crate::space::ArchSpec;
use crate::store::FinalResult;
use crate::train::{self, Score, Training};
use anyhow::Result;
use candle_core::Device;
use sha2::{Digest, Sha256};

/// A network with the weights that a training gave it.
struct Trained {
    net: Net,
    params: Params,
}

/// Names the metrics of a further training.
struct Repeat<'a> {
    number: usize,
    recorder: &'a mut dyn Recorder,
}

impl Recorder for Repeat<'_> {
    fn measure(&mut self, step: u64, metrics: &[(&str, f64)]) -> Result<()> {
        let named = metrics.iter().map(|(name, value)| (self.name(name), *value));
        let named: Vec<(String, f64)> = named.collect();
        let named: Vec<(&str, f64)> = named.iter().map(|(n, value)| (n.as_str(), *value)).collect();
        self.recorder.measure(step, &named)
    }
    fn phase_started(&mut self, phase: Phase) -> Result<()> {
        self.recorder.phase_started(phase)
    }
    fn phase_finished(&mut self, phase: Phase, usage: PhaseUsage) -> Result<()> {
        self.recorder.phase_finished(phase, usage)
    }
    fn architecture(&mut self, found: &FoundArchitecture) -> Result<()> {
        self.recorder.architecture(found)
    }
}

impl Repeat<'_> {
    fn name(&self, metric: &str) -> String {
        if self.number == 0 {
            metric.to_owned()
        } else {
            format!("repeat.{}.{metric}", self.number)
        }
    }
}

impl RunPlan<'_> {
    /// All trainings, then all tests. The weights of all trainings are kept until then, and count
    /// towards the peak of the phase.
    pub(super) fn train_and_test(
        &self,
        arch: &ArchSpec,
        prepared: &Prepared,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<FinalResult> {
        let (all, _) = monitor.phase(Phase::Train, |monitor| {
            let (mut all, mut work) = (Vec::new(), Work::default());
            for repeat in 0..self.manifest.train.repeats {
                all.push(self.train(repeat, arch, prepared, device, monitor, &mut work)?);
            }
            Ok((all, work))
        })?;
        let (scores, _) = monitor.phase(Phase::Test, |_| {
            let mut work = Work::default();
            let scores = all.iter().map(|trained| test(trained, arch, prepared, &mut work));
            Ok((scores.collect::<Result<Vec<Score>>>()?, work))
        })?;
        for (repeat, score) in (0..).zip(&scores) {
            train::ensure_finite(score.loss, "test", repeat)?;
            // Not through the monitor: a run that has its result is finished, not interrupted.
            let metrics = [("test.top1", score.top1), ("test.loss", score.loss)];
            monitor.recorder.measure(repeat, &metrics)?;
        }
        let hashes =
            all.iter().map(|trained| trained.params.sha256()).collect::<Result<Vec<_>, _>>()?;
        let mean = |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>() / scores.len() as f64;
        Ok(FinalResult {
            test_top1: mean(|score| score.top1),
            test_loss: mean(|score| score.loss),
            test_images: prepared.dataset.test.len() as u64,
            weights_sha256: fingerprint(hashes),
        })
    }

    fn train(
        &self,
        repeat: usize,
        arch: &ArchSpec,
        prepared: &Prepared,
        device: &Device,
        monitor: &mut Monitor<'_>,
        work: &mut Work,
    ) -> Result<Trained> {
        let seed = training_seed(Seed(self.seed), repeat);
        let (net, mut params) = Net::of_arch(arch, seed, device)?;
        let mut recorder = Repeat { number: repeat, recorder: &mut *monitor.recorder };
        let mut monitor =
            Monitor { recorder: &mut recorder, progress: monitor.progress, stop: monitor.stop };
        let training = Training {
            net: &net,
            dataset: &prepared.dataset,
            images: &prepared.train,
            validation: &prepared.validation,
            config: &self.manifest.train,
            seed,
            label: "train",
        };
        let processed = train::train(&training, &mut params, &mut monitor)?;
        let macs = cost::count(arch).macs;
        work.add_training(macs, processed as usize);
        // The validation images are looked at after every epoch.
        work.add_inference(macs, self.manifest.train.epochs * prepared.validation.len());
        Ok(Trained { net, params })
    }
}

/// The seed of training `repeat`. The first is that of a run with only one.
fn training_seed(run: Seed, repeat: usize) -> Seed {
    let seed = run.child("train");
    if repeat == 0 { seed } else { seed.child(&format!("repeat/{repeat}")) }
}

fn test(trained: &Trained, arch: &ArchSpec, prepared: &Prepared, work: &mut Work) -> Result<Score> {
    let images: Vec<usize> = (0..prepared.dataset.test.len()).collect();
    work.add_inference(cost::count(arch).macs, images.len());
    let (dataset, test) = (&prepared.dataset, &prepared.dataset.test);
    train::evaluate(&trained.net, &trained.params, dataset, test, images)
}

/// The hash of the weights; of several hashes, that of their text in a row.
fn fingerprint(mut hashes: Vec<String>) -> String {
    if hashes.len() > 1 { hex(&Sha256::digest(hashes.concat())) } else { hashes.remove(0) }
}
