//! Reports: runs from the database become tables, pages and pictures.
//!
//! Everything is computed from the runs and their measurements alone, without a clock, so that the
//! same database gives the same bytes.

mod architecture;
mod claims;
mod comparison;
mod compute;
pub(crate) mod drawing;
pub(crate) mod figure;
pub(crate) mod files;
pub(crate) mod frame;
pub(crate) mod page;
mod rank;
mod results;
mod scatter;
pub(crate) mod stats;

use crate::document::nearest;
use crate::store::{Measurement, RunRow};
use crate::text::Table;
use anyhow::{Context, Result, bail};
use comparison::Tested;
use figure::Series;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The measurements of the run of that id.
pub type MeasurementsOf<'a> = &'a dyn Fn(i64) -> Result<Vec<Measurement>>;

/// The report of one experiment, not yet written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub experiment: String,
    pub markdown: String,
    /// One row per run, every number at full precision.
    pub csv: String,
    /// SVG, if any run has measured a search.
    pub figure: Option<String>,
    /// SVG, if any run has ranked networks.
    pub rank_figure: Option<String>,
    /// SVG, one per comparison of methods.
    pub compute_figures: Vec<String>,
}

/// The paper-style table for a terminal: finished runs with their means, then the others with their
/// errors.
#[must_use]
pub fn results_table(runs: &[RunRow]) -> String {
    let tables = [results::results(runs), results::unfinished(runs)];
    let texts = tables.iter().map(Table::text);
    let shown: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
    if shown.is_empty() { "no runs\n".to_owned() } else { shown.join("\n") }
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

/// One report per experiment, by name.
///
/// # Errors
/// When measurements cannot be read.
pub fn build(
    runs: &[RunRow],
    measurements_of: MeasurementsOf<'_>,
    command_line: &str,
) -> Result<Vec<Report>> {
    let mut experiments: BTreeMap<&str, Vec<RunRow>> = BTreeMap::new();
    for run in runs {
        experiments.entry(&run.experiment).or_default().push(run.clone());
    }
    let reports = experiments.into_iter().map(|(experiment, mut runs)| {
        runs.sort_by_key(|run| run.id);
        let series = runs.iter().map(|run| series(run, measurements_of));
        let series = series.collect::<Result<Vec<_>>>()?;
        let figure = figure::search(experiment, &series).map(|drawing| drawing.svg());
        let measured = || runs.iter().zip(&series);
        let pairs = measured().map(|(run, s)| (run, rank::pairs(&s.measurements)));
        let rankings = rank::rankings(pairs);
        let rank_figure = scatter::scatter(experiment, &rankings).map(|drawing| drawing.svg());
        let diverged = measured().filter_map(|(run, s)| results::diverged(run, &s.measurements));
        let diverged: Vec<String> = diverged.collect();
        let trainings: Vec<Vec<f64>> =
            series.iter().map(|s| comparison::trainings(&s.measurements)).collect();
        let tested: Vec<_> =
            measured().filter_map(|(run, s)| Tested::of(run, &s.measurements)).collect();
        let comparisons = comparison::comparisons(&tested, &runs);
        let compute = comparisons.iter().map(|c| compute::accuracy_over_compute(experiment, c));
        let compute: Vec<Option<String>> =
            compute.map(|drawing| drawing.map(|drawing| drawing.svg())).collect();
        let mut numbers = 0..;
        let compute_names = compute.iter().map(|figure| {
            figure.as_ref().and_then(|_| numbers.next()).map(|i| compute_name(experiment, i))
        });
        let pictures = page::Pictures {
            compute: compute_names.collect(),
            search: figure.as_ref().map(|_| figure_name(experiment, "search")),
            rank: rank_figure.as_ref().map(|_| figure_name(experiment, "rank")),
        };
        Ok(Report {
            experiment: experiment.to_owned(),
            markdown: page::markdown(
                &runs,
                &diverged,
                &rankings,
                &comparisons,
                &pictures,
                command_line,
            ),
            csv: frame::csv(&runs, &trainings).context("cannot write the runs as CSV")?,
            figure,
            rank_figure,
            compute_figures: compute.into_iter().flatten().collect(),
        })
    });
    reports.collect()
}

/// Writes the reports into `folder`, which is made if need be: `EXPERIMENT.md`, `EXPERIMENT.csv`,
/// `EXPERIMENT-search.svg`, `EXPERIMENT-rank.svg` and `EXPERIMENT-compute.svg`. Nothing is touched
/// before everything is computed. Returns what was written.
///
/// # Errors
/// When measurements cannot be read, or a file cannot be written.
pub fn write(
    runs: &[RunRow],
    measurements_of: MeasurementsOf<'_>,
    folder: &Path,
    command_line: &str,
) -> Result<Vec<PathBuf>> {
    let reports = build(runs, measurements_of, command_line)?;
    files::make_folder(folder)?;
    let mut written = Vec::new();
    for report in reports {
        let stem = files::stem(&report.experiment);
        for (figure, kind) in [(&report.figure, "search"), (&report.rank_figure, "rank")] {
            if let Some(figure) = figure {
                let name = figure_name(&report.experiment, kind);
                written.push(files::replace(folder, &name, figure.as_bytes())?);
            }
        }
        for (i, figure) in report.compute_figures.iter().enumerate() {
            let name = compute_name(&report.experiment, i);
            written.push(files::replace(folder, &name, figure.as_bytes())?);
        }
        written.push(files::replace(folder, &format!("{stem}.csv"), report.csv.as_bytes())?);
        written.push(files::replace(folder, &format!("{stem}.md"), report.markdown.as_bytes())?);
    }
    Ok(written)
}

fn figure_name(experiment: &str, kind: &str) -> String {
    format!("{}-{kind}.svg", files::stem(experiment))
}

/// Of the `i`-th comparison, from 0: an experiment that was changed may have several.
fn compute_name(experiment: &str, i: usize) -> String {
    let number = if i == 0 { String::new() } else { format!("-{}", i + 1) };
    figure_name(experiment, &format!("compute{number}"))
}

fn series(run: &RunRow, measurements_of: MeasurementsOf<'_>) -> Result<Series> {
    let measurements = measurements_of(run.id)
        .with_context(|| format!("cannot read the measurements of run {}", run.id))?;
    let (id, method, seed, status) = (run.id, &run.method, run.seed, run.status.name());
    Ok(Series { label: format!("run {id}: {method}, seed {seed}, {status}"), measurements })
}
