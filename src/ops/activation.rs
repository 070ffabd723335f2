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
    }
}

/// [`number`] as an argument of a kernel.
pub(super) fn argument(activation: Activation) -> super::gpu::Arg<'static> {
    super::gpu::Arg::size(number(activation))
}
