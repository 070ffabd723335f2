//! Every operator against plain f64 loops: values, gradients by finite differences, refusals.

use crate::numbers::{
    assert_close, assert_gradient, assert_refused, random, random_map, row, tensor, values,
};
use crate::reference::{self, Map};
use candle_core::{DType, Tensor};
use repro::ops::subsample::Grid;
use repro::ops::{
    Moments, bias, conv, depthwise, loss, matmul, norm, pad, pool, subsample, update,
};
use repro::space::Activation;

/// f32 sums over at most a few thousand terms.
const VALUE: f64 = 2e-5;
const SLOPE: (f64, f64) = (2e-4, 1e-3);

const ACTIVATIONS: [Activation; 4] =
    [Activation::Identity, Activation::Relu, Activation::Hswish, Activation::Hsigmoid];

/// Channel counts that meet every width of the vectorised kernels and every remainder.
const CHANNELS: [usize; 7] = [1, 3, 5, 12, 17, 33, 47];

fn shape(x: &Map) -> (usize, usize, usize, usize) {
    (x.n, x.h, x.w, x.c)
}

#[test]
fn a_matrix_product_is_the_sum_of_products() {
    // 2 · 37 · 29 rows are more than one piece of work.
    for (h, w, c_in, c_out) in [(1, 1, 1, 1), (3, 5, 3, 17), (4, 4, 33, 12), (37, 29, 5, 3)] {
        let what = format!("matmul {c_in} to {c_out}");
        let x = random_map("x", (2, h, w, c_in));
        let weight = random("w", c_in * c_out);
        let y = reference::convolve(&x, &weight, 1, 1, c_out);
        let dy = random("dy", y.data.len());
        let (xs, ws) = (x.tensor(), tensor(&weight, &[c_in, c_out]));
        let dys = tensor(&dy, &[2, h, w, c_out]);
        let found = matmul::forward(&xs, &ws).unwrap();
        assert_eq!(found.dims(), [2, h, w, c_out]);
        assert_close(&what, &values(&found), &y.data, VALUE);
        let dx = values(&matmul::backward_input(&ws, &dys).unwrap());
        assert_gradient(&format!("{what}, dx"), &dx, &x.data, 3, SLOPE, |moved| {
            let moved = Map::new(shape(&x), moved.to_vec());
            reference::convolve(&moved, &weight, 1, 1, c_out).dot(&dy)
        });
        let dw = values(&matmul::backward_weight(&xs, &dys).unwrap());
        assert_gradient(&format!("{what}, dw"), &dw, &weight, 3, SLOPE, |moved| {
            reference::convolve(&x, moved, 1, 1, c_out).dot(&dy)
        });
    }
}

/// (batch, height, width, channels), with images smaller than a kernel.
const IMAGES: [(usize, usize, usize, usize); 9] = [
    (2, 5, 7, 1),
    (2, 7, 5, 3),
    (3, 6, 9, 5),
    (2, 9, 8, 12),
    (2, 8, 6, 17),
    (2, 6, 5, 33),
    (2, 1, 1, 5),
    (2, 1, 2, 17),
    (35, 3, 2, 4), // more images than pieces of work
];

#[test]
fn a_depthwise_convolution_filters_every_channel_by_itself() {
    for (n, h, w, c) in IMAGES {
        for (k, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
            let what = format!("depthwise k{k} s{stride} on {n} of {h}x{w}x{c}");
            let x = random_map("x", (n, h, w, c));
            let weight = random("w", k * k * c);
            let y = reference::depthwise(&x, &weight, k, stride);
            let dy = random("dy", y.data.len());
            let (xs, ws) = (x.tensor(), tensor(&weight, &[k * k, c]));
            let dys = tensor(&dy, &[y.n, y.h, y.w, y.c]);
            let (found, _) = depthwise::forward(&xs, None, &ws, stride, false).unwrap();
            assert_eq!(found.dims(), dys.dims(), "{what}");
            assert_close(&what, &values(&found), &y.data, VALUE);
            let all = depthwise::DepthwiseWanted { input: true, weights: true };
            let g = depthwise::backward(&xs, None, &ws, stride, &dys, all).unwrap();
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
    }
}

#[test]
fn a_dense_convolution_is_the_sum_over_its_windows() {
    for (n, h, w, c) in [(2, 5, 7, 1), (2, 8, 5, 3), (2, 1, 2, 3), (35, 6, 6, 5)] {
        for (k, stride, c_out) in
            [(1, 1, 4), (1, 2, 4), (3, 1, 17), (3, 2, 5), (5, 2, 4), (7, 2, 3)]
        {
            let what = format!("conv k{k} s{stride} on {n} of {h}x{w}x{c}");
            let x = random_map("x", (n, h, w, c));
            let weight = random("w", k * k * c * c_out);
            let y = reference::convolve(&x, &weight, k, stride, c_out);
            let (xs, ws) = (x.tensor(), tensor(&weight, &[k * k, c, c_out]));
            let (found, moments) = conv::forward(&xs, &ws, (k, stride), true).unwrap();
            assert_eq!(found.dims(), [y.n, y.h, y.w, c_out], "{what}");
            assert_close(&what, &values(&found), &y.data, VALUE);
            let direct = norm::moments(&found).unwrap();
            let Moments { mean, variance, .. } = moments.unwrap();
            assert_close(&format!("{what}, mean"), &values(&mean), &values(&direct.mean), 1e-4);
            let (variance, direct) = (values(&variance), values(&direct.variance));
            assert_close(&format!("{what}, variance"), &variance, &direct, 1e-4);

            let dy = random("dy", y.data.len());
            let dys = tensor(&dy, found.dims());
            let g = conv::backward(&xs, &ws, (k, stride), &dys, (true, true)).unwrap();
            let dx = values(&g.dx.unwrap());
            assert_gradient(&format!("{what}, dx"), &dx, &x.data, 2, SLOPE, |moved| {
                let moved = Map::new(shape(&x), moved.to_vec());
                reference::convolve(&moved, &weight, k, stride, c_out).dot(&dy)
            });
            let dw = values(&g.dw.unwrap());
            assert_gradient(&format!("{what}, dw"), &dw, &weight, 2, SLOPE, |moved| {
                reference::convolve(&x, moved, k, stride, c_out).dot(&dy)
            });
        }
    }
}

#[test]
fn subsampling_is_a_strided_convolution_with_one() {
    for (h, w, c) in [(5, 7, 1), (6, 5, 3), (1, 2, 17), (8, 8, 5)] {
        for stride in [1, 2, 3] {
            let what = format!("subsample s{stride} on {h}x{w}x{c}");
            let x = random_map("x", (2, h, w, c));
            let one: Vec<f64> = (0..c * c).map(|i| f64::from(u8::from(i / c == i % c))).collect();
            let y = reference::convolve(&x, &one, 1, stride, c);
            let grid = Grid::strided(stride, (h, w));
            let found = subsample::forward(&x.tensor(), grid).unwrap();
            assert_eq!(found.dims(), [2, y.h, y.w, c], "{what}");
            assert_eq!(values(&found), y.data, "{what}");
            let dy = random("dy", y.data.len());
            let dys = tensor(&dy, found.dims());
            let dx = values(&subsample::backward(&dys, grid, (h, w)).unwrap());
            assert_gradient(&format!("{what}, dx"), &dx, &x.data, 3, SLOPE, |moved| {
                reference::convolve(&Map::new(shape(&x), moved.to_vec()), &one, 1, stride, c)
                    .dot(&dy)
            });
        }
    }
}

#[test]
fn maps_of_several_grids_are_put_back_among_zeros_and_summed() {
    let (large, c) = ((9, 7), 5);
    let grids = [((1, 1), large), ((3, 2), (6, 5)), ((7, 2), (3, 2))];
    let parts = grids.map(|(ratio, (h, w))| (ratio, random_map(&format!("{h}"), (2, h, w, c))));
    let mut expected = Map::zeros(2, large.0, large.1, c);
    for (ratio, part) in &parts {
        let back = part.interspersed(*ratio, large);
        assert_eq!(back.sampled(*ratio, (part.h, part.w)), *part);
        expected.add(1.0, &back);
        let grid = Grid { ratio: *ratio, size: (part.h, part.w) };
        let read = subsample::forward(&back.tensor(), grid).unwrap();
        assert_eq!(values(&read), part.data);
    }
    let tensors = parts
        .each_ref()
        .map(|(ratio, part)| (part.tensor(), Grid { ratio: *ratio, size: (part.h, part.w) }));
    let found = subsample::merge(&tensors.each_ref().map(|(t, g)| (t, *g)), large).unwrap();
    assert_close("merged", &values(&found), &expected.data, 1e-6);
}

#[test]
fn pooling_is_the_mean_over_pixels() {
    for c in CHANNELS {
        let x = random_map("x", (3, 5, 4, c));
        let found = pool::forward(&x.tensor()).unwrap();
        assert_eq!(found.dims(), [3, c]);
        assert_close("pool", &values(&found), &reference::pool(&x).data, VALUE);
        let dy = random("dy", 3 * c);
        let dx = values(&pool::backward(&tensor(&dy, &[3, c]), (5, 4)).unwrap());
        assert_gradient("pool, dx", &dx, &x.data, 3, SLOPE, |moved| {
            reference::pool(&Map::new(shape(&x), moved.to_vec())).dot(&dy)
        });
    }
}

#[test]
fn bias_and_activation_act_on_every_row() {
    for activation in ACTIVATIONS {
        for (c, with_bias) in CHANNELS.into_iter().flat_map(|c| [(c, false), (c, true)]) {
            let x: Vec<f64> = random("x", 7 * c).iter().map(|v| 2.5 * v).collect();
            let bias = if with_bias { random("bias", c) } else { vec![0.0; c] };
            let dy = random("dy", 7 * c);
            let apply = |x: &[f64], bias: &[f64]| -> Map {
                Map::new((7, 1, 1, c), x.to_vec())
                    .by_channel(|j, v| reference::activate(activation, v + bias[j]))
            };
            let (xs, biases) = (tensor(&x, &[7, c]), row(&bias));
            let biases = with_bias.then_some(&biases);
            let what = format!("bias {activation} of {c}");
            let y = bias::forward(&xs, biases, activation).unwrap();
            assert_close(&what, &values(&y), &apply(&x, &bias).data, VALUE);
            let g = bias::backward(&xs, biases, activation, &tensor(&dy, &[7, c])).unwrap();
            let dx = values(&g.dx);
            assert_gradient(&format!("{what}, dx"), &dx, &x, 3, SLOPE, |moved| {
                apply(moved, &bias).dot(&dy)
            });
            assert_eq!(g.dbias.is_some(), with_bias);
            if let Some(dbias) = g.dbias {
                let dbias = values(&dbias);
                assert_gradient(&format!("{what}, dbias"), &dbias, &bias, 3, SLOPE, |moved| {
                    apply(&x, moved).dot(&dy)
                });
            }
        }
    }
}

#[test]
fn moments_are_mean_and_biased_variance() {
    for c in CHANNELS {
        // More rows than one piece of work takes, and channels far from zero.
        let side = if c < 12 { 130 } else { 30 };
        let mut z = random_map("z", (2, side, side, c));
        z = z.by_channel(|j, v| 0.5 * v + j as f64 - 3.0);
        let expected = reference::moments(&z);
        let Moments { mean, variance, .. } = norm::moments(&z.tensor()).unwrap();
        assert_close("mean", &values(&mean), &expected.mean, 1e-4);
        for ((found, variance), mean) in
            values(&variance).iter().zip(&expected.variance).zip(&expected.mean)
        {
            // It is a difference of squares, each rounded to an f32.
            let rounding = 1e-6 * (1.0 + mean * mean / variance);
            assert!((found / variance - 1.0).abs() < rounding, "{found} for {variance}, {mean}");
        }
        let inverse = values(&norm::inverse_deviation(&variance).unwrap());
        for (inverse, variance) in inverse.iter().zip(values(&variance)) {
            assert!((inverse * (variance + 1e-5).sqrt() - 1.0).abs() < 1e-6);
        }
    }
    // Where ε is all there is.
    let flat = Map::new((2, 3, 3, 5), vec![2.5; 90]);
    let Moments { mean, variance, count } = norm::moments(&flat.tensor()).unwrap();
    assert_eq!((values(&mean), count), (vec![2.5; 5], 18));
    let inverse = values(&norm::inverse_deviation(&variance).unwrap());
    assert_close("1/√ε", &inverse, &[1e-5f64.sqrt().recip(); 5], 1e-6);
}

/// The norm operator's inputs in f64.
#[derive(Clone)]
struct Summands {
    zs: Vec<Map>,
    gammas: Vec<Vec<f64>>,
    betas: Vec<Vec<f64>>,
    activations: Vec<Activation>,
    gates: Option<Vec<f64>>,
    identity: Option<(Map, f64)>,
    mask: Option<Vec<f64>>,
}

impl Summands {
    fn value(&self) -> Map {
        let like = self.zs.first().unwrap_or_else(|| &self.identity.as_ref().unwrap().0);
        let mut y = Map::zeros(like.n, like.h, like.w, like.c);
        for (t, z) in self.zs.iter().enumerate() {
            let m = reference::moments(z);
            let affine = (self.gammas[t].as_slice(), self.betas[t].as_slice());
            let u = reference::normalise(z, &m.mean, &m.variance, affine);
            let gate = self.gates.as_ref().map_or(1.0, |g| g[t]);
            y.add(gate, &u.by_channel(|_, u| reference::activate(self.activations[t], u)));
        }
        if let Some((x, rho)) = &self.identity {
            y.add(*rho, x);
        }
        match &self.mask {
            Some(mask) => y.by_channel(|j, v| v * mask[j]),
            None => y,
        }
    }

    fn sum(&self) -> norm::GatedSum {
        let branches = self.zs.iter().enumerate().map(|(t, z)| {
            let Moments { mean, variance, .. } = norm::moments(&z.tensor()).unwrap();
            let norm = norm::Norm {
                mean,
                inverse: norm::inverse_deviation(&variance).unwrap(),
                gamma: row(&self.gammas[t]),
                beta: row(&self.betas[t]),
                activation: self.activations[t],
            };
            norm::PreActivation { z: z.tensor(), norm }
        });
        norm::GatedSum {
            branches: branches.collect(),
            gates: self.gates.as_deref().map(row),
            identity: self.identity.as_ref().map(|(x, rho)| (x.tensor(), row(&[*rho]))),
            mask: self.mask.as_deref().map(row),
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
        assert_gradient(what, &values(found), at, 3, SLOPE, |moved| {
            let mut trial = self.clone();
            put(&mut trial, moved.to_vec());
            trial.value().dot(dy)
        });
    }

    fn check_all(&self, what: &str) {
        let (expected, sum) = (self.value(), self.sum());
        let y = norm::forward(&sum).unwrap();
        assert_close(what, &values(&y), &expected.data, 1e-4);
        let dy = random("dy", expected.data.len());
        let all = norm::NormWanted { branches: vec![true; self.zs.len()], identity: true };
        let g = norm::backward(&sum, &tensor(&dy, y.dims()), &all).unwrap();
        for (t, norm::BranchGradients { dz, dgamma, dbeta }) in g.branches.iter().enumerate() {
            let at = |part: &str| format!("{what}, {part} of {t}");
            let dz = dz.as_ref().unwrap();
            self.check(&at("dz"), dz, &self.zs[t].data, &dy, |s, v| s.zs[t].data = v);
            self.check(&at("dgamma"), dgamma, &self.gammas[t], &dy, |s, v| s.gammas[t] = v);
            self.check(&at("dbeta"), dbeta, &self.betas[t], &dy, |s, v| s.betas[t] = v);
        }
        assert_eq!(g.branches.len(), self.zs.len());
        assert_eq!(g.gates.is_some(), self.gates.is_some());
        if let (Some(d), Some(gates)) = (&g.gates, &self.gates) {
            self.check(&format!("{what}, gates"), d, gates, &dy, |s, v| s.gates = Some(v));
        }
        assert_eq!(g.dx.is_some() && g.drho.is_some(), self.identity.is_some());
        if let (Some(dx), Some(drho), Some((x, rho))) = (&g.dx, &g.drho, &self.identity) {
            self.check(&format!("{what}, dx"), dx, &x.data, &dy, |s, v| {
                s.identity.as_mut().unwrap().0.data = v;
            });
            self.check(&format!("{what}, drho"), drho, &[*rho], &dy, |s, v| {
                s.identity.as_mut().unwrap().1 = v[0];
            });
        }
        assert_eq!(g.mask.is_some(), self.mask.is_some());
        if let (Some(d), Some(mask)) = (&g.mask, &self.mask) {
            self.check(&format!("{what}, mask"), d, mask, &dy, |s, v| s.mask = Some(v));
        }
    }
}

fn summands(shape: (usize, usize, usize, usize), activations: &[Activation]) -> Summands {
    let c = shape.3;
    let count = 0..activations.len();
    Summands {
        zs: count
            .clone()
            .map(|t| {
                random_map(&format!("z{t}"), shape).by_channel(|j, v| 1.7 * v + (j % 3) as f64)
            })
            .collect(),
        gammas: count.clone().map(|t| random(&format!("gamma{t}"), c)).collect(),
        betas: count.map(|t| random(&format!("beta{t}"), c)).collect(),
        activations: activations.to_vec(),
        gates: None,
        identity: None,
        mask: None,
    }
}

#[test]
fn a_single_norm_has_the_gradients_of_its_formula() {
    for activation in ACTIVATIONS {
        for c in CHANNELS {
            let mut s = summands((2, 5, 3, c), &[activation]);
            s.check_all(&format!("norm {activation} of {c}"));
            s.mask = Some(random("mask", c));
            s.check_all(&format!("masked norm {activation} of {c}"));
        }
    }
}

#[test]
fn a_gated_sum_of_norms_and_the_input_has_the_gradients_of_its_formula() {
    use Activation::{Hswish, Identity, Relu};
    for c in CHANNELS {
        let shape = (3, 3, 5, c);
        let mut s = summands(shape, &[Identity, Relu, Hswish]);
        s.check_all(&format!("sum of {c}"));
        s.gates = Some(random("gates", 3));
        s.check_all(&format!("gated sum of {c}"));
        s.identity = Some((random_map("identity", shape), 0.6));
        s.check_all(&format!("gated sum and input of {c}"));
        s.mask = Some(random("mask", c));
        s.check_all(&format!("masked gated sum and input of {c}"));
        s.gates = None;
        s.check_all(&format!("masked sum and input of {c}"));
    }
    // Several pieces of work.
    let mut large = summands((2, 31, 29, 33), &[Relu, Identity]);
    large.gates = Some(random("gates", 2));
    large.identity = Some((random_map("identity", (2, 31, 29, 33)), -0.4));
    large.mask = Some(random("mask", 33));
    large.check_all("large sum");
}

#[test]
fn the_input_alone_can_be_weighed_and_masked() {
    for c in CHANNELS {
        let mut s = summands((2, 3, 3, c), &[]);
        s.identity = Some((random_map("identity", (2, 3, 3, c)), 0.7));
        s.check_all(&format!("identity of {c}"));
        s.mask = Some(random("mask", c));
        s.check_all(&format!("masked identity of {c}"));
    }
}

#[test]
fn cross_entropy_is_that_of_the_softmax_with_smoothed_labels() {
    for (n, classes, smoothing) in [(1, 2, 0.0), (5, 3, 0.1), (4, 10, 0.3), (3, 101, 0.0)] {
        let what = format!("cross-entropy of {n} in {classes}");
        let logits: Vec<f64> = random("logits", n * classes).iter().map(|v| 4.0 * v).collect();
        let labels: Vec<u32> = (0..n).map(|i| ((i * 7 + 1) % classes) as u32).collect();
        let found = loss::cross_entropy(&tensor(&logits, &[n, classes]), &labels, smoothing);
        let found = found.unwrap();
        let expected = reference::cross_entropy(&logits, &labels, smoothing);
        assert!((found.loss - expected).abs() < 1e-9, "{what}: {} {expected}", found.loss);
        let d = values(&found.dlogits);
        assert_gradient(&what, &d, &logits, 5, SLOPE, |moved| {
            reference::cross_entropy(moved, &labels, smoothing)
        });
        let hits = logits
            .chunks(classes)
            .zip(&labels)
            .filter(|(row, label)| row.iter().all(|v| *v <= row[**label as usize]));
        assert_eq!(found.correct, hits.count(), "{what}");
    }
}

#[test]
fn large_logits_do_not_overflow_and_equal_ones_count_for_the_first() {
    let logits = tensor(&[1000.0, -1000.0, 0.0, 0.0], &[2, 2]);
    let found = loss::cross_entropy(&logits, &[1, 0], 0.0).unwrap();
    assert!((found.loss - 1000.0 - 0.5 * 2f64.ln()).abs() < 1e-9);
    assert_eq!(values(&found.dlogits), [0.5, -0.5, -0.25, 0.25]);
    assert_eq!(found.correct, 1);
}

#[test]
fn updates_in_place_are_the_formulas() {
    let (w, v, g) = (random("w", 37), random("v", 37), random("g", 37));
    let (ws, vs, gs) = (row(&w), row(&v), row(&g));
    assert!(
        (update::sum_of_squares(&ws).unwrap() - w.iter().map(|v| v * v).sum::<f64>()).abs() < 1e-9
    );
    let step = update::SgdStep {
        learning_rate: 0.3,
        momentum: 0.8,
        weight_decay: 0.05,
        gradient_scale: 0.5,
    };
    step.apply(&ws, &vs, &gs).unwrap();
    let velocity: Vec<f64> = (0..37).map(|i| 0.8 * v[i] + 0.5 * g[i] + 0.05 * w[i]).collect();
    let moved: Vec<f64> = (0..37).map(|i| w[i] - 0.3 * velocity[i]).collect();
    assert_close("velocity", &values(&vs), &velocity, 1e-6);
    assert_close("weight", &values(&ws), &moved, 1e-6);
    assert_eq!(values(&gs), g);

    update::accumulate(&gs, &row(&w)).unwrap();
    let total: Vec<f64> = (0..37).map(|i| g[i] + w[i]).collect();
    assert_close("sum", &values(&gs), &total, 1e-6);
    assert_refused(update::accumulate(&gs, &row(&w[..36])), &["axpby"]);
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_both_numbers() {
    let x = random_map("x", (2, 4, 4, 6)).tensor();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, x.device()).unwrap();
    assert_refused(matmul::forward(&x, &zeros(&[5, 3])), &["matmul", "6", "5"]);
    assert_refused(matmul::forward(&x, &zeros(&[6])), &[]);
    assert_refused(
        depthwise::forward(&x, None, &zeros(&[9, 5]), 1, false),
        &["depthwise", "6", "5"],
    );
    assert_refused(depthwise::forward(&x, None, &zeros(&[49, 6]), 1, false), &["depthwise", "49"]);
    assert_refused(depthwise::forward(&zeros(&[4, 6]), None, &zeros(&[9, 6]), 1, false), &[]);
    assert_refused(pool::forward(&zeros(&[4, 6])), &[]);
    assert_refused(pad::sum(&[], 6), &["pad", "nothing"]);
    assert_refused(pad::sum(&[&x], 5), &["pad: a summand", "5", "6"]);
    assert_refused(pad::sum(&[&x, &zeros(&[2, 4, 3, 6])], 6), &["pad: a summand", "4, 3, 6]"]);
    assert_refused(norm::forward(&norm::GatedSum::default()), &["nothing to sum"]);
    let (shape, short) = ([2, 4, 4, 6], [2, 4, 4, 5]);
    assert_refused(matmul::backward_input(&zeros(&[6, 3]), &x), &["matmul: dy", "3"]);
    assert_refused(matmul::backward_weight(&x, &zeros(&[2, 4, 3, 3])), &["matmul: dy", "4, 4, 3]"]);
    let filter = zeros(&[9, 6]);
    let all = depthwise::DepthwiseWanted { input: true, weights: true };
    let short_gradient = depthwise::backward(&x, None, &filter, 2, &x, all);
    assert_refused(short_gradient.map(drop), &["depthwise: dy", "2, 2, 2, 6"]);
    assert_refused(conv::forward(&x, &zeros(&[9, 5, 2]), (3, 1), false), &["conv: w", "9, 6, 2"]);
    let short_gradient = conv::backward(&x, &zeros(&[9, 6, 2]), (3, 2), &x, (true, true));
    assert_refused(short_gradient.map(drop), &["conv: dy", "2, 2, 2, 2"]);
    let grid = Grid::strided(2, (4, 4));
    assert_refused(subsample::backward(&x, grid, (4, 4)), &["subsample: dy", "2, 2, 2, 6"]);
    let larger = Grid { ratio: (3, 4), size: (4, 4) };
    assert_refused(subsample::forward(&x, larger), &["no grid of a map of 4x4"]);
    let outside = Grid { ratio: (2, 1), size: (3, 2) };
    assert_refused(subsample::forward(&x, outside), &["no grid of a map of 4x4"]);
    assert_refused(subsample::merge(&[], (4, 4)), &["nothing to put back"]);
    let (bias, identity) = (zeros(&[6]), Activation::Identity);
    let misfit = zeros(&[5]);
    assert_refused(bias::forward(&x, Some(&misfit), identity), &["bias: bias", "5", "6"]);
    assert_refused(bias::backward(&x, Some(&bias), identity, &zeros(&short)), &["bias: dy"]);
    let filters = (zeros(&[9, 6, 2]), zeros(&[9, 6]));
    assert_refused(conv::forward(&x, &filters.0, (3, 0), false), &["conv: the stride is 0"]);
    let still = depthwise::forward(&x, None, &filters.1, 0, false);
    assert_refused(still, &["depthwise: the stride is 0"]);
    assert_refused(subsample::forward(&x, Grid::strided(0, (4, 4))), &["no grid of a map of 4x4"]);
    let fitting = || Summands {
        gates: Some(vec![1.0]),
        identity: Some((Map::zeros(2, 4, 4, 6), 1.0)),
        mask: Some(vec![1.0; 6]),
        ..summands((2, 4, 4, 6), &[identity])
    };
    let spoilt = |spoil: &dyn Fn(&mut norm::GatedSum)| {
        let mut sum = fitting().sum();
        spoil(&mut sum);
        norm::forward(&sum)
    };
    assert_eq!(spoilt(&|_| ()).unwrap().dims(), shape);
    assert_refused(spoilt(&|sum| sum.mask = Some(zeros(&[5]))), &["norm: the mask", "5", "6"]);
    assert_refused(spoilt(&|sum| sum.gates = Some(zeros(&[2]))), &["norm: the row of gates", "2"]);
    assert_refused(
        spoilt(&|sum| sum.identity = Some((zeros(&short), zeros(&[1])))),
        &["norm: the identity", "5", "6"],
    );
    assert_refused(
        spoilt(&|sum| sum.branches[0].norm.beta = zeros(&[5])),
        &["norm: beta", "5", "6"],
    );
    let wanted = norm::NormWanted { branches: vec![true], identity: true };
    let short_gradient = norm::backward(&fitting().sum(), &zeros(&short), &wanted);
    assert_refused(short_gradient.map(drop), &["norm: dy", "5", "6"]);
    let logits = zeros(&[2, 3]);
    assert_refused(loss::cross_entropy(&logits, &[0, 3], 0.0), &["2", "3 classes"]);
    assert_refused(loss::cross_entropy(&logits, &[0], 0.0), &["1 labels", "2 images"]);
}

#[test]
fn a_padded_sum_adds_the_channels_that_there_are() {
    // More than one piece of work; the widest summand need not fill the sum.
    let shape = |c: usize| (2, 31, 37, c);
    for (widths, width) in [(vec![3, 17, 8], 17), (vec![5], 9), (vec![12, 12], 12)] {
        let what = format!("{widths:?} to {width}");
        let parts: Vec<Map> =
            widths.iter().map(|c| random_map(&format!("{what}/{c}"), shape(*c))).collect();
        let mut expected = Map::zeros(2, 31, 37, width);
        for part in &parts {
            expected.add(1.0, &part.padded_to(width));
        }
        let tensors: Vec<Tensor> = parts.iter().map(Map::tensor).collect();
        let found = pad::sum(&tensors.iter().collect::<Vec<_>>(), width).unwrap();
        assert_eq!(found.dims(), [2, 31, 37, width]);
        assert_close(&what, &values(&found), &expected.data, VALUE);
        let dy = random_map("dy", shape(width));
        let dys = dy.tensor();
        for c in widths {
            let dx = pad::backward(&dys, c).unwrap();
            assert_close(&what, &values(&dx), &dy.cut(c).data, 0.0);
            // In memory of its own: gradients are added to in place.
            update::accumulate(&dx, &dx.ones_like().unwrap()).unwrap();
        }
        assert_close(&what, &values(&dys), &dy.data, 0.0);
    }
}

#[test]
fn other_layouts_and_types_than_dense_f32_are_refused() {
    let x = random_map("x", (2, 4, 4, 6)).tensor();
    assert_refused(pool::forward(&x.transpose(1, 3).unwrap()), &["contiguous"]);
    assert_refused(pool::forward(&x.to_dtype(DType::F64).unwrap()), &["f32", "F64"]);
}
