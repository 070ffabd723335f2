//! Trains the derived network from scratch, once per repeat, and evaluates each result once on the
//! test images.
//!
//! `test.top1` and `test.loss` have one step per training run. The training curves of repeat 1, 2, …
//! are named `repeat.1.train.loss` and so on. Those of repeat 0 have no prefix, so that a run with a
//! single training run has plain names.

use super::feasible::set_initial_weights;
use super::images::Prepared;
use super::plan::{NetworkSource, RunPlan};
use crate::checkpoint::Stage;
use crate::cost;
use crate::hex::hex;
use crate::manifest::NetworkTask;
use crate::monitor::Monitor;
use crate::net::Network;
use crate::nn::Params;
use crate::recipe::TrainConfig;
use crate::record::{
    CheckpointId, Metric, Phase, PhaseUsage, Recorder, SearchedArchitecture, Work,
};
use crate::rng::Seed;
use crate::space::ArchSpec;
use crate::store::FinalResult;
use crate::train::{self, Score, TrainingRun};
use anyhow::Result;
use candle_core::Device;
use sha2::{Digest, Sha256};
use std::sync::atomic::AtomicBool;

/// The name of the phase in checkpoints.
const STAGE: &str = "train";

/// A network with its trained weights.
struct Trained {
    net: Network,
    params: Params,
}

/// The training of a run's network.
pub(super) struct Training<'a> {
    pub plan: &'a RunPlan<'a>,
    pub config: &'a TrainConfig,
    pub arch: &'a ArchSpec,
    pub prepared: &'a Prepared,
}

/// Adds the prefix of a repeat to the names of its metrics.
struct RepeatRecorder<'a> {
    repeat: u32,
    recorder: &'a mut dyn Recorder,
}

impl Recorder for RepeatRecorder<'_> {
    fn measure(&mut self, step: u64, metrics: &[(Metric, f64)]) -> Result<()> {
        let own = metrics.iter().map(|(metric, value)| (metric.of_repeat(self.repeat), *value));
        self.recorder.measure(step, &own.collect::<Vec<_>>())
    }
    fn mark(&mut self) -> Result<Option<CheckpointId>> {
        self.recorder.mark()
    }
    fn phase_started(&mut self, phase: Phase) -> Result<()> {
        self.recorder.phase_started(phase)
    }
    fn phase_finished(&mut self, phase: Phase, usage: PhaseUsage) -> Result<()> {
        self.recorder.phase_finished(phase, usage)
    }
    fn architecture(&mut self, found: &SearchedArchitecture) -> Result<()> {
        self.recorder.architecture(found)
    }
}

impl Training<'_> {
    /// Executes all training runs, then evaluates all networks. Returns the weights too. They stay in memory until the
    /// tests, so they count towards the peak of the training phase.
    pub(super) fn train_and_test(
        &self,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<(FinalResult, Vec<Params>)> {
        let all = monitor.phase(Phase::Train, |monitor| {
            let (mut all, mut work) = self.trained_before(device, monitor)?;
            for repeat in all.len()..self.config.repeats {
                keep(&all, &work, monitor)?;
                all.push(self.train(repeat, device, monitor, &mut work)?);
            }
            keep(&all, &work, monitor)?;
            Ok((all, work))
        })?;
        let scores = monitor.phase(Phase::Test, |monitor| {
            let mut work = Work::default();
            let scores: Result<Vec<Score>> =
                all.iter().map(|trained| self.test(trained, &mut work, monitor.stop)).collect();
            if scores.is_err() && monitor.check_stop().is_err() {
                monitor.checkpoint_between()?;
            }
            Ok((scores?, work))
        })?;
        for (repeat, score) in (0..).zip(&scores) {
            train::ensure_finite(score.loss, "test", repeat)?;
            let metrics = [(Metric::TEST_TOP1, score.top1), (Metric::TEST_LOSS, score.loss)];
            monitor.measure(repeat, &metrics)?;
        }
        let hashes =
            all.iter().map(|trained| trained.params.sha256()).collect::<Result<Vec<_>, _>>()?;
        let mean = |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>() / scores.len() as f64;
        let result = FinalResult {
            test_top1: mean(|score| score.top1),
            test_loss: mean(|score| score.loss),
            test_images: self.prepared.dataset.test.len() as u64,
            weights_sha256: combined_hash(hashes),
        };
        Ok((result, all.into_iter().map(|trained| trained.params).collect()))
    }

    /// The networks that an earlier attempt has trained, and the work.
    fn trained_before(
        &self,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<(Vec<Trained>, Work)> {
        let Some(stage) = monitor.restored(STAGE) else { return Ok(Default::default()) };
        let repeats: usize = stage.get("repeats")?;
        let trained = (0..repeats).map(|repeat| {
            let (net, mut params) = Network::of_arch(self.arch, Seed(self.plan.seed), device)?;
            for (name, tensor) in stage.tensors(&repeat.to_string())? {
                params.set(name, tensor)?;
            }
            Ok(Trained { net, params })
        });
        Ok((trained.collect::<Result<_>>()?, stage.get("work")?))
    }

    fn train(
        &self,
        repeat: usize,
        device: &Device,
        monitor: &mut Monitor<'_>,
        work: &mut Work,
    ) -> Result<Trained> {
        let Self { plan, config, arch, prepared } = self;
        let seed = repeat_seed(Seed(plan.seed), repeat);
        let (net, mut params) = Network::of_arch(arch, seed, device)?;
        if let NetworkSource::Given(NetworkTask { network, init: Some(init), .. }) = plan.source {
            set_initial_weights(network, init, &mut params)?;
        }
        let mut recorder =
            RepeatRecorder { repeat: repeat as u32, recorder: &mut *monitor.recorder };
        let mut monitor = Monitor {
            recorder: &mut recorder,
            progress: monitor.progress,
            stop: monitor.stop,
            checkpoints: &mut *monitor.checkpoints,
        };
        let training = TrainingRun {
            net: &net,
            dataset: &prepared.dataset,
            images: &prepared.train,
            validation: &prepared.validation,
            config,
            seed,
            label: "train",
            stage: "train/repeat",
        };
        let processed = train::train(&training, &mut params, &mut monitor)?;
        let macs = cost::count(arch).macs;
        work.add_training(macs, processed as usize);
        // The validation images are evaluated after every epoch.
        work.add_inference(macs, config.epochs * prepared.validation.len());
        Ok(Trained { net, params })
    }

    fn test(&self, trained: &Trained, work: &mut Work, stop: &AtomicBool) -> Result<Score> {
        let dataset = &self.prepared.dataset;
        let test = &dataset.test;
        let images: Vec<usize> = (0..test.len()).collect();
        work.add_inference(cost::count(self.arch).macs, images.len());
        let size = self.config.batch_size;
        train::evaluate(&trained.net, &trained.params, dataset, (test, images), size, stop)
    }
}

/// Later checkpoints have these trained networks.
fn keep(all: &[Trained], work: &Work, monitor: &mut Monitor<'_>) -> Result<()> {
    let mut stage = Stage::with("repeats", &all.len())?;
    stage.put("work", work)?;
    for (repeat, trained) in all.iter().enumerate() {
        stage.put_tensors(&repeat.to_string(), trained.params.named());
    }
    monitor.keep(STAGE, stage);
    Ok(())
}

/// The seed of repeat `repeat`. Repeat 0 has the seed of a run without repeats.
fn repeat_seed(run: Seed, repeat: usize) -> Seed {
    let seed = run.child("train");
    if repeat == 0 { seed } else { seed.child(&format!("repeat/{repeat}")) }
}

/// The hash of the weights of all training runs of a run: the hash itself where there is one, otherwise the SHA-256 of
/// all hashes joined as text.
///
/// # Panics
/// Without hashes.
#[must_use]
pub fn combined_hash(mut hashes: Vec<String>) -> String {
    if hashes.len() > 1 { hex(&Sha256::digest(hashes.concat())) } else { hashes.remove(0) }
}
