//! Activation functions, compiled into the kernels that use them.

use crate::space::Activation;

/// An activation function that kernels are compiled for.
pub(super) trait ActivationFn {
    fn value(u: f32) -> f32;
    fn derivative(u: f32) -> f32;
}

pub(super) struct IdentityFn;
pub(super) struct ReluFn;
pub(super) struct HswishFn;
pub(super) struct HsigmoidFn;
pub(super) struct SwishFn;
pub(super) struct SigmoidFn;

const SIXTH: f32 = 1.0 / 6.0;

impl ActivationFn for IdentityFn {
    #[inline(always)]
    fn value(u: f32) -> f32 {
        u
    }
    #[inline(always)]
    fn derivative(_: f32) -> f32 {
        1.0
    }
}

impl ActivationFn for ReluFn {
    #[inline(always)]
    fn value(u: f32) -> f32 {
        // `max` would turn NaN into zero and hide that a network diverged.
        if u < 0.0 { 0.0 } else { u }
    }
    #[inline(always)]
    fn derivative(u: f32) -> f32 {
        if u > 0.0 { 1.0 } else { 0.0 }
    }
}

impl ActivationFn for HswishFn {
    #[inline(always)]
    fn value(u: f32) -> f32 {
        u * (u + 3.0).clamp(0.0, 6.0) * SIXTH
    }
    #[inline(always)]
    fn derivative(u: f32) -> f32 {
        let inner = (2.0 * u + 3.0) * SIXTH;
        if u <= -3.0 {
            0.0
        } else if u >= 3.0 {
            1.0
        } else {
            inner
        }
    }
}

impl ActivationFn for HsigmoidFn {
    #[inline(always)]
    fn value(u: f32) -> f32 {
        (u + 3.0).clamp(0.0, 6.0) * SIXTH
    }
    #[inline(always)]
    fn derivative(u: f32) -> f32 {
        if u > -3.0 && u < 3.0 { SIXTH } else { 0.0 }
    }
}

/// 1 / (1 + e⁻ᵘ)
#[inline(always)]
fn sigmoid(u: f32) -> f32 {
    1.0 / (1.0 + exp(-u))
}

/// eᵘ, with a relative error below 3e-7, in operations that are the same on every processor: e^u = 2^k e^r with
/// |r| ≤ ln 2 / 2, and the Taylor polynomial of e^r. `common.cuh` has the same.
#[inline(always)]
fn exp(u: f32) -> f32 {
    /// Adding and subtracting it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with few enough digits that k times it is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Beyond, the result would not be a normal number.
    let u = u.clamp(-87.0, 88.0);
    let k = (u * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (u - k * LN_2[0]) - k * LN_2[1];
    let mut power = 1.0 / 720.0;
    for factorial in [120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        power = power * r + 1.0 / factorial;
    }
    power * f32::from_bits(((k as i32 + 127) as u32) << 23)
}

impl ActivationFn for SwishFn {
    #[inline(always)]
    fn value(u: f32) -> f32 {
        u * sigmoid(u)
    }
    #[inline(always)]
    fn derivative(u: f32) -> f32 {
        let s = sigmoid(u);
        s * (1.0 + u * (1.0 - s))
    }
}

impl ActivationFn for SigmoidFn {
    #[inline(always)]
    fn value(u: f32) -> f32 {
        sigmoid(u)
    }
    #[inline(always)]
    fn derivative(u: f32) -> f32 {
        let s = sigmoid(u);
        s * (1.0 - s)
    }
}

/// Compiles `$body` once for each activation function, with `$F` as its type, and runs the one that
/// `$activation` names.
macro_rules! by_activation {
    ($activation:expr, $F:ident => $body:expr) => {
        match $activation {
            $crate::space::Activation::Identity => {
                type $F = $crate::ops::activation::IdentityFn;
                $body
            }
            $crate::space::Activation::Relu => {
                type $F = $crate::ops::activation::ReluFn;
                $body
            }
            $crate::space::Activation::Hswish => {
                type $F = $crate::ops::activation::HswishFn;
                $body
            }
            $crate::space::Activation::Swish => {
                type $F = $crate::ops::activation::SwishFn;
                $body
            }
            $crate::space::Activation::Sigmoid => {
                type $F = $crate::ops::activation::SigmoidFn;
                $body
            }
            $crate::space::Activation::Hsigmoid => {
                type $F = $crate::ops::activation::HsigmoidFn;
                $body
            }
        }
    };
}

pub(super) use by_activation;

/// The activation of one number.
pub(super) fn evaluate(activation: Activation, u: f32) -> f32 {
    by_activation!(activation, A => A::value(u))
}

/// The derivative of the activation at one number.
pub(super) fn differentiate(activation: Activation, u: f32) -> f32 {
    by_activation!(activation, A => A::derivative(u))
}

/// The number of an activation in `gpu/common.cuh`.
pub(super) fn number(activation: Activation) -> usize {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Hswish => 2,
        Activation::Hsigmoid => 3,
        Activation::Swish => 4,
        Activation::Sigmoid => 5,
    }
}

/// [`number`] as an argument of a kernel.
pub(super) fn argument(activation: Activation) -> super::gpu::Arg<'static> {
    super::gpu::Arg::size(number(activation))
}
