//! Search spaces and architectures as plain data: no tensors, no randomness, no cost.
//!
//! A [`SearchSpace`] lists, block by block, what may be chosen; an [`ArchSpec`] is the same
//! network with every choice decided. Both the supernet and the derived network are built from
//! here, so that they cannot disagree about a shape.

mod arch;
mod block_type;
mod narrow;
mod plan;
mod size;
mod validation;
mod wire;

pub use arch::{ArchSpec, BlockDecision, BlockKind, BlockSpec, Decisions, Head};
pub use block_type::{Activation, BlockType};
pub use narrow::Growth;
pub use plan::{BlockPlan, Branch, OptionPath, Plan, branch_types, option_paths, option_plans};
pub use size::{Count, Dimension, SpaceSize};
pub use wire::{load_space, parse_space};

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A network family: fixed stem and head, and a list of blocks with options.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSpace {
    pub name: String,
    /// Input sides in pixels to choose from, ascending.
    pub resolutions: Vec<usize>,
    /// Channels of an input image.
    pub image_channels: usize,
    pub classes: usize,
    /// Derived channel counts (expanded and squeezed ones) are multiples of this.
    pub channel_divisor: usize,
    /// Whether the blocks of a stage are all of the same type.
    pub share_types: bool,
    pub stem: ConvSpec,
    pub blocks: Vec<BlockChoices>,
    pub head: ConvSpec,
}

/// A plain convolution with batch norm and activation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvSpec {
    pub kernel: usize,
    pub stride: usize,
    pub width: usize,
    pub activation: Activation,
}

/// What one block of the supernet may become.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockChoices {
    /// Stage number as in the paper's table, from 1.
    pub stage: usize,
    /// Position within its stage, from 0.
    pub index: usize,
    pub stride: usize,
    /// The largest number of input channels: the widest option of the block before.
    pub in_max: usize,
    pub expansion: Expansion,
    /// Output channels to choose from, ascending.
    pub widths: Vec<usize>,
    pub types: Vec<BlockType>,
}

/// The hidden width of an inverted residual.
#[derive(Clone, Debug, PartialEq)]
pub enum Expansion {
    /// Expansion 1, or no type that expands: no expanding convolution, the hidden width is the input
    /// width.
    None,
    /// One hidden width per ratio, ascending. A ratio counts from `in_max`, so that an option
    /// means a fixed number of channels whatever width the block before takes.
    Options { ratios: Vec<f64>, mids: Vec<usize> },
}

impl SearchSpace {
    /// Input width of the first block.
    #[must_use]
    pub fn stem_width(&self) -> usize {
        self.stem.width
    }

    /// The blocks that choose their type together: those of a stage where they share it, otherwise
    /// each on its own. Together they are all blocks, in order.
    #[must_use]
    pub fn type_groups(&self) -> Vec<Range<usize>> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if self.share_types && block.index > 0 => group.end = i + 1,
                _ => groups.push(i..i + 1),
            }
        }
        groups
    }

    /// The largest resolution: what the supernet runs at.
    #[must_use]
    pub fn max_resolution(&self) -> usize {
        self.resolutions.last().copied().unwrap_or_default()
    }
}

impl BlockChoices {
    /// Widest output.
    #[must_use]
    pub fn width_max(&self) -> usize {
        self.widths.last().copied().unwrap_or_default()
    }

    /// Hidden channels of the widest option.
    #[must_use]
    pub fn mid_max(&self) -> usize {
        match &self.expansion {
            Expansion::None => self.in_max,
            Expansion::Options { mids, .. } => mids.last().copied().unwrap_or_default(),
        }
    }

    /// How many expansions there are to choose from.
    #[must_use]
    pub fn expansions(&self) -> usize {
        match &self.expansion {
            Expansion::None => 1,
            Expansion::Options { mids, .. } => mids.len(),
        }
    }

    /// Whether the input is added to the output, at least by some of the options.
    #[must_use]
    pub fn adds_input(&self) -> bool {
        self.can_be_residual() || self.types.contains(&BlockType::Residual)
    }

    /// Whether the sum with the input fits as it is: same resolution, same largest width. Where it does
    /// not, inverted residuals have none.
    #[must_use]
    pub fn can_be_residual(&self) -> bool {
        self.stride == 1 && self.in_max == self.width_max()
    }

    /// Whether a skip needs its own 1x1 convolution: it must where the shape changes.
    #[must_use]
    pub fn skip_needs_projection(&self) -> bool {
        !self.can_be_residual()
    }

    /// `stage.block` as in the reports, for example `4.2`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}.{}", self.stage, self.index + 1)
    }
}

/// Rounds a channel count to a multiple of `divisor`, half up, never losing more than 5 %
/// (the rule of the released networks, which reproduces their published totals).
#[must_use]
pub fn make_divisible(channels: f64, divisor: usize) -> usize {
    let d = divisor as f64;
    if channels % d == 0.0 {
        return channels as usize;
    }
    let mut rounded = (channels / d + 0.5).floor().max(1.0) * d;
    if rounded < 0.95 * channels {
        rounded += d;
    }
    rounded as usize
}

/// Channels inside a squeeze-excite: a quarter of the hidden ones.
#[must_use]
pub fn squeeze_width(mid: usize, divisor: usize) -> usize {
    make_divisible((mid as f64 * 0.25).floor(), divisor)
}

/// Side of the output of a convolution with padding `kernel / 2`.
#[must_use]
pub fn conv_out(side: usize, kernel: usize, stride: usize) -> usize {
    (side + 2 * (kernel / 2) - kernel) / stride + 1
}
