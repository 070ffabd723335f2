//! A search space block by block.

use super::page::{Part, Section};
use super::prose::Prose;
use super::table::{Columns, ReportTable};
use crate::space::{
    BlockChoices, BlockType, Count, Dimension, Expansion, SearchSpace, parse_space,
};
use crate::store::RunRow;
use crate::text::{options, plural};
use std::collections::BTreeMap;
use std::path::Path;

/// One section per search space of the runs; none where networks were given.
pub fn sections(runs: &[RunRow]) -> Vec<Section> {
    let mut spaces: BTreeMap<&str, Vec<&RunRow>> = BTreeMap::new();
    for run in runs {
        spaces.entry(&run.manifest.space_text).or_default().push(run);
    }
    let section = |runs: &Vec<&RunRow>| {
        let name = &runs[0].manifest.space_name;
        let space = parse_space(&runs[0].manifest.space_text, Path::new(name)).ok()?;
        let ids: Vec<i64> = runs.iter().map(|run| run.id).collect();
        let heading = Prose::from("Search space ").code(&space.name);
        let parts = vec![Part::paragraph(about(&space)), Part::Table(table(&space, &ids))];
        Some(Section::new(heading, parts))
    };
    spaces.values().filter_map(section).collect()
}

fn about(space: &SearchSpace) -> String {
    let size = space.size();
    let chosen = size.by_dimension.iter().filter(|(_, count)| count.log10() > 0.0);
    let chosen: Vec<String> = chosen
        .map(|(dimension, count)| format!("{} 10^{:.1}", dimension.name(), count.log10()))
        .collect();
    format!(
        "{} networks (10^{:.1}: {}). Input side {} pixels; stem {}, head {}; {} classes.",
        size.total.grouped(),
        size.total.log10(),
        chosen.join(", "),
        options(&channels(&space.resolutions)),
        plural(space.stem.width, "channel"),
        plural(space.head.width, "channel"),
        space.classes,
    )
}

/// One row per block.
#[must_use]
pub fn table(space: &SearchSpace, runs: &[i64]) -> ReportTable {
    let hidden = if space.expands_own_input() {
        "hidden channels of the largest input"
    } else {
        "hidden channels"
    };
    Columns::of("space", &space.blocks)
        .text("block", "block", BlockChoices::label)
        .whole("stride", "stride", |block| Some(block.stride as u64))
        .text("widths", "widths", |block| options(&channels(&block.widths)))
        .text("expansions", "expansions", |block| options(&expansions(block).0))
        .text("hidden", hidden, |block| options(&channels(&expansions(block).1)))
        .text("types", "block types", types)
        .label("ways", "ways", |block| ways(block).to_string())
        .of_runs(|_| runs.to_vec())
        .table()
}

/// The expansion ratios, and the hidden widths of the largest input. Without an expanding
/// convolution the hidden width is the input width.
#[must_use]
pub fn expansions(block: &BlockChoices) -> (Vec<f64>, Vec<usize>) {
    match &block.expansion {
        Expansion::None => (vec![1.0], vec![block.in_max]),
        Expansion::Options { ratios, mids, .. } => (ratios.clone(), mids.clone()),
    }
}

/// The number of ways to choose one block.
#[must_use]
pub fn ways(block: &BlockChoices) -> Count {
    Dimension::ALL.into_iter().map(|dimension| block.options(dimension)).collect()
}

fn types(block: &BlockChoices) -> String {
    if block.types == BlockType::FBNETV2 {
        return "all".to_owned();
    }
    block.types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" ")
}

/// As [`options`] shows them.
#[must_use]
pub fn channels(options: &[usize]) -> Vec<u32> {
    options.iter().map(|&n| n as u32).collect()
}
