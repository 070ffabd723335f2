//! The gradient methods: both orders of DARTS against finite differences, how they alternate between
//! weights and α, and that an explicit supernet learns.

mod alternation;

use crate::numbers::{Loss, loss_of, random_map};
use crate::spaces::{gate_values, parse};
use candle_core::{Device, Tensor};
use repro::cost::{BlockProbabilities, Probabilities, propagate};
use repro::data::Batch;
use repro::manifest::{self, Overrides};
use repro::net::{ExplicitSupernet, GatedNetwork, Supernet};
use repro::nn::{Params, Pass};
use repro::ops::update::accumulate;
use repro::recipe::{AlphaConfig, LossForm, MethodName, Order, StepConfig, StepKind, SupernetKind};
use repro::rng::Seed;
use repro::search::{AlphaGradient, NextBatch, Relaxation, Relaxed};
use repro::space::SearchSpace;
use std::path::Path;

const TINY: &str = r#"
name = "tiny"
channel_divisor = 1
types = ["k3_hswish", "skip"]
[input]
resolutions = [6]
channels = 2
classes = 3
[stem]
kernel = 3
stride = 1
width = 4
activation = "hswish"
[[stage]]
blocks = 2
stride = 1
expansion = [1.0, 2.0]
width = [2, 4]
[head]
width = 8
activation = "hswish"
"#;

/// The forms of the search loss. The cost is small relative to the cross-entropy, above the target of the
/// hinge, and above e units.
const FORMS: [LossForm; 3] = [
    LossForm::Linear { lambda: 1e-4 },
    LossForm::LogPower { a: 0.2, b: 0.02 },
    LossForm::Hinge { lambda: 0.002, target: 30.0 },
];
const UNIT: f64 = 1e2;

/// The loss by its formula.
fn search_loss(form: LossForm, cross_entropy: f64, cost: f64) -> f64 {
    match form {
        LossForm::Linear { lambda } => cross_entropy + lambda * cost,
        LossForm::LogPower { a, b } => cross_entropy * a * cost.ln().powf(b),
        LossForm::Hinge { lambda, target } => cross_entropy + lambda * (cost / target - 1.0),
    }
}

fn smoke(method: MethodName) -> manifest::Manifest {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
    let sets = vec![format!("search.method={method}")];
    manifest::load(&path, &Overrides { sets, seeds: Vec::new() }).unwrap_or_else(|e| panic!("{e}"))
}

/// A step of the weights, and how α learns by this loss.
fn tiny_config(method: MethodName, form: LossForm) -> (StepConfig, AlphaConfig) {
    let manifest = smoke(method);
    let method = &manifest.search().unwrap().methods[0];
    let mut alpha = method.gradient().unwrap().alpha;
    (alpha.loss.form, alpha.loss.cost_unit) = (form, UNIT);
    (manifest.search().unwrap().config.step(method).unwrap(), alpha)
}

fn masked(space: &SearchSpace, config: &StepConfig, seed: u64) -> Relaxed<Supernet> {
    let StepKind::Gated(SupernetKind::Masked(masks), gates) = config.kind else {
        panic!("{config:?}")
    };
    Relaxed::masked(space, masks, gates, config, Seed(seed), &Device::Cpu).unwrap()
}

fn explicit(space: &SearchSpace, config: &StepConfig, seed: u64) -> Relaxed<ExplicitSupernet> {
    let StepKind::Gated(SupernetKind::Explicit, gates) = config.kind else { panic!("{config:?}") };
    Relaxed::explicit(space, gates, config, Seed(seed), &Device::Cpu).unwrap()
}

fn batch(space: &SearchSpace, label: &str) -> Batch {
    let (n, side) = (9, space.max_resolution());
    let xs = random_map(label, (n, side, side, space.image_channels)).tensor();
    Batch { xs, labels: (0..n).map(|i| (i % space.classes) as u32).collect::<Vec<_>>().into() }
}

/// The tiny space, and the same with a choice of resolutions.
fn tiny_spaces() -> [SearchSpace; 2] {
    [TINY.to_owned(), TINY.replace("resolutions = [6]", "resolutions = [4, 6]")]
        .map(|text| parse(&text))
}

/// The choices one after the other: the resolution, then three of each block.
fn choices(p: &Probabilities<f64>) -> Vec<&Vec<f64>> {
    let blocks = p.blocks.iter().flat_map(|p| [&p.types, &p.expansions, &p.widths]);
    [&p.resolutions].into_iter().chain(blocks).collect()
}

/// Logits of these probabilities at temperature τ.
fn logits(p: &Probabilities<f64>, tau: f64) -> Vec<Vec<f64>> {
    choices(p).into_iter().map(|p| p.iter().map(|p| tau * p.ln()).collect()).collect()
}

/// Softmax of the logits over τ, choice by choice.
fn gates(logits: &[Vec<f64>], tau: f64) -> Probabilities<f64> {
    let softmax = |logits: &Vec<f64>| -> Vec<f64> {
        let weights: Vec<f64> = logits.iter().map(|v| (v / tau).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    };
    let blocks = logits[1..].chunks_exact(3).map(|block| BlockProbabilities {
        types: softmax(&block[0]),
        expansions: softmax(&block[1]),
        widths: softmax(&block[2]),
    });
    Probabilities { resolutions: softmax(&logits[0]), blocks: blocks.collect() }
}

/// Cross-entropy under these gates, and its gradient by the weights.
fn descend(
    net: &impl GatedNetwork,
    params: &mut Params,
    batch: &Batch,
    p: &Probabilities<f64>,
) -> (Loss, Vec<Option<Tensor>>) {
    let gates = gate_values(net.space(), p);
    let mut pass = Pass::training(params);
    let (logits, _) = net.forward(&mut pass, &batch.xs, &gates, false).unwrap();
    let result = loss_of(logits.tensor(), &batch.labels, 0.0).unwrap();
    let (by_weights, _) = pass.backward(&logits, result.dlogits.clone()).unwrap();
    (result, by_weights)
}

const TAU: f64 = 1.5;
const RATE: f64 = 1.0;

/// The search loss on `held_out` after w' = w - ξ ∇T(w, α), as a function of the logits.
fn loss_ahead(
    net: &ExplicitSupernet,
    params: &Params,
    (held_out, training): (&Batch, &Batch),
    form: LossForm,
    logits: &[Vec<f64>],
) -> f64 {
    let p = gates(logits, TAU);
    let none = vec![None; params.tensors().count()];
    let mut here = params.moved(&none, 0.0).unwrap();
    let (_, down) = descend(net, &mut here, training, &p);
    let mut ahead = params.moved(&down, -RATE).unwrap();
    let (result, _) = descend(net, &mut ahead, held_out, &p);
    let cost = propagate(net.space(), &p, &1.0).cost.macs / UNIT;
    assert!(cost > 35.0, "{cost}");
    search_loss(form, result.loss, cost)
}

/// d loss / d logits of an alpha step, choice by choice.
fn found(
    relaxed: &mut Relaxed<ExplicitSupernet>,
    alpha: &AlphaConfig,
    order: Order,
    (held_out, training): (&Batch, &Batch),
) -> Vec<Vec<f64>> {
    let next = NextBatch { batch: training, rate: RATE };
    let next = (order == Order::Second).then_some(next);
    let gradient = relaxed.alpha_gradient(&alpha.loss, held_out, next, 0, TAU).unwrap();
    by_logits(&gradient)
}

/// From d loss / d gates to d loss / d logits, where the gates are the softmax of the logits over τ.
fn by_logits(gradient: &AlphaGradient) -> Vec<Vec<f64>> {
    let of_blocks = gradient.by_gates.blocks.iter();
    let of_blocks = of_blocks.flat_map(|d| [&d.types, &d.expansions, &d.widths]);
    let by_gates = [&gradient.by_gates.resolutions].into_iter().chain(of_blocks);
    let pairs = choices(&gradient.soft).into_iter().zip(by_gates);
    let by_choice = pairs.map(|(g, d)| {
        let mean: f64 = g.iter().zip(d).map(|(g, d)| g * d).sum();
        g.iter().zip(d).map(|(g, d)| g / TAU * (d - mean)).collect()
    });
    by_choice.collect()
}

/// The gradient of a function of the logits, by central differences.
fn finite_differences(at: &[Vec<f64>], h: f64, of: impl Fn(&[Vec<f64>]) -> f64) -> Vec<Vec<f64>> {
    let slope = |choice: usize, option: usize| {
        let moved = |h: f64| {
            let mut moved = at.to_vec();
            moved[choice][option] += h;
            of(&moved)
        };
        (moved(h) - moved(-h)) / (2.0 * h)
    };
    let of_choice = |choice: usize| (0..at[choice].len()).map(|i| slope(choice, i)).collect();
    (0..at.len()).map(of_choice).collect()
}

/// The distance between both, relative to the norm of the second.
fn relative_distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!(
        a.iter().map(Vec::len).collect::<Vec<_>>(),
        b.iter().map(Vec::len).collect::<Vec<_>>()
    );
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    squares(&mut pairs.map(|(a, b)| a - b)) / squares(&mut b.iter().flatten().copied())
}

/// Scales all norms down: no value reaches ±3, where the derivative of h-swish jumps, so that the loss
/// is smooth.
fn keep_clear_of_kinks(params: &Params) {
    let is_gamma = |name: &str| name.rsplit('.').next() == Some("gamma");
    for (name, tensor) in params.named().filter(|(name, _)| is_gamma(name)) {
        let less = (tensor.ones_like().unwrap() * -0.7).unwrap();
        accumulate(tensor, &less).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn the_second_order_agrees_with_finite_differences() {
    for space in tiny_spaces() {
        for form in FORMS {
            assert_second_order_agrees(&space, form);
        }
    }
}

fn assert_second_order_agrees(space: &SearchSpace, form: LossForm) {
    let batches = (&batch(space, "held out"), &batch(space, "training"));
    let by_order = [Order::First, Order::Second].map(|order| {
        let (config, alpha) = tiny_config(MethodName::Darts, form);
        let mut relaxed = explicit(space, &config, 1);
        keep_clear_of_kinks(relaxed.params());
        // Some steps, so that gates are not equal and weights not initial.
        for step in 0..4 {
            relaxed.alpha_step(&alpha, batches.0, None, step, TAU).unwrap();
            relaxed.weight_step(batches.1, step, TAU, 0.05).unwrap();
        }
        let found = found(&mut relaxed, &alpha, order, batches);
        let at = logits(&relaxed.alpha().probabilities(), 1.0);
        let (net, params) = (relaxed.supernet(), relaxed.params());
        let ahead = |logits: &[Vec<f64>]| loss_ahead(net, params, batches, form, logits);
        relative_distance(&found, &finite_differences(&at, 0.02, ahead))
    });
    let [first, second] = by_order;
    assert!(second < 1e-3, "{form:?}: the second order is off by {second}");
    assert!(
        first > 0.3,
        "{form:?}: the first order is off by {first} only, so this test shows nothing"
    );
}

#[test]
fn the_gradient_of_alpha_agrees_with_finite_differences() {
    for space in tiny_spaces() {
        let (config, alpha) = tiny_config(MethodName::Dmasking, FORMS[0]);
        let of_masked = error_of_gradient(masked(&space, &config, 1), &alpha);
        let (config, alpha) = tiny_config(MethodName::Dnas, FORMS[0]);
        let away = [of_masked, error_of_gradient(explicit(&space, &config, 1), &alpha)];
        assert!(away.iter().all(|away| *away < 1e-3), "{:?}: {away:?}", space.resolutions);
    }
}

/// The relative error of the gradient of α. The finite differences are taken by the logits that give the
/// gates of that step: α with its noise, up to a constant for each choice.
fn error_of_gradient<N: GatedNetwork>(mut relaxed: Relaxed<N>, alpha: &AlphaConfig) -> f64 {
    let space = relaxed.supernet().space().clone();
    let held_out = batch(&space, "held out");
    keep_clear_of_kinks(relaxed.params());
    for step in 0..4 {
        relaxed.alpha_step(alpha, &held_out, None, step, TAU).unwrap();
    }
    let gradient = relaxed.alpha_gradient(&alpha.loss, &held_out, None, 7, TAU).unwrap();
    let (net, params) = (relaxed.supernet(), relaxed.params());
    let none = vec![None; params.tensors().count()];
    let loss = |logits: &[Vec<f64>]| {
        let p = gates(logits, TAU);
        let (result, _) = descend(net, &mut params.moved(&none, 0.0).unwrap(), &held_out, &p);
        search_loss(alpha.loss.form, result.loss, propagate(&space, &p, &1.0).cost.macs / UNIT)
    };
    relative_distance(
        &by_logits(&gradient),
        &finite_differences(&logits(&gradient.soft, TAU), 0.02, loss),
    )
}

#[test]
fn an_explicit_supernet_fits_one_batch() {
    let space = parse(TINY);
    let (config, _) = tiny_config(MethodName::Dnas, FORMS[0]);
    let mut relaxed = explicit(&space, &config, 5);
    let batch = batch(&space, "again");
    let losses: Vec<f64> = (0..60)
        .map(|step| relaxed.weight_step(&batch, step, 5.0, 0.2).unwrap().result.loss)
        .collect();
    assert!(losses[59] < 0.3 * losses[0], "{losses:?}");
}
