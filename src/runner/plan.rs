//! The runs of a manifest, before they are executed.

use crate::data;
use crate::env::Environment;
use crate::hex::hex;
use crate::manifest::Manifest;
use crate::recipe::Method;
use crate::space::SearchSpace;
use crate::store::{ManifestRecord, NewRun};
use sha2::{Digest, Sha256};

/// One run of a manifest.
#[derive(Clone, Copy, Debug)]
pub struct RunPlan<'a> {
    pub manifest: &'a Manifest,
    pub method: &'a Method,
    pub seed: u64,
}

/// The runs of a manifest, one per seed and method. All methods of a seed come before the next seed.
/// So a change of the machine affects all methods equally, and a comparison that stops early has
/// complete seeds.
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
