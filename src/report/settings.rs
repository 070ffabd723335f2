//! What makes runs comparable: the same experiment, data, space and settings.

use super::groups::grouped;
use crate::store::RunRow;
use crate::text::run_ids;
use std::collections::{BTreeMap, BTreeSet};

/// The settings and the data of runs.
pub struct SettingsKeys {
    /// Fingerprints of data that have one name: where there are several, runs differ in them.
    fingerprints: BTreeMap<(String, String), BTreeSet<String>>,
}

/// What runs have in common that differ only in method and seed: experiment, data set, hash of the
/// settings and, if the data set has changed, its fingerprint.
pub type SettingsKey<'a> = (&'a str, &'a str, &'a str, Option<&'a str>);

impl SettingsKeys {
    /// For these runs.
    #[must_use]
    pub fn of(runs: &[RunRow]) -> Self {
        let mut fingerprints: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for run in runs {
            if let Some(data) = &run.data {
                let name = (run.experiment.clone(), run.dataset.clone());
                fingerprints.entry(name).or_default().insert(data.sha256.clone());
            }
        }
        fingerprints.retain(|_, known| known.len() > 1);
        Self { fingerprints }
    }

    /// The same for all methods and seeds.
    #[must_use]
    pub fn across_methods<'a>(&self, run: &'a RunRow) -> SettingsKey<'a> {
        // Runs of earlier versions have no fingerprint: they count as others only if there are several.
        let data = run.data.as_ref().map(|data| data.sha256.as_str()).filter(|_| {
            let name = (run.experiment.clone(), run.dataset.clone());
            self.fingerprints.contains_key(&name)
        });
        (&run.experiment, &run.dataset, &run.settings.sha256, data)
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

/// What finished runs of one experiment differ in besides methods and seeds: settings, by `--set`, or
/// the images of a data set.
pub fn notes<'a>(
    finished: impl Iterator<Item = &'a RunRow>,
    settings: &SettingsKeys,
) -> Vec<String> {
    let groups = grouped(finished, |run| settings.across_methods(run));
    let mut notes = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        let names = |run: &RunRow| (run.experiment.clone(), run.dataset.clone());
        let alike = |other: &&Vec<&RunRow>| names(other[0]) == names(group[0]);
        let Some(first) = groups[..i].iter().find(alike) else { continue };
        let ids = |group: &[&RunRow]| run_ids(group.iter().map(|run| run.id));
        let (own, others) = (ids(group), ids(first));
        if group[0].settings.sha256 != first[0].settings.sha256 {
            let difference = difference(group[0], first[0]);
            notes.push(format!(
                "The settings of {own} differ from those of {others}: {difference}."
            ));
        }
        let data = |group: &[&'a RunRow]| settings.across_methods(group[0]).3;
        if data(group) != data(first) {
            notes.push(format!(
                "The data of {own} differ from those of {others}: {} instead of {}.",
                images(group[0]),
                images(first[0])
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

/// Number of images and fingerprint of a run's data.
fn images(run: &RunRow) -> String {
    run.data.as_ref().map_or("unknown images".to_owned(), |data| {
        let short = data.sha256.get(..12).unwrap_or(&data.sha256);
        format!(
            "{} training and {} test images, fingerprint {short}",
            data.train_images, data.test_images
        )
    })
}
