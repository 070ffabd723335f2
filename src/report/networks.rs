//! Published networks beside those that were found here, as in the paper's table of results.

use super::exhaustive::is_of_table;
use super::files;
use super::finished::finished;
use super::frame::column;
use super::groups::grouped;
use super::page::{Page, Part, Section};
use super::results::{last_of, top1};
use super::settings::SettingsKeys;
use super::stats::PairedDifferences;
use super::table::{Columns, ReportTable};
use super::writer::Writer;
use crate::cost::count;
use crate::space::{ArchFile, ArchSpec};
use crate::store::RunRow;
use crate::text::Unit;
use crate::zoo;
use anyhow::{Context, Result};
use polars::prelude::DataFrame;
use std::collections::BTreeSet;

/// The upper ends of the groups, in millions of FLOPs; the last group has the networks above.
const GROUPS: [u32; 4] = [100, 200, 300, 400];

/// A published network, or those that one method derived with one setting.
struct NetworkRow {
    name: String,
    dataset: String,
    /// The side of the input in pixels; `None` where the derived networks differ in it.
    input: Option<usize>,
    /// By the rule of the released networks: multiply-accumulates and elements read by pooling. The mean
    /// over derived networks.
    flops: f64,
    params: f64,
    /// In 0..=1.
    published_top1: Option<f64>,
    measured: Option<Measured>,
    source: String,
    runs: Vec<i64>,
}

/// A mean test accuracy over search seeds, in 0..=1.
struct Measured {
    mean: f64,
    /// Student's t interval (95 %).
    interval: Option<(f64, f64)>,
    seeds: usize,
}

impl NetworkRow {
    fn published(file: &ArchFile) -> Self {
        let (flops, params) = cost(&file.arch);
        let published = file.published.as_ref();
        let top1 = published.and_then(|published| published.top1);
        Self {
            name: file.name.clone(),
            dataset: "ImageNet".to_owned(),
            input: Some(file.arch.resolution),
            flops,
            params,
            published_top1: top1.map(|percent| percent / 100.0),
            measured: None,
            source: published.map_or_else(String::new, |published| published.source.clone()),
            runs: Vec::new(),
        }
    }

    /// The networks of the seeds of one method; a seed counts by its last run.
    fn derived(runs: &[&RunRow]) -> Option<Self> {
        let last = last_of(runs);
        let archs: Vec<&ArchSpec> =
            last.iter().filter_map(|run| Some(&*run.architecture.as_ref()?.arch)).collect();
        let input = archs.first()?.resolution;
        let costs: Vec<(f64, f64)> = archs.iter().map(|arch| cost(arch)).collect();
        let mean =
            |of: fn(&(f64, f64)) -> f64| costs.iter().map(of).sum::<f64>() / costs.len() as f64;
        let accuracies: Vec<f64> = last.iter().filter_map(|run| top1(run)).collect();
        let PairedDifferences { mean: accuracy, interval, pairs, .. } =
            PairedDifferences::of(&accuracies)?;
        let interval = interval.map(|(low, high)| (low.max(0.0), high.min(1.0)));
        let run = last[0];
        let mut ids: Vec<i64> = last.iter().map(|run| run.id).collect();
        ids.sort_unstable();
        Some(Self {
            name: format!("{}: {}", run.experiment, run.method),
            dataset: run.dataset.clone(),
            input: archs.iter().all(|arch| arch.resolution == input).then_some(input),
            flops: mean(|cost| cost.0),
            params: mean(|cost| cost.1),
            published_top1: None,
            measured: Some(Measured { mean: accuracy, interval, seeds: pairs }),
            source: String::new(),
            runs: ids,
        })
    }

    /// The index of its group.
    fn group(&self) -> usize {
        GROUPS.iter().filter(|end| self.flops >= 1e6 * f64::from(**end)).count()
    }
}

/// FLOPs by the published rule, and params.
fn cost(arch: &ArchSpec) -> (f64, f64) {
    let cost = count(arch);
    ((cost.macs + cost.pooled) as f64, cost.params as f64)
}

/// The page: one table per group of FLOPs.
///
/// # Errors
/// When its data cannot be written.
pub fn page(runs: &[RunRow], writer: Writer<'_>) -> Result<Page> {
    let settings = SettingsKeys::of(runs);
    let own = finished(runs).filter(|run| !is_of_table(run));
    let groups = grouped(own, |run| settings.across_seeds(run));
    let published = zoo::names().filter_map(zoo::network);
    let mut rows: Vec<NetworkRow> = published.map(|file| NetworkRow::published(&file)).collect();
    rows.extend(groups.iter().filter_map(|runs| NetworkRow::derived(runs)));
    rows.sort_by(|a, b| a.flops.total_cmp(&b.flops).then_with(|| a.name.cmp(&b.name)));
    let ids: BTreeSet<i64> = rows.iter().flat_map(|row| row.runs.clone()).collect();
    let data = frame(&rows).context("cannot make a table of the networks")?;
    let mut sections = vec![Section::opening(vec![Part::paragraph(ABOUT)])];
    for group in 0..=GROUPS.len() {
        let own: Vec<&NetworkRow> = rows.iter().filter(|row| row.group() == group).collect();
        if !own.is_empty() {
            sections.push(Section::new(title(group), vec![Part::Table(table(&own))]));
        }
    }
    writer.sign(Page {
        title: "Networks".to_owned(),
        stem: files::stem("networks"),
        folder: Some("tables"),
        sections,
        verdicts: Vec::new(),
        data,
        runs: ids.into_iter().collect(),
    })
}

const ABOUT: &str = "\
Published networks, and those that the runs of this database derived or trained; those of exhaustive \
tables are left out. MFLOPs are multiply-accumulates and \
elements read by pooling, the rule of the published totals; params are those of convolutions and the \
classifier. Both are counted by this program. Published top-1 is on ImageNet's validation images, as \
evaluated by the source. Measured top-1 is the mean over search seeds on the test images of the data set, \
with Student's t interval. Accuracies on different data sets are not comparable.";

fn title(group: usize) -> String {
    match (group.checked_sub(1).map(|before| GROUPS[before]), GROUPS.get(group)) {
        (None, Some(end)) => format!("Below {end} MFLOPs"),
        (Some(start), Some(end)) => format!("{start} to {end} MFLOPs"),
        (start, None) => format!("From {} MFLOPs", start.unwrap_or_default()),
    }
}

fn table(rows: &[&NetworkRow]) -> ReportTable {
    let millions = |n: f64| format!("{:.2}", n / 1e6);
    let percent = |x: f64| Unit::Percent.cell(x);
    Columns::of("networks", rows)
        .text("network", "network", |row| row.name.clone())
        .text("dataset", "data set", |row| row.dataset.clone())
        .whole("input", "input", |row| row.input.map(|side| side as u64))
        .number("flops", "MFLOPs", |row| Some(row.flops), millions)
        .number("params", "M params", |row| Some(row.params), |n| format!("{:.3}", n / 1e6))
        .number("published_top1", "published top-1 %", |row| row.published_top1, percent)
        .number(
            "measured_top1",
            "measured top-1 %",
            |row| row.measured.as_ref().map(|measured| measured.mean),
            percent,
        )
        .interval(
            "interval",
            "95 % interval",
            |row| row.measured.as_ref().and_then(|measured| measured.interval),
            percent,
        )
        .whole("seeds", "seeds", |row| row.measured.as_ref().map(|m| m.seeds as u64))
        .maybe_text("source", "source", |row| (!row.source.is_empty()).then(|| row.source.clone()))
        .runs("runs", |row| row.runs.clone())
        .table()
}

fn frame(rows: &[NetworkRow]) -> polars::prelude::PolarsResult<DataFrame> {
    let all: Vec<&NetworkRow> = rows.iter().collect();
    let mut frame = table(&all).frame;
    frame.with_column(column("mflops_group", rows, |row| title(row.group())))?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::NOTHING;

    #[test]
    fn published_networks_are_grouped_by_their_flops() {
        let writer = Writer { command_line: "repro report", program: "0.1.0" };
        let page = page(&[], writer).unwrap();
        let text = page.markdown();
        let groups: Vec<&str> = text.split("\n## ").skip(1).collect();
        let in_group = |title: &str| {
            let group = groups.iter().find(|group| group.starts_with(title));
            *group.unwrap_or_else(|| panic!("no {title} in {text}"))
        };
        let f1 = in_group("Below 100 MFLOPs").lines().find(|line| line.contains("FBNetV2_F1"));
        let cells: Vec<&str> = f1.unwrap().split('|').map(str::trim).collect();
        assert_eq!(cells[1..7], ["FBNetV2_F1", "ImageNet", "128", "56.41", "5.999", "68.28"]);
        assert_eq!(cells[7], NOTHING);
        assert!(in_group("300 to 400 MFLOPs").contains("FBNetV2_L1"));
        assert_eq!(page.data.height(), zoo::names().count());
        assert!(text.contains(" of `networks.csv`"), "{text}");
    }
}
