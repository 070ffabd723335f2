//! What a manifest's runs need in memory, before any work.

use crate::cost::{self, StepSetting};
use crate::data;
use crate::manifest::Manifest;
use crate::recipe::{Method, Recompute};
use crate::space::Dimension;

/// The largest step of some runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Need<'a> {
    manifest: &'a Manifest,
    step: Step,
    setting: StepSetting,
    /// The data set's included, which is in memory throughout.
    pub bytes: u64,
}

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Search(Method),
    /// Of the largest network there is.
    Training,
}

/// Settings that need less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// As the command line takes them.
    pub sets: String,
    pub bytes: u64,
    /// Whether that is no more than what is free.
    pub fits: bool,
}

/// What fewer options in the space would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fewer {
    Options,
    TypesOrResolutions,
    Nothing,
}

/// What a process takes from the machine that has allocated so many bytes at most: itself, pages
/// that are not full, and what the allocator keeps. An experience, no bound: up to 100 MiB more than
/// were allocated were resident at the points of `reports/memory`, and none of them took as much as
/// this says, by 32 MiB or more.
#[must_use]
pub fn estimated_resident(allocated: u64) -> u64 {
    allocated + allocated / 16 + (96 << 20)
}

/// The largest need of all runs of a manifest, computed on so many threads.
#[must_use]
pub fn need(manifest: &Manifest, threads: usize) -> Option<Need<'_>> {
    let (search, train) = (&manifest.search, &manifest.train);
    let searches = manifest.methods.iter().map(|method| {
        let setting = (search.batch_size, search.recompute);
        (Step::Search(*method), setting)
    });
    let steps = searches.chain([(Step::Training, (train.batch_size, train.recompute))]);
    let needs = steps.map(|(step, (batch, recompute))| {
        let setting = StepSetting { batch, threads, recompute };
        Need { manifest, step, setting, bytes: bytes(manifest, step, setting) }
    });
    needs.max_by_key(|need| need.bytes)
}

fn bytes(manifest: &Manifest, step: Step, setting: StepSetting) -> u64 {
    let space = &manifest.space;
    let step = match step {
        Step::Search(method) => cost::search_step(space, method, setting),
        Step::Training => cost::largest_network_step(space, setting),
    };
    data::describe(manifest.data.dataset).bytes + step.total()
}

impl Need<'_> {
    /// Whose step it is, for people: `the search by dnas`.
    #[must_use]
    pub fn who(&self) -> String {
        match self.step {
            Step::Search(method) => format!("the search by {}", method.name()),
            Step::Training => "the training of the largest network".to_owned(),
        }
    }

    #[must_use]
    pub fn batch(&self) -> usize {
        self.setting.batch
    }

    /// What of the space makes the step large.
    #[must_use]
    pub fn fewer(&self) -> Fewer {
        let several = |dimension| self.manifest.space.most_options(dimension) > 1;
        match self.step {
            Step::Search(Method::Dnas | Method::Darts | Method::Darts2) => Fewer::Options,
            Step::Search(Method::Dmasking)
                if several(Dimension::BlockType) || several(Dimension::Resolution) =>
            {
                Fewer::TypesOrResolutions
            }
            _ => Fewer::Nothing,
        }
    }

    /// What fits into so many bytes: recomputed blocks, the largest smaller batch that is a power of
    /// two, and both together where neither fits by itself. What does not fit is proposed as well, as a
    /// beginning.
    #[must_use]
    pub fn proposals(&self, free: u64) -> Vec<Proposal> {
        let StepSetting { batch, recompute, .. } = self.setting;
        let mut proposals = Vec::new();
        if recompute == Recompute::None {
            proposals.push(self.proposal(batch, Recompute::Block, free));
        }
        proposals.extend(self.smaller_batch(recompute, free));
        if recompute == Recompute::None && !proposals.iter().any(|proposal| proposal.fits) {
            proposals.extend(self.smaller_batch(Recompute::Block, free));
        }
        proposals
    }

    /// The largest smaller batch that fits, or the smallest one there is.
    fn smaller_batch(&self, recompute: Recompute, free: u64) -> Option<Proposal> {
        let smaller = (1..usize::BITS).map(|power| 1 << power);
        let smaller = smaller.take_while(|batch| *batch < self.setting.batch);
        let mut last = None;
        for batch in smaller.collect::<Vec<_>>().into_iter().rev() {
            let proposal = self.proposal(batch, recompute, free);
            if proposal.fits {
                return Some(proposal);
            }
            last = Some(proposal);
        }
        last
    }

    fn proposal(&self, batch: usize, recompute: Recompute, free: u64) -> Proposal {
        let setting = StepSetting { batch, recompute, ..self.setting };
        let section = match self.step {
            Step::Search(_) => "search",
            Step::Training => "train",
        };
        let mut sets = Vec::new();
        if batch != self.setting.batch {
            sets.push(format!("--set {section}.batch_size={batch}"));
        }
        if recompute != self.setting.recompute {
            sets.push(format!("--set {section}.recompute={}", recompute.name()));
        }
        let bytes = bytes(self.manifest, self.step, setting);
        Proposal { sets: sets.join(" "), bytes, fits: estimated_resident(bytes) <= free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, Overrides};
    use std::path::Path;

    fn manifest(sets: &[&str]) -> Manifest {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/fbnetv2_f.toml");
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        manifest::load(&path, &Overrides { sets, seeds: Vec::new() }).unwrap()
    }

    /// The bytes that a manifest needs with the settings of a proposal.
    fn bytes_with(sets: &str) -> u64 {
        let sets: Vec<&str> = sets.split("--set ").filter(|set| !set.is_empty()).collect();
        let sets: Vec<&str> = sets.into_iter().map(str::trim).collect();
        need(&manifest(&[&["search.method=dnas"], &sets[..]].concat()), 2).unwrap().bytes
    }

    #[test]
    fn the_largest_step_is_named() {
        let masked = manifest(&[]);
        let masked = need(&masked, 2).unwrap();
        assert_eq!(masked.who(), "the search by dmasking");
        assert_eq!(masked.fewer(), Fewer::TypesOrResolutions);
        let explicit = manifest(&["search.method=dnas"]);
        let explicit = need(&explicit, 2).unwrap();
        assert!(explicit.bytes > 10 * masked.bytes, "{explicit:?} {masked:?}");
        assert_eq!(explicit.fewer(), Fewer::Options);
        let large = manifest(&["search.method=random", "train.batch_size=512"]);
        let large = need(&large, 2).unwrap();
        assert_eq!(
            (large.who().as_str(), large.batch()),
            ("the training of the largest network", 512)
        );
        assert_eq!(large.fewer(), Fewer::Nothing);
        assert!(large.proposals(0)[0].sets.starts_with("--set train."));
    }

    #[test]
    fn what_is_proposed_needs_what_it_says_and_fits_where_something_does() {
        let explicit = manifest(&["search.method=dnas"]);
        let explicit = need(&explicit, 2).unwrap();
        let sets = |proposals: &[Proposal]| {
            proposals.iter().map(|p| (p.sets.clone(), p.fits)).collect::<Vec<_>>()
        };
        // A byte less than it needs: each helps by itself.
        let all = explicit.proposals(estimated_resident(explicit.bytes) - 1);
        let half = format!("--set search.batch_size={}", explicit.batch() / 2);
        let block = "--set search.recompute=block".to_owned();
        assert_eq!(sets(&all), [(block.clone(), true), (half, true)]);
        for Proposal { sets, bytes, .. } in &all {
            assert_eq!(bytes_with(sets), *bytes, "{sets}");
            assert!(*bytes < explicit.bytes, "{sets}");
        }
        // Less than the smallest batch needs: both together do.
        let smallest = explicit.smaller_batch(Recompute::None, 0).unwrap();
        let all = explicit.proposals(estimated_resident(smallest.bytes) - 1);
        let both = format!("--set search.batch_size=2 {block}");
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!((all[2].fits, bytes_with(&all[2].sets)), (true, all[2].bytes));
        // Nothing does.
        let none = explicit.proposals(0);
        let two = "--set search.batch_size=2".to_owned();
        assert_eq!(sets(&none), [(block, false), (two, false), (both, false)]);
    }
}
