//! The results table: one row per finished run, and mean ± sd where a method has several seeds.

use super::finished::finished;
use super::frame::mean_and_sd;
use super::groups::grouped;
use super::settings::{SettingsKeys, device_and_precision};
use crate::env::Environment;
use crate::record::Phase;
use crate::store::{RunRow, RunStatus};
use crate::text::{Table, Unit, list, or_dash, power_of_ten, run_ids};
use std::collections::BTreeSet;

/// A column of numbers: of a run, and of the mean over seeds.
pub struct NumberColumn {
    /// As [`Table::new`] takes it.
    pub heading: &'static str,
    pub unit: Unit,
    pub of: fn(&RunRow) -> Option<f64>,
}

const COLUMNS: [NumberColumn; 9] = [
    NumberColumn { heading: ">top-1 %", unit: Unit::Percent, of: top1 },
    NumberColumn { heading: ">MACs", unit: Unit::Count, of: macs },
    NumberColumn { heading: ">params", unit: Unit::Count, of: params },
    NumberColumn { heading: ">search s", unit: Unit::Seconds, of: |r| seconds(r, Phase::Search) },
    NumberColumn { heading: ">search MACs", unit: Unit::Count, of: search_macs },
    NumberColumn { heading: ">networks evaluated", unit: Unit::Count, of: networks },
    NumberColumn { heading: ">train s", unit: Unit::Seconds, of: |r| seconds(r, Phase::Train) },
    NumberColumn {
        heading: ">search MiB",
        unit: Unit::Mebibytes,
        of: |r| peak_bytes(r, Phase::Search),
    },
    NumberColumn {
        heading: ">train MiB",
        unit: Unit::Mebibytes,
        of: |r| peak_bytes(r, Phase::Train),
    },
];

/// Test accuracy in 0..=1, the mean of the run's training runs.
pub fn top1(run: &RunRow) -> Option<f64> {
    run.result.as_ref().map(|result| result.test_top1)
}

pub fn macs(run: &RunRow) -> Option<f64> {
    run.architecture.as_ref().map(|derived| derived.macs as f64)
}

pub fn params(run: &RunRow) -> Option<f64> {
    run.architecture.as_ref().map(|derived| derived.params as f64)
}

pub fn seconds(run: &RunRow, phase: Phase) -> Option<f64> {
    run.usage(phase).map(|usage| usage.seconds)
}

/// Images that went through a network during the search.
pub fn search_images(run: &RunRow) -> Option<f64> {
    run.usage(Phase::Search).map(|usage| usage.images as f64)
}

/// Multiply-accumulates that the search executed.
pub fn search_macs(run: &RunRow) -> Option<f64> {
    run.usage(Phase::Search).and_then(|usage| usage.macs).map(|macs| macs as f64)
}

/// Networks that the search evaluated individually; a supernet that learns choices evaluates none.
pub fn networks(run: &RunRow) -> Option<f64> {
    let networks = run.usage(Phase::Search).and_then(|usage| usage.architectures);
    networks.filter(|networks| *networks > 0).map(|networks| networks as f64)
}

pub fn peak_bytes(run: &RunRow, phase: Phase) -> Option<f64> {
    run.usage(phase).map(|usage| usage.peak_bytes as f64)
}

/// One row per finished run, group by group; the experiment is named where there are several, and so is
/// the device with its precision.
pub fn results(runs: &[RunRow], settings: &SettingsKeys) -> Table {
    let several = runs.iter().any(|run| run.experiment != runs[0].experiment);
    let experiment = several.then_some("experiment");
    let devices: BTreeSet<String> = finished(runs).map(device_and_precision).collect();
    let several_devices = devices.len() > 1;
    let device = several_devices.then_some("device");
    let names = ["method", "data set", "space"].into_iter().chain(device).chain([">seed"]);
    let numbers = COLUMNS.iter().map(|column| column.heading);
    let mut table = Table::new(experiment.into_iter().chain(names).chain(numbers).chain([">run"]));
    for group in groups(runs, settings) {
        let mut push = |seed: String, number: &dyn Fn(&NumberColumn) -> Option<String>, ids| {
            let run = group[0];
            let experiment = several.then(|| run.experiment.clone());
            let space = power_of_ten(run.manifest.space_log10);
            let device = several_devices.then(|| device_and_precision(run));
            let names = [run.method.clone(), run.dataset.clone(), space];
            let names = names.into_iter().chain(device).chain([seed]);
            let numbers = COLUMNS.iter().map(|column| or_dash(number(column)));
            table.row(experiment.into_iter().chain(names).chain(numbers).chain([ids]));
        };
        for run in &group {
            let cell = |column: &NumberColumn| (column.of)(run).map(|n| column.unit.cell(n));
            push(run.seed.to_string(), &cell, run.id.to_string());
        }
        let seeds = last_per_seed(&group);
        if seeds.len() > 1 {
            let ids = list(seeds.iter().map(|run| run.id));
            let n = format!("mean ± sd, n = {}", seeds.len());
            push(n, &|column| mean_cell(column, &seeds), ids);
        }
    }
    table
}

/// Mean ± sd, with the number of runs where some lack the number.
pub fn mean_cell(column: &NumberColumn, runs: &[&RunRow]) -> Option<String> {
    spread_cell(column.unit, runs.iter().map(|run| (column.of)(run)))
}

/// Mean ± sd of the numbers of several runs, with how many there are where some lack it.
pub fn spread_cell(unit: Unit, numbers: impl Iterator<Item = Option<f64>>) -> Option<String> {
    let numbers: Vec<Option<f64>> = numbers.collect();
    let values: Vec<f64> = numbers.iter().copied().flatten().collect();
    let cell = match mean_and_sd(&values)? {
        (mean, Some(sd)) => unit.spread(mean, sd),
        (mean, None) => unit.cell(mean),
    };
    let all = values.len() == numbers.len();
    Some(if all { cell } else { format!("{cell} (n = {})", values.len()) })
}

/// What a reader of the means has to know.
pub fn notes(runs: &[RunRow], settings: &SettingsKeys) -> Vec<String> {
    let mut notes = Vec::new();
    for group in groups(runs, settings) {
        let seeds = last_per_seed(&group);
        let ids = || run_ids(seeds.iter().map(|run| run.id));
        let first = environment(seeds[0]);
        if seeds.iter().any(|run| environment(run) != first) {
            notes.push(format!(
                "The mean of {} is over more than one program version or machine; its times and \
                 memory are not comparable.",
                ids()
            ));
        }
        if seeds.len() < group.len() {
            notes.push(format!(
                "A seed that was run more than once counts by its last run: the mean is over {}.",
                ids()
            ));
        }
    }
    notes
}

/// Everything about the place of a run but the names of the machine and, on it, of the GPU.
pub fn environment(run: &RunRow) -> Environment {
    let device = run.environment.device_model().to_owned();
    Environment { host: String::new(), device, ..run.environment.clone() }
}

/// Finished runs that differ in nothing but the seed, by seed and then age.
fn groups<'a>(runs: &'a [RunRow], settings: &SettingsKeys) -> Vec<Vec<&'a RunRow>> {
    let mut groups = grouped(finished(runs), |run| settings.across_seeds(run));
    for group in &mut groups {
        group.sort_by_key(|run| (run.seed, run.id));
    }
    groups
}

/// The last run of each seed of a group.
fn last_per_seed<'a>(group: &[&'a RunRow]) -> Vec<&'a RunRow> {
    let by_seed = group.chunk_by(|a, b| a.seed == b.seed);
    by_seed.filter_map(|of_seed| of_seed.last().copied()).collect()
}

/// Runs that have not finished, and why.
pub fn unfinished(runs: &[RunRow]) -> Table {
    let mut table = Table::new([">run", "method", ">seed", "status", "in phase", "error"]);
    for run in runs.iter().filter(|run| run.status != RunStatus::Finished) {
        table.row([
            run.id.to_string(),
            run.method.clone(),
            run.seed.to_string(),
            run.status.name().to_owned(),
            or_dash(run.phases.last().map(|row| row.phase.name())),
            or_dash(run.error.as_deref()),
        ]);
    }
    table
}
