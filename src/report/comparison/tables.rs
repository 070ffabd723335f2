//! The tables of a comparison.

use super::steps::SearchSteps;
use super::{Comparison, MethodRuns};
use crate::record::Phase;
use crate::report::results::{self, NumberColumn};
use crate::report::table::{Columns, ReportTable, Spread};
use crate::text::{Unit, p_value, points};

const SEARCH_IMAGES: NumberColumn = NumberColumn {
    name: "search_processed_images",
    heading: "search images",
    unit: Unit::Count,
    of: |run| run.usage(Phase::Search).map(|usage| usage.images as f64),
};

const COLUMNS: [&NumberColumn; 8] = [
    &results::MACS,
    &results::PARAMS,
    &results::SEARCH_SECONDS,
    &SEARCH_IMAGES,
    &results::SEARCH_MACS,
    &results::NETWORKS,
    &results::SEARCH_BYTES,
    &results::TRAIN_BYTES,
];

impl Comparison<'_> {
    /// One row per method.
    #[must_use]
    pub fn methods_table(&self) -> ReportTable {
        let training_runs =
            |method: &MethodRuns<'_>| method.runs.iter().map(|run| run.top1s.len() as u64).sum();
        let top1 = &results::TOP1;
        let columns = Columns::of("methods", &self.methods)
            .text("method", "method", |method| method.name.to_owned())
            .whole("seeds", "seeds", |method| Some(method.runs.len() as u64))
            .whole("training_runs", "training runs", |method| Some(training_runs(method)))
            .spread(top1.name, top1.heading, top1.unit, |method| top1.spread(&method.rows()))
            .number(
                "sd_between_training_runs",
                "sd between training runs",
                MethodRuns::sd_between_training_runs,
                |sd| Unit::Percent.cell(sd),
            );
        let columns = COLUMNS.iter().fold(columns, |columns, number| {
            columns.spread(number.name, number.heading, number.unit, |method| {
                number.spread(&method.rows())
            })
        });
        let steps = |method: &MethodRuns<'_>, of: fn(&SearchSteps) -> Option<f64>| {
            let steps: Vec<f64> = method.runs.iter().filter_map(|run| of(&run.steps)).collect();
            Spread::over(&steps, method.runs.len())
        };
        let columns = columns
            .spread("weight_steps", "weight steps", Unit::Count, |m| steps(m, |s| s.weights))
            .spread("alpha_steps", "α steps", Unit::Count, |m| steps(m, |s| s.alpha));
        columns.runs("runs", |method| method.rows().iter().map(|run| run.id).collect()).table()
    }

    /// One row per method and baseline that have seeds in common; empty where there is no baseline.
    #[must_use]
    pub fn differences_table(&self) -> ReportTable {
        let percent = |x| Unit::Percent.cell(x);
        Columns::of("differences", &self.differences)
            .text("method", "method", |row| row.method.to_owned())
            .text("baseline", "baseline", |row| row.baseline.to_owned())
            .whole("pairs", "pairs", |row| Some(row.paired.pairs as u64))
            .number("difference", "difference", |row| Some(row.paired.mean), points)
            .number("sd", "sd", |row| row.paired.sd, percent)
            .interval("interval", "95 % interval", |row| row.paired.interval, points)
            .number("p", "p", |row| row.paired.p, p_value)
            .number("p_holm", "p (Holm)", |row| row.holm, p_value)
            .number("detectable", "minimum detectable effect", |row| row.paired.detectable, percent)
            .number(
                "search_macs_ratio",
                "search MACs ratio",
                |row| row.search_macs_ratio,
                |ratio| format!("{ratio:.2}"),
            )
            .runs("runs", |row| row.ids.clone())
            .table()
    }
}
