//! The report of a memory study: bytes and seconds of a step over the number of options, for each
//! supernet, beside the memory model and the paper's claims.

mod figure;
mod frame;
mod page;
mod points;
mod predictions;
mod runs;
mod tables;
mod verdicts;

pub use runs::PointsOf;

use crate::claim::Verdict;
use crate::record::ScalingPoint;
use crate::report::{Figure, Page, Writer, files};
use crate::store::RunRow;
use anyhow::Result;
use points::{Load, PointResult};
use runs::{StudyRun, incomplete, latest, studies};

/// The points of a run for a terminal; empty if it has none.
#[must_use]
pub fn points_table(run: &RunRow, points: Vec<ScalingPoint>) -> String {
    tables::point_table(&points::points(&[(run, points)])).cells().text()
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
    tables::growth_table(&points::curves(&points)).cells().text() + &warnings.collect::<String>()
}

/// What a reader has to know before the numbers.
fn warnings(
    runs: &[StudyRun<'_>],
    counted: &[StudyRun<'_>],
    points: &[PointResult],
) -> Vec<String> {
    incomplete(runs, counted).into_iter().chain(Load::of(points).warning()).collect()
}

/// The page of each study among the runs, and the runs that belong to no study. Pages of studies have a
/// folder of their own, so they are named after the experiment without a leading `memory_`.
///
/// # Errors
/// When points cannot be read.
pub fn study_pages(
    runs: &[RunRow],
    points_of: PointsOf<'_>,
    writer: Writer<'_>,
) -> Result<(Vec<Page>, Vec<RunRow>)> {
    let (studies, others) = studies(runs, points_of)?;
    let has_points = |runs: &[StudyRun<'_>]| runs.iter().any(|(_, points)| !points.is_empty());
    let pages = studies.iter().filter(|(_, runs)| has_points(runs));
    let pages = pages.map(|(name, runs)| page_of(name, runs, writer));
    Ok((pages.collect::<Result<_>>()?, others))
}

/// What a study says about the claim that memory and compute stay nearly constant (C2).
#[derive(Clone, Debug, PartialEq)]
pub struct StudyVerdict {
    pub experiment: String,
    pub verdict: Verdict,
    /// The verdicts on each dimension that grows, in words.
    pub parts: String,
    /// The runs whose points were judged.
    pub runs: Vec<i64>,
}

/// The verdicts of all studies among the runs that have points of a masked supernet, by experiment.
///
/// # Errors
/// When points cannot be read.
pub fn study_verdicts(runs: &[RunRow], points_of: PointsOf<'_>) -> Result<Vec<StudyVerdict>> {
    let (studies, _) = studies(runs, points_of)?;
    let judge = |(experiment, runs): (&str, Vec<StudyRun<'_>>)| {
        let counted = latest(&runs);
        let dataset = counted.first().map_or("", |(run, _)| &run.dataset[..]);
        let curves = points::curves(&points::points(&counted));
        let (verdict, parts) = verdicts::on_masking(dataset, &curves)?;
        let runs = counted.iter().map(|(run, _)| run.id).collect();
        Some(StudyVerdict { experiment: experiment.to_owned(), verdict, parts, runs })
    };
    Ok(studies.into_iter().filter_map(judge).collect())
}

fn page_of(experiment: &str, runs: &[StudyRun<'_>], writer: Writer<'_>) -> Result<Page> {
    let stem = files::stem(experiment.strip_prefix("memory_").unwrap_or(experiment));
    let counted = latest(runs);
    let points = points::points(&counted);
    let curves = points::curves(&points);
    let figures = figure::all(experiment, &curves).into_iter().map(|(kind, drawing)| {
        let what = if kind == "bytes" { "Peak bytes" } else { "Seconds" };
        Figure {
            file: format!("{stem}-{kind}.svg"),
            alt: format!("{what} of a step over the options and over the size of the space"),
            svg: drawing.svg(),
        }
    });
    let content = page::Content {
        runs: counted.iter().map(|(run, _)| (*run).clone()).collect(),
        warnings: warnings(runs, &counted, &points),
        points: &points,
        curves: &curves,
        figures: figures.collect(),
    };
    let ids = content.runs.iter().map(|run| run.id).collect();
    let sections = content.sections();
    let dataset = counted.first().map_or("", |(run, _)| &run.dataset[..]);
    let verdict = verdicts::on_masking(dataset, &curves);
    let verdicts = verdict.map(|(verdict, parts)| format!("C2: {verdict} ({parts})"));
    let data = frame::frame(&points)?;
    let (title, folder) = (experiment.to_owned(), Some("memory"));
    let verdicts = verdicts.into_iter().collect();
    writer.sign(Page { title, stem, folder, sections, verdicts, data, runs: ids })
}
