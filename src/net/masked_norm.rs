//! Batch norm, activation and mask of one branch, in one operator.

use crate::nn::Pass;
use crate::ops::norm::{GatedSum, PreActivation};
use crate::tape::Value;
use candle_core::Result;

/// Normalise, activate and mask one value; without a mask all channels stay.
pub(super) fn masked_norm(
    pass: &mut Pass<'_>,
    branch: PreActivation<Value>,
    mask: Option<Value>,
) -> Result<Value> {
    pass.tape.gated_sum(&GatedSum { branches: vec![branch], mask, ..GatedSum::default() })
}
