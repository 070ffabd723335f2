//! The tables of a comparison.

use super::Comparison;
use super::difference::Difference;
use super::steps::SearchSteps;
use crate::record::Phase;
use crate::report::results::{self, NumberColumn, mean_cell, spread_cell, top1};
use crate::text::{Table, Unit, list, or_dash, points};

const COLUMNS: [NumberColumn; 8] = [
    NumberColumn { heading: ">MACs", unit: Unit::Count, of: results::macs },
    NumberColumn { heading: ">params", unit: Unit::Count, of: results::params },
    NumberColumn {
        heading: ">search s",
        unit: Unit::Seconds,
        of: |r| results::seconds(r, Phase::Search),
    },
    NumberColumn { heading: ">search images", unit: Unit::Count, of: results::search_images },
    NumberColumn { heading: ">search MACs", unit: Unit::Count, of: results::search_macs },
    NumberColumn { heading: ">networks evaluated", unit: Unit::Count, of: results::networks },
    NumberColumn {
        heading: ">search MiB",
        unit: Unit::Mebibytes,
        of: |r| results::peak_bytes(r, Phase::Search),
    },
    NumberColumn {
        heading: ">train MiB",
        unit: Unit::Mebibytes,
        of: |r| results::peak_bytes(r, Phase::Train),
    },
];

impl Comparison<'_> {
    /// One row per method.
    #[must_use]
    pub fn methods_table(&self) -> Table {
        let first = ["method", ">seeds", ">training runs", ">top-1 %", ">sd between training runs"];
        let numbers = COLUMNS.iter().map(|column| column.heading);
        let steps = [">weight steps", ">α steps"];
        let mut table = Table::new(first.into_iter().chain(numbers).chain(steps).chain(["runs"]));
        let accuracy = NumberColumn { heading: "", unit: Unit::Percent, of: top1 };
        for method in &self.methods {
            let rows = method.rows();
            let training_runs: usize =
                method.runs.iter().map(|compared| compared.top1s.len()).sum();
            let cells = [
                method.name.to_owned(),
                rows.len().to_string(),
                training_runs.to_string(),
                or_dash(mean_cell(&accuracy, &rows)),
                or_dash(method.sd_between_training_runs().map(|sd| Unit::Percent.cell(sd))),
            ];
            let numbers = COLUMNS.iter().map(|column| or_dash(mean_cell(column, &rows)));
            let steps = [|s: &SearchSteps| s.weights, |s: &SearchSteps| s.alpha].map(|of| {
                let numbers = method.runs.iter().map(|compared| of(&compared.steps));
                or_dash(spread_cell(Unit::Count, numbers))
            });
            let ids = list(rows.iter().map(|run| run.id));
            table.row(cells.into_iter().chain(numbers).chain(steps).chain([ids]));
        }
        table
    }

    /// One row per method and baseline that have seeds in common; empty where there is no baseline.
    #[must_use]
    pub fn differences_table(&self) -> Table {
        let mut table = Table::new([
            "method",
            "baseline",
            ">pairs",
            ">difference",
            ">sd",
            "95 % interval",
            ">minimum detectable effect",
            ">search MACs ratio",
            "runs",
        ]);
        for Difference { method, baseline, paired, search_macs_ratio, ids } in &self.differences {
            let interval = paired.interval.map(|(l, h)| format!("{} to {}", points(l), points(h)));
            table.row([
                (*method).to_owned(),
                (*baseline).to_owned(),
                paired.pairs.to_string(),
                points(paired.mean),
                or_dash(paired.sd.map(|sd| Unit::Percent.cell(sd))),
                or_dash(interval),
                or_dash(paired.detectable.map(|effect| Unit::Percent.cell(effect))),
                or_dash(search_macs_ratio.map(|ratio| format!("{ratio:.2}"))),
                list(ids),
            ]);
        }
        table
    }
}
