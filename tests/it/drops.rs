//! Dropout and drop-connect: single blocks against the plain formula, networks by expectation.

use crate::harness::{block_params, block_plan, mbconv, named_gradients, scrambled_net};
use crate::numbers::{
    assert_close, assert_gradient, random, random_map, row, tensor, values, weights,
};
use crate::reference::{BlockGates, Map, Reference, Statistics, Weights};
use crate::spaces::small;
use candle_core::Tensor;
use repro::net::{self, Block, DropNoise, Network};
use repro::nn::{Params, Pass};
use repro::recipe::{DropRates, Recompute};
use repro::rng::Seed;
use repro::space::Activation::Hswish;
use repro::space::{BlockDecision, BlockPlan, Decisions, NetworkPlan};
use repro::tape::Value;

const VALUE: f64 = 2e-4;
const SLOPE: (f64, f64) = (5e-4, 1e-2);
const KEPT: [f64; 3] = [1.25, 0.0, 1.25];

/// x + factor of the image · block(x), by the reference of the block without its input.
fn expected(plan: &BlockPlan, weights: &Weights, x: &Map) -> Map {
    let inner = BlockPlan { identity: false, ..plan.clone() };
    let mut y = Reference::new(weights, Statistics::Batch).block(&inner, x, &BlockGates::default());
    let len = y.data.len() / KEPT.len();
    for (i, (y, x)) in y.data.iter_mut().zip(&x.data).enumerate() {
        *y = x + KEPT[i / len] * *y;
    }
    y
}

#[test]
fn a_block_is_left_out_for_some_images_and_scaled_for_the_others() {
    let plan = block_plan((1, 6, 6), &[mbconv(3, Hswish, 9, true, Some(4))], true);
    let mut params = block_params(&plan, "kept");
    let mut own = Params::new(Seed(0), params.device());
    let block = Block::new(&mut own, &plan).unwrap();
    let x = random_map("x", (3, 5, 7, 6));
    let at = weights(&params);
    let expected_y = expected(&plan, &at, &x);
    let dy = random("dy", expected_y.data.len());

    let mut pass = Pass::training(&mut params);
    let input = pass.tape.watch(&x.tensor());
    let kept = Some(Value::constant(row(&KEPT)));
    let gates = net::BlockGates { kept, ..Default::default() };
    let y = block.forward(&mut pass, &input, &gates).unwrap();
    assert_close("y", &values(y.tensor()), &expected_y.data, VALUE);
    let (gradients, mut leaves) = pass.backward(&y, tensor(&dy, &[3, 5, 7, 6])).unwrap();

    let loss = |weights: &Weights, x: &Map| expected(&plan, weights, x).dot(&dy);
    let dx = values(&leaves.take(&input).unwrap());
    assert_gradient("dx", &dx, &x.data, 3, SLOPE, |moved| {
        loss(&at, &Map::new((3, 5, 7, 6), moved.to_vec()))
    });
    for (name, found) in named_gradients(&params, &gradients) {
        assert_gradient(&name, &values(&found), &at[&name], 3, SLOPE, |moved| {
            let mut weights = at.clone();
            weights.insert(name.clone(), moved.to_vec());
            loss(&weights, &x)
        });
    }
}

/// A network with one branch per block, and images for it.
fn network() -> (Network, Params, Tensor) {
    let space = small();
    let largest = space.blocks.iter().map(|block| BlockDecision {
        block_type: 0,
        expansion: block.expansions() - 1,
        width: block.widths.len() - 1,
    });
    let resolution = space.resolutions.len() - 1;
    let arch = space.decide(&Decisions { resolution, blocks: largest.collect() });
    let (net, params) = scrambled_net(&NetworkPlan::derived(&arch), "drops");
    let side = space.max_resolution();
    let channels = space.image_channels;
    let images = random_map("images", (4, side, side, channels)).tensor();
    (net, params, images)
}

fn noise(rates: DropRates, step: u64) -> DropNoise<'static> {
    DropNoise { rates, seed: Seed(1), label: "train", step }
}

/// Logits and gradients of a step with running statistics left aside.
fn step(
    (net, params, images): &mut (Network, Params, Tensor),
    rates: DropRates,
    number: u64,
    recompute: Recompute,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut pass = Pass::training(params).recomputing(recompute);
    let logits = net.forward_dropping(&mut pass, images, &noise(rates, number)).unwrap();
    let found = values(logits.tensor());
    let dy = tensor(&random("dlogits", found.len()), logits.tensor().dims());
    let (gradients, _) = pass.backward(&logits, dy).unwrap();
    (found, gradients.iter().flatten().map(values).collect())
}

#[test]
fn a_step_has_the_same_bits_again_and_with_recomputed_blocks() {
    let mut all = network();
    let rates = DropRates { dropout: 0.3, drop_connect: 0.5 };
    let first = step(&mut all, rates, 3, Recompute::None);
    assert_eq!(first, step(&mut all, rates, 3, Recompute::None));
    assert_eq!(first, step(&mut all, rates, 3, Recompute::Block));
    assert_ne!(first.0, step(&mut all, rates, 4, Recompute::None).0);
    let only = |dropout, drop_connect| DropRates { dropout, drop_connect };
    for other in [only(0.3, 0.0), only(0.0, 0.5), only(0.0, 0.0)] {
        assert_ne!(first.0, step(&mut all, other, 3, Recompute::None).0, "{other:?}");
    }
}

#[test]
fn without_rates_nothing_is_dropped() {
    let mut all = network();
    let dropped = step(&mut all, DropRates::default(), 0, Recompute::None).0;
    let (net, mut params, images) = all;
    let mut pass = Pass::training(&mut params);
    let logits = net.forward(&mut pass, &images).unwrap();
    assert_eq!(dropped, values(logits.tensor()));
}

/// Logits are linear in the features that dropout multiplies, so their mean is that without it.
#[test]
fn dropout_keeps_the_mean_of_the_logits() {
    let mut all = network();
    let steps = 1500;
    let rates = DropRates { dropout: 0.4, drop_connect: 0.0 };
    let plain = step(&mut all, DropRates::default(), 0, Recompute::None).0;
    let mut sums = vec![(0.0, 0.0); plain.len()];
    for number in 0..steps {
        let mut pass = Pass::training(&mut all.1);
        let logits = all.0.forward_dropping(&mut pass, &all.2, &noise(rates, number)).unwrap();
        for ((sum, squares), value) in sums.iter_mut().zip(values(logits.tensor())) {
            *sum += value;
            *squares += value * value;
        }
    }
    let mut spread = 0.0;
    for ((sum, squares), plain) in sums.into_iter().zip(plain) {
        let mean = sum / steps as f64;
        let deviation = (squares / steps as f64 - mean * mean).sqrt();
        let error = deviation / (steps as f64).sqrt();
        assert!((mean - plain).abs() < 5.0 * error + 1e-4, "{mean} for {plain}, error {error}");
        spread += deviation;
    }
    assert!(spread > 0.1, "dropout does something");
}
