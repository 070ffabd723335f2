//! Search spaces and architectures as plain data: no tensors, no randomness, no cost.
//!
//! A [`SearchSpace`] lists the options of every block. An [`ArchSpec`] is one network, with every
//! choice decided. The supernet and the derived network are both built from these types, so that
//! they cannot disagree about a shape.

mod arch;
mod arch_file;
mod block_type;
mod enumeration;
mod narrow;
mod options;
mod plan;
mod size;
#[cfg(test)]
mod tests;
mod validation;
mod wire;

pub use arch::{
    ArchSpec, BlockDecision, BlockKind, BlockSpec, Decisions, Head, HeadSqueeze, SqueezeFunctions,
};
pub use arch_file::{ArchFile, Published};
pub use block_type::{Activation, BlockType};
pub use narrow::Growth;
pub use plan::{
    BlockPlan, Branch, NetworkPlan, OptionPath, branch_types, option_paths, option_plans,
};
pub use size::{Count, Dimension, SpaceSize};
pub use wire::{load_space, parse_space};

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A family of networks: a fixed stem and head, and blocks with options.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSpace {
    pub name: String,
    /// Input sides to choose from, in pixels, ascending.
    pub resolutions: Vec<usize>,
    /// Channels of an input image.
    pub image_channels: usize,
    pub classes: usize,
    /// Hidden and squeezed channel counts are multiples of this.
    pub channel_divisor: usize,
    /// Whether all blocks of a stage share one type.
    pub share_types: bool,
    pub stem: ConvSpec,
    pub blocks: Vec<BlockChoices>,
    pub head: ConvSpec,
}

/// A dense convolution with batch norm and activation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvSpec {
    pub kernel: usize,
    pub stride: usize,
    pub width: usize,
    pub activation: Activation,
}

/// The options of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockChoices {
    /// Number of the stage, from 1, as in the paper's table of the space.
    pub stage: usize,
    /// Position within the stage, from 0.
    pub index: usize,
    pub stride: usize,
    /// The largest number of input channels: the widest option of the previous block.
    pub in_max: usize,
    pub expansion: Expansion,
    /// Output channels to choose from, ascending.
    pub widths: Vec<usize>,
    pub types: Vec<BlockType>,
}

/// The hidden width of an inverted residual.
#[derive(Clone, Debug, PartialEq)]
pub enum Expansion {
    /// Expansion 1, or no type that expands: there is no expanding convolution, and the hidden width
    /// is the input width.
    None,
    /// One option per ratio, ascending. `mids` are their hidden widths at the largest input `in_max`.
    Options { ratios: Vec<f64>, mids: Vec<usize>, of: ExpansionOf },
}

/// What an expansion ratio is multiplied by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpansionOf {
    /// The largest input width of the block: an option is a fixed number of hidden channels, whatever the
    /// width of the previous block is.
    #[default]
    LargestInput,
    /// The block's own input width, as MobileNetV2 defines the ratio (Sandler et al. 2018, section 3.3).
    Input,
}

impl SearchSpace {
    /// The input width of the first block.
    #[must_use]
    pub fn stem_width(&self) -> usize {
        self.stem.width
    }

    /// Groups of blocks that share their type: a stage each with `share_types`, otherwise a block
    /// each. The groups cover all blocks, in order.
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

    /// The hidden channels of an inverted residual with `input` input channels, by the index of its
    /// expansion.
    #[must_use]
    pub fn hidden_width(&self, choices: &BlockChoices, expansion: usize, input: usize) -> usize {
        match &choices.expansion {
            Expansion::None => input,
            Expansion::Options { mids, of: ExpansionOf::LargestInput, .. } => mids[expansion],
            Expansion::Options { ratios, of: ExpansionOf::Input, .. } => {
                make_divisible(ratios[expansion] * input as f64, self.channel_divisor)
            }
        }
    }

    /// Whether hidden channels of some block depend on its expansion and its input width.
    #[must_use]
    pub fn expands_own_input(&self) -> bool {
        self.blocks.iter().any(|block| {
            matches!(block.expansion, Expansion::Options { of: ExpansionOf::Input, .. })
        })
    }

    /// The largest resolution: the input side of the supernet, in pixels.
    #[must_use]
    pub fn max_resolution(&self) -> usize {
        self.resolutions.last().copied().unwrap_or_default()
    }

    /// The side of the smallest map of any network of the space, in pixels: that of the last block at
    /// the smallest resolution.
    #[must_use]
    pub fn smallest_map_side(&self) -> usize {
        let smallest = self.resolutions.first().copied().unwrap_or_default();
        let behind_stem = conv_out(smallest, self.stem.kernel, self.stem.stride);
        self.blocks.iter().fold(behind_stem, |side, block| side.div_ceil(block.stride))
    }
}

impl BlockChoices {
    /// The widest output.
    #[must_use]
    pub fn width_max(&self) -> usize {
        self.widths.last().copied().unwrap_or_default()
    }

    /// The hidden channels of the largest expansion.
    #[must_use]
    pub fn mid_max(&self) -> usize {
        match &self.expansion {
            Expansion::None => self.in_max,
            Expansion::Options { mids, .. } => mids.last().copied().unwrap_or_default(),
        }
    }

    /// The number of expansions to choose from.
    #[must_use]
    pub fn expansions(&self) -> usize {
        match &self.expansion {
            Expansion::None => 1,
            Expansion::Options { mids, .. } => mids.len(),
        }
    }

    /// Whether some option adds the input to the output.
    #[must_use]
    pub fn adds_input(&self) -> bool {
        self.can_be_residual() || self.types.contains(&BlockType::Residual)
    }

    /// Whether the input can be added unchanged: stride 1 and the same largest width. Elsewhere an
    /// inverted residual does not add its input.
    #[must_use]
    pub fn can_be_residual(&self) -> bool {
        self.stride == 1 && self.in_max == self.width_max()
    }

    /// Whether a skip is a 1x1 convolution, because the shape changes.
    #[must_use]
    pub fn skip_needs_projection(&self) -> bool {
        !self.can_be_residual()
    }

    /// `stage.block`, both from 1, for example `4.2`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}.{}", self.stage, self.index + 1)
    }
}

/// Rounds a channel count to a multiple of `divisor`, half up, without losing more than 5 %. This is
/// the rule of the released networks; it reproduces their published totals.
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

/// Channels inside a squeeze-excite: a quarter of the hidden channels.
#[must_use]
pub fn squeeze_width(mid: usize, divisor: usize) -> usize {
    make_divisible((mid as f64 * 0.25).floor(), divisor)
}

/// The output side of a convolution with padding `kernel / 2`, in pixels.
#[must_use]
pub fn conv_out(side: usize, kernel: usize, stride: usize) -> usize {
    (side + 2 * (kernel / 2) - kernel) / stride + 1
}
