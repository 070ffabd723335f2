//! The names of a derived network's layers in the published networks' state dicts
//! (facebookresearch/mobile-vision).
//!
//! | here | there |
//! |---|---|
//! | `stem` | `backbone.stages.xif0_0`, with a `conv.bias` of zeros |
//! | `blocks.S.B.mbconv` `.expand` `.depthwise` `.project` | `backbone.stages.xifS_(B-1)` `.pw` `.dw` `.pwl` |
//! | `.se.squeeze`, `.se.excite` | `.se.se.0.conv`, `.se.se.1` |
//! | `blocks.S.B.skip` | the stage's `conv` |
//! | `blocks.S.B.residual` `.first` `.second` | the stage's `conv1` `conv2`, names of our own |
//! | `head` | the stage behind the last one, as `pw` where a 1x1 convolution follows the pooling |
//! | `head.se` | its `pw_se` |
//! | `classifier` | `head.conv` |

use crate::space::{ArchSpec, BlockKind, Head};

/// The names of all layers of a network.
#[derive(Clone, Copy, Debug)]
pub struct LayerNames<'a> {
    arch: &'a ArchSpec,
    /// The number of the stage that holds the head.
    head: usize,
}

/// What a layer is called there.
#[derive(Clone, Debug)]
pub struct LayerName {
    /// The convolution, with `.weight` and possibly `.bias`.
    pub conv: String,
    /// The batch norm behind it, where there is one.
    pub norm: String,
    pub(super) is_depthwise: bool,
    /// Whether the convolution there has a bias, which batch norm makes useless.
    pub(super) has_zero_bias: bool,
    /// Groups of the shuffled channels that the layer reads, and of those that it makes; 1: not shuffled.
    pub(super) shuffled: (usize, usize),
}

impl LayerName {
    fn new(base: &str) -> Self {
        Self {
            conv: format!("{base}.conv"),
            norm: format!("{base}.bn"),
            is_depthwise: false,
            has_zero_bias: false,
            shuffled: (1, 1),
        }
    }

    /// A convolution of the squeeze-excite at `base`.
    fn of_squeeze(base: &str, part: &str) -> Self {
        Self { conv: format!("{base}.se.{part}"), ..Self::new(base) }
    }

    /// The place here of output `o` of `outputs` there.
    pub(super) fn output(&self, o: usize, outputs: usize) -> usize {
        unshuffled(o, outputs, self.shuffled.1)
    }
}

/// The place before the shuffle of channel `place` of `channels`.
#[must_use]
pub fn unshuffled(place: usize, channels: usize, groups: usize) -> usize {
    place % groups * (channels / groups) + place / groups
}

impl<'a> LayerNames<'a> {
    #[must_use]
    pub fn of(arch: &'a ArchSpec) -> Self {
        let with_weights = arch.blocks.iter().filter(|block| block.kind != BlockKind::Identity);
        let stages = with_weights.filter_map(|block| block.label.split('.').next()?.parse().ok());
        Self { arch, head: stages.max().unwrap_or(0) + 1 }
    }

    /// The stage of a block with the label `S.B`, as in `xif3_0`.
    #[must_use]
    pub fn stage(label: &str) -> Option<String> {
        let (stage, block) = label.split_once('.')?;
        let (stage, block): (usize, usize) = (stage.parse().ok()?, block.parse().ok()?);
        Some(stage_name(stage, block.checked_sub(1)?))
    }

    /// The stage of the head.
    #[must_use]
    pub fn head_stage(&self) -> String {
        stage_name(self.head, 0)
    }

    /// What a layer is called there that is called `layer` here; `None`: it is no layer of a derived
    /// network.
    #[must_use]
    pub fn get(&self, layer: &str) -> Option<LayerName> {
        let head = format!("{BACKBONE}.{}", self.head_stage());
        let pools_first = matches!(self.arch.head, Head::IrPool { .. });
        match layer {
            "stem" => {
                let name = LayerName::new(&format!("{BACKBONE}.{}", stage_name(0, 0)));
                return Some(LayerName { has_zero_bias: true, ..name });
            }
            "head" if pools_first => return Some(LayerName::new(&format!("{head}.pw"))),
            "head" => return Some(LayerName { has_zero_bias: true, ..LayerName::new(&head) }),
            "head.se.squeeze" => {
                return Some(LayerName::of_squeeze(&format!("{head}.pw_se"), "0.conv"));
            }
            "head.se.excite" => return Some(LayerName::of_squeeze(&format!("{head}.pw_se"), "1")),
            "head.after_pool" => return Some(LayerName::new(&format!("{head}.pwl"))),
            "classifier" => return Some(LayerName::new("head")),
            _ => {}
        }
        let (label, part) = split_block(layer)?;
        let base = format!("{BACKBONE}.{}", Self::stage(label)?);
        let named = |part: &str| LayerName::new(&format!("{base}.{part}"));
        let groups = self.groups(label);
        let se = |part: &str, shuffled| LayerName {
            shuffled,
            ..LayerName::of_squeeze(&format!("{base}.se"), part)
        };
        Some(match part {
            "mbconv.expand" => named("pw"),
            "mbconv.depthwise" => {
                LayerName { is_depthwise: true, shuffled: (1, groups), ..named("dw") }
            }
            "mbconv.project" => named("pwl"),
            "mbconv.se.squeeze" => se("0.conv", (groups, 1)),
            "mbconv.se.excite" => se("1", (1, groups)),
            "skip" => named("conv"),
            "residual.first" => named("conv1"),
            "residual.second" => named("conv2"),
            _ => return None,
        })
    }

    /// The groups of the 1x1 convolutions of a block.
    fn groups(&self, label: &str) -> usize {
        self.arch.blocks.iter().find(|block| block.label == label).map_or(1, |block| {
            if let BlockKind::MbConv { groups, .. } = block.kind { groups } else { 1 }
        })
    }
}

const BACKBONE: &str = "backbone.stages";

fn stage_name(stage: usize, block: usize) -> String {
    format!("xif{stage}_{block}")
}

/// `blocks.S.B.part` as `S.B` and `part`.
fn split_block(layer: &str) -> Option<(&str, &str)> {
    let rest = layer.strip_prefix("blocks.")?;
    let (dot, _) = rest.match_indices('.').nth(1)?;
    Some((&rest[..dot], &rest[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;

    #[test]
    fn layers_have_the_names_of_the_published_networks() {
        let conv = |network: &str, layer: &str| {
            let arch = zoo::network(network).unwrap().arch;
            LayerNames::of(&arch).get(layer).map(|name| name.conv)
        };
        let cases = [
            ("fbnet_a", "stem", "backbone.stages.xif0_0.conv"),
            ("fbnet_a", "blocks.2.1.mbconv.expand", "backbone.stages.xif2_0.pw.conv"),
            ("fbnet_a", "head", "backbone.stages.xif6_0.conv"),
            ("mnv3", "blocks.3.2.mbconv.se.squeeze", "backbone.stages.xif3_1.se.se.0.conv"),
            ("mnv3", "head", "backbone.stages.xif6_0.pw.conv"),
            ("mnv3", "classifier", "head.conv"),
        ];
        for (network, layer, expected) in cases {
            assert_eq!(conv(network, layer).as_deref(), Some(expected), "{network} {layer}");
        }
        for layer in ["blocks.2", "blocks.2.0.mbconv.expand", "blocks.2.1.mbconv", "body"] {
            assert_eq!(conv("mnv3", layer), None, "{layer}");
        }
    }
}
