//! A table as a frame: one row per network and training seed.

use super::{ExhaustiveTable, TableNetwork};
use crate::report::frame::column;
use crate::report::results::top1;
use crate::space::{BlockKind, BlockSpec};
use crate::store::RunRow;
use polars::prelude::{Column, DataFrame, PolarsResult};

type Row<'a> = (&'a TableNetwork<'a>, &'a RunRow);

/// The finished runs of the table, by network, then seed. Choices without a value, as the hidden channels of a skip, are
/// empty.
pub fn frame(table: &ExhaustiveTable<'_>) -> PolarsResult<DataFrame> {
    let networks = table.networks.iter();
    let rows: Vec<Row<'_>> = networks
        .flat_map(|network| network.runs.values().map(move |run| (network, *run)))
        .collect();
    let mut columns = vec![
        column("network", &rows, |row| row.0.number as u64),
        column("arch_id", &rows, |row| row.0.id.as_str()),
    ];
    columns.extend(choices(table, &rows));
    columns.extend([
        column("macs", &rows, |row| row.0.macs),
        column("params", &rows, |row| row.0.params),
        column("seed", &rows, |row| row.1.seed),
        column("test_top1", &rows, |row| top1(row.1)),
        column("run_id", &rows, |row| row.1.id),
        column("manifest_sha256", &rows, |row| row.1.manifest.sha256.as_str()),
    ]);
    DataFrame::new(rows.len(), columns)
}

/// One column per choice of the space.
fn choices(table: &ExhaustiveTable<'_>, rows: &[Row<'_>]) -> Vec<Column> {
    let space = &table.space;
    let mut columns = Vec::new();
    if space.resolutions.len() > 1 {
        columns.push(column("resolution", rows, |row| row.0.arch.resolution as u64));
    }
    for (place, choices) in space.blocks.iter().enumerate() {
        let block = |row: &Row<'_>| -> BlockSpec { row.0.arch.blocks[place].clone() };
        let name = |what: &str| format!("{what}_{}", choices.label());
        if choices.types.len() > 1 {
            columns.push(column(&name("type"), rows, |row| block(row).kind.type_name()));
        }
        if choices.expansions() > 1 {
            let hidden = |row| match block(row).kind {
                BlockKind::MbConv { mid, .. } => Some(mid as u64),
                BlockKind::Projection | BlockKind::Identity | BlockKind::Residual => None,
            };
            columns.push(column(&name("hidden"), rows, hidden));
        }
        if choices.widths.len() > 1 {
            columns.push(column(&name("width"), rows, |row| block(row).width as u64));
        }
    }
    columns
}
