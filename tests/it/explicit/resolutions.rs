//! Several resolutions in the explicit supernet.

use super::{Explicit, VALUE, run};
use crate::numbers::{assert_close, values};
use crate::reference::cross_entropy;
use crate::spaces::{self, gate_values, random_probabilities};
use candle_core::{Device, Tensor};
use repro::net::{ExplicitSupernet, NetGates};
use repro::rng::Seed;
use repro::space::SearchSpace;
use std::collections::BTreeMap;

/// One-hot gates give the supernet of one resolution with its weights. Other gates give the mixture of the
/// logits, because the gates come before the linear classifier.
#[test]
fn resolutions_are_separate_networks_with_one_classifier() {
    let mut s = Explicit::new(spaces::small(), 3);
    let gates = gate_values(&s.space, &random_probabilities(&s.space, "several"));
    let mixed = |resolutions: [f64; 2]| NetGates {
        resolutions: resolutions.to_vec(),
        blocks: gates.blocks.clone(),
    };
    let named: BTreeMap<String, Tensor> =
        s.params.named().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    let mut alone = |i: usize, prefix: &str| {
        let side = s.space.resolutions[i];
        let space = SearchSpace { resolutions: vec![side], ..s.space.clone() };
        let (net, mut params) = ExplicitSupernet::new(&space, Seed(9), &Device::Cpu).unwrap();
        let names: Vec<String> = params.named().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let theirs = named.get(&format!("{prefix}{name}")).unwrap_or_else(|| &named[&name]);
            params.set(&name, theirs).unwrap();
        }
        let images = s.images.sampled((s.space.max_resolution(), side), (side, side));
        let one_hot = mixed([f64::from(i == 0), f64::from(i == 1)]);
        let only = NetGates { resolutions: vec![1.0], ..one_hot.clone() };
        let expected = run(&net, &mut params, &images, &s.labels, &only).logits;
        let found = s.run(&one_hot).logits;
        assert_close(&format!("{side} alone"), &found, &expected, VALUE);
        found
    };
    let (small, large) = (alone(0, "at_5."), alone(1, ""));
    let found = s.run(&mixed([0.3, 0.7]));
    let mixture: Vec<f64> = small.iter().zip(&large).map(|(a, b)| 0.3 * a + 0.7 * b).collect();
    assert_close("mixture", &found.logits, &mixture, VALUE);

    let bias = values(&named["classifier.bias"]);
    let classes = s.space.classes;
    for (i, logits) in [&small, &large].into_iter().enumerate() {
        let loss = |step: f64| {
            let moved: Vec<f64> = found
                .logits
                .iter()
                .zip(logits)
                .enumerate()
                .map(|(j, (mixed, own))| mixed + step * (own - bias[j % classes]))
                .collect();
            cross_entropy(&moved, &s.labels, 0.0)
        };
        let slope = (loss(1e-4) - loss(-1e-4)) / 2e-4;
        assert_close(&format!("gate {i}"), &[found.gates.resolutions[i]], &[slope], VALUE);
    }
}
