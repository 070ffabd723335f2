//! Batch statistics and the gated sum of branches.

use super::{ACTIVATIONS, CHANNELS, SLOPE};
use crate::numbers::{
    assert_close, assert_gradient, assert_refused, random, random_map, row, tensor, values,
};
use crate::reference::{self, Map};
use candle_core::Tensor;
use repro::ops::{Moments, norm};
use repro::space::Activation;

#[test]
fn moments_are_mean_and_biased_variance() {
    for c in CHANNELS {
        // More rows than one task takes; channels with means far from zero.
        let side = if c < 12 { 130 } else { 30 };
        let mut z = random_map("z", (2, side, side, c));
        z = z.by_channel(|j, v| 0.5 * v + j as f64 - 3.0);
        let expected = reference::moments(&z);
        let Moments { mean, variance, .. } = norm::moments(&z.tensor()).unwrap();
        assert_close("mean", &values(&mean), &expected.mean, 1e-4);
        for ((found, variance), mean) in
            values(&variance).iter().zip(&expected.variance).zip(&expected.mean)
        {
            // The variance is a difference of squares, each rounded to f32.
            let rounding = 1e-6 * (1.0 + mean * mean / variance);
            assert!((found / variance - 1.0).abs() < rounding, "{found} for {variance}, {mean}");
        }
        let inverse = values(&norm::inverse_deviation(&variance).unwrap());
        for (inverse, variance) in inverse.iter().zip(values(&variance)) {
            assert!((inverse * (variance + 1e-5).sqrt() - 1.0).abs() < 1e-6);
        }
    }
    // With a variance of zero, ε remains.
    let flat = Map::new((2, 3, 3, 5), vec![2.5; 90]);
    let Moments { mean, variance, count } = norm::moments(&flat.tensor()).unwrap();
    assert_eq!((values(&mean), count), (vec![2.5; 5], 18));
    let inverse = values(&norm::inverse_deviation(&variance).unwrap());
    assert_close("1/√ε", &inverse, &[1e-5f64.sqrt().recip(); 5], 1e-6);
}

#[test]
fn running_statistics_follow_the_batch() {
    for (c, count, momentum) in [(1, 1, 0.1), (33, 2, 1.0), (1030, 50, 0.3)] {
        let squared = |name: &str| -> Vec<f64> { random(name, c).iter().map(|v| v * v).collect() };
        let (mean, variance) = (random("mean", c), squared("variance"));
        let (old_mean, old_variance) = (random("old mean", c), squared("old variance"));
        let batch = Moments { mean: row(&mean), variance: row(&variance), count };
        let old = (row(&old_mean), row(&old_variance));
        let running = norm::Running { mean: &old.0, variance: &old.1 };
        let (inverse, moved) = norm::follow(&batch, running, momentum).unwrap();
        // A batch of one value has no unbiased variance; the biased one takes its place.
        let unbiased = if count == 1 { 1.0 } else { count as f64 / (count - 1) as f64 };
        let follow = |old: &[f64], new: &[f64], factor: f64| -> Vec<f64> {
            let both = old.iter().zip(new);
            both.map(|(old, new)| old + momentum * (factor * new - old)).collect()
        };
        let expected: Vec<f64> = variance.iter().map(|v| (v + 1e-5).sqrt().recip()).collect();
        assert_close("inverse", &values(&inverse), &expected, 1e-5);
        let expected = follow(&old_mean, &mean, 1.0);
        assert_close("running mean", &values(&moved.mean), &expected, 1e-6);
        let expected = follow(&old_variance, &variance, unbiased);
        assert_close("running variance", &values(&moved.variance), &expected, 1e-6);
        // The old ones may be shared.
        assert_close("old mean", &values(&old.0), &old_mean, 1e-6);
        assert_close("old variance", &values(&old.1), &old_variance, 1e-6);
        let few = norm::Running { mean: &old.0, variance: &row(&vec![1.0; c + 1]) };
        assert_refused(norm::follow(&batch, few, momentum), &["norm", "statistics"]);
    }
}

/// The operands of [`norm::forward`] in f64.
#[derive(Clone)]
pub(super) struct Summands {
    pub zs: Vec<Map>,
    pub gammas: Vec<Vec<f64>>,
    pub betas: Vec<Vec<f64>>,
    pub activations: Vec<Activation>,
    pub gates: Option<Vec<f64>>,
    pub identity: Option<(Map, f64)>,
    pub mask: Option<Vec<f64>>,
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

    pub(super) fn sum(&self) -> norm::GatedSum {
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

pub(super) fn summands(
    shape: (usize, usize, usize, usize),
    activations: &[Activation],
) -> Summands {
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
fn single_branch_matches_the_reference() {
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
fn gated_sum_matches_the_reference() {
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
    // Several tasks.
    let mut large = summands((2, 31, 29, 33), &[Relu, Identity]);
    large.gates = Some(random("gates", 2));
    large.identity = Some((random_map("identity", (2, 31, 29, 33)), -0.4));
    large.mask = Some(random("mask", 33));
    large.check_all("large sum");
}

#[test]
fn identity_alone_matches_the_reference() {
    for c in CHANNELS {
        let mut s = summands((2, 3, 3, c), &[]);
        s.identity = Some((random_map("identity", (2, 3, 3, c)), 0.7));
        s.check_all(&format!("identity of {c}"));
        s.mask = Some(random("mask", c));
        s.check_all(&format!("masked identity of {c}"));
    }
}
