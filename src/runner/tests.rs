//! Whole runs, without a database.

use super::images::Prepared;
use super::plan::SearchRun;
use super::{NetworkSource, plans};
use crate::cost;
use crate::data::Loader;
use crate::manifest::{self, Manifest, Overrides};
use crate::monitor::{Checkpoints, Interrupted, Monitor};
use crate::net::Network;
use crate::nn::Pass;
use crate::progress::Quiet;
use crate::record::{Metric, Phase, PhaseUsage, Recorder, SearchedArchitecture};
use crate::rng::Seed;
use crate::search::split;
use crate::store::FinalResult;
use crate::train::{self, TrainingRun};
use anyhow::Result;
use candle_core::Device;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keeps what is recorded, and asks the run to stop after the metric `stop_after`.
#[derive(Default)]
struct Log<'a> {
    phases: Vec<(Phase, u64)>,
    metrics: Vec<(Metric, f64)>,
    found: Option<SearchedArchitecture>,
    stop_after: Option<(Metric, &'a AtomicBool)>,
}

impl Recorder for Log<'_> {
    fn measure(&mut self, _: u64, metrics: &[(Metric, f64)]) -> Result<()> {
        self.metrics.extend(metrics);
        if let Some((metric, stop)) = self.stop_after {
            stop.fetch_or(metrics.iter().any(|(m, _)| *m == metric), Ordering::Relaxed);
        }
        Ok(())
    }
    fn phase_finished(&mut self, phase: Phase, usage: PhaseUsage) -> Result<()> {
        self.phases.push((phase, usage.images));
        Ok(())
    }
    fn architecture(&mut self, found: &SearchedArchitecture) -> Result<()> {
        self.found = Some(found.clone());
        Ok(())
    }
}

fn smoke() -> Manifest {
    smoke_with(&[])
}

fn smoke_with(sets: &[&str]) -> Manifest {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
    let sets = sets.iter().map(|set| (*set).to_owned()).collect();
    let overrides = Overrides { sets, seeds: Vec::new() };
    manifest::load(&path, &overrides).unwrap_or_else(|e| panic!("{e}"))
}

fn execute(manifest: &Manifest, log: &mut Log<'_>, stop: &AtomicBool) -> Result<FinalResult> {
    let plan = plans(manifest).next().unwrap();
    let checkpoints = &mut Checkpoints::none();
    let mut monitor = Monitor { recorder: log, progress: &Quiet, stop, checkpoints };
    Ok(plan.execute(Path::new("/nowhere"), &Device::Cpu, &mut monitor)?.result.unwrap())
}

#[test]
fn a_run_records_phases_architecture_and_test() {
    let (manifest, mut log, stop) = (smoke(), Log::default(), AtomicBool::new(false));
    let result = execute(&manifest, &mut log, &stop).unwrap();
    let phases: Vec<Phase> = log.phases.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(phases, Phase::ALL.into_iter().filter(|p| *p != Phase::Rank).collect::<Vec<_>>());
    let train_images = log.phases[3].1 as usize;
    let train = manifest.train().unwrap();
    let batches = (1000 - manifest.data.validation_images) / train.batch_size;
    let epoch = batches * train.batch_size + manifest.data.validation_images;
    assert_eq!(train_images, epoch * train.epochs);
    let found = log.found.unwrap();
    assert_eq!(found.macs, cost::count(&found.arch).macs);
    let tested: Vec<_> = log.metrics.iter().filter(|(m, _)| *m == Metric::TEST_TOP1).collect();
    assert_eq!(tested, [&(Metric::TEST_TOP1, result.test_top1)]);
    assert_eq!(result.test_images, 200);
}

#[test]
fn all_methods_of_a_seed_share_the_splits() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke_compare.toml");
    let manifest = manifest::load(&path, &Overrides::default()).unwrap();
    let sorted = |parts: &[&[usize]]| {
        let mut all = parts.concat();
        all.sort_unstable();
        all
    };
    let mut by_seed = BTreeMap::new();
    for plan in plans(&manifest) {
        let prepared = plan.prepare(Path::new("/nowhere")).unwrap();
        let Prepared { search, train, validation, .. } = prepared;

        let (weights, held_out) = split(&search, &manifest.search().unwrap().config);
        // 80 to 20, and every index once: no image is in two splits.
        assert_eq!((weights.len(), held_out.len()), (160, 40));
        assert_eq!((train.len(), validation.len()), (900, 100));
        assert_eq!(sorted(&[&train, &validation]), (0..1000).collect::<Vec<_>>());
        let beside: Vec<usize> =
            train.iter().copied().filter(|image| !search.contains(image)).collect();
        let all = [weights, held_out, &beside[..]];
        assert_eq!(sorted(&all), sorted(&[&train]));
        let purposes = (weights.to_vec(), held_out.to_vec(), train.clone(), validation);
        assert_eq!(by_seed.entry(plan.seed).or_insert_with(|| purposes.clone()), &purposes);
    }
    assert_eq!(by_seed.len(), 2);
    assert_ne!(by_seed[&1].0, by_seed[&2].0);
}

#[test]
fn ranking_scores_and_trains_as_described() {
    let sets = ["search.method=rs_ws", "search.epochs=1", "train.epochs=1"];
    let sets = [&sets[..], &["rank_correlation.architectures=2"]].concat();
    let manifest = smoke_with(&sets);
    let (mut log, stop) = (Log::default(), AtomicBool::new(false));
    execute(&manifest, &mut log, &stop).unwrap();
    let ranked = |metric: Metric| -> Vec<f64> {
        log.metrics.iter().filter(|(m, _)| *m == metric).map(|(_, value)| *value).collect()
    };
    // Expected values: repeat the search, then score and train each network.
    let plan = plans(&manifest).next().unwrap();
    let prepared = plan.prepare(Path::new("/nowhere")).unwrap();
    let mut unused = Log::default();
    let (recorder, checkpoints) = (&mut unused, &mut Checkpoints::none());
    let mut monitor = Monitor { recorder, progress: &Quiet, stop: &stop, checkpoints };
    let NetworkSource::Search(task, method) = plan.source else { panic!("{plan:?}") };
    let search = SearchRun { plan, task, method };
    let outcome = search.search(&prepared, &Device::Cpu, &mut monitor).unwrap();
    let (weights, dataset) = (outcome.shared.unwrap(), &prepared.dataset);
    let (config, split_at) = (
        &manifest.search().unwrap().config,
        split(&prepared.search, &manifest.search().unwrap().config),
    );
    let (size, calibrating) = (
        config.batch_size,
        manifest.search().unwrap().rank_correlation.unwrap().calibration_batches,
    );
    let calibrating = split_at.0[..calibrating * size].to_vec();
    let networks = search.networks_to_rank().unwrap().unwrap();
    let (mut shared, mut alone) = (Vec::new(), Vec::new());
    for (i, decisions) in networks.iter().enumerate() {
        let mut cut = weights.extract(decisions).unwrap();
        let loader = Loader::evaluation(dataset, &dataset.train, calibrating.clone(), size);
        for (seen, batch) in loader.epoch(0).enumerate() {
            let mut pass = Pass::calibrating(&mut cut.params, seen);
            cut.net.forward(&mut pass, &batch.unwrap().xs).unwrap();
        }
        let of = |net, params, images: &[usize]| {
            let images = (&dataset.train, images.to_vec());
            train::evaluate(net, params, dataset, images, size, &stop).unwrap().top1
        };
        shared.push(of(&cut.net, &cut.params, split_at.1));
        let seed = Seed(plan.seed).child("rank").child(&format!("train/{i}"));
        let arch = manifest.search().unwrap().space.decide(decisions);
        let (net, mut params) = Network::of_arch(&arch, seed, &Device::Cpu).unwrap();
        let (images, config) = (&prepared.train[..], manifest.train().unwrap());
        let training = TrainingRun {
            net: &net,
            dataset,
            images,
            validation: &[],
            config,
            seed,
            label: "train",
            stage: "train",
        };
        train::train(&training, &mut params, &mut monitor).unwrap();
        alone.push(of(&net, &params, &prepared.validation));
    }
    assert_eq!(
        (ranked(Metric::RANK_SHARED_TOP1), ranked(Metric::RANK_ALONE_TOP1)),
        (shared, alone)
    );
}

#[test]
fn a_run_stopped_during_search_never_trains() {
    let (manifest, stop) = (smoke(), AtomicBool::new(false));
    let mut log = Log { stop_after: Some((Metric::SEARCH_STEP_LOSS, &stop)), ..Log::default() };
    let error = execute(&manifest, &mut log, &stop).unwrap_err();
    assert!(error.is::<Interrupted>(), "{error:#}");
    assert_eq!(log.phases.len(), 1);
}

#[test]
fn the_average_of_the_weights_is_what_is_tested_and_stored() {
    let result = |sets: &[&str]| {
        let short = ["search.method=random", "train.epochs=2", "scale=0.3"];
        let (mut log, stop) = (Log::default(), AtomicBool::new(false));
        execute(&smoke_with(&[&short[..], sets].concat()), &mut log, &stop).unwrap()
    };
    let without = result(&[]);
    // An average that forgets at once is the weights themselves, except for the sign of a zero.
    let at_once = result(&["train.ema.decay=0.0"]);
    assert_eq!((at_once.test_top1, at_once.test_loss), (without.test_top1, without.test_loss));
    let slow = result(&["train.ema.decay=0.99"]);
    assert_ne!(slow.weights_sha256, without.weights_sha256);
    assert_ne!(slow.test_loss, without.test_loss);
}
