//! The derived network block by block: shapes, cost, and the final probabilities of its choices.

use super::table::{Columns, ReportTable};
use crate::cost::{self, Cost};
use crate::record::ChoiceProbabilities;
use crate::space::{ArchSpec, BlockKind, BlockSpec, Head, conv_out};
use crate::text::Unit;

/// Stem, a block, head, or the whole network.
struct PartRow {
    name: String,
    operator: String,
    hidden: Option<Hidden>,
    channels: Option<String>,
    stride: Option<usize>,
    side: Option<String>,
    cost: Cost<u64>,
    residual: Option<bool>,
    /// Of type, expansion and width.
    chosen: [Option<Argmax>; 3],
}

/// Hidden channels, and their ratio to the input's.
#[derive(Clone, Copy)]
struct Hidden {
    channels: usize,
    ratio: f64,
}

/// The probability of the argmax option of a choice.
#[derive(Clone, Copy)]
struct Argmax {
    probability: f64,
    options: usize,
}

/// Stem, blocks, head and their sum; with the final probabilities of the choices where there are some.
/// `runs` derived the network.
#[must_use]
pub fn table(arch: &ArchSpec, probabilities: &[ChoiceProbabilities], runs: &[i64]) -> ReportTable {
    let rows = rows(arch, probabilities);
    let count = |_: &PartRow, n: u64| Unit::Count.cell(n as f64);
    let columns = Columns::of("architecture", &rows)
        .text("block", "block", |row| row.name.clone())
        .text("operator", "operator", |row| row.operator.clone())
        .whole_as(
            "hidden",
            "hidden",
            |row| row.hidden.map(|hidden| hidden.channels as u64),
            |row, channels| {
                let ratio = row.hidden.map(|hidden| format!(" ({:.2}x)", hidden.ratio));
                format!("{channels}{}", ratio.unwrap_or_default())
            },
        )
        .maybe_label("channels", "channels", |row| row.channels.clone())
        .whole("stride", "stride", |row| row.stride.map(|stride| stride as u64))
        .maybe_label("side", "side", |row| row.side.clone())
        .whole_as("macs", "MACs", |row| Some(row.cost.macs), count)
        .whole_as("params", "params", |row| Some(row.cost.params), count)
        .maybe_text("residual", "residual", |row| {
            row.residual.map(|residual| if residual { "yes" } else { "no" }.to_owned())
        });
    let names = [("p_type", "p(type)"), ("p_expansion", "p(expansion)"), ("p_width", "p(width)")];
    let with_probabilities = |columns| {
        (0..).zip(names).fold(columns, |columns: Columns<'_, PartRow>, (i, (name, heading))| {
            columns.number_as(
                name,
                heading,
                move |row| row.chosen[i].map(|argmax| argmax.probability),
                move |row, p| {
                    let options = row.chosen[i].map_or(0, |argmax| argmax.options);
                    format!("{p:.2} ({options})")
                },
            )
        })
    };
    columns.when(!probabilities.is_empty(), with_probabilities).of_runs(|_| runs.to_vec()).table()
}

fn rows(arch: &ArchSpec, probabilities: &[ChoiceProbabilities]) -> Vec<PartRow> {
    let stem = &arch.stem;
    let (mut input, mut side) = (stem.width, conv_out(arch.resolution, stem.kernel, stem.stride));
    let nothing = Cost { macs: 0, params: 0, pooled: 0 };
    let mut rows = vec![PartRow {
        name: "stem".to_owned(),
        operator: format!("conv {0}x{0}, {1}", stem.kernel, stem.activation),
        hidden: None,
        channels: Some(format!("{} → {input}", arch.image_channels)),
        stride: Some(stem.stride),
        side: Some(format!("{} → {side}", arch.resolution)),
        cost: nothing.clone(),
        residual: None,
        chosen: [None; 3],
    }];
    for block in &arch.blocks {
        let after = side.div_ceil(block.stride);
        rows.push(PartRow {
            name: block.label.clone(),
            operator: operator(&block.kind),
            hidden: hidden(&block.kind, input),
            channels: Some(format!("{input} → {}", block.width)),
            stride: Some(block.stride),
            side: Some(format!("{side} → {after}")),
            cost: nothing.clone(),
            residual: residual(&block.kind),
            chosen: largest(probabilities, block),
        });
        (input, side) = (block.width, after);
    }
    let (operator, channels) = head(&arch.head, input, arch.classes);
    rows.push(PartRow {
        name: "head".to_owned(),
        operator,
        hidden: None,
        channels: Some(channels),
        stride: Some(1),
        side: Some(format!("{side} → 1")),
        cost: nothing.clone(),
        residual: None,
        chosen: [None; 3],
    });
    rows.push(PartRow {
        name: "total".to_owned(),
        operator: arch.id(),
        hidden: None,
        channels: None,
        stride: None,
        side: None,
        cost: nothing,
        residual: None,
        chosen: [None; 3],
    });
    for (row, cost) in rows.iter_mut().zip(part_costs(arch)) {
        row.cost = cost;
    }
    rows
}

/// The costs of stem, blocks and head, and their total. The formula counts whole networks, so the cost
/// of a part is the difference between the network cut after it and the network cut before it.
fn part_costs(arch: &ArchSpec) -> Vec<Cost<u64>> {
    let cut = |blocks: usize| {
        let mut cut = arch.clone();
        cut.blocks.truncate(blocks);
        match &mut cut.head {
            Head::Conv { width, .. } => *width = 0,
            Head::IrPool { mid, width, .. } => (*mid, *width) = (0, 0),
        }
        cost::count(&cut)
    };
    let total = cost::count(arch);
    let whole: Vec<_> = (0..=arch.blocks.len()).map(cut).chain([total.clone()]).collect();
    let between = whole.windows(2).map(|pair| Cost {
        macs: pair[1].macs - pair[0].macs,
        params: pair[1].params - pair[0].params,
        pooled: pair[1].pooled - pair[0].pooled,
    });
    whole.first().cloned().into_iter().chain(between).chain([total]).collect()
}

fn operator(kind: &BlockKind) -> String {
    match kind {
        BlockKind::MbConv { kernel, activation, squeeze, groups, .. } => {
            let squeeze = squeeze.map(|squeeze| format!(", SE {squeeze}")).unwrap_or_default();
            let groups = if *groups > 1 { format!(", {groups} groups") } else { String::new() };
            format!("MBConv {kernel}x{kernel}, {activation}{squeeze}{groups}")
        }
        BlockKind::Projection => "skip (conv 1x1, relu)".to_owned(),
        BlockKind::Identity => "skip".to_owned(),
        BlockKind::Residual => "conv 3x3, relu, conv 3x3".to_owned(),
    }
}

fn hidden(kind: &BlockKind, input: usize) -> Option<Hidden> {
    match kind {
        BlockKind::MbConv { mid, .. } => {
            Some(Hidden { channels: *mid, ratio: *mid as f64 / input as f64 })
        }
        BlockKind::Projection | BlockKind::Identity | BlockKind::Residual => None,
    }
}

fn residual(kind: &BlockKind) -> Option<bool> {
    match kind {
        BlockKind::MbConv { residual, .. } => Some(*residual),
        BlockKind::Residual => Some(true),
        BlockKind::Projection | BlockKind::Identity => None,
    }
}

fn head(head: &Head, input: usize, classes: usize) -> (String, String) {
    match head {
        Head::Conv { width, activation } => {
            (format!("conv 1x1, {activation}, pool, fc"), format!("{input} → {width} → {classes}"))
        }
        Head::IrPool { mid, width, activation, squeeze } => (
            format!(
                "conv 1x1, {activation}{}, pool, conv 1x1, {activation}, fc",
                squeeze.map(|squeeze| format!(", SE {}", squeeze.width)).unwrap_or_default()
            ),
            format!("{input} → {mid} → {width} → {classes}"),
        ),
    }
}

/// The final probability of the argmax type, expansion and width.
fn largest(probabilities: &[ChoiceProbabilities], block: &BlockSpec) -> [Option<Argmax>; 3] {
    let argmax = |of: fn(&ChoiceProbabilities) -> &[f64]| {
        let named = probabilities.iter().find(|choice| choice.block == block.label);
        let options = named.map(of).filter(|options| options.len() > 1)?;
        let probability = options.iter().copied().reduce(f64::max)?;
        Some(Argmax { probability, options: options.len() })
    };
    let expansion = match block.kind {
        BlockKind::MbConv { .. } => argmax(|choice| &choice.expansions),
        // Other blocks have no expansion, whatever its probabilities were.
        BlockKind::Projection | BlockKind::Identity | BlockKind::Residual => None,
    };
    [argmax(|choice| &choice.types), expansion, argmax(|choice| &choice.widths)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{Activation, ConvSpec, SqueezeFunctions};

    #[test]
    fn parts_add_up_to_the_network_and_a_skip_costs_nothing() {
        let block = |width, stride, kind| BlockSpec { label: String::new(), stride, width, kind };
        let conv = BlockKind::MbConv {
            kernel: 5,
            activation: Activation::Hswish,
            mid: 24,
            expand: true,
            squeeze: Some(8),
            residual: false,
            groups: 1,
            squeeze_functions: SqueezeFunctions::default(),
        };
        let heads = [
            Head::Conv { width: 32, activation: Activation::Hswish },
            Head::IrPool { mid: 24, width: 32, activation: Activation::Hswish, squeeze: None },
        ];
        for head in heads {
            let stem = ConvSpec { kernel: 3, stride: 2, width: 8, activation: Activation::Relu };
            let blocks = vec![
                block(12, 2, conv.clone()),
                block(12, 1, BlockKind::Identity),
                block(16, 2, BlockKind::Projection),
            ];
            let arch =
                ArchSpec { resolution: 31, image_channels: 3, classes: 10, stem, blocks, head };
            let costs = part_costs(&arch);
            let (total, parts) = costs.split_last().unwrap();
            assert_eq!(parts.len(), 5);
            assert_eq!(parts.iter().map(|cost| cost.macs).sum::<u64>(), total.macs);
            assert_eq!(parts.iter().map(|cost| cost.params).sum::<u64>(), total.params);
            // Stem: 3x3 from 3 to 8 channels at 16x16 pixels; projection: 12 to 16 at 4x4.
            assert_eq!((parts[0].macs, parts[0].params), (9 * 3 * 8 * 256, 9 * 3 * 8));
            assert_eq!((parts[2].macs, parts[2].params), (0, 0));
            assert_eq!((parts[3].macs, parts[3].params), (12 * 16 * 16, 12 * 16));
        }
    }
}
