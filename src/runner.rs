//! From a manifest to runs, and one run from beginning to end: read the data, search, derive, rank
//! where that is asked for, train from scratch, look at the test images once a training.

mod images;
mod need;
mod rank;
pub mod scaling;
mod trainings;

pub use images::check_images;
pub use need::{Fewer, Need, Proposal, estimated_resident, need};

use images::Prepared;

use crate::cost;
use crate::data;
use crate::env::Environment;
use crate::manifest::{Complaints, Manifest};
use crate::memory;
use crate::monitor::Monitor;
use crate::recipe::{Budget, Method};
use crate::record::{FoundArchitecture, Phase, Work};
use crate::rng::Seed;
use crate::search::{self, Images, SearchOutcome};
use crate::space::{ArchSpec, SearchSpace};
use crate::store::{FinalResult, ManifestRecord, NewRun};
use anyhow::Result;
use candle_core::Device;
use sha2::{Digest, Sha256};
use std::path::Path;

/// One run of a manifest.
#[derive(Clone, Copy, Debug)]
pub struct RunPlan<'a> {
    pub manifest: &'a Manifest,
    pub method: Method,
    pub seed: u64,
}

/// The runs of a manifest: one per seed and method. All methods of a seed come before the next
/// seed, so that what changes on a machine in the meantime befalls all methods alike, and a comparison
/// that is stopped early has whole seeds.
pub fn plans(manifest: &Manifest) -> impl Iterator<Item = RunPlan<'_>> {
    manifest.seeds.iter().flat_map(move |&seed| {
        manifest.methods.iter().map(move |&method| RunPlan { manifest, method, seed })
    })
}

impl RunPlan<'_> {
    /// What the database keeps of the run before it begins.
    #[must_use]
    pub fn record(&self, command: &str, environment: &Environment) -> NewRun {
        NewRun {
            manifest: manifest_record(
                &self.manifest.name,
                (&self.manifest.text, &self.manifest.space_text),
                &self.manifest.space,
            ),
            method: self.method.name().to_owned(),
            dataset: data::label(&self.manifest.data),
            seed: self.seed,
            command: command.to_owned(),
            environment: environment.clone(),
        }
    }

    /// Does it all on `device`, with the data set from the folder `data_root`. The search and the
    /// training from scratch draw from seeds of their own, so that no weight is inherited.
    ///
    /// # Errors
    /// When the data set cannot be read, a phase fails, the recorder fails, or the run was asked to
    /// stop (then it is [`crate::monitor::Interrupted`]).
    pub fn execute(
        &self,
        data_root: &Path,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<FinalResult> {
        memory::reset_high_water();
        check_budget(self.manifest)?;
        let sample = self.networks_to_rank()?;
        let (prepared, _) =
            monitor.phase(Phase::Data, |_| Ok((self.prepare(data_root)?, Work::default())))?;
        let (mut outcome, _) = monitor.phase(Phase::Search, |monitor| {
            let outcome = self.search(&prepared, device, monitor)?;
            let work = outcome.work;
            Ok((outcome, work))
        })?;
        let shared = outcome.shared.take();
        let (arch, _) = monitor
            .phase(Phase::Derive, |monitor| Ok((derive(outcome, monitor)?, Work::default())))?;
        self.rank(sample, shared, &prepared, device, monitor)?;
        let result = self.train_and_test(&arch, &prepared, device, monitor)?;
        if let Some(bytes) = memory::high_water_bytes() {
            monitor.recorder.measure(0, &[("memory.high_water_bytes", bytes as f64)])?;
        }
        Ok(result)
    }

    fn search(
        &self,
        prepared: &Prepared,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<SearchOutcome> {
        let (space, config) = (&self.manifest.space, &self.manifest.search_by(self.method));
        let seed = Seed(self.seed).child("search");
        let images = Images { dataset: &prepared.dataset, indices: &prepared.search, device };
        search::search(space, images, config, seed, monitor)
    }
}

/// Whether the space has a network within the budget: a search would find that out at its end.
///
/// # Errors
/// When none was found.
pub fn check_budget(manifest: &Manifest) -> Result<(), Complaints> {
    let Some(budget) = &manifest.search.budget else { return Ok(()) };
    let Budget { objective, bound, tolerance, above } = *budget;
    search::check_budget(&manifest.space, budget).map_err(|error| {
        let of = objective.name();
        let given = format!("{of} = {bound:?}, tolerance = {tolerance:?}, above = {above:?}");
        images::complaint(manifest, "search.budget", format!("{given}: {error:#}"), "").into()
    })
}

/// Counts and records what the search arrived at.
fn derive(outcome: SearchOutcome, monitor: &mut Monitor<'_>) -> Result<ArchSpec> {
    let cost = cost::count(&outcome.arch);
    let costs = [("cost.macs", cost.macs as f64), ("cost.params", cost.params as f64)];
    monitor.recorder.measure(0, &costs)?;
    let found = FoundArchitecture {
        arch: outcome.arch,
        macs: cost.macs,
        params: cost.params,
        probabilities: outcome.probabilities,
        resolutions: outcome.resolutions,
    };
    monitor.recorder.architecture(&found)?;
    Ok(found.arch)
}

/// Of an experiment with the texts of its manifest and of its space.
fn manifest_record(
    name: &str,
    (text, space_text): (&str, &str),
    space: &SearchSpace,
) -> ManifestRecord {
    let size = space.size().total;
    let digest =
        Sha256::new().chain_update(text).chain_update([0]).chain_update(space_text).finalize();
    ManifestRecord {
        sha256: hex(&digest),
        name: name.to_owned(),
        text: text.to_owned(),
        space_name: space.name.clone(),
        space_text: space_text.to_owned(),
        space_candidates: size.to_string(),
        space_log10: size.log10(),
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Loader;
    use crate::manifest::{self, Overrides};
    use crate::monitor::{Interrupted, Quiet};
    use crate::net::Net;
    use crate::nn::Pass;
    use crate::record::{PhaseUsage, Recorder};
    use crate::search::split;
    use crate::train::{self, Training};
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Keeps what it hears, and asks the run to stop once it has heard `stop_after`.
    #[derive(Default)]
    struct Log<'a> {
        phases: Vec<(Phase, u64)>,
        metrics: Vec<(String, f64)>,
        found: Option<FoundArchitecture>,
        stop_after: Option<(&'a str, &'a AtomicBool)>,
    }

    impl Recorder for Log<'_> {
        fn measure(&mut self, _: u64, metrics: &[(&str, f64)]) -> Result<()> {
            self.metrics.extend(metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)));
            if let Some((name, stop)) = self.stop_after {
                stop.fetch_or(metrics.iter().any(|(n, _)| *n == name), Ordering::Relaxed);
            }
            Ok(())
        }
        fn phase_started(&mut self, _: Phase) -> Result<()> {
            Ok(())
        }
        fn phase_finished(&mut self, phase: Phase, usage: PhaseUsage) -> Result<()> {
            self.phases.push((phase, usage.images));
            Ok(())
        }
        fn architecture(&mut self, found: &FoundArchitecture) -> Result<()> {
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
        let mut monitor = Monitor { recorder: log, progress: &Quiet, stop };
        plan.execute(Path::new("/nowhere"), &Device::Cpu, &mut monitor)
    }

    #[test]
    fn a_run_records_its_phases_its_architecture_and_one_look_at_the_test_images() {
        let (manifest, mut log, stop) = (smoke(), Log::default(), AtomicBool::new(false));
        let result = execute(&manifest, &mut log, &stop).unwrap();
        let phases: Vec<Phase> = log.phases.iter().map(|(phase, _)| *phase).collect();
        assert_eq!(
            phases,
            Phase::ALL.into_iter().filter(|p| *p != Phase::Rank).collect::<Vec<_>>()
        );
        let train_images = log.phases[3].1 as usize;
        let batches = (1000 - manifest.data.validation_images) / manifest.train.batch_size;
        let epoch = batches * manifest.train.batch_size + manifest.data.validation_images;
        assert_eq!(train_images, epoch * manifest.train.epochs);
        let found = log.found.unwrap();
        assert_eq!(found.macs, cost::count(&found.arch).macs);
        let last = |name: &str| log.metrics.iter().filter(|(n, _)| n == name).collect::<Vec<_>>();
        assert_eq!(last("test.top1"), [&("test.top1".to_owned(), result.test_top1)]);
        assert_eq!(last("cost.params"), [&("cost.params".to_owned(), found.params as f64)]);
        assert_eq!(result.test_images, 200);
    }

    #[test]
    fn every_image_has_one_purpose_which_is_the_same_for_all_methods_of_a_seed() {
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
            let config = manifest.search_by(plan.method);
            let (weights, held_out) = split(&search, &config);
            // 80 to 20, and every index once: nothing has two purposes.
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
    fn a_ranked_network_is_scored_with_the_weights_of_the_search_and_trained_by_the_runs_recipe() {
        let sets = ["search.method=rs_ws", "search.epochs=1", "train.epochs=1"];
        let sets = [&sets[..], &["rank_correlation.architectures=2"]].concat();
        let manifest = smoke_with(&sets);
        let (mut log, stop) = (Log::default(), AtomicBool::new(false));
        execute(&manifest, &mut log, &stop).unwrap();
        let ranked = |metric: &str| -> Vec<f64> {
            log.metrics.iter().filter(|(name, _)| name == metric).map(|(_, value)| *value).collect()
        };
        // The same by hand: the search once more, then each network.
        let plan = plans(&manifest).next().unwrap();
        let prepared = plan.prepare(Path::new("/nowhere")).unwrap();
        let mut unheard = Log::default();
        let mut monitor = Monitor { recorder: &mut unheard, progress: &Quiet, stop: &stop };
        let outcome = plan.search(&prepared, &Device::Cpu, &mut monitor).unwrap();
        let (weights, dataset) = (outcome.shared.unwrap(), &prepared.dataset);
        let (config, split_at) = (&manifest.search, split(&prepared.search, &manifest.search));
        let (size, calibrating) = (config.batch_size, config.shared.unwrap().calibration_batches);
        let calibrating = split_at.0[..calibrating * size].to_vec();
        let networks = plan.networks_to_rank().unwrap().unwrap();
        let (mut shared, mut alone) = (Vec::new(), Vec::new());
        for (i, decisions) in networks.iter().enumerate() {
            let mut cut = weights.cut_out(decisions).unwrap();
            let loader = Loader::evaluation(dataset, &dataset.train, calibrating.clone(), size);
            for (seen, batch) in loader.epoch(0).enumerate() {
                let mut pass = Pass::calibrating(&mut cut.params, seen);
                cut.net.forward(&mut pass, &batch.unwrap().xs).unwrap();
            }
            let of = |net, params, images: &[usize]| {
                train::evaluate(net, params, dataset, &dataset.train, images.to_vec()).unwrap().top1
            };
            shared.push(of(&cut.net, &cut.params, split_at.1));
            let seed = Seed(plan.seed).child("rank").child(&format!("train/{i}"));
            let arch = manifest.space.decide(decisions);
            let (net, mut params) = Net::of_arch(&arch, seed, &Device::Cpu).unwrap();
            let (images, config) = (&prepared.train[..], &manifest.train);
            let training = Training {
                net: &net,
                dataset,
                images,
                validation: &[],
                config,
                seed,
                label: "train",
            };
            train::train(&training, &mut params, &mut monitor).unwrap();
            alone.push(of(&net, &params, &prepared.validation));
        }
        assert_eq!((ranked("rank.shared.top1"), ranked("rank.alone.top1")), (shared, alone));
    }

    #[test]
    fn a_run_that_is_asked_to_stop_while_it_searches_never_trains() {
        let (manifest, stop) = (smoke(), AtomicBool::new(false));
        let mut log = Log { stop_after: Some(("search.step_loss", &stop)), ..Log::default() };
        let error = execute(&manifest, &mut log, &stop).unwrap_err();
        assert!(error.is::<Interrupted>(), "{error:#}");
        assert_eq!(log.phases.len(), 1);
    }
}
