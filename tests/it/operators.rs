//! Every operator against plain f64 loops: values, gradients by finite differences, and refusals.

mod convolution;
mod depthwise;
mod gram;
mod groups;
mod norm;
mod pixels;
mod pointwise;
mod project;
mod refusals;
mod slice;

use crate::reference::Map;
use repro::space::Activation;

/// Tolerance of values: f32 sums over at most a few thousand terms.
const VALUE: f64 = 2e-5;
/// Tolerance and floor of gradients, see [`crate::numbers::assert_gradient`].
const SLOPE: (f64, f64) = (2e-4, 1e-3);

const ACTIVATIONS: [Activation; 6] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Hswish,
    Activation::Hsigmoid,
    Activation::Swish,
    Activation::Sigmoid,
];

/// Channel counts that exercise every width of the vectorised kernels and every remainder.
const CHANNELS: [usize; 7] = [1, 3, 5, 12, 17, 33, 47];

fn shape(x: &Map) -> (usize, usize, usize, usize) {
    (x.n, x.h, x.w, x.c)
}
