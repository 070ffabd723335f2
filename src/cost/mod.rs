//! What a network costs: multiply-accumulates and parameters, exactly for a decided network and in
//! expectation for a supernet.

mod effective;
mod formula;
mod number;

pub use effective::{BlockProbabilities, EffectiveBlock, Propagation, propagate};
pub use formula::Cost;
pub use number::{Derivatives, Graph, Number, Traced};

use crate::space::{
    ArchSpec, BlockChoices, BlockKind, BlockSpec, BlockType, ConvSpec, Expansion, Head,
    SearchSpace, conv_out, squeeze_width,
};
use formula::{MbConvShape, conv_head, dense_conv, irpool_head};

/// The cost of a decided network for one image.
#[must_use]
pub fn count(arch: &ArchSpec) -> Cost<u64> {
    let (mut cost, mut side) = stem(&1u64, &arch.stem, arch.image_channels, arch.resolution);
    let mut input = arch.stem.width;
    for block in &arch.blocks {
        let (of_block, after) = count_block(block, input, side);
        cost = cost.plus(&of_block);
        (input, side) = (block.width, after);
    }
    cost.plus(&head(&(input as u64), &arch.head, arch.classes, square(side)))
}

/// The cost of one block that gets `input` channels on a map of `side` pixels a side, and the side
/// of its output.
#[must_use]
pub fn count_block(block: &BlockSpec, input: usize, side: usize) -> (Cost<u64>, usize) {
    let after = side.div_ceil(block.stride);
    let (input, width) = (input as u64, block.width as u64);
    let cost = match &block.kind {
        BlockKind::Identity => Cost::zero(&0),
        BlockKind::Projection => dense_conv(1, &input, &width, square(after)),
        BlockKind::MbConv { kernel, mid, expand, squeeze, .. } => MbConvShape {
            kernel: *kernel,
            input,
            mid: *mid as u64,
            width,
            expand: *expand,
            squeeze: squeeze.map(|s| s as u64),
            pixels: (square(side), square(after)),
        }
        .cost(),
    };
    (cost, after)
}

/// The cost of a space's stem for one image of `resolution` pixels a side, and the side of its
/// output.
#[must_use]
pub fn count_stem(space: &SearchSpace, resolution: usize) -> (Cost<u64>, usize) {
    stem(&1u64, &space.stem, space.image_channels, resolution)
}

/// The cost of a space's head that gets `input` channels on a map of `side` pixels a side.
#[must_use]
pub fn count_head(space: &SearchSpace, input: usize, side: usize) -> Cost<u64> {
    let spec = Head::Conv { width: space.head.width, activation: space.head.activation };
    head(&(input as u64), &spec, space.classes, square(side))
}

/// The cost of the masked supernet for one image: all types of every block at their largest sizes.
#[must_use]
pub fn supernet(space: &SearchSpace) -> Cost<u64> {
    instantiated(space, |block| (vec![block.mid_max()], vec![block.width_max()]))
}

/// The cost of the explicit supernet for one image: all types of every block in all sizes.
#[must_use]
pub fn explicit_supernet(space: &SearchSpace) -> Cost<u64> {
    instantiated(space, |block| match &block.expansion {
        Expansion::None => (vec![block.in_max], block.widths.clone()),
        Expansion::Options { mids, .. } => (mids.clone(), block.widths.clone()),
    })
}

/// The cost of a block of every type for each of the hidden and output widths that `sizes` names.
fn instantiated(
    space: &SearchSpace,
    sizes: impl Fn(&BlockChoices) -> (Vec<usize>, Vec<usize>),
) -> Cost<u64> {
    let image = (space.image_channels, space.max_resolution());
    let (mut cost, mut side) = stem(&1u64, &space.stem, image.0, image.1);
    let mut input = space.stem.width as u64;
    for block in &space.blocks {
        let before = square(side);
        side = side.div_ceil(block.stride);
        let (mids, widths) = sizes(block);
        let mbconv = |kernel, mid: usize, width, squeeze_excite: bool| {
            let squeeze = squeeze_width(mid, space.channel_divisor) as u64;
            let expand = !matches!(block.expansion, Expansion::None);
            let (mid, squeeze) = (mid as u64, squeeze_excite.then_some(squeeze));
            let pixels = (before, square(side));
            MbConvShape { kernel, input, mid, width, expand, squeeze, pixels }.cost()
        };
        for width in widths.into_iter().map(|width| width as u64) {
            for block_type in &block.types {
                cost = match *block_type {
                    BlockType::Skip if !block.skip_needs_projection() => cost,
                    BlockType::Skip => cost.plus(&dense_conv(1, &input, &width, square(side))),
                    BlockType::MbConv { kernel, squeeze_excite, .. } => {
                        let each =
                            mids.iter().map(|mid| mbconv(kernel, *mid, width, squeeze_excite));
                        each.fold(cost, |cost, one| cost.plus(&one))
                    }
                };
            }
        }
        input = block.width_max() as u64;
    }
    let spec = Head::Conv { width: space.head.width, activation: space.head.activation };
    cost.plus(&head(&input, &spec, space.classes, square(side)))
}

/// The least and the largest cost of any network of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub macs: (u64, u64),
    pub params: (u64, u64),
}

/// See [`Extent`]. Cost grows with every width, expansion, kernel and resolution, so the extremes
/// are found one block at a time.
#[must_use]
pub fn extent(space: &SearchSpace) -> Extent {
    effective::extent(space)
}

fn square(side: usize) -> u64 {
    (side * side) as u64
}

/// The stem's cost and the side of its output.
fn stem<N: Number>(
    like: &N,
    spec: &ConvSpec,
    image_channels: usize,
    resolution: usize,
) -> (Cost<N>, usize) {
    let side = conv_out(resolution, spec.kernel, spec.stride);
    let (input, width) = (like.constant(image_channels as u64), like.constant(spec.width as u64));
    (dense_conv(spec.kernel, &input, &width, square(side)), side)
}

fn head<N: Number>(input: &N, head: &Head, classes: usize, pixels: u64) -> Cost<N> {
    let classes = classes as u64;
    match head {
        Head::Conv { width, .. } => conv_head(input, *width as u64, classes, pixels),
        Head::IrPool { mid, width, .. } => {
            irpool_head(input, *mid as u64, *width as u64, classes, pixels)
        }
    }
}
