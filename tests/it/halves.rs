//! The back half of an inverted residual and the covariance in front of it, as operators by
//! themselves, against plain f64 loops.

use crate::numbers::{
    assert_close, assert_gradient, assert_refused, random, random_map, row, tensor, values,
};
use crate::reference::{self, Map};
use candle_core::{DType, Device, Tensor};
use repro::ops::gram::Gram;
use repro::ops::project::{self, SqueezeExciteWeights};
use repro::ops::{Moments, norm};
use repro::space::Activation;

const VALUE: f64 = 1e-4;
const SLOPE: (f64, f64) = (5e-4, 1e-3);

/// Channel counts that meet every width of the vectorised kernels and every remainder.
const CHANNELS: [usize; 7] = [1, 3, 5, 12, 17, 33, 47];

type Shape = (usize, usize, usize, usize);

#[test]
fn a_covariance_tells_the_moments_behind_any_linear_map() {
    // Rows that fill no chunk, one, and several pieces of work; channels far from zero.
    for (n, h, w) in [(2, 1, 1), (2, 5, 7), (1, 8, 8), (3, 31, 29)] {
        for c in CHANNELS {
            let x = random_map("x", (n, h, w, c)).by_channel(|j, v| 0.5 * v + (j % 5) as f64 - 2.0);
            let gram = Gram::of(&x.tensor()).unwrap();
            for c_out in [1, 4, 19] {
                let what = format!("behind {n}x{h}x{w}x{c} to {c_out}");
                let weight = random("w", c * c_out);
                let expected = reference::moments(&reference::convolve(&x, &weight, 1, 1, c_out));
                let found = gram.moments_behind(&tensor(&weight, &[c, c_out])).unwrap();
                assert_eq!(found.count, n * h * w, "{what}");
                assert_close(&what, &values(&found.mean), &expected.mean, VALUE);
                assert_close(&what, &values(&found.variance), &expected.variance, 1e-3);
            }
        }
    }
}

#[test]
fn a_covariance_of_equal_rows_is_zero_and_never_less() {
    let flat = Map::new((2, 3, 3, 5), (0..90).map(|i| f64::from(i % 5) * 0.7).collect());
    let gram = Gram::of(&flat.tensor()).unwrap();
    let found = gram.moments_behind(&tensor(&random("w", 20), &[5, 4])).unwrap();
    for variance in values(&found.variance) {
        assert!((0.0..1e-6).contains(&variance), "{variance}");
    }
    let misfit = Tensor::zeros((6, 4), DType::F32, &Device::Cpu).unwrap();
    assert_refused(gram.moments_behind(&misfit), &["gram", "5", "6"]);
}

/// The inputs of [`project::forward`] in f64.
#[derive(Clone)]
struct Half {
    z: Map,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    activation: Activation,
    mask: Option<Vec<f64>>,
    layers: Option<Layers>,
    w: Vec<f64>,
    c_out: usize,
}

/// Those of a squeeze-excite.
#[derive(Clone)]
struct Layers {
    squeeze: Vec<f64>,
    squeeze_bias: Vec<f64>,
    excite: Vec<f64>,
    excite_bias: Vec<f64>,
    mask: Option<Vec<f64>>,
    activation: Activation,
}

impl Layers {
    fn new(c: usize, squeezed: usize, with_mask: bool) -> Self {
        Self {
            squeeze: random("squeeze", c * squeezed),
            squeeze_bias: random("squeeze bias", squeezed),
            excite: random("excite", squeezed * c),
            excite_bias: random("excite bias", c),
            mask: with_mask.then(|| random("squeeze mask", squeezed)),
            activation: Activation::Relu,
        }
    }

    /// s(a), one pixel an image.
    fn factors(&self, a: &Map) -> Map {
        let squeezed = self.squeeze_bias.len();
        let h = reference::convolve(&reference::pool(a), &self.squeeze, 1, 1, squeezed);
        let h = h.by_channel(|j, v| {
            let mask = self.mask.as_ref().map_or(1.0, |mask| mask[j]);
            reference::activate(self.activation, v + self.squeeze_bias[j]) * mask
        });
        reference::convolve(&h, &self.excite, 1, 1, a.c)
            .by_channel(|j, v| reference::activate(Activation::Hsigmoid, v + self.excite_bias[j]))
    }

    fn tensors(&self) -> SqueezeExciteWeights {
        let (squeezed, c) = (self.squeeze_bias.len(), self.excite_bias.len());
        SqueezeExciteWeights {
            squeeze: tensor(&self.squeeze, &[c, squeezed]),
            squeeze_bias: row(&self.squeeze_bias),
            excite: tensor(&self.excite, &[squeezed, c]),
            excite_bias: row(&self.excite_bias),
            mask: self.mask.as_deref().map(row),
            activation: self.activation,
        }
    }
}

impl Half {
    fn new(shape: Shape, c_out: usize, activation: Activation) -> Self {
        let c = shape.3;
        Self {
            z: random_map("z", shape).by_channel(|j, v| 1.7 * v + (j % 3) as f64),
            gamma: random("gamma", c),
            beta: random("beta", c),
            activation,
            mask: None,
            layers: None,
            w: random("w", c * c_out),
            c_out,
        }
    }

    fn value(&self) -> Map {
        let moments = reference::moments(&self.z);
        let affine = (self.gamma.as_slice(), self.beta.as_slice());
        let mut a = reference::normalise(&self.z, &moments.mean, &moments.variance, affine)
            .by_channel(|j, u| {
                let mask = self.mask.as_ref().map_or(1.0, |mask| mask[j]);
                reference::activate(self.activation, u) * mask
            });
        if let Some(layers) = &self.layers {
            let factors = layers.factors(&a);
            let image = a.h * a.w * a.c;
            for (at, v) in a.data.iter_mut().enumerate() {
                *v *= factors.data[at / image * a.c + at % a.c];
            }
        }
        reference::convolve(&a, &self.w, 1, 1, self.c_out)
    }

    fn input(&self) -> norm::PreActivation {
        let z = self.z.tensor();
        let Moments { mean, variance, .. } = norm::moments(&z).unwrap();
        let inverse = norm::inverse_deviation(&variance).unwrap();
        let (gamma, beta) = (row(&self.gamma), row(&self.beta));
        norm::PreActivation {
            z,
            norm: norm::Norm { mean, inverse, gamma, beta, activation: self.activation },
        }
    }

    /// Compares one gradient; `put` writes the moved input back.
    #[track_caller]
    fn check(
        &self,
        what: &str,
        found: &Tensor,
        at: &[f64],
        dy: &[f64],
        put: impl Fn(&mut Self, Vec<f64>),
    ) {
        assert_gradient(what, &values(found), at, 2, SLOPE, |moved| {
            let mut trial = self.clone();
            put(&mut trial, moved.to_vec());
            trial.value().dot(dy)
        });
    }

    fn check_all(&self, what: &str) {
        let expected = self.value();
        let (input, w) = (self.input(), tensor(&self.w, &[self.z.c, self.c_out]));
        let mask = self.mask.as_deref().map(row);
        let layers = self.layers.as_ref().map(Layers::tensors);
        let (y, moments) =
            project::forward(&input, mask.as_ref(), layers.as_ref(), &w, true).unwrap();
        assert_eq!(y.dims(), [self.z.n, self.z.h, self.z.w, self.c_out], "{what}");
        assert_close(what, &values(&y), &expected.data, VALUE);
        let (found, direct) = (moments.unwrap(), norm::moments(&y).unwrap());
        assert_close(what, &values(&found.mean), &values(&direct.mean), VALUE);
        assert_close(what, &values(&found.variance), &values(&direct.variance), 1e-3);

        let dy = random("dy", expected.data.len());
        let dys = tensor(&dy, y.dims());
        let (mask, se) = (mask.as_ref(), layers.as_ref());
        let g = project::backward(&input, mask, se, &w, &dys, true).unwrap();
        let at = |part: &str| format!("{what}, {part}");
        self.check(&at("dz"), &g.dz, &self.z.data, &dy, |s, v| s.z.data = v);
        self.check(&at("dgamma"), &g.dgamma, &self.gamma, &dy, |s, v| s.gamma = v);
        self.check(&at("dbeta"), &g.dbeta, &self.beta, &dy, |s, v| s.beta = v);
        self.check(&at("dw"), &g.dw.unwrap(), &self.w, &dy, |s, v| s.w = v);
        let ones = vec![1.0; self.z.c];
        let mask = self.mask.as_ref().unwrap_or(&ones);
        self.check(&at("dmask"), &g.dmask, mask, &dy, |s, v| s.mask = Some(v));
        assert_eq!(g.squeeze_excite.is_some(), self.layers.is_some(), "{what}");
        if let (Some(g), Some(layers)) = (g.squeeze_excite, &self.layers) {
            let check = |part, found, at, put: fn(&mut Layers, Vec<f64>)| {
                self.check(&format!("{what}, {part}"), found, at, &dy, |s, v| {
                    put(s.layers.as_mut().unwrap(), v);
                });
            };
            check("squeeze", &g.squeeze, &layers.squeeze, |l, v| l.squeeze = v);
            check("squeeze bias", &g.squeeze_bias, &layers.squeeze_bias, |l, v| l.squeeze_bias = v);
            check("excite", &g.excite, &layers.excite, |l, v| l.excite = v);
            check("excite bias", &g.excite_bias, &layers.excite_bias, |l, v| l.excite_bias = v);
            let ones = vec![1.0; layers.squeeze_bias.len()];
            let mask = layers.mask.as_ref().unwrap_or(&ones);
            check("squeeze mask", &g.mask, mask, |l, v| l.mask = Some(v));
        }
        let without =
            project::backward(&input, self.mask.as_deref().map(row).as_ref(), se, &w, &dys, false);
        let without = without.unwrap();
        assert!(without.dw.is_none(), "{what}");
        assert_eq!(values(&without.dz), values(&g.dz), "{what}");
    }
}

#[test]
fn a_projection_reads_a_norm_and_has_the_gradients_of_its_formula() {
    use Activation::{Hswish, Identity, Relu};
    for activation in [Identity, Relu, Hswish] {
        for (c, c_out) in [(1, 1), (3, 17), (12, 5), (17, 33), (33, 4)] {
            let mut half = Half::new((3, 5, 3, c), c_out, activation);
            half.check_all(&format!("project {activation} {c} to {c_out}"));
            half.mask = Some(random("mask", c));
            half.check_all(&format!("masked project {activation} {c} to {c_out}"));
        }
    }
    // More images than pieces of work, more pixels than a group of images, one pixel an image.
    for shape in [(35, 2, 3, 5), (2, 13, 11, 5), (17, 1, 1, 5)] {
        Half::new(shape, 6, Hswish).check_all(&format!("project of {shape:?}"));
    }
}

#[test]
fn a_squeeze_excite_in_front_of_the_projection_has_the_gradients_of_its_formula() {
    for (shape, c_out, squeezed) in
        [((3, 5, 3, 5), 4, 2), ((2, 4, 4, 17), 6, 5), ((35, 2, 2, 4), 3, 1)]
    {
        for with_mask in [false, true] {
            let c = shape.3;
            let half = Half {
                mask: with_mask.then(|| random("mask", c)),
                layers: Some(Layers::new(c, squeezed, with_mask)),
                ..Half::new(shape, c_out, Activation::Hswish)
            };
            half.check_all(&format!("squeeze-excite of {shape:?}, masks {with_mask}"));
        }
    }
}

#[test]
fn a_projection_refuses_what_does_not_fit() {
    let half = Half {
        layers: Some(Layers::new(6, 2, true)),
        ..Half::new((2, 4, 4, 6), 3, Activation::Relu)
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let (input, w, fitting) =
        (half.input(), zeros(&[6, 3]), half.layers.clone().unwrap().tensors());
    let forward = |mask: Option<&Tensor>, layers: &SqueezeExciteWeights, w: &Tensor| {
        project::forward(&input, mask, Some(layers), w, false).map(|(y, _)| y)
    };
    assert_eq!(forward(None, &fitting, &w).unwrap().dims(), [2, 4, 4, 3]);
    assert_refused(forward(None, &fitting, &zeros(&[5, 3])), &["project: w", "5", "6"]);
    assert_refused(forward(Some(&zeros(&[5])), &fitting, &w), &["project: the mask", "5", "6"]);
    let spoilt = |spoil: &dyn Fn(&mut SqueezeExciteWeights)| {
        let mut layers = fitting.clone();
        spoil(&mut layers);
        forward(None, &layers, &w)
    };
    let refused = |spoil: &dyn Fn(&mut SqueezeExciteWeights), what: &str| {
        assert_refused(spoilt(spoil), &["project:", what]);
    };
    refused(&|l| l.squeeze = zeros(&[5, 2]), "the squeeze is");
    refused(&|l| l.squeeze_bias = zeros(&[3]), "the squeeze's bias");
    refused(&|l| l.excite = zeros(&[2, 5]), "the excitation is");
    refused(&|l| l.excite_bias = zeros(&[5]), "the excitation's bias");
    refused(&|l| l.mask = Some(zeros(&[3])), "the squeeze's mask");
    let mut short = half.input();
    short.norm.gamma = zeros(&[5]);
    let refused = project::forward(&short, None, None, &w, false);
    assert_refused(refused.map(drop), &["project: gamma", "5", "6"]);
    let dy = zeros(&[2, 4, 4, 4]);
    let refused = project::backward(&input, None, None, &w, &dy, true);
    assert_refused(refused.map(drop), &["project: dy", "4", "3"]);
}
