//! The results table: one row per finished run, and mean ± sd where a method has several seeds.

use super::finished::finished;
use super::groups::{grouped, last_per_seed};
use super::settings::{SettingsKeys, device_and_precision};
use super::table::{Columns, ReportTable, Spread};
use crate::env::Environment;
use crate::record::Phase;
use crate::store::{RunRow, RunStatus};
use crate::text::{Unit, power_of_ten, run_ids};
use std::collections::BTreeSet;

/// A column of numbers: of a run, and of the mean over seeds.
pub struct NumberColumn {
    /// In the frame.
    pub name: &'static str,
    pub heading: &'static str,
    pub unit: Unit,
    pub of: fn(&RunRow) -> Option<f64>,
}

pub const TOP1: NumberColumn =
    NumberColumn { name: "test_top1", heading: "top-1 %", unit: Unit::Percent, of: top1 };
pub const MACS: NumberColumn =
    NumberColumn { name: "macs", heading: "MACs", unit: Unit::Count, of: macs };
pub const PARAMS: NumberColumn =
    NumberColumn { name: "params", heading: "params", unit: Unit::Count, of: params };
pub const SEARCH_SECONDS: NumberColumn = NumberColumn {
    name: "search_seconds",
    heading: "search s",
    unit: Unit::Seconds,
    of: |run| seconds(run, Phase::Search),
};
pub const SEARCH_MACS: NumberColumn = NumberColumn {
    name: "search_executed_macs",
    heading: "search MACs",
    unit: Unit::Count,
    of: search_macs,
};
pub const NETWORKS: NumberColumn = NumberColumn {
    name: "search_architectures",
    heading: "networks evaluated",
    unit: Unit::Count,
    of: networks,
};
const TRAIN_SECONDS: NumberColumn = NumberColumn {
    name: "train_seconds",
    heading: "train s",
    unit: Unit::Seconds,
    of: |run| seconds(run, Phase::Train),
};
pub const SEARCH_BYTES: NumberColumn = NumberColumn {
    name: "search_peak_bytes",
    heading: "search MiB",
    unit: Unit::Mebibytes,
    of: |run| peak_bytes(run, Phase::Search),
};
pub const TRAIN_BYTES: NumberColumn = NumberColumn {
    name: "train_peak_bytes",
    heading: "train MiB",
    unit: Unit::Mebibytes,
    of: |run| peak_bytes(run, Phase::Train),
};

const COLUMNS: [&NumberColumn; 9] = [
    &TOP1,
    &MACS,
    &PARAMS,
    &SEARCH_SECONDS,
    &SEARCH_MACS,
    &NETWORKS,
    &TRAIN_SECONDS,
    &SEARCH_BYTES,
    &TRAIN_BYTES,
];

impl NumberColumn {
    /// The mean over the runs that have the number.
    #[must_use]
    pub fn spread(&self, runs: &[&RunRow]) -> Option<Spread> {
        let values: Vec<f64> = runs.iter().filter_map(|run| (self.of)(run)).collect();
        Spread::over(&values, runs.len())
    }
}

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

/// A row of the results: one run, or the mean over the seeds of a group.
struct ResultRow<'a> {
    runs: Vec<&'a RunRow>,
    is_mean: bool,
}

impl ResultRow<'_> {
    fn seed(&self) -> String {
        if self.is_mean {
            format!("mean ± sd, n = {}", self.runs.len())
        } else {
            self.runs[0].seed.to_string()
        }
    }
}

/// One row per finished run, group by group; the experiment is named where there are several, and so is
/// the device with its precision.
pub fn results(runs: &[RunRow], settings: &SettingsKeys) -> ReportTable {
    let several = runs.iter().any(|run| run.experiment != runs[0].experiment);
    let devices: BTreeSet<String> = finished(runs).map(device_and_precision).collect();
    let rows: Vec<ResultRow<'_>> = groups(runs, settings).into_iter().flat_map(rows).collect();
    let columns = Columns::of("results", &rows)
        .when(several, |columns| {
            columns.text("experiment", "experiment", |row| row.runs[0].experiment.clone())
        })
        .text("method", "method", |row| row.runs[0].method.clone())
        .text("dataset", "data set", |row| row.runs[0].dataset.clone())
        .number("space_log10", "space", |row| Some(row.runs[0].manifest.space_log10), power_of_ten)
        .when(devices.len() > 1, |columns| {
            columns.text("device", "device", |row| device_and_precision(row.runs[0]))
        })
        .label("seed", "seed", ResultRow::seed);
    let columns = COLUMNS.iter().fold(columns, |columns, number| {
        columns.spread(number.name, number.heading, number.unit, |row| number.spread(&row.runs))
    });
    columns.runs("run", |row| row.runs.iter().map(|run| run.id).collect()).table()
}

/// Each run of a group, then their mean.
fn rows(group: Vec<&RunRow>) -> Vec<ResultRow<'_>> {
    let seeds = last_of(&group);
    let mean = (seeds.len() > 1).then_some(ResultRow { runs: seeds, is_mean: true });
    let each = group.into_iter().map(|run| ResultRow { runs: vec![run], is_mean: false });
    each.chain(mean).collect()
}

/// What a reader of the means has to know.
pub fn notes(runs: &[RunRow], settings: &SettingsKeys) -> Vec<String> {
    let mut notes = Vec::new();
    for group in groups(runs, settings) {
        let seeds = last_of(&group);
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
    Environment { host: String::new(), device, ..(*run.environment).clone() }
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
pub fn last_of<'a>(group: &[&'a RunRow]) -> Vec<&'a RunRow> {
    last_per_seed(group, |run| (run.seed, run.id))
}

/// Runs that have not finished, and why.
pub fn unfinished(runs: &[RunRow]) -> ReportTable {
    let runs: Vec<&RunRow> = runs.iter().filter(|run| run.status != RunStatus::Finished).collect();
    Columns::of("unfinished", &runs)
        .runs("run", |run| vec![run.id])
        .text("method", "method", |run| run.method.clone())
        .whole("seed", "seed", |run| Some(run.seed))
        .text("status", "status", |run| run.status.name().to_owned())
        .maybe_text("phase", "in phase", |run| {
            run.phases.last().map(|row| row.phase.name().to_owned())
        })
        .maybe_text("error", "error", |run| run.error.clone())
        .table()
}
