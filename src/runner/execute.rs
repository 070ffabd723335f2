//! One run from start to end: load the data, search, derive a network, rank networks where the manifest
//! asks for it, train from scratch, test. A run whose network is given only trains and tests it, and one
//! whose network is looked up in a table does neither.

use super::feasible::check_budget;
use super::images::Prepared;
use super::plan::{NetworkSource, RunPlan, SearchRun};
use super::training::Training;
use crate::checkpoint::Stage;
use crate::cost;
use crate::data::Dataset;
use crate::memory;
use crate::monitor::Monitor;
use crate::net::SharedWeights;
use crate::nn::Params;
use crate::ops::gpu;
use crate::record::{
    ChoiceProbabilities, DataFingerprint, Metric, Phase, ResolutionProbability,
    SearchedArchitecture, Work,
};
use crate::rng::Seed;
use crate::search::{self, SearchData, SearchOutcome};
use crate::space::{ArchSpec, Decisions};
use crate::store::FinalResult;
use crate::trained::TrainingImages;
use anyhow::{Result, ensure};
use candle_core::Device;
use std::path::Path;

/// What a run ends with.
pub struct RunOutcome {
    /// `None` where the network is looked up in a table.
    pub result: Option<FinalResult>,
    pub arch: ArchSpec,
    /// The trained weights, one set per repeat.
    pub weights: Vec<Params>,
    /// What the network was trained on.
    pub images: TrainingImages,
}

/// The name of the finished search in checkpoints.
pub(super) const SEARCHED: &str = "searched";

impl RunPlan<'_> {
    /// Executes all phases on `device`, with the data set from the folder `data_root`. The search
    /// and the training from scratch have separate seeds, so the trained network inherits no weight.
    ///
    /// # Errors
    /// When the data set cannot be read, a phase fails, the recorder fails, or the run was asked to
    /// stop ([`crate::monitor::Interrupted`]).
    pub fn execute(
        &self,
        data_root: &Path,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<RunOutcome> {
        memory::reset_high_water();
        gpu::set_precision(self.manifest.precision);
        check_budget(self.manifest)?;
        let (prepared, arch) = match self.source {
            NetworkSource::Search(task, method) => {
                let search = SearchRun { plan: *self, task, method };
                let sample = search.networks_to_rank()?;
                let prepared = self.load_data(data_root, monitor)?;
                let arch = search.find_network(sample, &prepared, device, monitor)?;
                (prepared, arch)
            }
            NetworkSource::Given(task) => {
                let prepared = self.load_data(data_root, monitor)?;
                record_given(&task.network.arch, monitor)?;
                (prepared, task.network.arch.clone())
            }
        };
        let (result, weights) = match self.manifest.train() {
            Some(config) => {
                let training = Training { plan: self, config, arch: &arch, prepared: &prepared };
                let (result, weights) = training.train_and_test(device, monitor)?;
                (Some(result), weights)
            }
            None => (None, Vec::new()),
        };
        if let Some(bytes) = memory::high_water_bytes() {
            monitor.recorder.measure(0, &[(Metric::MEMORY_HIGH_WATER_BYTES, bytes as f64)])?;
        }
        let images = TrainingImages::of(&prepared.dataset);
        Ok(RunOutcome { result, arch, weights, images })
    }

    fn load_data(&self, data_root: &Path, monitor: &mut Monitor<'_>) -> Result<Prepared> {
        monitor.phase(Phase::Data, |monitor| {
            let prepared = self.prepare(data_root)?;
            record_data(&prepared.dataset, monitor)?;
            Ok((prepared, Work::default()))
        })
    }
}

impl SearchRun<'_> {
    /// Searches, derives a network, and ranks a sample of networks if there is one.
    fn find_network(
        &self,
        sample: Option<Vec<Decisions>>,
        prepared: &Prepared,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<ArchSpec> {
        let mut outcome = monitor.phase(Phase::Search, |monitor| {
            let outcome = match monitor.restored(SEARCHED) {
                Some(stage) => self.searched(&stage, device)?,
                None => self.search(prepared, device, monitor)?,
            };
            monitor.keep(SEARCHED, kept(&outcome, sample.is_some())?);
            let work = outcome.work;
            Ok((outcome, work))
        })?;
        let shared = outcome.shared.take();
        let arch = monitor
            .phase(Phase::Derive, |monitor| Ok((derive(outcome, monitor)?, Work::default())))?;
        self.rank(sample, shared, prepared, device, monitor)?;
        Ok(arch)
    }

    /// The result of a search that an earlier attempt has finished.
    fn searched(&self, stage: &Stage, device: &Device) -> Result<SearchOutcome> {
        let space = &self.task.space;
        let decisions: Decisions = stage.get("decisions")?;
        let shared = match stage.tensors("shared") {
            Ok(tensors) => Some(SharedWeights::restored(space, device, tensors)?),
            Err(_) => None,
        };
        Ok(SearchOutcome {
            arch: space.decide(&decisions),
            decisions,
            probabilities: stage.get("probabilities")?,
            resolutions: stage.get("resolutions")?,
            work: stage.get("work")?,
            shared,
        })
    }

    pub(super) fn search(
        &self,
        prepared: &Prepared,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<SearchOutcome> {
        let (space, config) = (&self.task.space, &self.task.config);
        let seed = Seed(self.plan.seed).child("search");
        let images = SearchData { dataset: &prepared.dataset, indices: &prepared.search, device };
        search::search(space, images, self.method, config, seed, monitor)
    }
}

/// Records the fingerprint of the images. It must be that of the attempt that is continued.
pub(crate) fn record_data(dataset: &Dataset, monitor: &mut Monitor<'_>) -> Result<()> {
    let sha256 = dataset.fingerprint();
    if let Some(before) = monitor.checkpoints.data_sha256() {
        ensure!(
            before == sha256,
            "the images are not those that this run began with: their fingerprint is {sha256}, and \
             was {before}; restore them, or start a new run with --fresh"
        );
    }
    monitor.checkpoints.set_data(&sha256);
    monitor.recorder.data(&DataFingerprint {
        train_images: dataset.train.len() as u64,
        test_images: dataset.test.len() as u64,
        sha256,
    })
}

/// What checkpoints keep of a search that is finished; the shared weights only if they are used again.
fn kept(outcome: &SearchOutcome, with_weights: bool) -> Result<Stage> {
    let mut stage = Stage::with("decisions", &outcome.decisions)?;
    stage.put("probabilities", &outcome.probabilities)?;
    stage.put("resolutions", &outcome.resolutions)?;
    stage.put("work", &outcome.work)?;
    if let Some(shared) = outcome.shared.as_ref().filter(|_| with_weights) {
        stage.put_tensors("shared", shared.params().named());
    }
    Ok(stage)
}

/// Records a given network like a searched one, in a phase of its own.
pub(crate) fn record_given(arch: &ArchSpec, monitor: &mut Monitor<'_>) -> Result<()> {
    monitor.phase(Phase::Derive, |monitor| {
        record_network(arch.clone(), Default::default(), monitor)?;
        Ok(((), Work::default()))
    })
}

/// Counts the cost of the searched architecture and records both.
fn derive(outcome: SearchOutcome, monitor: &mut Monitor<'_>) -> Result<ArchSpec> {
    let probabilities = (outcome.probabilities, outcome.resolutions);
    record_network(outcome.arch.clone(), probabilities, monitor)?;
    Ok(outcome.arch)
}

fn record_network(
    arch: ArchSpec,
    (probabilities, resolutions): (Vec<ChoiceProbabilities>, Vec<ResolutionProbability>),
    monitor: &mut Monitor<'_>,
) -> Result<()> {
    if monitor.checkpoints.has_architecture() {
        return Ok(());
    }
    let cost = cost::count(&arch);
    let (macs, params) = (cost.macs, cost.params);
    let found = SearchedArchitecture { arch, macs, params, probabilities, resolutions };
    monitor.recorder.architecture(&found)?;
    monitor.checkpoints.set_has_architecture();
    Ok(())
}
