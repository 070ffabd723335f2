//! Reports: runs from the database become tables, pages and figures. A [`Page`] is built once; [`render`]
//! writes it in each format.
//!
//! Everything is computed from the runs and their measurements alone, without a clock, so that the
//! same database gives the same bytes.

mod ablations;
mod architecture;
pub(crate) mod claims;
mod comparison;
mod compute;
mod curves;
pub(crate) mod drawing;
mod exhaustive;
mod experiment;
mod export;
pub(crate) mod figure;
pub mod files;
pub(crate) mod finished;
pub(crate) mod frame;
mod groups;
pub mod index;
mod kendall;
mod measured;
mod network_drawing;
mod networks;
pub(crate) mod page;
pub(crate) mod prose;
mod rank;
pub mod render;
mod results;
mod scatter;
mod settings;
mod space;
pub mod splice;
pub(crate) mod stats;
pub(crate) mod table;
mod warnings;
mod writer;

pub(crate) use experiment::origin;
pub use export::{Format, export_tables};
pub use networks::page as networks_page;
pub use page::{Figure, Page};
pub use space::{channels, expansions, ways};
pub use stats::wilson_interval;
pub use writer::Writer;

use crate::document::nearest;
use crate::record::Metric;
use crate::space::{ArchSpec, SearchSpace};
use crate::store::{Measurement, RunRow};
use crate::text::Table;
use anyhow::{Context, Result, bail};
use comparison::Comparison;
use drawing::Drawing;
use exhaustive::{ExhaustiveTable, is_of_table};
use measured::MeasuredRun;
use page::Section;
use polars::prelude::{DataFrame, PolarsResult};
use rank::Ranking;
use settings::SettingsKeys;
use std::collections::BTreeMap;

/// The measurements of the run of that id.
pub type MeasurementsOf<'a> = &'a dyn Fn(i64) -> Result<Vec<Measurement>>;

/// A figure, and what it belongs to.
struct ReportFigure {
    /// `search`, `rank`, `networks` or `compute`.
    kind: &'static str,
    /// Which comparison of methods it shows, if any.
    comparison: Option<usize>,
    picture: Figure,
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
    judged: Vec<Section>,
}

/// The results table for a terminal: finished runs with their means, then the others with their errors.
#[must_use]
pub fn results_table(runs: &[RunRow]) -> String {
    let settings = SettingsKeys::of(runs);
    let tables = [results::results(runs, &settings), results::unfinished(runs)];
    let texts = tables.iter().map(|table| table.cells().text());
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

/// The network block by block for a terminal: shapes and cost.
#[must_use]
pub fn architecture_table(arch: &ArchSpec) -> String {
    architecture::table(arch, &[], &[]).cells().text()
}

/// A search space block by block for a terminal.
#[must_use]
pub fn space_table(space: &SearchSpace) -> Table {
    space::table(space, &[]).cells()
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

/// One page per experiment, by name. `tables` has the runs of the tables that networks are looked up in, see
/// [`table_runs`].
///
/// # Errors
/// When measurements cannot be read.
pub fn build(
    runs: &[RunRow],
    tables: &[RunRow],
    measurements_of: MeasurementsOf<'_>,
    writer: Writer<'_>,
) -> Result<Vec<Page>> {
    let mut experiments: BTreeMap<&str, Vec<RunRow>> = BTreeMap::new();
    for run in runs {
        experiments.entry(&run.experiment).or_default().push(run.clone());
    }
    let pages = experiments.into_iter().map(|(experiment, mut runs)| {
        runs.sort_by_key(|run| run.id);
        let analysis = Analysis::of(&runs, tables, measurements_of)?;
        let figures = analysis.figures(experiment);
        writer.sign(Page {
            title: experiment.to_owned(),
            stem: files::stem(experiment),
            folder: None,
            sections: experiment::sections(&analysis, &figures),
            verdicts: analysis.verdicts(),
            data: analysis.data().context("cannot make a table of the runs")?,
            runs: runs.iter().map(|run| run.id).collect(),
        })
    });
    pages.collect()
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

    /// DMaskingNAS versus a random draw, rank correlations, and claims.
    fn verdicts(&self) -> Vec<String> {
        let versus = self.comparisons.iter().flat_map(Comparison::verdicts);
        let ranks = rank::verdicts(&self.rankings);
        let claims = claims::judged_spaces(self.runs).into_iter();
        let claims = claims.map(|space| format!("{}: {}", space.claim.id, space.verdict));
        let table = self.table.as_ref().map(exhaustive::verdict);
        versus.chain(ranks).chain(claims).chain(table).collect()
    }

    /// One row per run; of an exhaustive table one per network and seed.
    fn data(&self) -> PolarsResult<DataFrame> {
        let test_top1s: Vec<Vec<f64>> = self.measured.iter().map(MeasuredRun::test_top1s).collect();
        match &self.table {
            Some(table) => exhaustive::frame(table),
            None => frame::frame(self.runs, &test_top1s),
        }
    }

    fn figures(&self, experiment: &str) -> Vec<ReportFigure> {
        let stem = files::stem(experiment);
        let picture = |kind: &str, number: &str, drawing: &Drawing| Figure {
            file: format!("{stem}-{kind}{number}.svg"),
            alt: alt(kind).to_owned(),
            svg: drawing.svg(),
        };
        let one = |kind: &'static str, drawing: Option<Drawing>| {
            let picture = picture(kind, "", &drawing?);
            Some(ReportFigure { kind, comparison: None, picture })
        };
        let search =
            one("search", curves::search_curves(experiment, &self.measured, &self.settings));
        let rank = one("rank", scatter::scatter(experiment, &self.rankings));
        let networks = one("networks", network_drawing::networks(experiment, self.runs));
        let mut figures: Vec<ReportFigure> =
            search.into_iter().chain(rank).chain(networks).collect();
        let drawings = self.comparisons.iter().enumerate().filter_map(|(i, comparison)| {
            Some((i, compute::accuracy_over_compute(experiment, comparison)?))
        });
        // An experiment whose settings were changed has several comparisons.
        for (number, (i, drawing)) in (1..).zip(drawings) {
            let number = if number == 1 { String::new() } else { format!("-{number}") };
            let picture = picture("compute", &number, &drawing);
            figures.push(ReportFigure { kind: "compute", comparison: Some(i), picture });
        }
        figures
    }
}

/// What a figure shows.
fn alt(kind: &str) -> &'static str {
    match kind {
        "search" => "Loss, expected cost, entropies and candidates of the searches",
        "rank" => "Accuracy with shared weights and trained from scratch",
        "networks" => "Channels and block types of the derived networks, block by block",
        _ => "Test top-1, and held-out top-1 during the search, over executed multiply-accumulates",
    }
}
