//! The report of a memory scaling study: bytes and seconds of a step over the number of options, for
//! each supernet, beside the memory model and the paper's claims.

mod figure;
mod page;
mod predictions;
mod verdicts;

use crate::document::Document;
use crate::record::{ScalingPoint, StepUsage};
use crate::report::drawing::Drawing;
use crate::report::files;
use crate::report::frame::{self, column};
use crate::report::stats::Line;
use crate::space::Growth;
use crate::store::{RunRow, RunStatus};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A report, not yet written.
#[derive(Clone, Debug)]
pub struct ScalingReport {
    /// The experiment without `memory_` in front: reports of studies stand in a folder of their own.
    pub name: String,
    pub markdown: String,
    /// One row per point.
    pub csv: String,
    /// Of bytes, and of seconds.
    pub figures: Vec<(&'static str, Drawing)>,
}

/// The points of the run of that id, if it is of a memory scaling study.
pub type PointsOf<'a> = &'a dyn Fn(i64) -> Result<Vec<ScalingPoint>>;

/// The points of one run.
pub type Measured<'a> = (&'a RunRow, Vec<ScalingPoint>);

/// The repeats of a point, put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub run: i64,
    /// As in manifests.
    pub method: String,
    pub recompute: String,
    pub dimension: String,
    pub options: u64,
    pub batch: u64,
    pub log10_candidates: f64,
    pub predicted_bytes: u64,
    /// Each of a process of its own; none where the step does not fit.
    pub repeats: Vec<StepUsage>,
}

impl Point {
    fn median(&self, of: impl Fn(&StepUsage) -> f64) -> Option<f64> {
        let mut all: Vec<f64> = self.repeats.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        let (upper, lower) = (all.get(all.len() / 2)?, all.get((all.len() - 1) / 2)?);
        Some(f64::midpoint(*upper, *lower))
    }

    /// The process with the median peak: what its peak is made of sums up.
    fn typical(&self) -> Option<&StepUsage> {
        let mut all: Vec<&StepUsage> = self.repeats.iter().collect();
        all.sort_by_key(|step| step.peak_bytes);
        all.get(all.len().checked_sub(1)? / 2).copied()
    }

    fn range(&self, of: impl Fn(&StepUsage) -> f64) -> Option<(f64, f64)> {
        let all = || self.repeats.iter().map(&of);
        all().reduce(f64::min).zip(all().reduce(f64::max))
    }

    /// Median of the repeats.
    pub fn seconds(&self) -> Option<f64> {
        self.median(|step| step.seconds)
    }

    /// Median of the repeats, the lower one of two.
    pub fn peak_bytes(&self) -> Option<f64> {
        self.typical().map(|step| step.peak_bytes as f64)
    }

    /// What the model says over what was measured.
    pub fn model_ratio(&self) -> Option<f64> {
        self.peak_bytes().map(|bytes| self.predicted_bytes as f64 / bytes)
    }
}

/// The points of one supernet as one thing grows, the fewest options first.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub method: String,
    pub recompute: String,
    pub dimension: String,
    pub points: Vec<Point>,
}

impl Series {
    pub fn measured(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| !point.repeats.is_empty())
    }

    /// A line through what was measured.
    pub fn line(&self, x: fn(&Point) -> f64, y: fn(&Point) -> Option<f64>) -> Option<Line> {
        let points: Vec<_> = self.measured().filter_map(|p| Some((x(p), y(p)?))).collect();
        Line::fit(&points)
    }

    /// A line through the seconds of every process over the number of options.
    pub fn seconds_line(&self) -> Option<Line> {
        let steps = self.measured().flat_map(|p| p.repeats.iter().map(|s| (p.options, s.seconds)));
        let steps: Vec<_> = steps.map(|(options, seconds)| (options as f64, seconds)).collect();
        Line::fit(&steps)
    }

    /// The measured points with the fewest and the most options, where those are two.
    pub fn ends(&self) -> Option<(&Point, &Point)> {
        let (first, last) = (self.measured().next()?, self.measured().last()?);
        (first.options < last.options).then_some((first, last))
    }

    /// How many times as much the last measured point takes as the first.
    pub fn growth(&self, of: fn(&Point) -> Option<f64>) -> Option<f64> {
        let (first, last) = self.ends()?;
        Some(of(last)? / of(first)?)
    }
}

/// All points, in the order of runs, what grows, recompute and options.
fn points(runs: &[Measured<'_>]) -> Vec<Point> {
    let mut all: Vec<Point> = Vec::new();
    for (run, of_run) in runs {
        for point in of_run {
            let known = all.iter_mut().find(|known| {
                known.run == run.id
                    && (&known.recompute, &known.dimension, known.options)
                        == (&point.recompute, &point.dimension, point.options)
            });
            if let Some(known) = known {
                known.repeats.extend(point.measured);
                continue;
            }
            all.push(Point {
                run: run.id,
                method: run.method.clone(),
                recompute: point.recompute.clone(),
                dimension: point.dimension.clone(),
                options: point.options,
                batch: point.batch,
                log10_candidates: point.log10_candidates,
                predicted_bytes: point.predicted_bytes,
                repeats: point.measured.into_iter().collect(),
            });
        }
    }
    all
}

/// The order of the page: by what grows, and without recompute first.
fn order(dimension: &str, recompute: &str) -> (Option<usize>, bool) {
    (Growth::ALL.iter().position(|growth| growth.name() == dimension), recompute != "none")
}

fn series(points: &[Point]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for point in points {
        let (method, recompute) = (&point.method, &point.recompute);
        let known = all.iter_mut().find(|s| {
            (&s.method, &s.recompute, &s.dimension) == (method, recompute, &point.dimension)
        });
        match known {
            Some(series) => series.points.push(point.clone()),
            None => all.push(Series {
                method: method.clone(),
                recompute: recompute.clone(),
                dimension: point.dimension.clone(),
                points: vec![point.clone()],
            }),
        }
    }
    all.sort_by_key(|series| order(&series.dimension, &series.recompute));
    all
}

/// What grew how far in the runs of one experiment, and what is not complete, for a terminal.
#[must_use]
pub fn text(runs: &[Measured<'_>]) -> String {
    let counted = latest(runs);
    let incomplete = incomplete(runs, &counted).into_iter().map(|line| line + "\n");
    page::growth_table(&series(&points(&counted))).text() + &incomplete.collect::<String>()
}

/// The points of one run, for a terminal; empty where it has none.
#[must_use]
pub fn points_text(run: &Measured<'_>) -> String {
    page::point_table(&points(std::slice::from_ref(run))).text()
}

/// The report of the runs of one experiment. Of each method one counts, see [`latest`].
///
/// # Errors
/// When the table cannot be written.
pub fn build(experiment: &str, runs: &[Measured<'_>], command_line: &str) -> Result<ScalingReport> {
    let name = experiment.strip_prefix("memory_").unwrap_or(experiment).to_owned();
    let counted = latest(runs);
    let points = points(&counted);
    let series = series(&points);
    let figures = figure::all(experiment, &series);
    let pictures: Vec<(&str, String)> =
        figures.iter().map(|(kind, _)| (*kind, format!("{name}-{kind}.svg"))).collect();
    Ok(ScalingReport {
        markdown: page::markdown(
            &counted,
            &incomplete(runs, &counted),
            &points,
            &series,
            &pictures,
            command_line,
        ),
        csv: csv(&points)?,
        figures,
        name,
    })
}

/// The points of a run of a memory scaling study, for a terminal; empty where it has none.
#[must_use]
pub fn points_table(run: &RunRow, points: Vec<ScalingPoint>) -> String {
    points_text(&(run, points))
}

/// What grew how far in each memory scaling study among the runs, for a terminal, and the runs that
/// are of no study.
///
/// # Errors
/// When points cannot be read.
pub fn studies_table(runs: &[RunRow], points_of: PointsOf<'_>) -> Result<(String, Vec<RunRow>)> {
    let (studies, others) = studies(runs, points_of)?;
    let tables = studies.iter().map(|(name, runs)| format!("{name}\n{}", text(runs)));
    Ok((tables.collect::<Vec<_>>().join("\n"), others))
}

/// Writes the reports of memory scaling studies into `memory` in `folder`: `NAME.md`, `NAME.csv`,
/// `NAME-bytes.svg`, `NAME-seconds.svg`. Returns what was written, and the runs
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
    let has_points = |runs: &[Measured<'_>]| runs.iter().any(|(_, p)| !p.is_empty());
    let reports = studies.iter().filter(|(_, runs)| has_points(runs));
    let reports = reports.map(|(name, runs)| build(name, runs, command_line));
    let reports = reports.collect::<Result<Vec<_>>>()?;
    let folder = folder.join("memory");
    let mut written = Vec::new();
    for report in reports {
        files::make_folder(&folder)?;
        let stem = files::stem(&report.name);
        for (kind, figure) in &report.figures {
            let svg = figure.svg();
            written.push(files::replace(&folder, &format!("{stem}-{kind}.svg"), svg.as_bytes())?);
        }
        written.push(files::replace(&folder, &format!("{stem}.csv"), report.csv.as_bytes())?);
        written.push(files::replace(&folder, &format!("{stem}.md"), report.markdown.as_bytes())?);
    }
    Ok((written, others))
}

/// The runs of each memory scaling study, by its name, and the runs that are of none.
type Studies<'a> = (BTreeMap<&'a str, Vec<Measured<'a>>>, Vec<RunRow>);

fn studies<'a>(runs: &'a [RunRow], points_of: PointsOf<'_>) -> Result<Studies<'a>> {
    let is_study = |run: &&RunRow| Document::new(Path::new(""), &run.manifest.text).has("scaling");
    let mut studies: BTreeMap<&str, Vec<Measured<'_>>> = BTreeMap::new();
    for run in runs.iter().filter(is_study) {
        let points = points_of(run.id)
            .with_context(|| format!("cannot read the points of run {}", run.id))?;
        studies.entry(&run.experiment).or_default().push((run, points));
    }
    Ok((studies, runs.iter().filter(|run| !is_study(run)).cloned().collect()))
}

/// The run of each method that counts, of those that have points: all of one manifest, that of the
/// last run that finished, or of the last one where none has.
fn latest<'a>(runs: &[Measured<'a>]) -> Vec<Measured<'a>> {
    let finished = |run: &RunRow| run.status == RunStatus::Finished;
    let having = || runs.iter().filter(|(_, points)| !points.is_empty());
    let newest = having().rfind(|(run, _)| finished(run)).or_else(|| having().next_back());
    let same = |run: &RunRow| newest.is_some_and(|(n, _)| n.manifest.sha256 == run.manifest.sha256);
    let mut last: Vec<Measured<'a>> = Vec::new();
    for (run, points) in having().filter(|(run, _)| same(run)) {
        let entry = (*run, points.clone());
        match last.iter_mut().find(|(known, _)| known.method == run.method) {
            Some(known) if finished(known.0) && !finished(run) => {}
            Some(known) => *known = entry,
            None => last.push(entry),
        }
    }
    last
}

/// What is not complete: of the runs that count, and of the last run of each other method, which has
/// measured nothing.
fn incomplete(runs: &[Measured<'_>], counted: &[Measured<'_>]) -> Vec<String> {
    let same = |run: &RunRow| {
        counted.first().is_none_or(|(c, _)| c.manifest.sha256 == run.manifest.sha256)
    };
    let mut told: Vec<&RunRow> = counted.iter().map(|(run, _)| *run).collect();
    for (run, _) in runs.iter().rev().filter(|(run, _)| same(run)) {
        if !told.iter().any(|known| known.method == run.method) {
            told.push(run);
        }
    }
    told.sort_by_key(|run| run.id);
    told.into_iter().filter_map(verdicts::incomplete).collect()
}

fn csv(points: &[Point]) -> Result<String> {
    let median = |name: &str, of: fn(&StepUsage) -> f64| {
        column(name, points, |point: &Point| point.median(of))
    };
    let bytes = |name: &str, of: fn(&StepUsage) -> u64| {
        column(name, points, |point: &Point| point.typical().map(of))
    };
    let columns = vec![
        column("run_id", points, |p: &Point| p.run),
        column("method", points, |p: &Point| p.method.as_str()),
        column("recompute", points, |p: &Point| p.recompute.as_str()),
        column("dimension", points, |p: &Point| p.dimension.as_str()),
        column("options", points, |p: &Point| p.options),
        column("batch", points, |p: &Point| p.batch),
        column("log10_candidates", points, |p: &Point| p.log10_candidates),
        bytes("peak_bytes", |step| step.peak_bytes),
        column("predicted_bytes", points, |p: &Point| p.predicted_bytes),
        median("step_seconds", |step| step.seconds),
        column("measured", points, |p: &Point| !p.repeats.is_empty()),
        column("processes", points, |p: &Point| p.repeats.len() as u64),
        column("step_seconds_min", points, |p: &Point| p.range(|s| s.seconds).map(|r| r.0)),
        column("step_seconds_max", points, |p: &Point| p.range(|s| s.seconds).map(|r| r.1)),
        median("forward_seconds", |step| step.forward_seconds),
        median("backward_seconds", |step| step.backward_seconds),
        median("optimizer_seconds", |step| step.optimizer_seconds),
        bytes("forward_peak_bytes", |step| step.forward_bytes),
        bytes("backward_peak_bytes", |step| step.backward_bytes),
        bytes("optimizer_peak_bytes", |step| step.optimizer_bytes),
        bytes("weight_bytes", |step| step.weight_bytes),
        bytes("velocity_bytes", |step| step.velocity_bytes),
        bytes("activation_bytes", |step| step.activation_bytes),
        bytes("gradient_bytes", |step| step.gradient_bytes),
        bytes("scratch_bytes", |step| step.scratch_bytes),
        column("resident_bytes", points, |p: &Point| {
            p.repeats.iter().filter_map(|step| step.resident_bytes).max()
        }),
    ];
    frame::csv_of(points.len(), columns).context("cannot write the points as CSV")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Environment;
    use crate::store::ManifestRecord;

    fn run(id: i64, (method, sha256, status): (&str, &str, RunStatus)) -> RunRow {
        RunRow {
            id,
            experiment: "memory_test".to_owned(),
            manifest: ManifestRecord {
                sha256: sha256.to_owned(),
                name: String::new(),
                text: String::new(),
                space_name: String::new(),
                space_text: String::new(),
                space_candidates: String::new(),
                space_log10: 0.0,
            },
            method: method.to_owned(),
            dataset: "cifar10".to_owned(),
            seed: 1,
            attempt: 1,
            status,
            error: None,
            started_at: 0.0,
            last_seen_at: 0.0,
            command: String::new(),
            environment: Environment::detect("cpu", 1, "none"),
            phases: Vec::new(),
            architecture: None,
            result: None,
        }
    }

    /// The ids of the runs that count; each has a point.
    fn counted(runs: &[(&str, &str, RunStatus)]) -> Vec<i64> {
        let point = ScalingPoint {
            dimension: "width".to_owned(),
            options: 1,
            recompute: "none".to_owned(),
            repeat: 0,
            batch: 64,
            log10_candidates: 0.0,
            predicted_bytes: 1,
            measured: None,
        };
        let runs: Vec<RunRow> = (1..).zip(runs).map(|(id, of)| run(id, *of)).collect();
        let measured: Vec<_> = runs.iter().map(|run| (run, vec![point.clone()])).collect();
        latest(&measured).iter().map(|(run, _)| run.id).collect()
    }

    #[test]
    fn a_method_that_measured_nothing_is_told_beside_those_that_did() {
        use RunStatus::{Failed, Finished};
        let runs = [
            run(1, ("dnas", "a", Failed)),
            run(2, ("dmasking", "a", Finished)),
            run(3, ("dnas", "a", Failed)),
            run(4, ("darts", "b", Failed)),
        ];
        let measured: Vec<Measured<'_>> = runs.iter().map(|run| (run, Vec::new())).collect();
        let told = |counted: &[Measured<'_>]| incomplete(&measured, counted);
        let dnas = "Not all points of dnas were measured (run 3): failed";
        assert_eq!(told(&measured[1..2]), [dnas]);
        // Where none counts, the last of each method is told.
        assert_eq!(told(&[]), [dnas, "Not all points of darts were measured (run 4): failed"]);
    }

    #[test]
    fn the_last_run_of_each_method_counts_and_all_are_of_one_manifest() {
        use RunStatus::{Failed, Finished};
        let (masked, explicit) = ("dmasking", "dnas");
        let old = [(masked, "a", Finished), (explicit, "a", Finished)];
        assert_eq!(counted(&old), [1, 2]);
        let again = [&old[..], &[(masked, "a", Finished), (explicit, "a", Failed)]].concat();
        assert_eq!(counted(&again), [3, 2]);
        let changed = [&old[..], &[(masked, "b", Finished), (explicit, "b", Failed)]].concat();
        assert_eq!(counted(&changed), [3, 4]);
        let failed = [&old[..], &[(masked, "b", Failed)]].concat();
        assert_eq!(counted(&failed), [1, 2]);
        assert_eq!(counted(&[(masked, "a", Failed), (masked, "b", Failed)]), [2]);
    }
}
