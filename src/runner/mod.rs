//! From a manifest to its runs, and one run from start to end: load the data, search, derive a
//! network, rank networks where the manifest asks for it, train from scratch, test.

mod images;
mod need;
mod rank;
#[cfg(test)]
mod tests;
mod training;

pub use images::check_images;
pub use need::{MemoryNeed, SmallerSetting, SpaceBottleneck, estimated_resident, memory_need};

use images::Prepared;

use crate::cost;
use crate::data;
use crate::env::Environment;
use crate::hex::hex;
use crate::manifest::{Diagnostics, Manifest};
use crate::memory;
use crate::monitor::Monitor;
use crate::recipe::{Budget, Method};
use crate::record::{FoundArchitecture, Metric, Phase, Work};
use crate::rng::Seed;
use crate::search::{self, SearchData, SearchOutcome};
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
    pub method: &'a Method,
    pub seed: u64,
}

/// The runs of a manifest, one per seed and method. All methods of a seed come before the next seed:
/// a change of the machine then affects all methods alike, and a comparison that is stopped early
/// has complete seeds.
pub fn plans(manifest: &Manifest) -> impl Iterator<Item = RunPlan<'_>> {
    manifest.seeds.iter().flat_map(move |&seed| {
        manifest.methods.iter().map(move |method| RunPlan { manifest, method, seed })
    })
}

impl RunPlan<'_> {
    /// What the database stores about the run before it starts.
    #[must_use]
    pub fn record(&self, command: &str, environment: &Environment) -> NewRun {
        NewRun {
            manifest: manifest_record(
                &self.manifest.name,
                (&self.manifest.text, &self.manifest.space_text),
                &self.manifest.space,
            ),
            method: self.method.name().to_string(),
            dataset: data::label(&self.manifest.data),
            seed: self.seed,
            command: command.to_owned(),
            environment: environment.clone(),
        }
    }

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
            monitor.recorder.measure(0, &[(Metric::MEMORY_HIGH_WATER_BYTES, bytes as f64)])?;
        }
        Ok(result)
    }

    fn search(
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

/// Checks that the space has a network within the budget. Without this check, a search would fail
/// only at its end.
///
/// # Errors
/// When no such network was found.
pub fn check_budget(manifest: &Manifest) -> Result<(), Diagnostics> {
    let Some(budget) = &manifest.search.budget else { return Ok(()) };
    let Budget { objective, bound, tolerance, above } = *budget;
    search::check_budget(&manifest.space, budget).map_err(|error| {
        let of = objective.name();
        let given = format!("{of} = {bound:?}, tolerance = {tolerance:?}, above = {above:?}");
        images::diagnostic(manifest, "search.budget", format!("{given}: {error:#}"), "").into()
    })
}

/// Counts the cost of the searched architecture and records both.
fn derive(outcome: SearchOutcome, monitor: &mut Monitor<'_>) -> Result<ArchSpec> {
    let cost = cost::count(&outcome.arch);
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

/// The stored form of an experiment; its hash covers the texts of manifest and space.
pub(crate) fn manifest_record(
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
