//! The second projection of an inverted residual.

use crate::numbers::{
    assert_close, assert_gradient, assert_refused, random, random_map, row, tensor, values,
};
use crate::reference::{self, Map};
use candle_core::{DType, Device, Tensor};
use repro::ops::project::{self, SqueezeExciteWeights};
use repro::ops::{Moments, norm};
use repro::space::Activation;

const VALUE: f64 = 1e-4;
const SLOPE: (f64, f64) = (5e-4, 1e-3);

/// The operands of [`project::forward`] in f64.
#[derive(Clone)]
struct Projection {
    z: Map,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    activation: Activation,
    mask: Option<Vec<f64>>,
    layers: Option<Layers>,
    w: Vec<f64>,
    c_out: usize,
}

/// The weights of a squeeze-excite in f64.
#[derive(Clone)]
struct Layers {
    squeeze: Vec<f64>,
    squeeze_bias: Vec<f64>,
    excite: Vec<f64>,
    excite_bias: Vec<f64>,
    mask: Option<Vec<f64>>,
    activation: Activation,
    gate: Activation,
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
            gate: Activation::Hsigmoid,
        }
    }

    /// s(a), a map of one pixel.
    fn factors(&self, a: &Map) -> Map {
        let squeezed = self.squeeze_bias.len();
        let h = reference::convolve(&reference::pool(a), &self.squeeze, 1, 1, squeezed);
        let h = h.by_channel(|j, v| {
            let mask = self.mask.as_ref().map_or(1.0, |mask| mask[j]);
            reference::activate(self.activation, v + self.squeeze_bias[j]) * mask
        });
        reference::convolve(&h, &self.excite, 1, 1, a.c)
            .by_channel(|j, v| reference::activate(self.gate, v + self.excite_bias[j]))
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
            gate: self.gate,
        }
    }
}

impl Projection {
    fn new(shape: (usize, usize, usize, usize), c_out: usize, activation: Activation) -> Self {
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
fn projection_matches_the_reference() {
    use Activation::{Hswish, Identity, Relu};
    for activation in [Identity, Relu, Hswish] {
        for (c, c_out) in [(1, 1), (3, 17), (12, 5), (17, 33), (33, 4)] {
            let mut projection = Projection::new((3, 5, 3, c), c_out, activation);
            projection.check_all(&format!("project {activation} {c} to {c_out}"));
            projection.mask = Some(random("mask", c));
            projection.check_all(&format!("masked project {activation} {c} to {c_out}"));
        }
    }
    // More images than chunks, more pixels than a projection takes at once, one pixel per image, many
    // channels.
    for shape in [(35, 2, 3, 5), (2, 13, 11, 5), (17, 1, 1, 5), (3, 2, 2, 1030)] {
        Projection::new(shape, 6, Hswish).check_all(&format!("project of {shape:?}"));
    }
}

#[test]
fn squeeze_excite_matches_the_reference() {
    // The last two: several parts per image on a GPU, and many channels.
    for (shape, c_out, squeezed) in [
        ((3, 5, 3, 5), 4, 2),
        ((2, 4, 4, 17), 6, 5),
        ((35, 2, 2, 4), 3, 1),
        ((2, 11, 13, 35), 3, 33),
        ((3, 2, 2, 1030), 2, 3),
    ] {
        for with_mask in [false, true] {
            let c = shape.3;
            let projection = Projection {
                mask: with_mask.then(|| random("mask", c)),
                layers: Some(Layers::new(c, squeezed, with_mask)),
                ..Projection::new(shape, c_out, Activation::Hswish)
            };
            projection.check_all(&format!("squeeze-excite of {shape:?}, masks {with_mask}"));
        }
    }
}

#[test]
fn squeeze_excite_has_other_functions() {
    let layers = Layers {
        activation: Activation::Swish,
        gate: Activation::Sigmoid,
        ..Layers::new(6, 3, true)
    };
    let projection =
        Projection { layers: Some(layers), ..Projection::new((3, 4, 3, 6), 5, Activation::Swish) };
    projection.check_all("squeeze-excite with swish and sigmoid");
}

#[test]
fn projection_refuses_other_shapes() {
    let projection = Projection {
        layers: Some(Layers::new(6, 2, true)),
        ..Projection::new((2, 4, 4, 6), 3, Activation::Relu)
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let (input, w, fitting) =
        (projection.input(), zeros(&[6, 3]), projection.layers.clone().unwrap().tensors());
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
    let mut short = projection.input();
    short.norm.gamma = zeros(&[5]);
    let refused = project::forward(&short, None, None, &w, false);
    assert_refused(refused.map(drop), &["project: gamma", "5", "6"]);
    let dy = zeros(&[2, 4, 4, 4]);
    let refused = project::backward(&input, None, None, &w, &dy, true);
    assert_refused(refused.map(drop), &["project: dy", "4", "3"]);
}
