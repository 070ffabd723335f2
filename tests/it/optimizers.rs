//! Optimizers, schedules and gates against plain formulas.

mod average;
mod rmsprop;

use crate::numbers::{assert_close, random, row, values};
use crate::spaces::{shipped, small};
use candle_core::{Device, Tensor};
use repro::cost::BlockProbabilities;
use repro::net::{GateGradients, NetGates, Network};
use repro::nn::{Init, Params};
use repro::recipe::{Adam, Schedule, Sgd};
use repro::rng::Seed;
use repro::search::{ArchParams, hardened};
use repro::space::{Dimension, NetworkPlan, SearchSpace};
use repro::train::{LoopLength, OptimizerState, learning_rate};

fn sgd(weight_decay: f64, clip_norm: Option<f64>) -> Sgd {
    let schedule = Schedule::Constant;
    let (learning_rate, momentum, warmup_epochs) = (0.1, 0.9, 0.0);
    Sgd { learning_rate, momentum, weight_decay, schedule, warmup_epochs, clip_norm }
}

/// A filter, a bias and a filter that no loss depends on.
fn three_params() -> Params {
    let mut params = Params::new(Seed(1), &Device::Cpu);
    params.add("filter".to_owned(), &[3, 4], Init::Normal(1.0)).unwrap();
    params.add("bias".to_owned(), &[5], Init::Constant(0.5)).unwrap();
    params.add("unused".to_owned(), &[2], Init::Uniform(1.0)).unwrap();
    params
}

#[test]
fn sgd_matches_its_formula() {
    for clip_norm in [None, Some(1.5), Some(1e6)] {
        let params = three_params();
        let mut state = OptimizerState::new(sgd(0.01, clip_norm), &params).unwrap();
        let mut expected: Vec<Vec<f64>> = params.tensors().map(|(t, _)| values(t)).collect();
        let unused = expected[2].clone();
        let mut velocity: Vec<Vec<f64>> = expected.iter().map(|w| vec![0.0; w.len()]).collect();
        for step in 0..4 {
            let gradients = [random(&format!("f{step}"), 12), random(&format!("b{step}"), 5)];
            let norm = gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
            assert!(norm > 1.5);
            let scale = clip_norm.map_or(1.0, |bound| (bound / norm).min(1.0));
            let rate = 0.1 / (step + 1) as f64;
            for i in 0..2 {
                let decay = if i == 0 { 0.01 } else { 0.0 };
                for j in 0..expected[i].len() {
                    velocity[i][j] =
                        0.9 * velocity[i][j] + scale * gradients[i][j] + decay * expected[i][j];
                    expected[i][j] -= rate * velocity[i][j];
                }
            }
            let given = [
                Some(row(&gradients[0]).reshape((3, 4)).unwrap()),
                Some(row(&gradients[1])),
                None::<Tensor>,
            ];
            state.step(&params, &given, rate).unwrap();
            for (i, (tensor, _)) in params.tensors().enumerate() {
                assert_close(&format!("parameter {i}"), &values(tensor), &expected[i], 1e-5);
            }
            assert_eq!(expected[2], unused);
        }
    }
}

#[test]
fn moved_parameters_are_independent_copies() {
    let mut params = three_params();
    params.add_buffer("mean".to_owned(), 2, 0.25).unwrap();
    let before = params.sha256().unwrap();
    let (filter, bias) = (random("filter", 12), random("bias", 5));
    let along = [Some(row(&filter).reshape((3, 4)).unwrap()), Some(row(&bias)), None];
    let moved = params.moved(&along, -0.5).unwrap();
    let after: Vec<Vec<f64>> = moved.named().map(|(_, t)| values(t)).collect();
    for (i, (_, at)) in params.named().enumerate() {
        let none = vec![0.0; at.elem_count()];
        let along = [&filter, &bias, &none, &none][i];
        let expected: Vec<f64> = values(at).iter().zip(along).map(|(w, d)| w - 0.5 * d).collect();
        assert_close(&format!("parameter {i}"), &after[i], &expected, 1e-6);
    }
    // Steps are taken in place, so the copy must share no tensor.
    let ones: Vec<Option<Tensor>> =
        moved.tensors().map(|(t, _)| Some(t.ones_like().unwrap())).collect();
    OptimizerState::new(sgd(0.0, None), &moved).unwrap().step(&moved, &ones, 0.5).unwrap();
    assert_eq!(params.sha256().unwrap(), before);
    assert!(params.moved(&along[..2], 1.0).is_err());
}

#[test]
fn weight_decay_applies_to_filters_only() {
    let space = small();
    let mut params = Params::new(Seed(1), &Device::Cpu);
    Network::new(&mut params, &NetworkPlan::supernet(&space)).unwrap();
    for ((name, _), (_, decays)) in params.named().zip(params.tensors()) {
        assert_eq!(decays, name.ends_with(".weight"), "{name}");
    }
    let before: Vec<Vec<f64>> = params.tensors().map(|(t, _)| values(t)).collect();
    let zeros: Vec<Option<Tensor>> =
        params.tensors().map(|(t, _)| Some(t.zeros_like().unwrap())).collect();
    OptimizerState::new(sgd(0.1, Some(1.0)), &params).unwrap().step(&params, &zeros, 0.5).unwrap();
    for ((tensor, decays), before) in params.tensors().zip(&before) {
        let shrunk: Vec<f64> = before.iter().map(|w| w * if decays { 0.95 } else { 1.0 }).collect();
        assert_close("after decay", &values(tensor), &shrunk, 1e-6);
    }
}

#[test]
fn schedules_match_their_formulas() {
    let at = |schedule, step| {
        let config = Sgd { learning_rate: 0.4, schedule, ..sgd(0.0, None) };
        learning_rate(&config, step, LoopLength { epochs: 2, per_epoch: 5 })
    };
    for step in 0..10 {
        let t = (step as f64 + 0.5) / 10.0;
        assert_eq!(at(Schedule::Constant, step), 0.4);
        let cosine = 0.2 * (1.0 + (std::f64::consts::PI * t).cos());
        assert!((at(Schedule::Cosine { last: 0.0 }, step) - cosine).abs() < 1e-12);
    }
    // It rises over the first fifth and falls over the rest.
    for (step, expected) in [(0, 0.1), (1, 0.3), (2, 0.375), (5, 0.225), (9, 0.025)] {
        assert!((at(Schedule::Triangle, step) - expected).abs() < 1e-12, "{step}");
    }
    // Half an epoch is 2.5 steps: a step belongs to the stair that its middle is on.
    let steps = Schedule::Steps { every_epochs: 0.5, decay: 0.9 };
    for (step, stair) in [0, 0, 1, 1, 1, 2, 2, 3, 3, 3].into_iter().enumerate() {
        let expected = 0.4 * 0.9f64.powi(stair);
        assert!((at(steps, step as u64) - expected).abs() < 1e-12, "{step}");
    }
}

#[test]
fn a_warm_up_rises_to_the_learning_rate_and_leaves_the_rest_to_the_schedule() {
    let length = LoopLength { epochs: 6, per_epoch: 5 };
    let at = |schedule, step| {
        let config = Sgd { learning_rate: 0.4, schedule, warmup_epochs: 1.6, ..sgd(0.0, None) };
        learning_rate(&config, step, length)
    };
    let stairs = Schedule::Steps { every_epochs: 2.4, decay: 0.97 };
    let cosine = Schedule::Cosine { last: 0.1 };
    for schedule in [Schedule::Constant, cosine, Schedule::Triangle, stairs] {
        for step in 0..8 {
            let expected = 0.4 * (step as f64 + 0.5) / 8.0;
            assert!((at(schedule, step) - expected).abs() < 1e-12, "{schedule:?} {step}");
        }
    }
    // The 22 steps that are left are a loop of their own.
    let plain = |schedule, step| {
        let config = Sgd { learning_rate: 0.4, schedule, ..sgd(0.0, None) };
        learning_rate(&config, step, LoopLength { epochs: 2, per_epoch: 11 })
    };
    for schedule in [Schedule::Constant, cosine, Schedule::Triangle] {
        for step in 0..22 {
            let (found, expected) = (at(schedule, 8 + step), plain(schedule, step));
            assert!((found - expected).abs() < 1e-12, "{schedule:?} {step}");
        }
    }
    // Stairs count from the first step: 2.4 epochs are 12 steps.
    for step in 8..30 {
        let expected = 0.4 * 0.97f64.powi((step / 12) as i32);
        assert!((at(stairs, step) - expected).abs() < 1e-12, "{step}");
    }
}

fn random_gradients(space: &SearchSpace, label: &str) -> NetGates {
    let blocks = space.blocks.iter().enumerate().map(|(i, b)| GateGradients {
        types: random(&format!("{label}/t{i}"), b.types.len()),
        expansions: random(&format!("{label}/e{i}"), b.expansions()),
        widths: random(&format!("{label}/w{i}"), b.widths.len()),
        identity: 3.0, // depends on the shapes and moves no logit by itself
    });
    let resolutions = random(&format!("{label}/r"), space.resolutions.len());
    NetGates { resolutions, blocks: blocks.collect() }
}

type Choices = fn(&BlockProbabilities<f64>) -> &Vec<f64>;
const KINDS: [Choices; 3] = [|p| &p.types, |p| &p.expansions, |p| &p.widths];

/// Adam by its formula on the logits of one choice, with bias correction.
struct PlainAdam {
    logits: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl PlainAdam {
    fn new(n: usize) -> Self {
        Self { logits: vec![0.0; n], first: vec![0.0; n], second: vec![0.0; n] }
    }

    fn step(&mut self, config: &Adam, t: i32, gates: &[f64], by_gates: &[f64], tau: f64) {
        for i in 0..self.logits.len() {
            // The softmax's Jacobian: d g_j / d α_i = g_j (1[i = j] - g_i) / τ.
            let mut d = config.weight_decay * self.logits[i];
            for j in 0..gates.len() {
                let same = f64::from(u8::from(i == j));
                d += by_gates[j] * gates[j] * (same - gates[i]) / tau;
            }
            self.first[i] = config.beta1 * self.first[i] + (1.0 - config.beta1) * d;
            self.second[i] = config.beta2 * self.second[i] + (1.0 - config.beta2) * d * d;
        }
        for i in 0..self.logits.len() {
            let mean = self.first[i] / (1.0 - config.beta1.powi(t));
            let square = self.second[i] / (1.0 - config.beta2.powi(t));
            self.logits[i] -= config.learning_rate * mean / (square.sqrt() + 1e-8);
        }
    }
}

#[test]
fn adam_matches_its_formula() {
    let space = small();
    let config = Adam { learning_rate: 0.07, beta1: 0.8, beta2: 0.95, weight_decay: 0.2 };
    let mut alpha = ArchParams::new(&space);
    let mut plain: Vec<Vec<PlainAdam>> = alpha
        .probabilities()
        .blocks
        .iter()
        .map(|p| KINDS.iter().map(|kind| PlainAdam::new(kind(p).len())).collect())
        .collect();
    let mut resolution = PlainAdam::new(space.resolutions.len());
    for t in 1..=5 {
        let tau = 3.0 / f64::from(t);
        let gates = alpha.gates(Seed(9), "adam", t as u64, tau);
        let gradients = random_gradients(&space, &format!("adam{t}"));
        for ((plain, gates), d) in plain.iter_mut().zip(&gates.blocks).zip(&gradients.blocks) {
            let by_gates = [&d.types, &d.expansions, &d.widths];
            for ((plain, kind), d) in plain.iter_mut().zip(KINDS).zip(by_gates) {
                if plain.logits.len() > 1 {
                    plain.step(&config, t, kind(gates), d, tau);
                }
            }
        }
        resolution.step(&config, t, &gates.resolutions, &gradients.resolutions, tau);
        alpha.step(&config, &gates, &gradients, tau);
        // The softmax shows logits up to a constant.
        let p = alpha.probabilities().resolutions;
        let apart = resolution.logits[1] - resolution.logits[0];
        assert!(((p[1] / p[0]).ln() - apart).abs() < 1e-9, "step {t}");
        for (p, plain) in alpha.probabilities().blocks.iter().zip(&plain) {
            for (kind, plain) in KINDS.iter().zip(plain) {
                let p = kind(p);
                for i in 1..p.len() {
                    let found = (p[i] / p[0]).ln();
                    let expected = plain.logits[i] - plain.logits[0];
                    assert!((found - expected).abs() < 1e-9, "step {t}: {found} {expected}");
                }
            }
        }
    }
    let decided = alpha.decide(Seed(1));
    for (block, plain) in decided.blocks.iter().zip(&plain) {
        let best = |choice: &PlainAdam| {
            let largest = choice.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            choice.logits.iter().position(|v| *v == largest).unwrap()
        };
        let found = [block.block_type, block.expansion, block.width];
        assert_eq!(found.as_slice(), plain.iter().map(best).collect::<Vec<_>>());
    }
    let p = alpha.probabilities().resolutions;
    let largest = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(p[decided.resolution], largest);
}

/// Logits far from equal.
fn moved_alpha(space: &SearchSpace) -> ArchParams {
    let mut alpha = ArchParams::new(space);
    let config = Adam { learning_rate: 0.4, beta1: 0.5, beta2: 0.9, weight_decay: 0.0 };
    for t in 0..4 {
        let gates = alpha.probabilities();
        alpha.step(&config, &gates, &random_gradients(space, &format!("moved{t}")), 1.0);
    }
    alpha
}

#[test]
fn argmax_gates_follow_the_softmax_of_the_logits() {
    let space = shipped("fbnetv2_f_cifar.toml");
    let alpha = moved_alpha(&space);
    let draws = 4000;
    let drawn: Vec<_> = (0..draws).map(|t| alpha.gates(Seed(6), "draws", t, 2.5)).collect();
    let mut far: f64 = 0.0;
    for (block, p) in alpha.probabilities().blocks.iter().enumerate() {
        for kind in KINDS {
            let p = kind(p);
            let mut hits = vec![0.0; p.len()];
            for gates in &drawn {
                let gates = kind(&gates.blocks[block]);
                assert!((gates.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                let largest = gates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                hits[gates.iter().position(|g| *g == largest).unwrap()] += 1.0;
            }
            let n = draws as f64;
            for (hits, p) in hits.iter().zip(p).filter(|(_, p)| **p < 1.0) {
                let deviations = (hits / n - p) / (p * (1.0 - p) / n).sqrt();
                assert!(deviations.abs() < 4.5, "block {block}: {} for {p}", hits / n);
                far = far.max((p - 1.0 / kind(&drawn[0].blocks[block]).len() as f64).abs());
            }
        }
    }
    assert!(far > 0.2, "the logits are too close together");
}

#[test]
fn temperature_divides_logits_and_noise() {
    let space = small();
    let alpha = moved_alpha(&space);
    let [warm, cold] = [5.0, 0.5].map(|tau| alpha.gates(Seed(6), "tau", 3, tau));
    for (warm, cold) in warm.blocks.iter().zip(&cold.blocks) {
        for kind in KINDS {
            let (warm, cold) = (kind(warm), kind(cold));
            for i in 1..warm.len() {
                let ratio = (cold[i] / cold[0]).ln() / (warm[i] / warm[0]).ln();
                assert!((ratio - 10.0).abs() < 1e-6, "{ratio}");
            }
        }
    }
    let again = alpha.gates(Seed(6), "tau", 3, 5.0);
    let other = alpha.gates(Seed(6), "tau", 4, 5.0);
    assert_eq!(again.blocks[0].types, warm.blocks[0].types);
    assert_ne!(other.blocks[0].types, warm.blocks[0].types);
    assert_ne!(warm.blocks[0].widths, warm.blocks[1].widths);
}

/// The small space, the blocks of a stage sharing their type.
fn shared() -> SearchSpace {
    SearchSpace { share_types: true, ..small() }
}

#[test]
fn blocks_of_a_stage_can_share_one_choice() {
    let space = shared();
    // Stages of one, two and one block.
    assert_eq!(space.type_groups(), [0..1, 1..3, 3..4]);
    let ways = |space: &SearchSpace| space.size().along(Dimension::BlockType).to_string();
    assert_eq!((ways(&space), ways(&small())), ("729".to_owned(), "6561".to_owned()));

    let alpha = moved_alpha(&space);
    for p in [alpha.probabilities(), alpha.gates(Seed(6), "shared", 0, 1.0)] {
        assert_eq!(p.blocks[1].types, p.blocks[2].types);
        assert_ne!(p.blocks[1].types, p.blocks[0].types);
        assert_ne!(p.blocks[1].widths, p.blocks[2].widths);
    }
    let decided = alpha.decide(Seed(1)).blocks;
    assert_eq!(decided[1].block_type, decided[2].block_type);
}

#[test]
fn shared_choices_sum_their_gradients() {
    let space = shared();
    let config = Adam { learning_rate: 0.07, beta1: 0.8, beta2: 0.95, weight_decay: 0.2 };
    let (mut alpha, tau) = (ArchParams::new(&space), 0.8);
    let mut plain = PlainAdam::new(space.blocks[1].types.len());
    for t in 1..=3 {
        let gates = alpha.gates(Seed(9), "shared", t as u64, tau);
        let gradients = random_gradients(&space, &format!("shared{t}"));
        let [a, b] = [1, 2].map(|i| &gradients.blocks[i].types);
        let sum: Vec<f64> = a.iter().zip(b).map(|(a, b)| a + b).collect();
        plain.step(&config, t, &gates.blocks[1].types, &sum, tau);
        alpha.step(&config, &gates, &gradients, tau);
    }
    let p = &alpha.probabilities().blocks[2].types;
    for i in 1..p.len() {
        let (found, expected) = ((p[i] / p[0]).ln(), plain.logits[i] - plain.logits[0]);
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
}

#[test]
fn equal_options_are_decided_at_random() {
    let space = small();
    let alpha = ArchParams::new(&space);
    let decide = |seed| alpha.decide(Seed(seed));
    assert_eq!(decide(1), decide(1));
    for option in 0..space.resolutions.len() {
        assert!((0..50).any(|seed| decide(seed).resolution == option));
    }
    for option in 0..space.blocks[0].widths.len() {
        assert!((0..50).any(|seed| decide(seed).blocks[0].width == option));
    }
}

#[test]
fn hard_gates_are_one_at_the_argmax() {
    let soft = moved_alpha(&small()).gates(Seed(6), "hard", 0, 1.0);
    let hard = hardened(&soft);
    let check = |soft: &[f64], hard: &[f64]| {
        assert_eq!(hard.iter().sum::<f64>(), 1.0);
        let best = hard.iter().position(|g| *g == 1.0).unwrap();
        assert!(soft.iter().all(|g| *g <= soft[best]));
    };
    check(&soft.resolutions, &hard.resolutions);
    for (soft, hard) in soft.blocks.iter().zip(&hard.blocks) {
        for kind in KINDS {
            check(kind(soft), kind(hard));
        }
    }
}
