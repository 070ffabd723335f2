//! The cost of networks: multiply-accumulates and parameters, exactly for a decided network and in
//! expectation for a supernet; and the memory of a training step.

mod effective;
mod formula;
mod memory;
mod number;

pub use crate::tiling::Backend;
pub use effective::{
    BlockProbabilities, EffectiveBlock, Probabilities, Propagation, hidden_widths, propagate,
    propagate_counting,
};
pub use formula::Cost;
pub use memory::{
    Footprint, StepSetting, explicit_step, inference_step, largest_network_step,
    largest_network_weights, masked_step, network_step, network_weights, scoring_step, search_step,
    upload_slots,
};
pub use number::{CostNumber, Derivatives, Graph, Traced};

use crate::recipe::Objective;
use crate::space::{
    ArchSpec, BlockChoices, BlockKind, BlockSpec, BlockType, ConvSpec, Expansion, Head,
    SearchSpace, conv_out, squeeze_width,
};
use formula::{MbConvShape, conv_head, dense_conv, irpool_head, residual, squeeze_excite};

/// The cost of a decided network for one image.
#[must_use]
pub fn count(arch: &ArchSpec) -> Cost<u64> {
    let mut side = stem_side(&arch.stem, arch.resolution);
    let mut cost = stem(&arch.stem, arch.image_channels, &square(side));
    let mut input = arch.stem.width;
    for block in &arch.blocks {
        let (of_block, after) = count_block(block, input, side);
        cost = cost.plus(&of_block);
        (input, side) = (block.width, after);
    }
    cost.plus(&head(&(input as u64), &arch.head, arch.classes, &square(side)))
}

/// All trainable values of a decided network: the weights that [`count`] counts, the factors and shifts of
/// batch norms, and biases.
#[must_use]
pub fn trainable(arch: &ArchSpec) -> u64 {
    let mut others = 2 * arch.stem.width + arch.classes;
    for block in &arch.blocks {
        others += match &block.kind {
            BlockKind::Identity => 0,
            BlockKind::Projection => 2 * block.width,
            BlockKind::Residual => 4 * block.width,
            BlockKind::MbConv { mid, expand, squeeze, .. } => {
                let norms = 2 * (usize::from(*expand) + 1) * mid + 2 * block.width;
                norms + squeeze.map_or(0, |squeeze| squeeze + mid)
            }
        };
    }
    others += match &arch.head {
        Head::Conv { width, .. } => 2 * width,
        Head::IrPool { mid, squeeze, .. } => {
            2 * mid + squeeze.map_or(0, |squeeze| squeeze.width + mid)
        }
    };
    count(arch).params + others as u64
}

/// The cost of one block with `input` input channels on a map of side `side`, and the side of its output.
/// Sides are in pixels.
#[must_use]
pub fn count_block(block: &BlockSpec, input: usize, side: usize) -> (Cost<u64>, usize) {
    let after = side.div_ceil(block.stride);
    let (input, width) = (input as u64, block.width as u64);
    let cost = match &block.kind {
        BlockKind::Identity => Cost::zero(&0),
        BlockKind::Projection => dense_conv(1, &input, &width, &square(after)),
        BlockKind::Residual => residual(&input, &width, &square(after)),
        // Each hidden channel reads its group of the input, and each output its group of the hidden channels.
        BlockKind::MbConv { kernel, mid, expand, squeeze, groups, .. } => MbConvShape {
            kernel: *kernel,
            input: input / *groups as u64,
            mid: *mid as u64,
            width: width / *groups as u64,
            expand: *expand,
            squeeze: squeeze.map(|s| s as u64),
            pixels: (square(side), square(after)),
        }
        .cost(),
    };
    (cost, after)
}

/// The cost of the stem of a space for an image of side `resolution`, and the side of its output, both
/// in pixels.
#[must_use]
pub fn count_stem(space: &SearchSpace, resolution: usize) -> (Cost<u64>, usize) {
    let side = stem_side(&space.stem, resolution);
    (stem(&space.stem, space.image_channels, &square(side)), side)
}

/// The cost of the head of a space with `input` input channels on a map of side `side`, in pixels.
#[must_use]
pub fn count_head(space: &SearchSpace, input: usize, side: usize) -> Cost<u64> {
    let spec = Head::Conv { width: space.head.width, activation: space.head.activation };
    head(&(input as u64), &spec, space.classes, &square(side))
}

/// The cost of the masked supernet for one image: all types of every block at their largest sizes, at
/// every resolution. All resolutions share the parameters. The classifier runs once.
#[must_use]
pub fn supernet(space: &SearchSpace) -> Cost<u64> {
    let largest = |block: &BlockChoices| (vec![block.mid_max()], vec![block.width_max()]);
    let Cost { params, .. } = instantiated(space, space.max_resolution(), largest);
    Cost { params, ..at_every_resolution(space, largest) }
}

/// The cost of the explicit supernet for one image: all types of every block in all sizes, at every
/// resolution, each with its own weights. There is one classifier, which runs once.
#[must_use]
pub fn explicit_supernet(space: &SearchSpace) -> Cost<u64> {
    at_every_resolution(space, |block| match &block.expansion {
        Expansion::None => (vec![block.in_max], block.widths.clone()),
        Expansion::Options { mids, .. } => (mids.clone(), block.widths.clone()),
    })
}

/// The cost of a supernet with these sizes at every resolution and one classifier.
fn at_every_resolution(
    space: &SearchSpace,
    sizes: impl Fn(&BlockChoices) -> (Vec<usize>, Vec<usize>),
) -> Cost<u64> {
    let each = space.resolutions.iter().map(|side| instantiated(space, *side, &sizes));
    let all = each.fold(Cost::zero(&0), |all, one| all.plus(&one));
    let repeated = ((space.resolutions.len() - 1) * space.head.width * space.classes) as u64;
    Cost { macs: all.macs - repeated, params: all.params - repeated, ..all }
}

/// The cost of a network whose blocks have every type, each in the hidden widths and output widths that
/// `sizes` gives.
fn instantiated(
    space: &SearchSpace,
    resolution: usize,
    sizes: impl Fn(&BlockChoices) -> (Vec<usize>, Vec<usize>),
) -> Cost<u64> {
    let (mut cost, mut side) = count_stem(space, resolution);
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
                    BlockType::Skip => cost.plus(&dense_conv(1, &input, &width, &square(side))),
                    BlockType::Residual => cost.plus(&residual(&input, &width, &square(side))),
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
    cost.plus(&count_head(space, input as usize, side))
}

/// The least and the largest cost of the networks of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostRange {
    pub macs: (u64, u64),
    pub params: (u64, u64),
}

impl CostRange {
    /// The range that an objective refers to.
    #[must_use]
    pub fn of(&self, objective: Objective) -> (u64, u64) {
        match objective {
            Objective::Macs => self.macs,
            Objective::Params => self.params,
        }
    }
}

/// The least and the largest cost of the networks of a space. Cost grows with every width, expansion,
/// kernel and resolution, so the extremes are found block by block.
#[must_use]
pub fn cost_range(space: &SearchSpace) -> CostRange {
    effective::cost_range(space)
}

fn square(side: usize) -> u64 {
    (side * side) as u64
}

/// The side of the output of the stem, in pixels.
fn stem_side(spec: &ConvSpec, resolution: usize) -> usize {
    conv_out(resolution, spec.kernel, spec.stride)
}

/// The cost of the stem with `pixels` output pixels.
fn stem<N: CostNumber>(spec: &ConvSpec, image_channels: usize, pixels: &N) -> Cost<N> {
    let input = pixels.constant(image_channels as u64);
    dense_conv(spec.kernel, &input, &pixels.constant(spec.width as u64), pixels)
}

fn head<N: CostNumber>(input: &N, head: &Head, classes: usize, pixels: &N) -> Cost<N> {
    let classes = classes as u64;
    match head {
        Head::Conv { width, .. } => conv_head(input, *width as u64, classes, pixels),
        Head::IrPool { mid, width, squeeze, .. } => {
            let mid = *mid as u64;
            let head = irpool_head(input, mid, *width as u64, classes, pixels);
            match squeeze {
                Some(squeeze) => {
                    let mid = pixels.constant(mid);
                    head.plus(&squeeze_excite(&mid, &pixels.constant(squeeze.width as u64), pixels))
                }
                None => head,
            }
        }
    }
}
