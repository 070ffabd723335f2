//! What the builder builds: the same plan describes a supernet (several branches a block, the
//! largest widths) and a derived network (one branch, the chosen widths).

use crate::space::{
    Activation, ArchSpec, BlockChoices, BlockKind, BlockType, ConvSpec, Expansion, Head,
    SearchSpace, squeeze_width,
};

/// A network to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Pixels a side of the images that it sees.
    pub resolution: usize,
    pub image_channels: usize,
    pub classes: usize,
    pub stem: ConvSpec,
    pub blocks: Vec<BlockPlan>,
    pub head: Head,
}

/// One block: branches whose outputs are summed, and possibly the input itself.
#[derive(Clone, Debug)]
pub struct BlockPlan {
    pub label: String,
    pub stride: usize,
    pub input: usize,
    pub width: usize,
    pub branches: Vec<(String, Branch)>,
    /// Whether the input (cut to `width` channels) is added.
    pub identity: bool,
}

/// One summand of a block.
#[derive(Clone, Debug)]
pub enum Branch {
    MbConv {
        kernel: usize,
        activation: Activation,
        mid: usize,
        expand: bool,
        squeeze: Option<usize>,
    },
    /// 1x1 convolution, batch norm, ReLU.
    Projection,
}

impl Plan {
    /// All branches of every block at the largest widths.
    #[must_use]
    pub fn supernet(space: &SearchSpace) -> Self {
        Self {
            resolution: space.max_resolution(),
            image_channels: space.image_channels,
            classes: space.classes,
            stem: space.stem.clone(),
            blocks: space.blocks.iter().map(|b| block_of_choices(space, b)).collect(),
            head: Head::Conv { width: space.head.width, activation: space.head.activation },
        }
    }

    /// The network as decided.
    #[must_use]
    pub fn network(arch: &ArchSpec) -> Self {
        let mut input = arch.stem.width;
        let blocks = arch.blocks.iter().map(|block| {
            let (branches, identity) = match &block.kind {
                BlockKind::Identity => (vec![], true),
                BlockKind::Projection => (vec![("skip".to_owned(), Branch::Projection)], false),
                BlockKind::MbConv { kernel, activation, mid, expand, squeeze, residual } => {
                    let branch = Branch::MbConv {
                        kernel: *kernel,
                        activation: *activation,
                        mid: *mid,
                        expand: *expand,
                        squeeze: *squeeze,
                    };
                    (vec![("mbconv".to_owned(), branch)], *residual)
                }
            };
            let plan = BlockPlan {
                label: block.label.clone(),
                stride: block.stride,
                input,
                width: block.width,
                branches,
                identity,
            };
            input = block.width;
            plan
        });
        Self {
            resolution: arch.resolution,
            image_channels: arch.image_channels,
            classes: arch.classes,
            stem: arch.stem.clone(),
            blocks: blocks.collect(),
            head: arch.head.clone(),
        }
    }
}

/// The branch of a type with `mid` hidden channels; none for a skip that keeps the shape.
pub(super) fn branch(
    space: &SearchSpace,
    choices: &BlockChoices,
    block_type: BlockType,
    mid: usize,
) -> Option<Branch> {
    match block_type {
        BlockType::Skip if !choices.skip_needs_projection() => None,
        BlockType::Skip => Some(Branch::Projection),
        BlockType::MbConv { kernel, activation, squeeze_excite } => Some(Branch::MbConv {
            kernel,
            activation,
            mid,
            expand: !matches!(choices.expansion, Expansion::None),
            squeeze: squeeze_excite.then(|| squeeze_width(mid, space.channel_divisor)),
        }),
    }
}

fn block_of_choices(space: &SearchSpace, choices: &BlockChoices) -> BlockPlan {
    let branches = choices.types.iter().filter_map(|block_type| {
        let branch = branch(space, choices, *block_type, choices.mid_max())?;
        Some((block_type.name().to_owned(), branch))
    });
    BlockPlan {
        label: choices.label(),
        stride: choices.stride,
        input: choices.in_max,
        width: choices.width_max(),
        branches: branches.collect(),
        identity: choices.can_be_residual(),
    }
}
