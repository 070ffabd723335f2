//! Settings of the search loss, which combines cross-entropy with expected cost.

use serde::{Deserialize, Serialize};

/// How cross-entropy (CE) and expected cost become one number to minimise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchLoss {
    pub objective: Objective,
    pub form: LossForm,
    /// The unit that the cost is counted in (1e6: millions of MACs or parameters).
    pub cost_unit: f64,
    pub input_channels: InputChannels,
}

/// The number of input channels that the expected cost of a layer counts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputChannels {
    /// The expected output channels of the layer before (FBNetV2 section 3.3).
    #[default]
    Effective,
    /// The supernet's, as if the layer before had kept its largest width: the choice of one layer
    /// does not show in the cost of the next.
    Nominal,
}

/// Which cost counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    Macs,
    Params,
}

impl Objective {
    /// The name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Macs => "macs",
            Self::Params => "params",
        }
    }
}

/// The shape of the search loss; the paper's exact form is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossForm {
    /// CE · a · ln(cost)^b: FBNet v1's, with a = 0.2 and b = 0.6.
    LogPower { a: f64, b: f64 },
    /// CE + λ · cost.
    Linear { lambda: f64 },
    /// CE + λ · max(0, cost / target - 1), the target in the same unit as the cost.
    Hinge { lambda: f64, target: f64 },
}
