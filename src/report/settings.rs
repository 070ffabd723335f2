//! What makes runs comparable: the same experiment, data, space, settings and kind of device.

use super::groups::grouped;
use crate::store::{DEFAULTS, RunRow};
use crate::text::run_ids;
use std::collections::{BTreeMap, BTreeSet};

/// The settings and the data of runs.
pub struct SettingsKeys {
    /// Fingerprints of data that have one name: where there are several, runs differ in them.
    fingerprints: BTreeMap<(String, String), BTreeSet<String>>,
}

/// What runs have in common that differ only in method and seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SettingsKey<'a> {
    experiment: &'a str,
    dataset: &'a str,
    settings_sha256: &'a str,
    /// Not the number of a GPU. Precision is a setting.
    device_model: &'a str,
    /// The data's fingerprint, if the data set has changed.
    fingerprint: Option<&'a str>,
}

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
        let fingerprint = run.data.as_ref().map(|data| data.sha256.as_str()).filter(|_| {
            let name = (run.experiment.clone(), run.dataset.clone());
            self.fingerprints.contains_key(&name)
        });
        SettingsKey {
            experiment: &run.experiment,
            dataset: &run.dataset,
            settings_sha256: &run.settings.sha256,
            device_model: run.environment.device_model(),
            fingerprint,
        }
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

/// What computed a run, and what its matrix products are computed in, as in `cpu, f32`.
pub fn device_and_precision(run: &RunRow) -> String {
    format!("{}, {}", run.environment.device_model(), run.precision())
}

/// What finished runs of one experiment differ in besides methods and seeds: settings, by `--set`, the
/// device, or the images of a data set.
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
        let [key, other] = [group, first].map(|group| settings.across_methods(group[0]));
        if key.device_model != other.device_model {
            notes.push(format!(
                "The device of {own} differs from that of {others}: {} instead of {}. Rounding \
                 differs between devices, and times and memory are not comparable, so runs on \
                 different devices are neither averaged nor compared.",
                key.device_model, other.device_model
            ));
        }
        if key.fingerprint != other.fingerprint {
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
pub fn difference(run: &RunRow, other: &RunRow) -> String {
    let keys: BTreeSet<&String> =
        [run, other].iter().flat_map(|run| run.settings.values.keys()).collect();
    let differ = keys.into_iter().filter_map(|key| {
        let [own, other] = [run, other].map(|run| value(run, key));
        let own_text = own.as_ref().map_or("not given".to_owned(), |value| format!("= {value}"));
        let other_text = other.as_deref().unwrap_or("none");
        (own != other).then(|| format!("{key} {own_text} instead of {other_text}"))
    });
    let keys: Vec<String> = differ.collect();
    if keys.is_empty() { "another search space".to_owned() } else { keys.join("; ") }
}

/// A setting as it is written. A key outside of sections always has a value, its default; a section
/// may be absent.
pub fn value(run: &RunRow, key: &str) -> Option<String> {
    let given = run.settings.values.get(key).map(ToString::to_string);
    given.or_else(|| {
        let default = DEFAULTS.iter().find(|(name, _)| *name == key && !name.contains('.'));
        default.map(|(_, value)| (*value).to_owned())
    })
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
