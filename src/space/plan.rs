//! The layers of a network to build. The same plan describes a masked supernet (several branches per
//! block, the largest widths) and a derived network (one branch, the chosen widths). A block of the
//! explicit supernet is several block plans, whose outputs are summed.

use super::{
    Activation, ArchSpec, BlockChoices, BlockKind, BlockType, ConvSpec, Expansion, Head,
    SearchSpace, SqueezeFunctions, squeeze_width,
};

/// A network to build.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// Side of the input images, in pixels.
    pub resolution: usize,
    pub image_channels: usize,
    pub classes: usize,
    pub stem: ConvSpec,
    pub blocks: Vec<BlockPlan>,
    pub head: Head,
}

/// One block: branches whose outputs are summed, and possibly the input.
#[derive(Clone, Debug)]
pub struct BlockPlan {
    pub label: String,
    pub stride: usize,
    pub input: usize,
    pub width: usize,
    pub branches: Vec<(String, Branch)>,
    /// Whether the input is added: every `stride`-th pixel, cut or zero-padded to `width` channels.
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
        /// As in [`BlockKind::MbConv`].
        groups: usize,
        functions: SqueezeFunctions,
    },
    /// 1x1 convolution, batch norm, ReLU.
    Projection,
    /// Two 3x3 convolutions, each with batch norm, and ReLU between them. `mid` is the number of channels
    /// between them and equals the width of the block.
    Residual { mid: usize },
}

impl NetworkPlan {
    /// The masked supernet: all branches of every block at the largest widths.
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

    /// The derived network.
    #[must_use]
    pub fn derived(arch: &ArchSpec) -> Self {
        let mut input = arch.stem.width;
        let blocks = arch.blocks.iter().map(|block| {
            let (branches, identity) = match &block.kind {
                BlockKind::Identity => (vec![], true),
                BlockKind::Projection => (vec![("skip".to_owned(), Branch::Projection)], false),
                BlockKind::Residual => {
                    (vec![("residual".to_owned(), Branch::Residual { mid: block.width })], true)
                }
                BlockKind::MbConv {
                    kernel,
                    activation,
                    mid,
                    expand,
                    squeeze,
                    residual,
                    groups,
                    squeeze_functions,
                } => {
                    let branch = Branch::MbConv {
                        kernel: *kernel,
                        activation: *activation,
                        mid: *mid,
                        expand: *expand,
                        squeeze: *squeeze,
                        groups: *groups,
                        functions: *squeeze_functions,
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

/// The branch of a type with `mid` hidden channels and `width` output channels; `None` for a skip that
/// keeps the shape.
fn branch(
    space: &SearchSpace,
    choices: &BlockChoices,
    block_type: BlockType,
    (mid, width): (usize, usize),
) -> Option<Branch> {
    match block_type {
        BlockType::Skip if !choices.skip_needs_projection() => None,
        BlockType::Skip => Some(Branch::Projection),
        BlockType::Residual => Some(Branch::Residual { mid: width }),
        BlockType::MbConv { kernel, activation, squeeze_excite } => Some(Branch::MbConv {
            kernel,
            activation,
            mid,
            expand: !matches!(choices.expansion, Expansion::None),
            squeeze: squeeze_excite.then(|| squeeze_width(mid, space.channel_divisor)),
            groups: 1,
            functions: SqueezeFunctions::default(),
        }),
    }
}

fn block_of_choices(space: &SearchSpace, choices: &BlockChoices) -> BlockPlan {
    let largest = (choices.mid_max(), choices.width_max());
    let branches = choices.types.iter().filter_map(|block_type| {
        let branch = branch(space, choices, *block_type, largest)?;
        Some((block_type.name().to_owned(), branch))
    });
    BlockPlan {
        label: choices.label(),
        stride: choices.stride,
        input: choices.in_max,
        width: choices.width_max(),
        branches: branches.collect(),
        identity: choices.adds_input(),
    }
}

/// The types of a block that have layers, with their indices among its types.
pub fn branch_types(choices: &BlockChoices) -> impl Iterator<Item = (usize, BlockType)> {
    let keeps = !choices.skip_needs_projection();
    let types = choices.types.iter().copied().enumerate();
    types.filter(move |(_, t)| !(keeps && *t == BlockType::Skip))
}

/// A block type with an expansion, both as indices into the options of a block.
#[derive(Clone, Copy, Debug)]
pub struct OptionPath {
    pub block_type: usize,
    /// `None` where the type has no expansion.
    pub expansion: Option<usize>,
}

/// The pairs of type and expansion that a block can compute at one width.
#[must_use]
pub fn option_paths(choices: &BlockChoices) -> Vec<OptionPath> {
    let mut paths = Vec::new();
    for (block_type, kind) in branch_types(choices) {
        match (kind, &choices.expansion) {
            (BlockType::MbConv { .. }, Expansion::Options { mids, .. }) => {
                let each = (0..mids.len()).map(|e| OptionPath { block_type, expansion: Some(e) });
                paths.extend(each);
            }
            _ => paths.push(OptionPath { block_type, expansion: None }),
        }
    }
    paths
}

/// The parts of a block of the explicit supernet: one part per width, whose branches are the types with
/// their expansions; then one that adds the input, where some option does.
#[must_use]
pub fn option_plans(space: &SearchSpace, choices: &BlockChoices) -> Vec<BlockPlan> {
    let part = |label: String, width: usize| BlockPlan {
        label,
        stride: choices.stride,
        input: choices.in_max,
        width,
        branches: Vec::new(),
        identity: false,
    };
    let paths = option_paths(choices);
    let mut plans = Vec::new();
    for width in choices.widths.iter().filter(|_| !paths.is_empty()) {
        let branches = paths.iter().filter_map(|path| {
            let block_type = choices.types[path.block_type];
            let (name, mid) = match (&choices.expansion, path.expansion) {
                (Expansion::Options { mids, .. }, Some(e)) => {
                    (format!("{}.m{}", block_type.name(), mids[e]), mids[e])
                }
                _ => (block_type.name().to_owned(), choices.mid_max()),
            };
            Some((name, branch(space, choices, block_type, (mid, *width))?))
        });
        let plan = part(format!("{}.w{width}", choices.label()), *width);
        plans.push(BlockPlan { branches: branches.collect(), ..plan });
    }
    if choices.adds_input() {
        let plan = part(choices.label(), choices.width_max());
        plans.push(BlockPlan { identity: true, ..plan });
    }
    plans
}
