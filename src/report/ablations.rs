//! Runs of one experiment whose settings differ, as by `--set` or `[sweep]`: what each setting changes.

use super::groups::grouped;
use super::measured::MeasuredRun;
use super::page::{Part, Section};
use super::results::{self, last_of, top1};
use super::settings::{SettingsKeys, difference};
use super::stats::{PairedDifferences, holm};
use super::table::Columns;
use crate::store::{RunRow, RunStatus};
use crate::text::{Unit, p_value, points};
use std::collections::BTreeMap;

/// A method with one setting.
struct Ablation<'a> {
    /// What differs from the reference; empty for the reference itself.
    changed: String,
    method: &'a str,
    /// The last run of each seed.
    runs: Vec<&'a RunRow>,
    /// Its top-1 minus the reference's, by seed.
    paired: Option<PairedDifferences>,
    holm: Option<f64>,
}

/// The section; `None` where no method ran with several settings on one device and data set.
pub fn section(measured: &[MeasuredRun<'_>], settings: &SettingsKeys) -> Option<Section> {
    let finished: Vec<&RunRow> = measured
        .iter()
        .map(|measured| measured.run)
        .filter(|run| run.status == RunStatus::Finished)
        .collect();
    let same_but_settings = |run: &&RunRow| {
        (
            run.experiment.clone(),
            run.dataset.clone(),
            run.method.clone(),
            run.environment.device_model().to_owned(),
        )
    };
    let mut rows = Vec::new();
    for alike in grouped(finished, same_but_settings) {
        let by_setting = grouped(alike, |run| settings.across_methods(run));
        if by_setting.len() > 1 {
            rows.extend(ablations(&by_setting));
        }
    }
    if rows.is_empty() {
        return None;
    }
    let corrected = holm(&rows.iter().map(|row| row.paired?.p).collect::<Vec<_>>());
    for (row, holm) in rows.iter_mut().zip(corrected) {
        row.holm = holm;
    }
    let percent = |x| Unit::Percent.cell(x);
    let numbers = [&results::TOP1, &results::MACS, &results::PARAMS];
    let columns = Columns::of("ablations", &rows)
        .text("setting", "setting", |row| {
            if row.changed.is_empty() { "reference".to_owned() } else { row.changed.clone() }
        })
        .text("method", "method", |row| row.method.to_owned());
    let table = numbers
        .into_iter()
        .fold(columns, |columns, number| {
            columns.spread(number.name, number.heading, number.unit, |row| number.spread(&row.runs))
        })
        .whole("pairs", "pairs", |row| row.paired.map(|paired| paired.pairs as u64))
        .number("difference", "difference", |row| row.paired.map(|p| p.mean), points)
        .interval("interval", "95 % interval", |row| row.paired?.interval, points)
        .number("p_holm", "p (Holm)", |row| row.holm, p_value)
        .number("detectable", "minimum detectable effect", |row| row.paired?.detectable, percent)
        .runs("runs", |row| row.runs.iter().map(|run| run.id).collect())
        .table();
    Some(Section::new("Settings compared", vec![Part::Table(table), Part::paragraph(ABOUT)]))
}

const ABOUT: &str = "\
Runs that differ in settings only. The reference is the setting of the first run. The difference is the top-1 \
with the setting minus that of the reference with the same seed, in percentage points, with Student's t interval; \
p is that of the paired t test with Holm's correction over the rows.";

/// The settings of one method; the first is the reference.
fn ablations<'a>(by_setting: &[Vec<&'a RunRow>]) -> Vec<Ablation<'a>> {
    let reference = last_of(&by_setting[0]);
    let accuracies: BTreeMap<u64, f64> =
        reference.iter().filter_map(|run| Some((run.seed, top1(run)?))).collect();
    let ablation = |(i, runs): (usize, &Vec<&'a RunRow>)| {
        let runs = last_of(runs);
        let minus = |run: &&RunRow| Some(top1(run)? - accuracies.get(&run.seed)?);
        let differences: Vec<f64> = runs.iter().filter_map(minus).collect();
        let is_reference = i == 0;
        Ablation {
            changed: if is_reference { String::new() } else { difference(runs[0], reference[0]) },
            method: &runs[0].method,
            paired: if is_reference { None } else { PairedDifferences::of(&differences) },
            holm: None,
            runs,
        }
    };
    by_setting.iter().enumerate().map(ablation).collect()
}
