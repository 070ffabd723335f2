//! What makes runs comparable: the same experiment, data, space and settings.

use super::groups::grouped;
use crate::store::RunRow;
use crate::text::run_ids;
use std::collections::{BTreeMap, BTreeSet};

/// The settings of runs as short numbers: equal numbers are equal settings.
pub struct SettingsKeys {
    by_manifest: BTreeMap<String, usize>,
}

/// What runs have in common that differ only in method and seed.
pub type SettingsKey<'a> = (&'a str, &'a str, usize);

impl SettingsKeys {
    /// For these runs.
    #[must_use]
    pub fn of(runs: &[RunRow]) -> Self {
        let (mut by_manifest, mut known) = (BTreeMap::new(), BTreeMap::new());
        for run in runs {
            if !by_manifest.contains_key(&run.manifest.sha256) {
                let next = known.len();
                let key = *known.entry(&run.settings.sha256).or_insert(next);
                by_manifest.insert(run.manifest.sha256.clone(), key);
            }
        }
        Self { by_manifest }
    }

    /// The same for all methods and seeds.
    #[must_use]
    pub fn across_methods<'a>(&self, run: &'a RunRow) -> SettingsKey<'a> {
        let settings = self.by_manifest.get(&run.manifest.sha256);
        (&run.experiment, &run.dataset, settings.copied().unwrap_or(usize::MAX))
    }

    /// The same for all seeds.
    #[must_use]
    pub fn across_seeds<'a>(&self, run: &'a RunRow) -> (SettingsKey<'a>, &'a str) {
        (self.across_methods(run), &run.method)
    }
}

/// Whether the search was constrained to a cost.
pub fn has_budget(run: &RunRow) -> bool {
    run.settings.budget.is_some()
}

/// What finished runs of one experiment differ in besides methods and seeds: `--set` makes other
/// settings of one manifest.
pub fn notes<'a>(
    finished: impl Iterator<Item = &'a RunRow>,
    settings: &SettingsKeys,
) -> Vec<String> {
    let groups = grouped(finished, |run| settings.across_methods(run));
    let mut notes = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        let names = |run: &RunRow| (run.experiment.clone(), run.dataset.clone());
        let alike = |other: &&Vec<&RunRow>| names(other[0]) == names(group[0]);
        if let Some(first) = groups[..i].iter().find(alike) {
            let ids = |group: &[&RunRow]| run_ids(group.iter().map(|run| run.id));
            let (own, others) = (ids(group), ids(first));
            let difference = difference(group[0], first[0]);
            notes.push(format!(
                "The settings of {own} differ from those of {others}: {difference}."
            ));
        }
    }
    notes
}

/// By key: the value of `run` and that of `other`.
fn difference(run: &RunRow, other: &RunRow) -> String {
    let (own, others) = (&run.settings.values, &other.settings.values);
    let keys: BTreeSet<&String> = own.keys().chain(others.keys()).collect();
    let differ = keys.into_iter().filter(|key| own.get(*key) != others.get(*key)).map(|key| {
        let value = own.get(key).map_or("not given".to_owned(), |value| format!("= {value}"));
        let other = others.get(key).map_or("none".to_owned(), ToString::to_string);
        format!("{key} {value} instead of {other}")
    });
    let keys: Vec<String> = differ.collect();
    if keys.is_empty() { "another search space".to_owned() } else { keys.join("; ") }
}
