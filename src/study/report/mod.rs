//! The report of a memory study: bytes and seconds of a step over the number of options, for each
//! supernet, beside the memory model and the paper's claims.

mod csv;
mod figure;
mod page;
mod points;
mod predictions;
mod runs;
mod tables;
mod verdicts;

pub use runs::PointsOf;

use crate::record::ScalingPoint;
use crate::report::drawing::Drawing;
use crate::report::files;
use crate::store::RunRow;
use anyhow::Result;
use points::{Load, PointResult};
use runs::{StudyRun, incomplete, latest, studies};
use std::path::{Path, PathBuf};

/// A report that is not yet written.
struct StudyReport {
    /// The experiment without a leading `memory_`: reports of studies have a folder of their own.
    name: String,
    markdown: String,
    /// One row per point.
    csv: String,
    /// Of bytes, and of seconds.
    figures: Vec<(&'static str, Drawing)>,
}

/// The points of a run for a terminal; empty if it has none.
#[must_use]
pub fn points_table(run: &RunRow, points: Vec<ScalingPoint>) -> String {
    tables::point_table(&points::points(&[(run, points)])).text()
}

/// How far the curves of each study among the runs grow, for a terminal, and the runs that belong to
/// no study.
///
/// # Errors
/// When points cannot be read.
pub fn studies_table(runs: &[RunRow], points_of: PointsOf<'_>) -> Result<(String, Vec<RunRow>)> {
    let (studies, others) = studies(runs, points_of)?;
    let tables = studies.iter().map(|(name, runs)| format!("{name}\n{}", growth_text(runs)));
    Ok((tables.collect::<Vec<_>>().join("\n"), others))
}

fn growth_text(runs: &[StudyRun<'_>]) -> String {
    let counted = latest(runs);
    let points = points::points(&counted);
    let warnings = warnings(runs, &counted, &points).into_iter().map(|line| line + "\n");
    tables::growth_table(&points::curves(&points)).text() + &warnings.collect::<String>()
}

/// What a reader has to know before the numbers.
fn warnings(
    runs: &[StudyRun<'_>],
    counted: &[StudyRun<'_>],
    points: &[PointResult],
) -> Vec<String> {
    incomplete(runs, counted).into_iter().chain(Load::of(points).warning()).collect()
}

/// Writes the report of each study among the runs into `memory` in `folder`: `NAME.md`, `NAME.csv`,
/// `NAME-bytes.svg` and `NAME-seconds.svg`. Returns what was written, and the runs
/// that belong to no study.
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
    let has_points = |runs: &[StudyRun<'_>]| runs.iter().any(|(_, points)| !points.is_empty());
    let reports = studies.iter().filter(|(_, runs)| has_points(runs));
    let reports = reports.map(|(name, runs)| build(name, runs, command_line));
    let reports = reports.collect::<Result<Vec<_>>>()?;
    let folder = folder.join("memory");
    let mut written = Vec::new();
    for report in reports {
        written.extend(report.write(&folder)?);
    }
    Ok((written, others))
}

fn build(experiment: &str, runs: &[StudyRun<'_>], command_line: &str) -> Result<StudyReport> {
    let name = experiment.strip_prefix("memory_").unwrap_or(experiment).to_owned();
    let counted = latest(runs);
    let points = points::points(&counted);
    let curves = points::curves(&points);
    let figures = figure::all(experiment, &curves);
    let pictures: Vec<(&str, String)> =
        figures.iter().map(|(kind, _)| (*kind, format!("{name}-{kind}.svg"))).collect();
    let page = page::Page {
        runs: counted.iter().map(|(run, _)| (*run).clone()).collect(),
        warnings: warnings(runs, &counted, &points),
        points: &points,
        curves: &curves,
        pictures: &pictures,
        command_line,
    };
    Ok(StudyReport { markdown: page.markdown(), csv: csv::csv(&points)?, figures, name })
}

impl StudyReport {
    fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        files::make_folder(folder)?;
        let stem = files::stem(&self.name);
        let mut written = Vec::new();
        let mut write = |name: String, content: &[u8]| -> Result<()> {
            written.push(files::replace(folder, &name, content)?);
            Ok(())
        };
        for (kind, figure) in &self.figures {
            write(format!("{stem}-{kind}.svg"), figure.svg().as_bytes())?;
        }
        write(format!("{stem}.csv"), self.csv.as_bytes())?;
        write(format!("{stem}.md"), self.markdown.as_bytes())?;
        Ok(written)
    }
}
