//! The explicit supernet: its own formula in plain f64, the masked supernet where weights are tied,
//! the derived network where choices are made, and that it trains.

use crate::harness::named_gradients;
use crate::invariants::{cut, pad};
use crate::numbers::{assert_close, assert_gradient, random_map, scramble, values, weights};
use crate::reference::{
    BlockGates, Map, Reference, Statistics, Weights, block_gates, cross_entropy,
};
use crate::spaces::{
    self, decisions, dense, gate_values, one_hot, parse, random_probabilities, shipped, sparse,
    unexpanded,
};
use candle_core::{Device, Tensor};
use repro::cost::Probabilities;
use repro::net::{ExplicitSupernet, GateValues, GatedNetwork, NetGates, Network, Supernet};
use repro::nn::{Params, Pass};
use repro::ops::loss;
use repro::recipe::{MaskPlace, Recompute};
use repro::rng::Seed;
use repro::space::{
    BlockChoices, BlockPlan, BlockType, Branch, Decisions, Expansion, NetworkPlan, SearchSpace,
    squeeze_width,
};
use std::collections::BTreeMap;

/// A dozen f32 layers with batch norm between them.
const VALUE: f64 = 1e-3;
/// With hundreds of options there is always some value close to a kink of its activation.
const SLOPE: (f64, f64) = (6e-3, 1e-3);

/// Widths and types to choose from, nothing else: masks and options are the same up to the end of a
/// block.
const WIDTHS: &str = r#"
name = "widths"
channel_divisor = 1
types = ["k3_hswish", "k5_relu_se", "skip"]
[input]
resolutions = [7]
channels = 3
classes = 4
[stem]
kernel = 3
stride = 1
width = 8
activation = "hswish"
[[stage]]
blocks = 2
stride = 1
expansion = 2.0
width = [4, 8]
[[stage]]
blocks = 2
stride = 2
expansion = 1
width = [3, 6, 9]
[head]
width = 11
activation = "hswish"
"#;

/// Expansions, too; no squeeze-excite, through which a mask goes in its own way.
const EXPANSIONS: &str = r#"
name = "expansions"
channel_divisor = 1
types = ["k3_hswish", "k5_relu", "skip"]
[input]
resolutions = [7]
channels = 3
classes = 4
[stem]
kernel = 3
stride = 1
width = 8
activation = "hswish"
[[stage]]
blocks = 2
stride = 1
expansion = [1.0, 1.5, 3.0]
width = [4, 8]
[[stage]]
blocks = 1
stride = 2
expansion = [1.0, 2.0]
width = [3, 6, 9]
[head]
width = 11
activation = "hswish"
"#;

/// The space with all block types, at its largest resolution alone.
fn small() -> SearchSpace {
    let space = spaces::small();
    SearchSpace { resolutions: vec![space.max_resolution()], ..space }
}

/// A supernet with images for it and weights away from their initial values.
struct Explicit {
    space: SearchSpace,
    net: ExplicitSupernet,
    params: Params,
    images: Map,
    labels: Vec<u32>,
}

/// Everything that a pass finds.
struct Found {
    logits: Vec<f64>,
    weights: Vec<(String, Tensor)>,
    gates: NetGates,
}

impl Explicit {
    fn new(space: SearchSpace, batch: usize) -> Self {
        let (net, mut params) = ExplicitSupernet::new(&space, Seed(4), &Device::Cpu).unwrap();
        scramble(&mut params, &space.name);
        let side = space.max_resolution();
        let images = random_map("images", (batch, side, side, space.image_channels));
        let labels = (0..batch).map(|i| ((3 * i + 1) % space.classes) as u32).collect();
        Self { space, net, params, images, labels }
    }

    fn run(&mut self, gates: &NetGates) -> Found {
        run(&self.net, &mut self.params, &self.images, &self.labels, gates)
    }
}

/// A training pass with the gates' gradients.
fn run(
    net: &impl GatedNetwork,
    params: &mut Params,
    images: &Map,
    labels: &[u32],
    gates: &NetGates,
) -> Found {
    let mut pass = Pass::training(params);
    let (logits, bound) = net.forward(&mut pass, &images.tensor(), gates, true).unwrap();
    let result = loss::cross_entropy(logits.tensor(), labels, 0.0).unwrap();
    let (gradients, mut others) = pass.backward(&logits, result.dlogits).unwrap();
    Found {
        logits: values(logits.tensor()),
        weights: named_gradients(params, &gradients),
        gates: net.gate_gradients(&bound, &mut others).unwrap(),
    }
}

fn flat(gates: &GateValues) -> Vec<f64> {
    [&gates.types[..], &gates.expansions, &gates.widths, &[gates.identity]].concat()
}

fn in_the_shape_of(gates: &GateValues, numbers: &[f64]) -> GateValues {
    let (types, rest) = numbers.split_at(gates.types.len());
    let (expansions, rest) = rest.split_at(gates.expansions.len());
    let (widths, identity) = rest.split_at(gates.widths.len());
    let [types, expansions, widths] = [types, expansions, widths].map(<[f64]>::to_vec);
    GateValues { types, expansions, widths, identity: identity[0] }
}

/// Σ_t Σ_e Σ_w g_t g_e g_w pad(b_tew(x)) + Σ_w g_w pad(cut(ρ x)), one option after the other. The
/// hidden channels of a block without expansion have the masks `arriving`.
fn block_of_options(
    reference: &Reference<'_>,
    (space, choices): (&SearchSpace, &BlockChoices),
    gates: &GateValues,
    arriving: &BlockGates,
    x: &Map,
) -> Map {
    let (side, widest) = (|s: usize| s.div_ceil(choices.stride), choices.width_max());
    let mut y = Map::zeros(x.n, side(x.h), side(x.w), widest);
    let keeps = choices.stride == 1 && choices.in_max == widest;
    let adds = keeps || choices.types.contains(&BlockType::Residual);
    for (width, g_w) in choices.widths.iter().zip(&gates.widths) {
        for (block_type, g_t) in choices.types.iter().zip(&gates.types) {
            let mut add = |suffix: &str, branch: Branch, gate: f64, masks: &BlockGates| {
                let branches = vec![(format!("{block_type}{suffix}"), branch)];
                let plan = BlockPlan {
                    label: format!("{}.w{width}", choices.label()),
                    stride: choices.stride,
                    input: choices.in_max,
                    width: *width,
                    branches,
                    identity: false,
                };
                y.add(gate, &reference.block(&plan, x, masks).padded_to(widest));
            };
            let none = BlockGates::default();
            let (kernel, activation, squeeze_excite) = match *block_type {
                BlockType::MbConv { kernel, activation, squeeze_excite } => {
                    (kernel, activation, squeeze_excite)
                }
                BlockType::Skip if keeps => continue,
                BlockType::Skip => {
                    add("", Branch::Projection, g_t * g_w, &none);
                    continue;
                }
                BlockType::Residual => {
                    add("", Branch::Residual { mid: *width }, g_t * g_w, &none);
                    continue;
                }
            };
            let mbconv = |mid: usize, expand: bool| {
                let squeeze = squeeze_excite.then(|| squeeze_width(mid, space.channel_divisor));
                Branch::MbConv { kernel, activation, mid, expand, squeeze }
            };
            match &choices.expansion {
                Expansion::None => {
                    let (mid, squeeze) = (arriving.mid.clone(), arriving.squeeze.clone());
                    let masks = BlockGates { mid, squeeze, ..none };
                    add("", mbconv(choices.in_max, false), g_t * g_w, &masks);
                }
                Expansion::Options { mids, .. } => {
                    for (mid, g_e) in mids.iter().zip(&gates.expansions) {
                        add(&format!(".m{mid}"), mbconv(*mid, true), g_t * g_e * g_w, &none);
                    }
                }
            }
        }
        if adds {
            let kept = x.sampled((choices.stride, 1), (y.h, y.w)).cut((*width).min(x.c));
            y.add(g_w * gates.identity, &kept.padded_to(widest));
        }
    }
    y
}

impl Explicit {
    fn plain_logits(&self, weights: &Weights, gates: &NetGates, from: Statistics) -> Vec<f64> {
        let reference = Reference::new(weights, from);
        let arriving = block_gates(&self.space, gates, MaskPlace::AfterNorm);
        reference.net_of(&NetworkPlan::supernet(&self.space), &self.images, &[], |i, x| {
            let choices = (&self.space, &self.space.blocks[i]);
            block_of_options(&reference, choices, &gates.blocks[i], &arriving[i], x)
        })
    }

    fn plain_loss(&self, weights: &Weights, gates: &NetGates) -> f64 {
        cross_entropy(&self.plain_logits(weights, gates, Statistics::Batch), &self.labels, 0.0)
    }
}

#[test]
fn an_explicit_supernet_has_the_gradients_of_its_formula_in_all_weights_and_gates() {
    for space in [small(), sparse(), unexpanded(), dense(), parse(WIDTHS)] {
        let what = space.name.clone();
        let mut s = Explicit::new(space, 3);
        let mut gates = gate_values(&s.space, &random_probabilities(&s.space, &what));
        for (i, gate) in
            gates.blocks.iter_mut().enumerate().filter(|(_, gate)| gate.identity != 0.0)
        {
            // Any ρ, to see that it is used as it is.
            gate.identity += 0.1 * (i + 1) as f64;
        }
        let weights = weights(&s.params);
        let expected = s.plain_logits(&weights, &gates, Statistics::Batch);
        let found = s.run(&gates);
        assert_close(&what, &found.logits, &expected, VALUE);

        let trained = weights.keys().filter(|name| !name.contains(".running_")).count();
        assert_eq!(found.weights.len(), trained, "{what}");
        // All weights of a block at once; one tensor of it would be a slow affair.
        let mut by_block: BTreeMap<&str, Vec<&(String, Tensor)>> = BTreeMap::new();
        for gradient in &found.weights {
            let block = gradient.0.split(".w").next().unwrap();
            by_block.entry(block).or_default().push(gradient);
        }
        for (block, gradients) in by_block {
            let all = |of: &dyn Fn(&(String, Tensor)) -> Vec<f64>| -> Vec<f64> {
                gradients.iter().flat_map(|gradient| of(gradient)).collect()
            };
            let (slopes, at) = (all(&|(_, g)| values(g)), all(&|(name, _)| weights[name].clone()));
            assert_gradient(&format!("{what}, {block}"), &slopes, &at, 6, SLOPE, |moved| {
                let mut weights = weights.clone();
                let mut rest = moved;
                for (name, _) in &gradients {
                    let at = weights.get_mut(name).unwrap();
                    let (own, others) = rest.split_at(at.len());
                    at.copy_from_slice(own);
                    rest = others;
                }
                s.plain_loss(&weights, &gates)
            });
        }
        for (i, gate) in gates.blocks.iter().enumerate() {
            let what = format!("{what}, gates of block {i}");
            assert_gradient(&what, &flat(&found.gates.blocks[i]), &flat(gate), 8, SLOPE, |moved| {
                let mut gates = gates.clone();
                gates.blocks[i] = in_the_shape_of(gate, moved);
                s.plain_loss(&weights, &gates)
            });
        }
    }
}

#[test]
fn an_explicit_supernet_in_inference_uses_the_running_statistics() {
    let mut s = Explicit::new(small(), 3);
    let gates = gate_values(&s.space, &random_probabilities(&s.space, "inference"));
    let expected = s.plain_logits(&weights(&s.params), &gates, Statistics::Running);
    let mut pass = Pass::inference(&mut s.params);
    let (logits, _) = s.net.forward(&mut pass, &s.images.tensor(), &gates, false).unwrap();
    assert_close("inference", &values(logits.tensor()), &expected, VALUE);
}

/// The masked supernet's name of an option's tensor: resolution, width and expansion left out.
fn masked_name(space: &SearchSpace, name: &str) -> String {
    let name = name.strip_prefix("at_").and_then(|rest| rest.split_once('.')).map_or(name, |n| n.1);
    for choices in &space.blocks {
        for width in &choices.widths {
            let label = choices.label();
            let Some(rest) = name.strip_prefix(&format!("blocks.{label}.w{width}.")) else {
                continue;
            };
            let is_mid =
                |part: &str| part.strip_prefix('m').is_some_and(|m| m.parse::<u32>().is_ok());
            let parts: Vec<&str> = rest.split('.').filter(|part| !is_mid(part)).collect();
            return format!("blocks.{label}.{}", parts.join("."));
        }
    }
    name.to_owned()
}

/// Both supernets of a space; the explicit one's weights are the first channels of the masked one's.
struct Tied {
    masked: Supernet,
    masked_params: Params,
    explicit: Explicit,
}

impl Tied {
    fn new(space: SearchSpace) -> Self {
        let (masked, mut masked_params) = Supernet::new(&space, Seed(7), &Device::Cpu).unwrap();
        scramble(&mut masked_params, "tied");
        let mut explicit = Explicit::new(space, 4);
        let names: Vec<(String, Vec<usize>)> =
            explicit.params.named().map(|(n, t)| (n.to_owned(), t.dims().to_vec())).collect();
        for (name, dims) in names {
            let source = masked_name(&explicit.space, &name);
            let (_, tensor) = masked_params.named().find(|(n, _)| *n == source).unwrap();
            explicit.params.set(&name, &cut(tensor, &dims)).unwrap();
        }
        Self { masked, masked_params, explicit }
    }

    /// Logits, gradients of types and widths, and the sums of the gradients of tied weights.
    fn agree(&mut self, what: &str, p: &Probabilities<f64>) {
        self.agree_on(what, p, true);
    }

    /// [`Tied::agree`], the gradients of widths being compared or not.
    fn agree_on(&mut self, what: &str, p: &Probabilities<f64>, widths: bool) {
        let Explicit { space, images, labels, .. } = &self.explicit;
        let gates = gate_values(space, p);
        let masked = run(&self.masked, &mut self.masked_params, images, labels, &gates);
        let explicit = self.explicit.run(&gates);
        assert_close(&format!("{what}, logits"), &explicit.logits, &masked.logits, 2e-4);

        let space = &self.explicit.space;
        let both = explicit.gates.blocks.iter().zip(&masked.gates.blocks).zip(&space.blocks);
        for (i, ((explicit, masked), choices)) in both.enumerate() {
            let close = |kind: &str, found: &[f64], expected: &[f64]| {
                assert_close(&format!("{what}, {kind} of block {i}"), found, expected, 1e-3);
            };
            if choices.types.len() > 1 {
                close("types", &explicit.types, &masked.types);
            }
            if widths && choices.widths.len() > 1 {
                close("widths", &explicit.widths, &masked.widths);
            }
            close("identity", &[explicit.identity], &[masked.identity]);
        }
        let mut sums: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, gradient) in &explicit.weights {
            let source = masked_name(space, name);
            let (_, like) = masked.weights.iter().find(|(n, _)| *n == source).unwrap();
            let padded = pad(gradient, like.dims());
            let sum =
                sums.get(&source).map_or_else(|| padded.clone(), |sum| (sum + &padded).unwrap());
            sums.insert(source, sum);
        }
        assert_eq!(sums.len(), masked.weights.len(), "{what}");
        let squares = |x: &Tensor| values(x).iter().map(|v| v * v).sum::<f64>();
        let norm = masked.weights.iter().map(|(_, g)| squares(g)).sum::<f64>().sqrt();
        for (name, expected) in &masked.weights {
            let apart = squares(&(&sums[name] - expected).unwrap()).sqrt();
            let scale = squares(expected).sqrt().max(0.01 * norm);
            assert!(apart <= 2e-3 * scale, "{what}: {name} is {apart} apart of {scale}");
        }
    }
}

#[test]
fn with_tied_weights_it_is_the_masked_supernet_for_any_types_and_widths() {
    let mut tied = Tied::new(parse(WIDTHS));
    for label in ["one", "two", "three"] {
        let p = random_probabilities(&tied.explicit.space, label);
        tied.agree(label, &p);
    }
}

#[test]
fn with_tied_weights_it_is_the_masked_supernet_where_the_resolution_is_decided() {
    // In between, masking sums the resolutions behind every stage, and a network for each of them does
    // so behind all of them.
    let text = WIDTHS.replace("resolutions = [7]", "resolutions = [5, 6, 7]");
    let mut tied = Tied::new(parse(&text));
    for resolution in 0..3 {
        let label = format!("resolution {resolution}");
        let mut p = random_probabilities(&tied.explicit.space, &label);
        p.resolutions = vec![0.0; 3];
        p.resolutions[resolution] = 1.0;
        tied.agree(&label, &p);
    }
}

#[test]
fn with_tied_weights_it_is_the_masked_supernet_where_expansions_are_decided() {
    for space in [small(), sparse(), parse(EXPANSIONS)] {
        let made = decisions(&space, "expansions", 3);
        let mut tied = Tied::new(space);
        for (i, made) in made.iter().enumerate() {
            let space = &tied.explicit.space;
            let mut p = random_probabilities(space, &format!("{i}"));
            for (p, decided) in p.blocks.iter_mut().zip(one_hot(space, made, &0.0, &1.0).blocks) {
                p.expansions = decided.expansions;
            }
            let what = space.name.clone();
            tied.agree(&what, &p);
        }
    }
}

#[test]
fn with_tied_weights_it_is_the_masked_supernet_of_residual_blocks_where_widths_are_decided() {
    // Their inner channels and their outputs are one choice. In between one-hot gates masks mix all
    // pairs of both, and options only those that are alike.
    let space = dense();
    let made = decisions(&space, "dense", 5);
    let mut tied = Tied::new(space);
    for (i, made) in made.iter().enumerate() {
        let space = &tied.explicit.space;
        let decided = one_hot(space, made, &0.0, &1.0);
        let mut p = random_probabilities(space, &format!("{i}"));
        for (p, decided) in p.blocks.iter_mut().zip(decided.blocks) {
            (p.expansions, p.widths) = (decided.expansions, decided.widths);
        }
        tied.agree_on("dense", &p, false);
    }
}

#[test]
fn with_tied_weights_and_statistics_it_is_the_masked_supernet_for_any_expansions() {
    // A batch norm with given statistics is linear, so the sum goes through it.
    let mut tied = Tied::new(parse(EXPANSIONS));
    let gates =
        gate_values(&tied.explicit.space, &random_probabilities(&tied.explicit.space, "running"));
    let images = tied.explicit.images.tensor();
    let mut pass = Pass::inference(&mut tied.masked_params);
    let (masked, _) = tied.masked.forward(&mut pass, &images, &gates, false).unwrap();
    let mut pass = Pass::inference(&mut tied.explicit.params);
    let (explicit, _) = tied.explicit.net.forward(&mut pass, &images, &gates, false).unwrap();
    assert_close("logits", &values(explicit.tensor()), &values(masked.tensor()), 2e-4);
}

#[test]
fn gradients_of_expansion_gates_are_the_approximation_that_masks_are() {
    // The batch norm behind the hidden channels takes its statistics from their mixture; an option's
    // own takes them from the option. Where expansions are decided the outputs agree all the same, and
    // so do the gradients of types and widths; those of the expansions do not.
    let mut tied = Tied::new(parse(EXPANSIONS));
    let space = &tied.explicit.space;
    let made = &decisions(space, "expansions", 1)[0];
    let mut p = random_probabilities(space, "approximation");
    for (p, decided) in p.blocks.iter_mut().zip(one_hot(space, made, &0.0, &1.0).blocks) {
        p.expansions = decided.expansions;
    }
    tied.agree("approximation", &p);
    let Explicit { space, images, labels, .. } = &tied.explicit;
    let gates = gate_values(space, &p);
    let masked = run(&tied.masked, &mut tied.masked_params, images, labels, &gates).gates;
    let explicit = tied.explicit.run(&gates).gates;
    let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    for (masked, explicit) in masked.blocks.iter().zip(&explicit.blocks) {
        let pairs = masked.expansions.iter().zip(&explicit.expansions);
        let apart = norm(&pairs.map(|(m, e)| m - e).collect::<Vec<_>>());
        assert!(apart > 0.05 * norm(&explicit.expansions), "{masked:?} {explicit:?}");
    }
}

/// The explicit supernet's name of a derived network's tensor: the option that was taken.
fn option_name(space: &SearchSpace, made: &Decisions, name: &str) -> String {
    for (choices, decision) in space.blocks.iter().zip(&made.blocks) {
        let (label, width) = (choices.label(), choices.widths[decision.width]);
        let block_type = choices.types[decision.block_type];
        let option = format!("blocks.{label}.w{width}.{block_type}");
        for alone in ["skip", "residual"] {
            if let Some(rest) = name.strip_prefix(&format!("blocks.{label}.{alone}.")) {
                return format!("{option}.{rest}");
            }
        }
        if let Some(rest) = name.strip_prefix(&format!("blocks.{label}.mbconv.")) {
            return match &choices.expansion {
                Expansion::None => format!("{option}.{rest}"),
                Expansion::Options { mids, .. } => {
                    format!("{option}.m{}.{rest}", mids[decision.expansion])
                }
            };
        }
    }
    name.to_owned()
}

#[test]
fn with_one_hot_choices_it_is_the_derived_network() {
    for space in [small(), sparse(), unexpanded(), dense()] {
        let made = decisions(&space, "one-hot", 20);
        let mut s = Explicit::new(space, 4);
        for made in &made {
            let what = format!("{}: {made:?}", s.space.name);
            let arch = s.space.decide(made);
            let gates = gate_values(&s.space, &one_hot(&s.space, made, &0.0, &1.0));
            let (net, mut own) = Network::of_arch(&arch, Seed(0), &Device::Cpu).unwrap();
            let names: Vec<(String, Vec<usize>)> =
                own.named().map(|(n, t)| (n.to_owned(), t.dims().to_vec())).collect();
            for (name, dims) in &names {
                let source = option_name(&s.space, made, name);
                let (_, tensor) = s.params.named().find(|(n, _)| *n == source).unwrap();
                own.set(name, &cut(tensor, dims)).unwrap();
            }
            let found = s.run(&gates);
            let mut pass = Pass::training(&mut own);
            let derived = net.forward(&mut pass, &s.images.tensor()).unwrap();
            let result = loss::cross_entropy(derived.tensor(), &s.labels, 0.0).unwrap();
            let (gradients, _) = pass.backward(&derived, result.dlogits).unwrap();
            assert_close(&what, &found.logits, &values(derived.tensor()), 2e-3);

            let squares = |x: &Tensor| values(x).iter().map(|v| v * v).sum::<f64>();
            let expected = named_gradients(&own, &gradients);
            let norm = expected.iter().map(|(_, g)| squares(g)).sum::<f64>().sqrt();
            let mut inside = 0.0;
            for (name, gradient) in &expected {
                let source = option_name(&s.space, made, name);
                let (_, found) = found.weights.iter().find(|(n, _)| *n == source).unwrap();
                let apart = squares(&(cut(found, gradient.dims()) - gradient).unwrap()).sqrt();
                let scale = squares(gradient).sqrt().max(0.01 * norm);
                assert!(apart <= 2e-3 * scale, "{what}: {name} is {apart} apart of {scale}");
                inside += squares(&cut(found, gradient.dims()));
            }
            let all: f64 = found.weights.iter().map(|(_, g)| squares(g)).sum();
            let left = (all - inside).max(0.0).sqrt();
            assert!(left <= 2e-3 * norm, "{what}: {left} of {norm} goes to unused weights");
        }
    }
}

#[test]
fn options_that_are_recomputed_give_the_bits_of_options_that_are_kept() {
    let gates = |space: &SearchSpace| gate_values(space, &random_probabilities(space, "again"));
    let run = |recompute: Recompute, frozen: bool| {
        let mut s = Explicit::new(small(), 3);
        let gates = gates(&s.space);
        let pass = if frozen { Pass::frozen(&mut s.params) } else { Pass::training(&mut s.params) };
        let mut pass = pass.recomputing(recompute);
        let (logits, bound) = s.net.forward(&mut pass, &s.images.tensor(), &gates, true).unwrap();
        let result = loss::cross_entropy(logits.tensor(), &s.labels, 0.0).unwrap();
        let (weights, mut others) = pass.backward(&logits, result.dlogits).unwrap();
        let by_gates = s.net.gate_gradients(&bound, &mut others).unwrap();
        let weights: Vec<_> = weights.iter().map(|g| g.as_ref().map(values)).collect();
        assert_eq!(weights.iter().all(Option::is_none), frozen);
        (weights, by_gates, s.params.sha256().unwrap())
    };
    for frozen in [false, true] {
        assert!(run(Recompute::None, frozen) == run(Recompute::Block, frozen), "{frozen}");
    }
}

#[test]
fn the_options_of_one_and_two_threads_have_the_same_bits() {
    let space = shipped("smoke.toml");
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut s = Explicit::new(space.clone(), 20);
            let gates = gate_values(&space, &random_probabilities(&space, "threads"));
            let found = s.run(&gates);
            let weights: Vec<_> = found.weights.iter().map(|(_, g)| values(g)).collect();
            (found.logits, weights, found.gates, s.params.sha256().unwrap())
        })
    };
    assert!(run(1) == run(2));
}

/// Each resolution alone is the supernet of that resolution, with the weights of that name; together
/// they are their mixture, since gates come in front of the classifier; and the gate's gradient is
/// that of the mixture.
#[test]
fn several_resolutions_are_networks_of_their_own_mixed_in_front_of_the_classifier() {
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
