//! Reports: runs from the database become tables, pages and figures.
//!
//! Everything is computed from the runs and their measurements alone, without a clock, so that the
//! same database gives the same bytes.

mod architecture;
mod claims;
mod comparison;
mod compute;
mod curves;
pub(crate) mod drawing;
mod exhaustive;
mod export;
pub(crate) mod figure;
pub(crate) mod files;
mod finished;
pub(crate) mod frame;
mod groups;
mod kendall;
mod measured;
pub(crate) mod page;
mod rank;
mod results;
mod scatter;
mod settings;
pub(crate) mod stats;
mod warnings;

pub use architecture::table as architecture_table;
pub use export::{Format, export_tables};
pub use stats::wilson_interval;

use crate::document::nearest;
use crate::record::Metric;
use crate::store::{Measurement, RunRow};
use crate::text::Table;
use anyhow::{Context, Result, bail};
use comparison::Comparison;
use drawing::Drawing;
use exhaustive::{ExhaustiveTable, is_of_table};
use measured::MeasuredRun;
use rank::Ranking;
use settings::SettingsKeys;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The measurements of the run of that id.
pub type MeasurementsOf<'a> = &'a dyn Fn(i64) -> Result<Vec<Measurement>>;

/// The report of one experiment, not yet written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub experiment: String,
    pub markdown: String,
    /// One row per run, every number at full precision; of an exhaustive table one per network and seed.
    pub csv: String,
    /// Search curves, rank correlation, and accuracy over compute, of those there are.
    pub figures: Vec<ReportFigure>,
}

/// A figure beside a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFigure {
    /// `search`, `rank` or `compute`.
    pub kind: &'static str,
    /// Which comparison of methods it shows, if any.
    comparison: Option<usize>,
    /// Of its file.
    pub name: String,
    pub svg: String,
}

/// What the runs of one experiment say, before it is written in any format.
pub(crate) struct Analysis<'a> {
    /// The oldest first.
    runs: &'a [RunRow],
    measured: Vec<MeasuredRun<'a>>,
    settings: SettingsKeys,
    rankings: Vec<Ranking<'a>>,
    comparisons: Vec<Comparison<'a>>,
    /// The exhaustive table, where all runs are of one.
    table: Option<ExhaustiveTable<'a>>,
    /// Sections about derived networks that are looked up in a table.
    judged: Vec<String>,
}

/// The results table for a terminal: finished runs with their means, then the others with their errors.
#[must_use]
pub fn results_table(runs: &[RunRow]) -> String {
    let settings = SettingsKeys::of(runs);
    let tables = [results::results(runs, &settings), results::unfinished(runs)];
    let texts = tables.iter().map(Table::text);
    let shown: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
    if shown.is_empty() { "no runs\n".to_owned() } else { shown.join("\n") }
}

/// The metrics that reports are made of: a small part of what runs measure.
#[must_use]
pub fn metrics() -> Vec<Metric> {
    let shown = curves::metrics().chain(comparison::metrics()).chain(rank::METRICS);
    let mut all: Vec<Metric> = shown.chain(warnings::METRICS).chain([Metric::TEST_TOP1]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What went wrong in a run that finished, one sentence each.
#[must_use]
pub fn warnings(run: &RunRow, measurements: &[Measurement]) -> Vec<String> {
    warnings::warnings(&MeasuredRun::new(run, measurements))
}

/// The runs of these experiments and of these ids; all runs if neither is given.
///
/// # Errors
/// When there is no such experiment or run.
pub fn select(runs: Vec<RunRow>, experiments: &[String], ids: &[i64]) -> Result<Vec<RunRow>> {
    let names = || runs.iter().map(|run| run.experiment.as_str());
    if let Some(unknown) = experiments.iter().find(|name| !names().any(|known| known == *name)) {
        match nearest(unknown, names()) {
            Some(hint) => bail!("no run of experiment {unknown:?}; did you mean {hint:?}?"),
            None => bail!("no run of experiment {unknown:?}"),
        }
    }
    if let Some(unknown) = ids.iter().find(|id| !runs.iter().any(|run| run.id == **id)) {
        bail!("there is no run {unknown}");
    }
    let all = experiments.is_empty() && ids.is_empty();
    let wanted =
        |run: &RunRow| all || experiments.contains(&run.experiment) || ids.contains(&run.id);
    Ok(runs.into_iter().filter(wanted).collect())
}

/// The runs that train every network of a space.
#[must_use]
pub fn table_runs(runs: &[RunRow]) -> Vec<RunRow> {
    runs.iter().filter(|run| is_of_table(run)).cloned().collect()
}

/// One report per experiment, by name. `tables` has the runs of the tables that networks are looked up in, see
/// [`table_runs`].
///
/// # Errors
/// When measurements cannot be read.
pub fn build(
    runs: &[RunRow],
    tables: &[RunRow],
    measurements_of: MeasurementsOf<'_>,
    command_line: &str,
) -> Result<Vec<Report>> {
    let mut experiments: BTreeMap<&str, Vec<RunRow>> = BTreeMap::new();
    for run in runs {
        experiments.entry(&run.experiment).or_default().push(run.clone());
    }
    let reports = experiments.into_iter().map(|(experiment, mut runs)| {
        runs.sort_by_key(|run| run.id);
        let analysis = Analysis::of(&runs, tables, measurements_of)?;
        let figures = analysis.figures(experiment);
        let test_top1s: Vec<Vec<f64>> =
            analysis.measured.iter().map(MeasuredRun::test_top1s).collect();
        let csv = match &analysis.table {
            Some(table) => exhaustive::csv(table),
            None => frame::csv(&runs, &test_top1s),
        };
        Ok(Report {
            experiment: experiment.to_owned(),
            markdown: page::markdown(&analysis, &figures, command_line),
            csv: csv.context("cannot write the runs as CSV")?,
            figures,
        })
    });
    reports.collect()
}

impl<'a> Analysis<'a> {
    fn of(
        runs: &'a [RunRow],
        tables: &[RunRow],
        measurements_of: MeasurementsOf<'_>,
    ) -> Result<Self> {
        let measured = runs.iter().map(|run| {
            let measurements = measurements_of(run.id)
                .with_context(|| format!("cannot read the measurements of run {}", run.id))?;
            Ok(MeasuredRun::new(run, &measurements))
        });
        let measured = measured.collect::<Result<Vec<_>>>()?;
        let settings = SettingsKeys::of(runs);
        let rankings = rank::rankings(&measured);
        let comparisons = comparison::comparisons(&measured, &settings);
        let experiment = runs.first().map_or("", |run| &run.experiment);
        let is_table = runs.iter().all(is_of_table);
        let table = ExhaustiveTable::of(experiment, runs).filter(|_| is_table);
        let judged = exhaustive::judged(runs, &settings, tables);
        Ok(Self { runs, measured, settings, rankings, comparisons, table, judged })
    }

    fn figures(&self, experiment: &str) -> Vec<ReportFigure> {
        let stem = files::stem(experiment);
        let one = |kind: &'static str, drawing: Option<Drawing>| {
            let name = format!("{stem}-{kind}.svg");
            drawing.map(|d| ReportFigure { kind, comparison: None, name, svg: d.svg() })
        };
        let search =
            one("search", curves::search_curves(experiment, &self.measured, &self.settings));
        let rank = one("rank", scatter::scatter(experiment, &self.rankings));
        let mut figures: Vec<ReportFigure> = search.into_iter().chain(rank).collect();
        let drawings = self.comparisons.iter().enumerate().filter_map(|(i, comparison)| {
            Some((i, compute::accuracy_over_compute(experiment, comparison)?))
        });
        // An experiment whose settings were changed has several comparisons.
        for (number, (i, drawing)) in (1..).zip(drawings) {
            let number = if number == 1 { String::new() } else { format!("-{number}") };
            figures.push(ReportFigure {
                kind: "compute",
                comparison: Some(i),
                name: format!("{stem}-compute{number}.svg"),
                svg: drawing.svg(),
            });
        }
        figures
    }
}

/// Writes the reports into `folder`, which is created if necessary: `EXPERIMENT.md`, `EXPERIMENT.csv`,
/// `EXPERIMENT-search.svg`, `EXPERIMENT-rank.svg` and `EXPERIMENT-compute.svg`. Nothing is touched
/// before everything is computed. Returns what was written.
///
/// # Errors
/// When measurements cannot be read, or a file cannot be written.
pub fn write(
    runs: &[RunRow],
    tables: &[RunRow],
    measurements_of: MeasurementsOf<'_>,
    folder: &Path,
    command_line: &str,
) -> Result<Vec<PathBuf>> {
    let reports = build(runs, tables, measurements_of, command_line)?;
    files::make_folder(folder)?;
    let mut written = Vec::new();
    for report in reports {
        let stem = files::stem(&report.experiment);
        for figure in &report.figures {
            written.push(files::replace(folder, &figure.name, figure.svg.as_bytes())?);
        }
        written.push(files::replace(folder, &format!("{stem}.csv"), report.csv.as_bytes())?);
        written.push(files::replace(folder, &format!("{stem}.md"), report.markdown.as_bytes())?);
    }
    Ok(written)
}
