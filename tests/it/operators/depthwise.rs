//! Depthwise convolution, with and without the expansion in front.

use super::{ACTIVATIONS, SLOPE, VALUE, shape};
use crate::numbers::{assert_close, assert_gradient, random, random_map, row, tensor, values};
use crate::reference::{self, Map};
use candle_core::Tensor;
use repro::ops::depthwise::{DepthwiseGradients, DepthwiseWanted, Expand, backward, forward};
use repro::ops::gram::Gram;
use repro::ops::{Moments, norm};
use repro::space::Activation;
use std::rc::Rc;

/// (batch, height, width, channels); some images are smaller than the kernel.
const IMAGES: [(usize, usize, usize, usize); 11] = [
    (2, 5, 7, 1),
    (2, 7, 5, 3),
    (3, 6, 9, 5),
    (2, 9, 8, 12),
    (2, 8, 6, 17),
    (2, 6, 5, 33),
    (2, 1, 1, 5),
    (2, 1, 2, 17),
    (35, 3, 2, 4),   // more images than chunks
    (2, 37, 21, 2),  // several tiles of a GPU in both directions
    (2, 2, 3, 1030), // many channels
];

/// Kernel and stride.
const SHAPES: [(usize, usize); 6] = [(3, 1), (3, 2), (5, 1), (5, 2), (3, 3), (5, 3)];

/// Tolerance and floor of gradients behind a batch norm: sums of large terms that nearly cancel.
const HIDDEN_SLOPE: (f64, f64) = (2e-4, 0.1);

const ALL: DepthwiseWanted = DepthwiseWanted { input: true, weights: true };

/// The statistics that come with y are those that a batch norm would compute.
#[track_caller]
fn check_moments(what: &str, y: &Tensor, found: Option<Moments>) {
    let (found, direct) = (found.unwrap(), norm::moments(y).unwrap());
    assert_eq!(found.count, direct.count, "{what}");
    assert_close(&format!("{what}, mean"), &values(&found.mean), &values(&direct.mean), 1e-4);
    let (variance, direct) = (values(&found.variance), values(&direct.variance));
    assert_close(&format!("{what}, variance"), &variance, &direct, 1e-4);
}

/// Checks a convolution without an expansion.
#[track_caller]
fn check_plain((n, h, w, c): (usize, usize, usize, usize), (k, stride): (usize, usize)) {
    let what = format!("depthwise k{k} s{stride} on {n} of {h}x{w}x{c}");
    let x = random_map("x", (n, h, w, c));
    let weight = random("w", k * k * c);
    let y = reference::depthwise(&x, &weight, k, stride);
    let dy = random("dy", y.data.len());
    let (xs, ws) = (x.tensor(), tensor(&weight, &[k * k, c]));
    let dys = tensor(&dy, &[y.n, y.h, y.w, y.c]);
    let (found, moments) = forward(&xs, None, &ws, stride, true).unwrap();
    assert_eq!(found.dims(), dys.dims(), "{what}");
    assert_close(&what, &values(&found), &y.data, VALUE);
    check_moments(&what, &found, moments);
    let g = backward(&xs, None, &ws, stride, &dys, ALL).unwrap();
    assert!(g.expand.is_none());
    let dx = values(&g.dx.unwrap());
    assert_gradient(&format!("{what}, dx"), &dx, &x.data, 2, SLOPE, |moved| {
        let moved = Map::new(shape(&x), moved.to_vec());
        reference::depthwise(&moved, &weight, k, stride).dot(&dy)
    });
    let dw = values(&g.dfilter.unwrap());
    assert_gradient(&format!("{what}, dw"), &dw, &weight, 2, SLOPE, |moved| {
        reference::depthwise(&x, moved, k, stride).dot(&dy)
    });
}

#[test]
fn depthwise_convolution_matches_the_reference() {
    for image in IMAGES {
        for shape in SHAPES {
            check_plain(image, shape);
        }
    }
}

#[test]
fn many_tiles_per_block_match_the_reference() {
    // More than 16 for each block of a GPU.
    check_plain((35_000, 1, 1, 1), (3, 1));
}

/// The operands of an expansion and the convolution behind it, in f64.
#[derive(Clone)]
struct Hidden {
    x: Map,
    w: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    activation: Activation,
    filter: Vec<f64>,
    k: usize,
    stride: usize,
}

impl Hidden {
    fn new(image: (usize, usize, usize, usize), c: usize, (k, stride): (usize, usize)) -> Self {
        Self {
            // Means that differ from zero.
            x: random_map("x", image).by_channel(|j, v| v + (j % 3) as f64 - 0.5),
            w: random("w", image.3 * c),
            gamma: random("gamma", c),
            beta: random("beta", c),
            activation: Activation::Relu,
            filter: random("filter", k * k * c),
            k,
            stride,
        }
    }

    fn value(&self) -> Map {
        let z = reference::convolve(&self.x, &self.w, 1, 1, self.gamma.len());
        let m = reference::moments(&z);
        let u = reference::normalise(&z, &m.mean, &m.variance, (&self.gamma, &self.beta));
        let a = u.by_channel(|_, u| reference::activate(self.activation, u));
        reference::depthwise(&a, &self.filter, self.k, self.stride)
    }

    /// x, the expansion with the statistics of x, and the filter.
    fn tensors(&self) -> (Tensor, Expand, Tensor) {
        let (c_in, c) = (self.x.c, self.gamma.len());
        let (x, w) = (self.x.tensor(), tensor(&self.w, &[c_in, c]));
        let gram = Gram::of(&x).unwrap();
        let Moments { mean, variance, .. } = gram.moments_behind(&w).unwrap();
        let norm = norm::Norm {
            mean,
            inverse: norm::inverse_deviation(&variance).unwrap(),
            gamma: row(&self.gamma),
            beta: row(&self.beta),
            activation: self.activation,
        };
        let filter = tensor(&self.filter, &[self.k * self.k, c]);
        (x, Expand { w, norm, gram: Some(Rc::new(gram)) }, filter)
    }

    /// Checks one gradient; `put` replaces the operand.
    #[track_caller]
    fn check(
        &self,
        what: &str,
        found: &Tensor,
        at: &[f64],
        dy: &[f64],
        put: impl Fn(&mut Self, Vec<f64>),
    ) {
        assert_gradient(what, &values(found), at, 2, HIDDEN_SLOPE, |moved| {
            let mut trial = self.clone();
            put(&mut trial, moved.to_vec());
            trial.value().dot(dy)
        });
    }

    fn check_all(&self) {
        let Self { x, k, stride, activation, .. } = self;
        let (n, h, w, c_in) = shape(x);
        let c = self.gamma.len();
        let what = format!("k{k} s{stride} {activation} on {n} of {h}x{w}x{c_in}, {c} hidden");
        let expected = self.value();
        let (xs, expand, filter) = self.tensors();
        let (y, moments) = forward(&xs, Some(&expand), &filter, *stride, true).unwrap();
        assert_close(&what, &values(&y), &expected.data, 1e-4);
        check_moments(&what, &y, moments);
        let (same, none) = forward(&xs, Some(&expand), &filter, *stride, false).unwrap();
        assert!(none.is_none() && values(&same) == values(&y), "{what}: without statistics");

        let dy = random("dy", expected.data.len());
        let dys = tensor(&dy, y.dims());
        let gradients = |wanted| backward(&xs, Some(&expand), &filter, *stride, &dys, wanted);
        let DepthwiseGradients { dx, dfilter, expand: front } = gradients(ALL).unwrap();
        let (dx, dfilter, front) = (dx.unwrap(), dfilter.unwrap(), front.unwrap());
        let at = |part: &str| format!("{what}, {part}");
        self.check(&at("dx"), &dx, &self.x.data, &dy, |s, v| s.x.data = v);
        self.check(&at("dfilter"), &dfilter, &self.filter, &dy, |s, v| s.filter = v);
        self.check(&at("dw"), &front.dw, &self.w, &dy, |s, v| s.w = v);
        self.check(&at("dgamma"), &front.dgamma, &self.gamma, &dy, |s, v| s.gamma = v);
        self.check(&at("dbeta"), &front.dbeta, &self.beta, &dy, |s, v| s.beta = v);

        let input = gradients(DepthwiseWanted { input: true, weights: false }).unwrap();
        assert!(input.dfilter.is_none() && input.expand.is_none());
        assert!(values(&input.dx.unwrap()) == values(&dx), "{what}: dx alone");
        let weights = gradients(DepthwiseWanted { input: false, weights: true }).unwrap();
        assert!(weights.dx.is_none());
        assert!(values(&weights.dfilter.unwrap()) == values(&dfilter), "{what}: dfilter alone");
        assert!(values(&weights.expand.unwrap().dw) == values(&front.dw), "{what}: dw alone");
    }
}

#[test]
fn expanded_convolution_matches_the_reference() {
    // (batch, height, width, channels) and hidden channels.
    let maps = [((2, 5, 7, 1), 1), ((3, 7, 5, 3), 5), ((2, 9, 6, 6), 33), ((17, 3, 4, 2), 4)];
    for (image, hidden) in maps {
        for shape in SHAPES {
            Hidden::new(image, hidden, shape).check_all();
        }
    }
    for activation in ACTIVATIONS {
        for shape in [(3, 2), (5, 1)] {
            let hidden = Hidden::new((2, 6, 5, 4), 12, shape);
            Hidden { activation, ..hidden }.check_all();
        }
    }
    Hidden::new((2, 2, 3, 5), 1030, (3, 1)).check_all();
    Hidden::new((2, 19, 11, 3), 4, (5, 2)).check_all();
}
