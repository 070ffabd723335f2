//! The runs of a manifest, before they are executed.

use crate::data;
use crate::env::Environment;
use crate::hex::hex;
use crate::manifest::{Manifest, NetworkTask, SearchTask, Task};
use crate::recipe::Method;
use crate::space::Count;
use crate::store::{ManifestRecord, NewRun};
use sha2::{Digest, Sha256};

/// One run of a manifest.
#[derive(Clone, Copy, Debug)]
pub struct RunPlan<'a> {
    pub manifest: &'a Manifest,
    pub source: NetworkSource<'a>,
    pub seed: u64,
}

/// Where the network of a run comes from.
#[derive(Clone, Copy, Debug)]
pub enum NetworkSource<'a> {
    Search(&'a SearchTask, &'a Method),
    Given(&'a NetworkTask),
}

/// A run that searches for its network.
#[derive(Clone, Copy, Debug)]
pub(super) struct SearchRun<'a> {
    pub plan: RunPlan<'a>,
    pub task: &'a SearchTask,
    pub method: &'a Method,
}

/// The name of the method of runs whose network is given.
pub const GIVEN: &str = "given";

/// The runs of a manifest, one per seed and method. All methods of a seed come before the next seed.
/// So a change of the machine affects all methods equally, and a comparison that stops early has
/// complete seeds.
pub fn plans(manifest: &Manifest) -> impl Iterator<Item = RunPlan<'_>> {
    let sources: Vec<NetworkSource<'_>> = match &manifest.task {
        Task::Search(task) => {
            task.methods.iter().map(|method| NetworkSource::Search(task, method)).collect()
        }
        Task::Network(task) => vec![NetworkSource::Given(task)],
    };
    manifest.seeds.iter().flat_map(move |&seed| {
        sources.clone().into_iter().map(move |source| RunPlan { manifest, source, seed })
    })
}

impl RunPlan<'_> {
    /// The name of the method, as in manifests; `given` where the network is.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self.source {
            NetworkSource::Search(_, method) => method.name().as_str(),
            NetworkSource::Given(_) => GIVEN,
        }
    }

    /// What the database stores about the run before it starts.
    #[must_use]
    pub fn record(&self, command: &str, environment: &Environment) -> NewRun {
        NewRun {
            manifest: self.manifest_record(),
            method: self.method().to_owned(),
            dataset: data::label(&self.manifest.data),
            seed: self.seed,
            command: command.to_owned(),
            environment: environment.clone(),
        }
    }

    fn manifest_record(&self) -> ManifestRecord {
        let Manifest { name, text, task, .. } = self.manifest;
        match task {
            Task::Search(task) => {
                let size = task.space.size().total;
                manifest_record(name, (text, &task.space_text), &task.space.name, &size)
            }
            Task::Network(task) => {
                manifest_record(name, (text, &task.text), &task.network.name, &Count::one())
            }
        }
    }
}

/// The stored form of an experiment; its hash covers the texts of manifest and space. A given network is a space
/// of one.
pub(crate) fn manifest_record(
    name: &str,
    (text, space_text): (&str, &str),
    space_name: &str,
    size: &Count,
) -> ManifestRecord {
    let digest =
        Sha256::new().chain_update(text).chain_update([0]).chain_update(space_text).finalize();
    ManifestRecord {
        sha256: hex(&digest),
        name: name.to_owned(),
        text: text.to_owned(),
        space_name: space_name.to_owned(),
        space_text: space_text.to_owned(),
        space_candidates: size.to_string(),
        space_log10: size.log10(),
    }
}
