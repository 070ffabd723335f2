//! The rows of gates and masks that a pass of a supernet uploads in one buffer, as `net::supernet` and
//! `net::explicit` make them: the length of each row.

use crate::cost::{BlockProbabilities, Probabilities, hidden_widths, propagate};
use crate::space::{BlockType, Expansion, SearchSpace, branch_types, option_paths, squeeze_width};

/// Values of the buffer, in which each row begins at a multiple of four.
pub(super) fn buffer_len(rows: &[usize]) -> usize {
    rows.iter().map(|len| len.next_multiple_of(4)).sum()
}

/// Rows of the masked supernet, with masks behind batch norm.
pub(super) fn masked(space: &SearchSpace) -> Vec<usize> {
    let several = space.resolutions.len() > 1;
    let mut rows = Vec::new();
    for (choices, inputs) in space.blocks.iter().zip(input_widths(space)) {
        let inputs: Vec<(usize, f64)> = inputs.into_iter().map(|width| (width, 1.0)).collect();
        let widths = hidden_widths(space, choices, &vec![1.0; choices.expansions()], &inputs);
        let widths: Vec<usize> = widths.into_iter().map(|(width, _)| width).collect();
        rows.extend(hidden(space, &widths));
        if choices.types.len() > 1 {
            rows.push(branch_types(choices).count());
        }
        if choices.adds_input() {
            rows.push(1);
        }
        if choices.widths.len() > 1 && choices.types.contains(&BlockType::Residual) {
            rows.push(choices.width_max());
        }
        if several || choices.widths.len() > 1 {
            rows.extend(space.resolutions.iter().map(|_| choices.width_max()));
        }
    }
    if several {
        rows.extend(space.resolutions.iter().flat_map(|_| [space.stem.width, space.head.width]));
    }
    rows
}

/// Rows of the explicit supernet.
pub(super) fn explicit(space: &SearchSpace) -> Vec<usize> {
    let mut rows = Vec::new();
    for (choices, inputs) in space.blocks.iter().zip(input_widths(space)) {
        if choices.expansion == Expansion::None {
            rows.extend(hidden(space, &inputs));
        }
        let paths = option_paths(choices).len();
        rows.extend(choices.widths.iter().filter(|_| paths > 0).map(|_| paths));
        if choices.adds_input() {
            rows.extend([1, choices.width_max()]);
        }
    }
    if space.resolutions.len() > 1 {
        rows.extend(space.resolutions.iter().map(|_| space.head.width));
    }
    rows
}

/// Whether the hidden channels of each block of the explicit supernet have a mask: where they are input channels,
/// whose number depends on earlier blocks.
pub(super) fn explicit_masks(space: &SearchSpace) -> Vec<bool> {
    let blocks = space.blocks.iter().zip(input_widths(space));
    blocks.map(|(block, inputs)| block.expansion == Expansion::None && inputs.len() > 1).collect()
}

/// The masks of hidden and squeezed channels.
fn hidden(space: &SearchSpace, widths: &[usize]) -> impl Iterator<Item = usize> {
    let most = widths.iter().copied().max().filter(|_| widths.len() > 1);
    most.into_iter().flat_map(|most| [most, squeeze_width(most, space.channel_divisor)])
}

/// The widths that the input of each block may have.
fn input_widths(space: &SearchSpace) -> Vec<Vec<usize>> {
    let ones = |options: usize| vec![1.0; options];
    let blocks = space.blocks.iter().map(|block| BlockProbabilities {
        types: ones(block.types.len()),
        expansions: ones(block.expansions()),
        widths: ones(block.widths.len()),
    });
    let all =
        Probabilities { resolutions: ones(space.resolutions.len()), blocks: blocks.collect() };
    let blocks = propagate(space, &all, &1.0).blocks.into_iter();
    blocks.map(|block| block.incoming.into_iter().map(|(width, _)| width).collect()).collect()
}
