//! One run from start to end: load the data, search, derive a network, rank networks where the manifest
//! asks for it, train from scratch, test.

use super::feasible::check_budget;
use super::images::Prepared;
use super::plan::RunPlan;
use crate::cost;
use crate::memory;
use crate::monitor::Monitor;
use crate::ops::gpu;
use crate::record::{DataFingerprint, Metric, Phase, SearchedArchitecture, Work};
use crate::rng::Seed;
use crate::search::{self, SearchData, SearchOutcome};
use crate::space::ArchSpec;
use crate::store::FinalResult;
use anyhow::Result;
use candle_core::Device;
use std::path::Path;

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
    ) -> Result<FinalResult> {
        memory::reset_high_water();
        gpu::set_precision(self.manifest.precision);
        check_budget(self.manifest)?;
        let sample = self.networks_to_rank()?;
        let (prepared, _) = monitor.phase(Phase::Data, |monitor| {
            let prepared = self.prepare(data_root)?;
            let dataset = &prepared.dataset;
            monitor.recorder.data(&DataFingerprint {
                train_images: dataset.train.len() as u64,
                test_images: dataset.test.len() as u64,
                sha256: dataset.fingerprint(),
            })?;
            Ok((prepared, Work::default()))
        })?;
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
            monitor.recorder.measure(0, &[(Metric::MEMORY_HIGH_WATER_BYTES, bytes as f64)])?;
        }
        Ok(result)
    }

    pub(super) fn search(
        &self,
        prepared: &Prepared,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<SearchOutcome> {
        let (space, config) = (&self.manifest.space, &self.manifest.search);
        let seed = Seed(self.seed).child("search");
        let images = SearchData { dataset: &prepared.dataset, indices: &prepared.search, device };
        search::search(space, images, self.method, config, seed, monitor)
    }
}

/// Counts the cost of the searched architecture and records both.
fn derive(outcome: SearchOutcome, monitor: &mut Monitor<'_>) -> Result<ArchSpec> {
    let cost = cost::count(&outcome.arch);
    let found = SearchedArchitecture {
        arch: outcome.arch,
        macs: cost.macs,
        params: cost.params,
        probabilities: outcome.probabilities,
        resolutions: outcome.resolutions,
    };
    monitor.recorder.architecture(&found)?;
    Ok(found.arch)
}
