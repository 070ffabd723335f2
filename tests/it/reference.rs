//! The networks in plain f64 loops, channels-last: the reference that the tape is compared with.
//!
//! It shares no code with the operators. A network is built from its [`NetworkPlan`](repro::space::NetworkPlan) and the
//! names of its parameters, one formula after the other.

mod gates;
mod map;
mod network;

pub use gates::{BlockGates, Gates, block_gates, mask, network_gates};
pub use map::Map;
pub use network::{Reference, Statistics};

use repro::space::Activation;
use std::collections::BTreeMap;

/// Parameters and buffers by name.
pub type Weights = BTreeMap<String, Vec<f64>>;

/// Mean, biased variance and number of values per channel.
#[derive(Clone, Debug)]
pub struct Moments {
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
    pub count: usize,
}

/// Output side of a convolution on `side` pixels, padded by k / 2 on both sides.
fn outputs(side: usize, k: usize, stride: usize) -> usize {
    (side + 2 * (k / 2) - k) / stride + 1
}

/// Dense convolution, weight `[k, k, c_in, c_out]`.
pub fn convolve(x: &Map, weight: &[f64], k: usize, stride: usize, c_out: usize) -> Map {
    assert_eq!(weight.len(), k * k * x.c * c_out);
    let mut y = Map::zeros(x.n, outputs(x.h, k, stride), outputs(x.w, k, stride), c_out);
    for i in 0..y.n {
        for (oy, ox) in (0..y.h).flat_map(|oy| (0..y.w).map(move |ox| (oy, ox))) {
            for (ky, kx) in (0..k).flat_map(|ky| (0..k).map(move |kx| (ky, kx))) {
                let iy = (oy * stride + ky) as isize - (k / 2) as isize;
                let ix = (ox * stride + kx) as isize - (k / 2) as isize;
                for c_in in 0..x.c {
                    let value = x.padded(i, iy, ix, c_in);
                    for o in 0..c_out {
                        let at = y.index(i, oy, ox, o);
                        y.data[at] += value * weight[((ky * k + kx) * x.c + c_in) * c_out + o];
                    }
                }
            }
        }
    }
    y
}

/// Depthwise convolution, weight `[k, k, c]`.
pub fn depthwise(x: &Map, weight: &[f64], k: usize, stride: usize) -> Map {
    assert_eq!(weight.len(), k * k * x.c);
    let mut y = Map::zeros(x.n, outputs(x.h, k, stride), outputs(x.w, k, stride), x.c);
    for i in 0..y.n {
        for (oy, ox) in (0..y.h).flat_map(|oy| (0..y.w).map(move |ox| (oy, ox))) {
            for (ky, kx) in (0..k).flat_map(|ky| (0..k).map(move |kx| (ky, kx))) {
                let iy = (oy * stride + ky) as isize - (k / 2) as isize;
                let ix = (ox * stride + kx) as isize - (k / 2) as isize;
                for j in 0..x.c {
                    let at = y.index(i, oy, ox, j);
                    y.data[at] += x.padded(i, iy, ix, j) * weight[(ky * k + kx) * x.c + j];
                }
            }
        }
    }
    y
}

pub fn activate(activation: Activation, u: f64) -> f64 {
    let hard_sigmoid = (u + 3.0).clamp(0.0, 6.0) / 6.0;
    match activation {
        Activation::Identity => u,
        Activation::Relu => u.max(0.0),
        Activation::Hswish => u * hard_sigmoid,
        Activation::Hsigmoid => hard_sigmoid,
        Activation::Swish => u / (1.0 + (-u).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-u).exp()),
    }
}

/// Two passes: first the mean, then the mean square distance from it.
pub fn moments(x: &Map) -> Moments {
    let count = x.n * x.h * x.w;
    let mut mean = vec![0.0; x.c];
    for (at, v) in x.data.iter().enumerate() {
        mean[at % x.c] += v / count as f64;
    }
    let mut variance = vec![0.0; x.c];
    for (at, v) in x.data.iter().enumerate() {
        variance[at % x.c] += (v - mean[at % x.c]).powi(2) / count as f64;
    }
    Moments { mean, variance, count }
}

/// γ (z - μ) / √(σ² + 1e-5) + β.
pub fn normalise(z: &Map, mean: &[f64], variance: &[f64], (gamma, beta): (&[f64], &[f64])) -> Map {
    z.by_channel(|j, v| gamma[j] * (v - mean[j]) / (variance[j] + 1e-5).sqrt() + beta[j])
}

/// The mean over pixels, a map of one pixel.
pub fn pool(x: &Map) -> Map {
    let mut y = Map::zeros(x.n, 1, 1, x.c);
    for i in 0..x.n {
        for pixel in x.data[i * x.h * x.w * x.c..][..x.h * x.w * x.c].chunks(x.c) {
            for (j, v) in pixel.iter().enumerate() {
                y.data[i * x.c + j] += v / (x.h * x.w) as f64;
            }
        }
    }
    y
}

/// Mean cross-entropy of logits `[n, classes]` with smoothed labels.
pub fn cross_entropy(logits: &[f64], labels: &[u32], smoothing: f64) -> f64 {
    let classes = logits.len() / labels.len();
    let mut loss = 0.0;
    for (row, label) in logits.chunks(classes).zip(labels) {
        let total: f64 = row.iter().map(|v| v.exp()).sum();
        for (k, v) in row.iter().enumerate() {
            let hit = if k == *label as usize { 1.0 - smoothing } else { 0.0 };
            loss -= (hit + smoothing / classes as f64) * (v.exp() / total).ln();
        }
    }
    loss / labels.len() as f64
}
