//! Reports: runs from the database become tables, pages and pictures.
//!
//! Everything is computed from the runs and their measurements alone, without a clock, so that the
//! same database gives the same bytes.

mod architecture;
mod cells;
mod claims;
mod comparison;
mod compute;
mod drawing;
mod figure;
mod files;
mod frame;
mod page;
mod rank;
mod results;
mod scaling;
mod scatter;
mod stats;
mod table;

use crate::document::{Document, nearest};
use crate::record::ScalingPoint;
use crate::store::{Measurement, RunRow};
use anyhow::{Context, Result, bail};
use comparison::Tested;
use figure::Series;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The measurements of the run of that id.
pub type MeasurementsOf<'a> = &'a dyn Fn(i64) -> Result<Vec<Measurement>>;

/// The points of the run of that id, if it is of a memory scaling study.
pub type PointsOf<'a> = &'a dyn Fn(i64) -> Result<Vec<ScalingPoint>>;

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
    let texts = tables.iter().map(table::Table::text);
    let shown: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
    if shown.is_empty() { "no runs\n".to_owned() } else { shown.join("\n") }
}

/// The points of a run of a memory scaling study, for a terminal; empty where it has none.
#[must_use]
pub fn points_table(run: &RunRow, points: Vec<ScalingPoint>) -> String {
    scaling::points_text(&(run, points))
}

/// What grew how far in each memory scaling study among the runs, for a terminal, and the runs that
/// are of no study.
///
/// # Errors
/// When points cannot be read.
pub fn studies_table(runs: &[RunRow], points_of: PointsOf<'_>) -> Result<(String, Vec<RunRow>)> {
    let (studies, others) = studies(runs, points_of)?;
    let tables = studies.iter().map(|(name, runs)| format!("{name}\n{}", scaling::text(runs)));
    Ok((tables.collect::<Vec<_>>().join("\n"), others))
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
    make(folder)?;
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

/// Writes the reports of memory scaling studies into `memory` in `folder`: `NAME.md`, `NAME.csv`,
/// `NAME-bytes.svg`, `NAME-seconds.svg` and the same as PNG. Returns what was written, and the runs
/// that are of no study.
///
/// # Errors
/// When points cannot be read, or a file cannot be written.
pub fn write_studies(
    runs: &[RunRow],
    points_of: PointsOf<'_>,
    folder: &Path,
    command_line: &str,
) -> Result<(Vec<PathBuf>, Vec<RunRow>)> {
    let (studies, others) = studies(runs, points_of)?;
    let has_points = |runs: &[scaling::Measured<'_>]| runs.iter().any(|(_, p)| !p.is_empty());
    let reports = studies.iter().filter(|(_, runs)| has_points(runs));
    let reports = reports.map(|(name, runs)| scaling::build(name, runs, command_line));
    let reports = reports.collect::<Result<Vec<_>>>()?;
    let folder = folder.join("memory");
    let mut written = Vec::new();
    for report in reports {
        make(&folder)?;
        let stem = files::stem(&report.name);
        for (kind, figure) in &report.figures {
            let svg = figure.svg();
            written.push(files::replace(&folder, &format!("{stem}-{kind}.svg"), svg.as_bytes())?);
            if let Some(png) = figure.png() {
                written.push(files::replace(&folder, &format!("{stem}-{kind}.png"), &png)?);
            }
        }
        written.push(files::replace(&folder, &format!("{stem}.csv"), report.csv.as_bytes())?);
        written.push(files::replace(&folder, &format!("{stem}.md"), report.markdown.as_bytes())?);
    }
    Ok((written, others))
}

/// The runs of each memory scaling study, by its name, and the runs that are of none.
type Studies<'a> = (BTreeMap<&'a str, Vec<scaling::Measured<'a>>>, Vec<RunRow>);

fn studies<'a>(runs: &'a [RunRow], points_of: PointsOf<'_>) -> Result<Studies<'a>> {
    let is_study = |run: &&RunRow| Document::new(Path::new(""), &run.manifest.text).has("scaling");
    let mut studies: BTreeMap<&str, Vec<scaling::Measured<'_>>> = BTreeMap::new();
    for run in runs.iter().filter(is_study) {
        let points = points_of(run.id)
            .with_context(|| format!("cannot read the points of run {}", run.id))?;
        studies.entry(&run.experiment).or_default().push((run, points));
    }
    Ok((studies, runs.iter().filter(|run| !is_study(run)).cloned().collect()))
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
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
