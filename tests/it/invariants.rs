//! The invariants of DMaskingNAS: masking equals a sum of zero-padded blocks (FBNetV2 section 3.1), and a
//! supernet with one-hot choices equals the derived network.

use crate::harness::{
    block_params, block_plan, derived, mbconv, named_gradients, params_with, run_block,
};
use crate::numbers::{
    assert_close, assert_gradient, loss_of, random, random_map, scramble, values, weights,
};
use crate::reference::{self, BlockGates, Map, Reference, Statistics, Weights};
use crate::spaces::{
    decisions, dense, gate_values, one_hot, own_input, shipped, small, sparse, unexpanded,
};
use candle_core::{Device, Tensor};
use repro::net::{GatedNetwork, SharedWeights, Supernet};
use repro::nn::{Params, Pass};
use repro::rng::Seed;
use repro::space::Activation::{Hswish, Relu};
use repro::space::{BlockPlan, Branch, Decisions, SearchSpace};
use std::collections::BTreeMap;

/// The first entries of `x` along every axis.
pub fn cut(x: &Tensor, dims: &[usize]) -> Tensor {
    let mut x = x.clone();
    for (axis, size) in dims.iter().enumerate() {
        x = x.narrow(axis, 0, *size).unwrap();
    }
    x.contiguous().unwrap()
}

/// `x` zero-padded to `dims` along every axis.
pub fn pad(x: &Tensor, dims: &[usize]) -> Tensor {
    let mut x = x.clone();
    for (axis, size) in dims.iter().enumerate() {
        let more = size - x.dims()[axis];
        x = x.pad_with_zeros(axis, 0, more).unwrap();
    }
    x.contiguous().unwrap()
}

fn add(total: &mut [f64], factor: f64, part: &[f64]) {
    assert_eq!(total.len(), part.len());
    for (a, b) in total.iter_mut().zip(part) {
        *a += factor * b;
    }
}

/// Checks that y = b(x) ∘ Σ g_i 1_i on the tape equals Σ g_i pad(b_i(x)), where b_i is a separate block
/// with the first w_i filters: outputs and the gradients of x, weights and gates.
fn masking_is_summing(what: &str, plan: &BlockPlan, options: &[usize], gates: &[f64]) {
    let params = block_params(plan, what);
    let x = random_map("x", (3, 5, 7, plan.input));
    let side = |s: usize| s.div_ceil(plan.stride);
    let pixels = 3 * side(5) * side(7);
    let dy = random("dy", pixels * plan.width);
    let masked = BlockGates { width: reference::mask(options, gates), ..BlockGates::default() };
    let run = run_block(plan, &params, &x, &masked, &dy);

    let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.data.len()]);
    let mut dw: Weights =
        run.weights.iter().map(|(n, g)| (n.clone(), vec![0.0; g.len()])).collect();
    let mut dgates = vec![];
    for (width, gate) in options.iter().zip(gates) {
        let narrow = BlockPlan { width: *width, ..plan.clone() };
        let shapes = block_params(&narrow, what);
        let sliced: BTreeMap<String, Tensor> = params
            .named()
            .zip(shapes.named())
            .map(|((name, wide), (_, like))| (name.to_owned(), cut(wide, like.dims())))
            .collect();
        let own = params_with(&narrow, &sliced);
        let shape = (3, side(5), side(7), plan.width);
        let dy_i = Map::new(shape, dy.clone()).cut(*width);
        let by_gate = dy_i.by_channel(|_, v| v * gate);
        let part = run_block(&narrow, &own, &x, &BlockGates::default(), &by_gate.data);
        let y_i = Map { data: part.y.clone(), ..dy_i.clone() };
        add(&mut y, *gate, &y_i.padded_to(plan.width).data);
        add(&mut dx, 1.0, &part.dx);
        dgates.push(y_i.dot(&dy_i.data));
        for ((name, wide), (_, like)) in params.named().zip(shapes.named()) {
            let Some(gradient) = part.weights.get(name) else { continue };
            let narrow = crate::numbers::tensor(gradient, like.dims());
            add(dw.get_mut(name).unwrap(), 1.0, &values(&pad(&narrow, wide.dims())));
        }
    }
    assert_close(&format!("{what}, y"), &run.y, &y, 1e-4);
    assert_close(&format!("{what}, dx"), &run.dx, &dx, 1e-3);
    for (name, expected) in &dw {
        assert_close(&format!("{what}, {name}"), &run.weights[name], expected, 1e-3);
    }
    let by_mask = run.gates.width.unwrap();
    let found: Vec<f64> = options.iter().map(|w| by_mask[..*w].iter().sum()).collect();
    assert_close(&format!("{what}, gates"), &found, &dgates, 1e-4);
}

#[test]
fn width_mask_equals_sum_of_padded_blocks() {
    let options = [3, 5, 8, 9];
    for gates in [[0.1, 0.4, 0.3, 0.2], [0.0, 1.0, 0.0, 0.0], [1.5, -0.5, 0.25, 2.0]] {
        for (what, branch) in [
            ("plain", mbconv(3, Relu, 10, true, None)),
            ("squeezed", mbconv(5, Hswish, 10, true, Some(3))),
            ("projection", Branch::Projection),
            ("residual", Branch::Residual { mid: 7 }),
        ] {
            for (stride, input, identity) in [(1, 9, true), (1, 9, false), (2, 6, false)] {
                let plan = block_plan((stride, input, 9), std::slice::from_ref(&branch), identity);
                let what = format!("{what} s{stride} identity {identity} {gates:?}");
                masking_is_summing(&what, &plan, &options, &gates);
            }
        }
        let both = [mbconv(3, Relu, 10, true, None), mbconv(5, Hswish, 10, true, Some(3))];
        masking_is_summing(
            &format!("two types {gates:?}"),
            &block_plan((1, 9, 9), &both, true),
            &options,
            &gates,
        );
    }
}

/// Σ_i g_i project(pad(hidden_i(x))) normalised: one narrow inverted residual per expansion option,
/// each with the first m_i hidden channels, summed where they have the same shape again.
fn expansions_summed(
    plan: &BlockPlan,
    weights: &Weights,
    x: &Map,
    options: &[usize],
    gates: &[f64],
) -> Map {
    let (name, branch) = &plan.branches[0];
    let Branch::MbConv { kernel, activation, mid, expand, .. } = branch else { panic!("{name}") };
    let name = format!("blocks.{}.{name}", plan.label);
    let project = &weights[&format!("{name}.project.weight")];
    let mut sum: Option<Map> = None;
    for (option, gate) in options.iter().zip(gates) {
        // The first `option` columns of every matrix over the hidden channels.
        let narrow: Weights = weights
            .iter()
            .map(|(key, all)| {
                let of_hidden = !key.contains(".project");
                let first = |row: &[f64]| row[..*option].to_vec();
                (
                    key.clone(),
                    if of_hidden {
                        all.chunks(*mid).flat_map(first).collect()
                    } else {
                        all.clone()
                    },
                )
            })
            .collect();
        let part = mbconv(*kernel, *activation, *option, *expand, None);
        let hidden =
            Reference::new(&narrow, Statistics::Batch).hidden(&name, x, &part, plan.stride);
        let z = reference::convolve(&hidden, &project[..option * plan.width], 1, 1, plan.width);
        match &mut sum {
            Some(sum) => sum.add(*gate, &z),
            None => sum = Some(z.by_channel(|_, v| gate * v)),
        }
    }
    Reference::new(weights, Statistics::Batch).norm(&format!("{name}.project"), &sum.unwrap())
}

#[test]
fn expansion_mask_equals_sum_of_projections() {
    let options = [3, 6, 10];
    for gates in [[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.7, -0.4, 1.1]] {
        for (stride, activation) in [(1, Hswish), (2, Relu)] {
            let what = format!("expansion s{stride} {activation} {gates:?}");
            let plan = block_plan((stride, 6, 7), &[mbconv(3, activation, 10, true, None)], false);
            let params = block_params(&plan, &what);
            let (weights, x) = (weights(&params), random_map("x", (3, 5, 7, 6)));
            let expected = expansions_summed(&plan, &weights, &x, &options, &gates);
            let dy = random("dy", expected.data.len());
            let masked =
                BlockGates { mid: reference::mask(&options, &gates), ..BlockGates::default() };
            let run = run_block(&plan, &params, &x, &masked, &dy);
            assert_close(&what, &run.y, &expected.data, 2e-4);

            let slope = (5e-4, 1e-2);
            let by_mask = run.gates.mid.unwrap();
            let found: Vec<f64> = options.iter().map(|m| by_mask[..*m].iter().sum()).collect();
            assert_gradient(&format!("{what}, gates"), &found, &gates, 3, slope, |moved| {
                expansions_summed(&plan, &weights, &x, &options, moved).dot(&dy)
            });
            assert_gradient(&format!("{what}, dx"), &run.dx, &x.data, 3, slope, |moved| {
                let moved = Map { data: moved.to_vec(), ..x.clone() };
                expansions_summed(&plan, &weights, &moved, &options, &gates).dot(&dy)
            });
            for (name, found) in &run.weights {
                let what = format!("{what}, {name}");
                assert_gradient(&what, found, &weights[name], 3, slope, |moved| {
                    let mut weights = weights.clone();
                    weights.insert(name.clone(), moved.to_vec());
                    expansions_summed(&plan, &weights, &x, &options, &gates).dot(&dy)
                });
            }
        }
    }
}

/// A supernet and images for it.
struct Supernetwork {
    space: SearchSpace,
    net: Supernet,
    params: Params,
    images: Tensor,
    labels: Vec<u32>,
}

impl Supernetwork {
    fn new(space: SearchSpace, batch: usize) -> Self {
        let (net, mut params) = Supernet::new(&space, Seed(4), &Device::Cpu).unwrap();
        scramble(&mut params, &space.name);
        let side = space.max_resolution();
        let images = random_map("images", (batch, side, side, space.image_channels)).tensor();
        let labels = (0..batch).map(|i| (i % space.classes) as u32).collect();
        Self { space, net, params, images, labels }
    }

    /// Compares logits and all gradients with the network derived by `made`.
    fn check(&mut self, made: &Decisions, tolerance: f64) {
        let what = format!("{}: {made:?}", self.space.name);
        let (net, mut own) = derived(&self.space, made, &self.params);
        let gates = gate_values(&self.space, &one_hot(&self.space, made, &0.0, &1.0));

        let mut pass = Pass::training(&mut self.params);
        let (logits, _) = self.net.forward(&mut pass, &self.images, &gates, false).unwrap();
        let result = loss_of(logits.tensor(), &self.labels, 0.1).unwrap();
        let (gradients, _) = pass.backward(&logits, result.dlogits).unwrap();
        let found = named_gradients(&self.params, &gradients);

        let mut pass = Pass::training(&mut own);
        let derived = net.forward(&mut pass, &self.images).unwrap();
        let result = loss_of(derived.tensor(), &self.labels, 0.1).unwrap();
        let (gradients, _) = pass.backward(&derived, result.dlogits).unwrap();

        let expected = values(derived.tensor());
        assert_close(&format!("{what}: logits"), &values(logits.tensor()), &expected, tolerance);
        self.check_gradients(&what, made, &found, &named_gradients(&own, &gradients), tolerance);
    }

    /// The gradients of the supernet equal those of the derived network in its channels, and are zero
    /// elsewhere.
    fn check_gradients(
        &self,
        what: &str,
        made: &Decisions,
        found: &[(String, Tensor)],
        expected: &[(String, Tensor)],
        tolerance: f64,
    ) {
        let (_, mut as_params) = Supernet::new(&self.space, Seed(0), &Device::Cpu).unwrap();
        let all: Vec<(String, Tensor)> =
            as_params.named().map(|(n, t)| (n.to_owned(), t.zeros_like().unwrap())).collect();
        for (name, zeros) in &all {
            let gradient = found.iter().find(|(n, _)| n == name).map(|(_, g)| g);
            as_params.set(name, gradient.unwrap_or(zeros)).unwrap();
        }
        let (_, cut) = derived(&self.space, made, &as_params);
        let squares = |x: &Tensor| values(x).iter().map(|v| v * v).sum::<f64>();
        let norm = expected.iter().map(|(_, g)| squares(g)).sum::<f64>().sqrt();
        let (mut inside, mut outside) = (0.0, 0.0);
        for (name, gradient) in expected {
            let (_, found) = cut.named().find(|(n, _)| n == name).unwrap();
            let (a, b) = (values(found), values(gradient));
            let apart = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            let scale = squares(gradient).sqrt().max(0.01 * norm);
            assert!(apart <= tolerance * scale, "{what}: {name} is {apart} apart of {scale}");
            inside += squares(found);
        }
        for (_, gradient) in found {
            outside += squares(gradient);
        }
        let left = (outside - inside).max(0.0).sqrt();
        assert!(left <= tolerance * norm, "{what}: {left} of {norm} goes to unused weights");
    }
}

#[test]
fn one_hot_small_supernet_is_the_derived_network() {
    for space in [small(), sparse(), dense(), own_input()] {
        let made = decisions(&space, "one-hot", 60);
        let mut supernet = Supernetwork::new(space, 4);
        for made in &made {
            supernet.check(made, 2e-3);
        }
    }
}

#[test]
fn blocks_without_expansion_use_their_input_width() {
    let space = unexpanded();
    let made = decisions(&space, "one-hot", 60);
    let mut supernet = Supernetwork::new(space, 4);
    for made in &made {
        supernet.check(made, 2e-3);
    }
}

#[test]
fn one_hot_cifar_supernet_is_the_derived_network() {
    let space = shipped("fbnetv2_f_cifar.toml");
    // The derivative of h-swish jumps at ±3. One of half a million values within rounding of it changes the
    // gradients by a percent. These decisions have no such value.
    let made = decisions(&space, "one-hot choices", 8);
    let mut supernet = Supernetwork::new(space, 4);
    for made in &made {
        supernet.check(made, 1e-4);
    }
}

#[test]
fn masked_shortcut_equals_that_of_narrow_blocks() {
    // The input is narrower than the block, then wider.
    for (input, width, options) in [(4, 9, [3, 4, 9]), (9, 6, [2, 5, 6])] {
        let branch = [Branch::Residual { mid: 7 }];
        for stride in [1, 2] {
            let plan = block_plan((stride, input, width), &branch, true);
            masking_is_summing("shortcut", &plan, &options, &[0.3, 0.5, 0.2]);
        }
    }
}

#[test]
fn shared_weights_refuse_networks_of_other_spaces() {
    let (space, other) = (small(), sparse());
    let (_, params) = Supernet::new(&space, Seed(4), &Device::Cpu).unwrap();
    let made = &decisions(&other, "foreign", 1)[0];
    let error = SharedWeights::of(&other, params).extract(made).err().unwrap();
    assert!(error.to_string().contains("the supernet has no"), "{error}");
}

#[test]
fn thread_count_does_not_change_the_bits() {
    let space = shipped("fbnetv2_f_cifar.toml");
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut s = Supernetwork::new(space.clone(), 20);
            let p = crate::spaces::random_probabilities(&space, "threads");
            let mut pass = Pass::training(&mut s.params);
            let gates = gate_values(&space, &p);
            let (logits, bound) = s.net.forward(&mut pass, &s.images, &gates, true).unwrap();
            let result = loss_of(logits.tensor(), &s.labels, 0.1).unwrap();
            let (gradients, mut others) = pass.backward(&logits, result.dlogits).unwrap();
            let by_gates = s.net.gate_gradients(&bound, &mut others).unwrap();
            let gradients: Vec<Vec<f32>> = gradients
                .into_iter()
                .map(|g| g.unwrap().flatten_all().unwrap().to_vec1().unwrap())
                .collect();
            let logits: Vec<f32> = logits.tensor().flatten_all().unwrap().to_vec1().unwrap();
            (logits, gradients, by_gates, s.params.sha256().unwrap())
        })
    };
    let (one, two, three) = (run(1), run(2), run(3));
    assert!(one.0.iter().all(|v| v.is_finite()));
    assert!(one == two, "two threads differ from one");
    assert!(one == three, "three threads differ from one");
}
