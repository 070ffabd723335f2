//! The explicit supernet and its gradients against its formula in plain f64.

use super::{Explicit, SLOPE, VALUE, WIDTHS, small};
use crate::numbers::{assert_close, assert_gradient, values, weights};
use crate::reference::{
    BlockGates, Map, Reference, Statistics, Weights, block_gates, cross_entropy,
};
use crate::spaces::{dense, gate_values, parse, random_probabilities, sparse, unexpanded};
use candle_core::Tensor;
use repro::net::{GateValues, GatedNetwork, NetGates};
use repro::nn::Pass;
use repro::recipe::MaskPlace;
use repro::space::{
    BlockChoices, BlockPlan, BlockType, Branch, Expansion, NetworkPlan, SearchSpace,
    SqueezeFunctions, squeeze_width,
};
use std::collections::BTreeMap;

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

/// An inverted residual with `mid` hidden channels.
fn mbconv(block_type: BlockType, mid: usize, expand: bool, divisor: usize) -> Branch {
    let BlockType::MbConv { kernel, activation, squeeze_excite } = block_type else {
        panic!("{block_type} is no inverted residual")
    };
    let squeeze = squeeze_excite.then(|| squeeze_width(mid, divisor));
    let (groups, functions) = (1, SqueezeFunctions::default());
    Branch::MbConv { kernel, activation, mid, expand, squeeze, groups, functions }
}

/// Σ_t Σ_e Σ_w g_t g_e g_w pad(b_tew(x)) + Σ_w g_w pad(cut(ρ x)), option by option. `arriving` masks the
/// hidden channels of a block without expansion.
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
            match (*block_type, &choices.expansion) {
                (BlockType::Skip, _) if keeps => {}
                (BlockType::Skip, _) => add("", Branch::Projection, g_t * g_w, &none),
                (BlockType::Residual, _) => {
                    add("", Branch::Residual { mid: *width }, g_t * g_w, &none);
                }
                (inverted, Expansion::None) => {
                    let (mid, squeeze) = (arriving.mid.clone(), arriving.squeeze.clone());
                    let masks = BlockGates { mid, squeeze, ..none };
                    let branch = mbconv(inverted, choices.in_max, false, space.channel_divisor);
                    add("", branch, g_t * g_w, &masks);
                }
                (inverted, Expansion::Options { mids, .. }) => {
                    for (mid, g_e) in mids.iter().zip(&gates.expansions) {
                        let branch = mbconv(inverted, *mid, true, space.channel_divisor);
                        add(&format!(".m{mid}"), branch, g_t * g_e * g_w, &none);
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
fn explicit_supernet_has_correct_gradients() {
    for space in [small(), sparse(), unexpanded(), dense(), parse(WIDTHS)] {
        let what = space.name.clone();
        let mut s = Explicit::new(space, 3);
        let mut gates = gate_values(&s.space, &random_probabilities(&s.space, &what));
        for (i, gate) in
            gates.blocks.iter_mut().enumerate().filter(|(_, gate)| gate.identity != 0.0)
        {
            // An arbitrary ρ, to check that it is used as given.
            gate.identity += 0.1 * (i + 1) as f64;
        }
        let weights = weights(&s.params);
        let expected = s.plain_logits(&weights, &gates, Statistics::Batch);
        let found = s.run(&gates);
        assert_close(&what, &found.logits, &expected, VALUE);

        let trained = weights.keys().filter(|name| !name.contains(".running_")).count();
        assert_eq!(found.weights.len(), trained, "{what}");
        // All weights of a block at once, because tensor by tensor would be slow.
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
fn explicit_inference_uses_running_statistics() {
    let mut s = Explicit::new(small(), 3);
    let gates = gate_values(&s.space, &random_probabilities(&s.space, "inference"));
    let expected = s.plain_logits(&weights(&s.params), &gates, Statistics::Running);
    let mut pass = Pass::inference(&mut s.params);
    let (logits, _) = s.net.forward(&mut pass, &s.images.tensor(), &gates, false).unwrap();
    assert_close("inference", &values(logits.tensor()), &expected, VALUE);
}
