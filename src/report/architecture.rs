//! The derived network block by block: shapes, cost, and the final probabilities of its choices.

use crate::cost::{self, Cost};
use crate::record::ChoiceProbabilities;
use crate::space::{ArchSpec, BlockKind, BlockSpec, Head, conv_out};
use crate::text::{NOTHING, Table, Unit};

/// Stem, blocks, head and their sum; with the final probabilities of the choices where there are some.
#[must_use]
pub fn table(arch: &ArchSpec, probabilities: &[ChoiceProbabilities]) -> Table {
    let mut headings = vec![
        "block",
        "operator",
        ">hidden",
        ">channels",
        ">stride",
        ">side",
        ">MACs",
        ">params",
        "residual",
    ];
    if !probabilities.is_empty() {
        headings.extend([">p(type)", ">p(expansion)", ">p(width)"]);
    }
    let mut table = Table::new(headings);
    let nothing = || NOTHING.to_owned();
    let mut costs = part_costs(arch).into_iter();
    let mut push = |name: &str, shape: [String; 5], residual: String, ps: [String; 3]| {
        let cost = costs.next();
        let cell = |of: fn(&Cost<u64>) -> u64| {
            cost.as_ref().map_or_else(nothing, |cost| Unit::Count.cell(of(cost) as f64))
        };
        let cost = [cell(|cost| cost.macs), cell(|cost| cost.params)];
        let row = [name.to_owned()].into_iter().chain(shape).chain(cost).chain([residual]);
        let ps = ps.into_iter().filter(|_| !probabilities.is_empty());
        table.row(row.chain(ps));
    };

    let no_choice = || [nothing(), nothing(), nothing()];
    let stem = &arch.stem;
    let (mut input, mut side) = (stem.width, conv_out(arch.resolution, stem.kernel, stem.stride));
    let shape = [
        format!("conv {0}x{0}, {1}", stem.kernel, stem.activation),
        nothing(),
        format!("{} → {input}", arch.image_channels),
        stem.stride.to_string(),
        format!("{} → {side}", arch.resolution),
    ];
    push("stem", shape, nothing(), no_choice());
    for block in &arch.blocks {
        let after = side.div_ceil(block.stride);
        let shape = [
            operator(&block.kind),
            hidden(&block.kind, input),
            format!("{input} → {}", block.width),
            block.stride.to_string(),
            format!("{side} → {after}"),
        ];
        push(&block.label, shape, residual(&block.kind), largest(probabilities, block));
        (input, side) = (block.width, after);
    }
    let (operator, channels) = head(&arch.head, input, arch.classes);
    let shape = [operator, nothing(), channels, "1".to_owned(), format!("{side} → 1")];
    push("head", shape, nothing(), no_choice());
    let total = [arch.id(), nothing(), nothing(), nothing(), nothing()];
    push("total", total, nothing(), no_choice());
    table
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

/// Hidden channels and their ratio to the input's.
fn hidden(kind: &BlockKind, input: usize) -> String {
    match kind {
        BlockKind::MbConv { mid, .. } => {
            format!("{mid} ({:.2}x)", *mid as f64 / input as f64)
        }
        BlockKind::Projection | BlockKind::Identity | BlockKind::Residual => NOTHING.to_owned(),
    }
}

fn residual(kind: &BlockKind) -> String {
    match kind {
        BlockKind::MbConv { residual, .. } => if *residual { "yes" } else { "no" }.to_owned(),
        BlockKind::Residual => "yes".to_owned(),
        BlockKind::Projection | BlockKind::Identity => NOTHING.to_owned(),
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

/// The final probability of the argmax type, expansion and width, with the number of options in
/// brackets.
fn largest(probabilities: &[ChoiceProbabilities], block: &BlockSpec) -> [String; 3] {
    let argmax = |of: fn(&ChoiceProbabilities) -> &[f64]| {
        let named = probabilities.iter().find(|choice| choice.block == block.label);
        let options = named.map(of).filter(|options| options.len() > 1);
        let largest = options.and_then(|options| options.iter().copied().reduce(f64::max));
        match (options, largest) {
            (Some(options), Some(p)) => format!("{p:.2} ({})", options.len()),
            _ => NOTHING.to_owned(),
        }
    };
    let expansion = match block.kind {
        BlockKind::MbConv { .. } => argmax(|choice| &choice.expansions),
        // Other blocks have no expansion, whatever its probabilities were.
        BlockKind::Projection | BlockKind::Identity | BlockKind::Residual => NOTHING.to_owned(),
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
