//! What a manifest's runs need in memory, before any work.

use super::RunPlan;
use crate::cost::{self, StepSetting};
use crate::data;
use crate::manifest::Manifest;
use crate::recipe::Recompute;

/// The largest step of some runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The data set's included, which is in memory throughout.
    pub bytes: u64,
    /// Whose step it is, for people: `the search by dnas`.
    pub who: String,
    /// The section of the manifest that says how it is taken: `search` or `train`.
    pub section: &'static str,
    pub batch: usize,
    /// Settings that need less, as `--set` would take them, with the bytes.
    pub smaller: Vec<(String, u64)>,
}

/// What a process takes from the machine that has allocated so many bytes at most: itself, pages
/// that are not full, and what the allocator keeps. An upper bound of every point of
/// `reports/memory`, where up to 100 MiB more were resident.
#[must_use]
pub fn resident_bytes(allocated: u64) -> u64 {
    allocated + allocated / 16 + (64 << 20)
}

/// The largest need of all runs of a manifest, computed on so many threads.
#[must_use]
pub fn need(manifest: &Manifest, threads: usize) -> Option<Need> {
    let methods = manifest.methods.iter();
    let steps = methods.flat_map(|&method| {
        let plan = RunPlan { manifest, method, seed: 0 };
        [plan.search_need(threads), plan.train_need(threads)]
    });
    steps.max_by_key(|need| need.bytes)
}

impl RunPlan<'_> {
    fn search_need(&self, threads: usize) -> Need {
        let (space, config) = (&self.manifest.space, &self.manifest.search);
        let bytes = |batch, recompute| {
            let setting = StepSetting { batch, threads, recompute };
            cost::search_step(space, self.method, setting).total()
        };
        let who = format!("the search by {}", self.method.name());
        self.need(who, "search", (config.batch_size, config.recompute), bytes)
    }

    fn train_need(&self, threads: usize) -> Need {
        let (space, config) = (&self.manifest.space, &self.manifest.train);
        let bytes = |batch, recompute| {
            let setting = StepSetting { batch, threads, recompute };
            cost::largest_network_step(space, setting).total()
        };
        let who = "the training of the largest network".to_owned();
        self.need(who, "train", (config.batch_size, config.recompute), bytes)
    }

    fn need(
        &self,
        who: String,
        section: &'static str,
        (batch, recompute): (usize, Recompute),
        step: impl Fn(usize, Recompute) -> u64,
    ) -> Need {
        let dataset = data::describe(self.manifest.data.dataset).bytes;
        let bytes = |batch, recompute| dataset + step(batch, recompute);
        let mut smaller = Vec::new();
        if recompute == Recompute::None {
            let setting = format!("{section}.recompute=block");
            smaller.push((setting, bytes(batch, Recompute::Block)));
        }
        let half = batch / 2;
        if half > 0 {
            smaller.push((format!("{section}.batch_size={half}"), bytes(half, recompute)));
        }
        Need { bytes: bytes(batch, recompute), who, section, batch, smaller }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, Overrides};
    use std::path::Path;

    fn needed(sets: &[&str]) -> Need {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/fbnetv2_f.toml");
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        let manifest = manifest::load(&path, &Overrides { sets, seeds: Vec::new() }).unwrap();
        need(&manifest, 2).unwrap()
    }

    #[test]
    fn the_largest_step_is_named_and_what_is_proposed_needs_what_it_says() {
        let masked = needed(&[]);
        assert_eq!((&masked.who[..], masked.section), ("the search by dmasking", "search"));
        let explicit = needed(&["search.method=dnas"]);
        assert!(explicit.bytes > 10 * masked.bytes, "{explicit:?} {masked:?}");
        for (set, bytes) in &explicit.smaller {
            assert_eq!(needed(&["search.method=dnas", set]).bytes, *bytes, "{set}");
            assert!(*bytes < explicit.bytes, "{set}");
        }
        let large = needed(&["search.method=random", "train.batch_size=512"]);
        assert_eq!((large.section, large.batch), ("train", 512));
    }
}
