//! The block types that a space can offer and their names in files.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The nonlinearities of the released networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    Identity,
    /// max(0, x)
    Relu,
    /// x · relu6(x + 3) / 6
    Hswish,
    /// relu6(x + 3) / 6
    Hsigmoid,
    /// x · sigmoid(x)
    Swish,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
}

/// An inverted residual with a kernel size, an activation and possibly squeeze-excite; a plain
/// residual block; or a skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockType {
    MbConv {
        kernel: usize,
        activation: Activation,
        squeeze_excite: bool,
    },
    Skip,
    /// Two dense 3x3 convolutions and a shortcut, see [`super::BlockKind::Residual`].
    Residual,
}

impl BlockType {
    /// The nine types of the released FBNetV2 networks: `all` in space files.
    pub const FBNETV2: &'static [Self] = Self::ALL.split_at(9).0;

    /// Every type that has a name.
    pub const ALL: [Self; 10] = [
        Self::mbconv(3, Activation::Relu, false),
        Self::mbconv(3, Activation::Hswish, false),
        Self::mbconv(3, Activation::Relu, true),
        Self::mbconv(3, Activation::Hswish, true),
        Self::mbconv(5, Activation::Relu, false),
        Self::mbconv(5, Activation::Hswish, false),
        Self::mbconv(5, Activation::Relu, true),
        Self::mbconv(5, Activation::Hswish, true),
        Self::Skip,
        Self::Residual,
    ];

    const fn mbconv(kernel: usize, activation: Activation, squeeze_excite: bool) -> Self {
        Self::MbConv { kernel, activation, squeeze_excite }
    }

    /// The name used in space files and reports, for example `k5_hswish_se`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Residual => "res3x3",
            Self::MbConv { kernel, activation, squeeze_excite } => {
                match (kernel, activation, squeeze_excite) {
                    (3, Activation::Relu, false) => "k3_relu",
                    (3, Activation::Relu, true) => "k3_relu_se",
                    (3, _, false) => "k3_hswish",
                    (3, _, true) => "k3_hswish_se",
                    (_, Activation::Relu, false) => "k5_relu",
                    (_, Activation::Relu, true) => "k5_relu_se",
                    (_, _, false) => "k5_hswish",
                    (_, _, true) => "k5_hswish_se",
                }
            }
        }
    }

    /// The type of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::Hswish => "hswish",
            Self::Hsigmoid => "hsigmoid",
            Self::Swish => "swish",
            Self::Sigmoid => "sigmoid",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_name() {
        for t in BlockType::ALL {
            assert_eq!(BlockType::from_name(t.name()), Some(t));
        }
        assert_eq!(BlockType::from_name("k7_relu"), None);
        assert!(!BlockType::FBNETV2.contains(&BlockType::Residual));
    }
}
