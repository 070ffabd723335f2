//! The paper-style table: one row per finished run, and mean ± sd where a method has several seeds.

use super::frame::mean_and_sd;
use crate::env::Environment;
use crate::record::{Metric, Phase};
use crate::store::{Measurement, RunRow, RunStatus};
use crate::text::{self, Table, Unit, or_dash, power_of_ten, run_ids};
use std::collections::{BTreeMap, BTreeSet};

/// A column of numbers: of a run, and of the mean over seeds.
pub struct Number {
    pub title: &'static str,
    pub unit: Unit,
    pub of: fn(&RunRow) -> Option<f64>,
}

const NUMBERS: [Number; 9] = [
    Number { title: ">top-1 %", unit: Unit::Percent, of: top1 },
    Number { title: ">MACs", unit: Unit::Count, of: macs },
    Number { title: ">params", unit: Unit::Count, of: params },
    Number { title: ">search s", unit: Unit::Seconds, of: |r| seconds(r, Phase::Search) },
    Number { title: ">search MACs", unit: Unit::Count, of: search_macs },
    Number { title: ">networks", unit: Unit::Count, of: networks },
    Number { title: ">train s", unit: Unit::Seconds, of: |r| seconds(r, Phase::Train) },
    Number { title: ">search MiB", unit: Unit::Mebibytes, of: |r| peak_bytes(r, Phase::Search) },
    Number { title: ">train MiB", unit: Unit::Mebibytes, of: |r| peak_bytes(r, Phase::Train) },
];

/// Test accuracy in 0..=1, the mean of the run's trainings.
pub fn top1(run: &RunRow) -> Option<f64> {
    run.result.as_ref().map(|result| result.test_top1)
}

pub fn macs(run: &RunRow) -> Option<f64> {
    run.architecture.as_ref().map(|found| found.macs as f64)
}

pub fn params(run: &RunRow) -> Option<f64> {
    run.architecture.as_ref().map(|found| found.params as f64)
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

/// Networks that the search evaluated; a supernet that learns choices evaluates none by itself.
pub fn networks(run: &RunRow) -> Option<f64> {
    let networks = run.usage(Phase::Search).and_then(|usage| usage.architectures);
    networks.filter(|networks| *networks > 0).map(|networks| networks as f64)
}

pub fn peak_bytes(run: &RunRow, phase: Phase) -> Option<f64> {
    run.usage(phase).map(|usage| usage.peak_bytes as f64)
}

/// Those that have finished.
pub fn finished(runs: &[RunRow]) -> impl Iterator<Item = &RunRow> {
    runs.iter().filter(|run| run.status == RunStatus::Finished)
}

/// One row per finished run, group by group; the experiment is named where there are several.
pub fn results(runs: &[RunRow]) -> Table {
    let several = runs.iter().any(|run| run.experiment != runs[0].experiment);
    let experiment = several.then_some("experiment");
    let names = ["method", "data", "space", ">seed"];
    let numbers = NUMBERS.iter().map(|number| number.title);
    let columns = experiment.into_iter().chain(names).chain(numbers).chain([">run"]);
    let mut table = Table::new(columns);
    for group in groups(runs) {
        let mut push = |seed: String, number: &dyn Fn(&Number) -> Option<String>, ids: String| {
            let run = group[0];
            let experiment = several.then(|| run.experiment.clone());
            let space = power_of_ten(run.manifest.space_log10);
            let names = [run.method.clone(), run.dataset.clone(), space, seed];
            let numbers = NUMBERS.iter().map(|n| or_dash(number(n)));
            table.row(experiment.into_iter().chain(names).chain(numbers).chain([ids]));
        };
        for run in &group {
            let cell = |number: &Number| (number.of)(run).map(|value| number.unit.cell(value));
            push(run.seed.to_string(), &cell, run.id.to_string());
        }
        let seeds = one_run_per_seed(&group);
        if seeds.len() > 1 {
            let ids = text::list(seeds.iter().map(|run| run.id));
            let n = format!("mean ± sd, n = {}", seeds.len());
            push(n, &|number| mean_cell(number, &seeds), ids);
        }
    }
    table
}

/// Says so where not all runs have the number.
pub fn mean_cell(number: &Number, runs: &[&RunRow]) -> Option<String> {
    let values: Vec<f64> = runs.iter().filter_map(|run| (number.of)(run)).collect();
    let cell = match mean_and_sd(&values)? {
        (mean, Some(sd)) => number.unit.spread(mean, sd),
        (mean, None) => number.unit.cell(mean),
    };
    let all = values.len() == runs.len();
    Some(if all { cell } else { format!("{cell} (n = {})", values.len()) })
}

/// What a reader of the means has to know.
pub fn notes(runs: &[RunRow]) -> Vec<String> {
    let mut notes = Vec::new();
    for group in groups(runs) {
        let seeds = one_run_per_seed(&group);
        let ids = || run_ids(seeds.iter().map(|run| run.id));
        let first = environment(seeds[0]);
        if seeds.iter().any(|run| environment(run) != first) {
            notes.push(format!(
                "The mean of {} is over more than one program version or machine: its times and \
                 memory are not of one kind.",
                ids()
            ));
        }
        if seeds.len() < group.len() {
            notes.push(format!(
                "A seed that was run more than once counts by its last run: the mean is of {}.",
                ids()
            ));
        }
    }
    notes
}

/// What runs of one experiment differ in besides their methods and seeds: `--set` makes other settings
/// of one manifest.
pub fn settings_notes(runs: &[RunRow]) -> Vec<String> {
    let mut groups: Vec<(Settings<'_>, Vec<i64>)> = Vec::new();
    for run in finished(runs) {
        let settings = Settings::across_methods(run);
        match groups.iter_mut().find(|(of_group, _)| *of_group == settings) {
            Some((_, ids)) => ids.push(run.id),
            None => groups.push((settings, vec![run.id])),
        }
    }
    let mut notes = Vec::new();
    for (i, (settings, ids)) in groups.iter().enumerate() {
        let alike = |(other, _): &&(Settings<'_>, _)| other.names == settings.names;
        if let Some((first, first_ids)) = groups[..i].iter().find(alike) {
            notes.push(format!(
                "The settings of {} are not those of {}: {}.",
                run_ids(ids.iter().copied()),
                run_ids(first_ids.iter().copied()),
                settings.unlike(first)
            ));
        }
    }
    notes
}

/// Says what of a run diverged, if anything did: its search, a training run, or networks that it
/// scored.
pub fn diverged(run: &RunRow, measurements: &[Measurement]) -> Option<String> {
    let ended = |what: &str, metric: Metric| {
        let last = measurements.iter().find(|m| m.metric.of_repeat(0) == metric)?;
        Some(format!(
            "The {what} of run {} diverged: its last epoch had a mean loss of {:.3e}, far above that of \
             a random guess.",
            run.id, last.value
        ))
    };
    let search = ended("search", Metric::SEARCH_DIVERGED);
    let training = ended("training", Metric::TRAIN_DIVERGED);
    let all: Vec<String> =
        [search, training, diverged_networks(run, measurements)].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(" "))
}

fn diverged_networks(run: &RunRow, measurements: &[Measurement]) -> Option<String> {
    let of = |metric: Metric| measurements.iter().filter(|m| m.metric == metric).count();
    let networks = of(Metric::SEARCH_CANDIDATE_DIVERGED) + of(Metric::RANK_DIVERGED);
    (networks > 0).then(|| {
        format!(
            "Of the networks that run {} tried, {networks} diverged: each counts as one that guesses.",
            run.id
        )
    })
}

/// Everything about the place of a run but the machine's name.
pub fn environment(run: &RunRow) -> Environment {
    Environment { host: String::new(), ..run.environment.clone() }
}

/// Finished runs that differ in nothing but the seed, by seed and then age.
fn groups(runs: &[RunRow]) -> Vec<Vec<&RunRow>> {
    let mut groups: Vec<(Settings<'_>, Vec<&RunRow>)> = Vec::new();
    for run in finished(runs) {
        let settings = Settings::of(run);
        match groups.iter_mut().find(|(of_group, _)| *of_group == settings) {
            Some((_, group)) => group.push(run),
            None => groups.push((settings, vec![run])),
        }
    }
    let mut groups: Vec<_> = groups.into_iter().map(|(_, group)| group).collect();
    for group in &mut groups {
        group.sort_by_key(|run| (run.seed, run.id));
    }
    groups
}

/// The last run of each seed of a group.
fn one_run_per_seed<'a>(group: &[&'a RunRow]) -> Vec<&'a RunRow> {
    let by_seed = group.chunk_by(|a, b| a.seed == b.seed);
    by_seed.filter_map(|of_seed| of_seed.last().copied()).collect()
}

/// What makes runs comparable.
#[derive(PartialEq)]
pub struct Settings<'a> {
    names: [&'a str; 3],
    space: &'a str,
    /// The manifest less seeds and method, which the command line may have chosen; the method is
    /// among the names.
    manifest: Result<toml::Table, &'a str>,
}

impl<'a> Settings<'a> {
    fn of(run: &'a RunRow) -> Self {
        let mut manifest = toml::from_str::<toml::Table>(&run.manifest.text);
        if let Ok(table) = &mut manifest {
            table.remove("seeds");
            if let Some(search) = table.get_mut("search").and_then(toml::Value::as_table_mut) {
                search.remove("method");
            }
        }
        Self {
            names: [&run.experiment, &run.method, &run.dataset],
            space: &run.manifest.space_text,
            manifest: manifest.map_err(|_| run.manifest.text.as_str()),
        }
    }

    /// Every value by its dotted key, as text.
    fn values(&self) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        if let Ok(table) = &self.manifest {
            flatten("", table, &mut values);
        }
        values
    }

    /// The keys whose values are not those of `other`, with both.
    fn unlike(&self, other: &Self) -> String {
        let [own, others] = [self, other].map(Self::values);
        let keys: BTreeSet<&String> = own.keys().chain(others.keys()).collect();
        let differ = keys.into_iter().filter(|key| own.get(*key) != others.get(*key));
        let differ = differ.map(|key| {
            let own = own.get(key).map_or("not given".to_owned(), |value| format!("= {value}"));
            let other = others.get(key).map_or("none", |value| value);
            format!("{key} {own} instead of {other}")
        });
        let differ: Vec<String> = differ.collect();
        if differ.is_empty() { "another space".to_owned() } else { differ.join("; ") }
    }

    /// The same for all methods.
    pub fn across_methods(run: &'a RunRow) -> Self {
        let settings = Self::of(run);
        let [experiment, _, dataset] = settings.names;
        Self { names: [experiment, "", dataset], ..settings }
    }
}

fn flatten(prefix: &str, table: &toml::Table, values: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            toml::Value::Table(table) => flatten(&format!("{key}."), table, values),
            value => {
                values.insert(key, value.to_string());
            }
        }
    }
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
