//! Searches whose derived networks are looked up in a table.

use super::pool::{Pool, Standing};
use super::{ExhaustiveTable, lookup_of};
use crate::report::finished::finished;
use crate::report::groups::grouped;
use crate::report::settings::{SettingsKeys, device_and_precision, value};
use crate::report::stats::PairedDifferences;
use crate::store::RunRow;
use std::collections::{BTreeMap, BTreeSet};

/// The runs with one setting.
pub struct Setting<'a> {
    /// What it differs in from the others; empty where it is the only one.
    pub label: String,
    pub run: &'a RunRow,
    /// The networks that its methods may find.
    pub pool: Pool,
    pub methods: Vec<MethodLookup<'a>>,
}

/// The runs of one method, the last of each seed.
pub struct MethodLookup<'a> {
    pub name: &'a str,
    pub runs: Vec<&'a RunRow>,
    /// Of the derived networks that the pool has.
    pub standings: Vec<Standing>,
    /// The runs whose derived network the pool has not.
    pub not_found: Vec<i64>,
}

impl MethodLookup<'_> {
    /// The mean of a share over the search seeds, and its 95 % interval, which ends where shares do.
    pub fn mean(&self, of: fn(&Standing) -> f64) -> Option<(f64, Option<(f64, f64)>)> {
        let values: Vec<f64> = self.standings.iter().map(of).collect();
        let PairedDifferences { mean, interval, .. } = PairedDifferences::of(&values)?;
        Some((mean, interval.map(|(low, high)| (low.max(0.0), high.min(1.0)))))
    }
}

/// The settings of the finished runs that are looked up in this table.
pub fn settings<'a>(
    runs: &'a [RunRow],
    keys: &SettingsKeys,
    table: &ExhaustiveTable<'_>,
) -> Vec<Setting<'a>> {
    let own = finished(runs).filter(|run| lookup_of(run) == Some(table.experiment));
    let groups = grouped(own, |run| keys.across_methods(run));
    let firsts: Vec<&RunRow> = groups.iter().map(|group| group[0]).collect();
    let setting = |group: &Vec<&'a RunRow>| {
        let run = group[0];
        let pool = Pool::of(table, run.settings.budget.as_ref());
        let methods = grouped(group.iter().copied(), |run| &run.method);
        let methods = methods.iter().map(|runs| method(runs, &pool)).collect();
        Setting { label: label(run, &firsts), run, pool, methods }
    };
    groups.iter().map(setting).collect()
}

fn method<'a>(runs: &[&'a RunRow], pool: &Pool) -> MethodLookup<'a> {
    let by_seed: BTreeMap<u64, &RunRow> = runs.iter().map(|run| (run.seed, *run)).collect();
    let runs: Vec<&RunRow> = by_seed.into_values().collect();
    let (mut standings, mut not_found) = (Vec::new(), Vec::new());
    for run in &runs {
        match run.architecture.as_ref().and_then(|found| pool.standing(&found.id)) {
            Some(standing) => standings.push(standing),
            None => not_found.push(run.id),
        }
    }
    MethodLookup { name: &runs[0].method, runs, standings, not_found }
}

/// The keys in which the settings of runs differ, with the values of one of them.
fn label(run: &RunRow, all: &[&RunRow]) -> String {
    let keys: BTreeSet<&String> = all.iter().flat_map(|run| run.settings.values.keys()).collect();
    let differ =
        keys.into_iter().filter(|key| all.iter().any(|o| value(o, key) != value(run, key)));
    let mut parts: Vec<String> = differ
        .map(|key| format!("{key} = {}", value(run, key).as_deref().unwrap_or("none")))
        .collect();
    if all.iter().any(|other| device_and_precision(other) != device_and_precision(run)) {
        parts.push(device_and_precision(run));
    }
    if parts.is_empty() && all.len() > 1 {
        parts.push(format!("data as in run {}", run.id));
    }
    parts.join(", ")
}
