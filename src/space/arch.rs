//! One network of a space: every choice is decided.

use super::{
    Activation, BlockChoices, BlockType, ConvSpec, Expansion, SearchSpace, conv_out, squeeze_width,
};
use crate::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Everything needed to build a network, to count its cost and to name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchSpec {
    /// Side of the square input in pixels; larger images are subsampled on a grid of this side.
    pub resolution: usize,
    pub image_channels: usize,
    pub classes: usize,
    pub stem: ConvSpec,
    pub blocks: Vec<BlockSpec>,
    pub head: Head,
}

/// One block and its shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockSpec {
    /// `stage.block`, for example `4.2`.
    pub label: String,
    pub stride: usize,
    /// Output channels.
    pub width: usize,
    pub kind: BlockKind,
}

/// What a block computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum BlockKind {
    /// Inverted residual: \[1x1 expand\] → depthwise → \[squeeze-excite\] → 1x1 project.
    MbConv {
        kernel: usize,
        activation: Activation,
        /// Hidden channels.
        mid: usize,
        /// Whether the 1x1 expanding convolution exists.
        expand: bool,
        /// Channels inside the squeeze-excite, if there is one.
        squeeze: Option<usize>,
        residual: bool,
        /// Groups of the 1x1 convolutions. With more than one, the hidden channels are shuffled before the
        /// depthwise convolution: channel k of group g comes to place k · groups + g (Zhang et al. 2018,
        /// ShuffleNet).
        #[serde(default = "one", skip_serializing_if = "is_one")]
        groups: usize,
        #[serde(default, skip_serializing_if = "SqueezeFunctions::is_default")]
        squeeze_functions: SqueezeFunctions,
    },
    /// 1x1 convolution, batch norm, ReLU: a skip where the shape changes.
    Projection,
    /// 3x3 convolution, batch norm, ReLU, 3x3 convolution, batch norm, all `width` channels wide, plus
    /// the input: at every `stride`-th pixel, the channels that input and output share (He et al.
    /// 2016, their shortcut A, which has no weights; the order of layers is that of Han et al. 2017).
    Residual,
    /// The first `width` channels of the input.
    Identity,
}

fn one() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(groups: &usize) -> bool {
    *groups == 1
}

/// The functions of a squeeze-excite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqueezeFunctions {
    /// Of the squeezed channels; `None`: that of the block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Of the gates.
    pub gate: Activation,
}

impl Default for SqueezeFunctions {
    /// Those of MobileNetV3 and FBNetV2.
    fn default() -> Self {
        Self { activation: None, gate: Activation::Hsigmoid }
    }
}

impl SqueezeFunctions {
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The squeeze-excite of a head, before its pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadSqueeze {
    /// Channels inside.
    pub width: usize,
    pub functions: SqueezeFunctions,
}

/// The layers between the last block and the logits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Head {
    /// 1x1 convolution + BN + activation, global pooling, fully connected.
    Conv { width: usize, activation: Activation },
    /// The released networks' head: 1x1 convolution + BN + activation, pooling, 1x1 convolution +
    /// activation on the single pixel, fully connected.
    IrPool {
        mid: usize,
        width: usize,
        activation: Activation,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        squeeze: Option<HeadSqueeze>,
    },
}

/// The index that is chosen in each choice of a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    pub resolution: usize,
    pub blocks: Vec<BlockDecision>,
}

/// The indices that are chosen in one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDecision {
    pub block_type: usize,
    pub expansion: usize,
    pub width: usize,
}

impl BlockKind {
    /// As space files name the types that they have.
    #[must_use]
    pub fn type_name(&self) -> String {
        match self {
            Self::MbConv { kernel, activation, squeeze, groups, .. } => {
                let squeeze_excite = if squeeze.is_some() { "_se" } else { "" };
                let groups = if *groups > 1 { format!("_g{groups}") } else { String::new() };
                format!("k{kernel}_{activation}{squeeze_excite}{groups}")
            }
            Self::Projection | Self::Identity => BlockType::Skip.to_string(),
            Self::Residual => BlockType::Residual.to_string(),
        }
    }
}

impl ArchSpec {
    /// A short name, the same for equal architectures: the first 12 hex digits of the SHA-256 of the
    /// canonical JSON.
    ///
    /// # Panics
    /// Never: JSON can hold every field.
    #[must_use]
    pub fn id(&self) -> String {
        let digest = Sha256::digest(self.to_json().as_bytes());
        hex(&digest[..6])
    }

    /// The side of the last block's map, in pixels.
    #[must_use]
    pub fn smallest_map_side(&self) -> usize {
        let behind_stem = conv_out(self.resolution, self.stem.kernel, self.stem.stride);
        self.blocks.iter().fold(behind_stem, |side, block| side.div_ceil(block.stride))
    }

    /// Canonical JSON: fields in the order of their declaration.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl SearchSpace {
    /// The network of these decisions.
    ///
    /// An inverted residual adds its input where the stride is 1, the largest input and output widths
    /// are equal, and so are the chosen ones. A skip that keeps the shape passes on the smaller of
    /// its input width and its chosen width.
    #[must_use]
    pub fn decide(&self, decisions: &Decisions) -> ArchSpec {
        let mut input = self.stem_width();
        let blocks = self.blocks.iter().zip(&decisions.blocks).map(|(choices, decision)| {
            let block = self.decide_block(choices, *decision, input);
            input = block.width;
            block
        });
        ArchSpec {
            resolution: self.resolutions[decisions.resolution],
            image_channels: self.image_channels,
            classes: self.classes,
            stem: self.stem.clone(),
            blocks: blocks.collect(),
            head: Head::Conv { width: self.head.width, activation: self.head.activation },
        }
    }

    /// One block of [`SearchSpace::decide`] with `input` input channels.
    #[must_use]
    pub fn decide_block(
        &self,
        choices: &BlockChoices,
        decision: BlockDecision,
        input: usize,
    ) -> BlockSpec {
        let selected = choices.widths[decision.width];
        let (width, kind) = match choices.types[decision.block_type] {
            BlockType::Skip if choices.skip_needs_projection() => (selected, BlockKind::Projection),
            BlockType::Skip => (selected.min(input), BlockKind::Identity),
            BlockType::Residual => (selected, BlockKind::Residual),
            BlockType::MbConv { kernel, activation, squeeze_excite } => {
                let mid = self.hidden_width(choices, decision.expansion, input);
                let expand = !matches!(choices.expansion, Expansion::None);
                let squeeze = squeeze_excite.then(|| squeeze_width(mid, self.channel_divisor));
                let residual = choices.can_be_residual() && input == selected;
                let (groups, squeeze_functions) = (1, SqueezeFunctions::default());
                let kind = BlockKind::MbConv {
                    kernel,
                    activation,
                    mid,
                    expand,
                    squeeze,
                    residual,
                    groups,
                    squeeze_functions,
                };
                (selected, kind)
            }
        };
        BlockSpec { label: choices.label(), stride: choices.stride, width, kind }
    }
}
