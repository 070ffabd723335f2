//! Networks agree with the same networks written in PyTorch.
//!
//! The fixtures hold PyTorch's results in double precision, written by `benches/pytorch/make_fixture.py`.
//! Both sides compute weights and images with the same formula. A tensor may differ by [`TOLERANCE`] of
//! its norm. The observed differences are 7e-7 in logits, 3e-8 in losses, 4e-6 in gradients, and 1e-5 in
//! gradients that are zero in exact arithmetic.

use crate::numbers::{Loss, loss_of};
use candle_core::{Device, Tensor};
use repro::cost::{BlockProbabilities, Probabilities, propagate};
use repro::net::{GateValues, GatedNetwork, NetGates, Network, Supernet};
use repro::nn::{Params, Pass};
use repro::recipe::{Schedule, Sgd};
use repro::rng::Seed;
use repro::space::{ArchSpec, BlockDecision, Decisions, SearchSpace, parse_space};
use repro::train::OptimizerState;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Share of a tensor's norm.
const TOLERANCE: f64 = 5e-5;
/// The smallest norm that a gradient's difference is divided by, as a share of the whole gradient's
/// norm. A shift that the next batch norm cancels has a gradient of zero, up to rounding.
const LEAST_SHARE: f64 = 1e-2;

/// Sum, L2 norm and evenly spread entries of a tensor.
#[derive(Deserialize)]
struct Summary {
    sum: f64,
    norm: f64,
    entries: Vec<f64>,
}

type Summaries = BTreeMap<String, Summary>;

#[derive(Deserialize)]
struct Gates {
    types: Vec<f64>,
    expansions: Vec<f64>,
    widths: Vec<f64>,
    identity: f64,
}

#[derive(Deserialize)]
struct SupernetCase {
    space: String,
    batch: usize,
    gates: Vec<Gates>,
    loss: f64,
    logits: Vec<Vec<f64>>,
    gradients: Summaries,
    gate_gradients: Vec<Gates>,
    statistics: Summaries,
    inference_logits: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Networks {
    space: String,
    batch: usize,
    label_smoothing: f64,
    sgd: Optimizer,
    cases: Vec<NetworkCase>,
}

#[derive(Deserialize)]
struct Optimizer {
    learning_rate: f64,
    momentum: f64,
    weight_decay: f64,
    clip_norm: f64,
}

#[derive(Deserialize)]
struct NetworkCase {
    /// Indices of type, expansion and width.
    decisions: Vec<[usize; 3]>,
    arch: ArchSpec,
    /// Before each step.
    losses: Vec<f64>,
    logits: Vec<Vec<f64>>,
    gradients: Summaries,
    weights_after: Summaries,
    statistics: Summaries,
    inference_logits: Vec<Vec<f64>>,
}

fn fixture<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn read_space(text: &str) -> SearchSpace {
    parse_space(text, Path::new("oracle_space.toml")).unwrap_or_else(|c| panic!("{c}"))
}

/// Numbers in [-1, 1) by a tensor's name and an index.
fn noise(name: &str, count: usize) -> Vec<f64> {
    let key: usize = name.bytes().enumerate().map(|(j, byte)| (j + 1) * byte as usize).sum();
    let at = |i: usize| {
        let sine = (12.9898 * i as f64 + 78.233 * key as f64).sin() * 43758.5453;
        2.0 * (sine - sine.floor()) - 1.0
    };
    (1..=count).map(at).collect()
}

fn f32_tensor(values: Vec<f64>, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Sets every parameter and buffer to its value by the formula.
fn fill(params: &mut Params) {
    let shapes: Vec<(String, Vec<usize>)> =
        params.named().map(|(name, tensor)| (name.to_owned(), tensor.dims().to_vec())).collect();
    for (name, shape) in shapes {
        let fan_in: usize = shape[..shape.len() - 1].iter().product();
        let scale = |u: f64| match name.rsplit('.').next() {
            Some("weight") => (6.0 / fan_in as f64).sqrt() * u,
            Some("gamma") => 1.0 + 0.3 * u,
            Some("running_var") => 1.0 + 0.5 * u,
            _ => 0.2 * u,
        };
        let values = noise(&name, shape.iter().product()).into_iter().map(scale).collect();
        params.set(&name, &f32_tensor(values, &shape)).unwrap();
    }
}

fn batch(space: &SearchSpace, images: usize) -> (Tensor, Vec<u32>) {
    let (side, channels) = (space.max_resolution(), space.image_channels);
    let shape = [images, side, side, channels];
    let labels = (0..images).map(|i| ((3 * i + 1) % space.classes) as u32);
    (f32_tensor(noise("images", shape.iter().product()), &shape), labels.collect())
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Fails unless the numbers differ by at most `TOLERANCE` of `scale`.
fn assert_near(what: &str, found: &[f64], expected: &[f64], scale: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differences: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    let share = norm(&differences) / scale.max(1e-12);
    assert!(share <= TOLERANCE, "{what}: {share:.1e} of the norm\n{found:?}\n{expected:?}");
}

fn assert_summary(name: &str, found: &Tensor, expected: &Summary, least: f64) {
    let scale = expected.norm.max(least);
    let values = flat(found);
    let count = expected.entries.len();
    let entries: Vec<f64> = (0..count).map(|i| values[i * values.len() / count]).collect();
    assert_near(&format!("norm of {name}"), &[norm(&values)], &[expected.norm], scale);
    assert_near(&format!("entries of {name}"), &entries, &expected.entries, scale);
    // A sum of n numbers may be off by √n times the norm of their errors.
    let scale = scale * (values.len() as f64).sqrt();
    assert_near(&format!("sum of {name}"), &[values.iter().sum()], &[expected.sum], scale);
}

fn assert_logits(what: &str, found: &Tensor, expected: &[Vec<f64>]) {
    let expected = expected.concat();
    assert_near(what, &flat(found), &expected, norm(&expected));
}

/// Compares the parameters and buffers that `expected` names.
fn assert_tensors(params: &Params, expected: &Summaries) {
    let tensors: BTreeMap<&str, &Tensor> = params.named().collect();
    for (name, summary) in expected {
        assert_summary(name, tensors[name.as_str()], summary, 0.0);
    }
}

fn assert_gradients(params: &Params, gradients: &[Option<Tensor>], expected: &Summaries) {
    assert_eq!(gradients.len(), expected.len());
    let whole = norm(&expected.values().map(|summary| summary.norm).collect::<Vec<_>>());
    for ((name, _), gradient) in params.named().zip(gradients) {
        let gradient = gradient.as_ref().unwrap_or_else(|| panic!("no gradient of {name}"));
        let what = format!("gradient of {name}");
        assert_summary(&what, gradient, &expected[name], LEAST_SHARE * whole);
    }
}

#[test]
fn supernet_matches_pytorch() {
    let case: SupernetCase = fixture("pytorch_supernet.json");
    let space = read_space(&case.space);
    let (net, mut params) = Supernet::new(&space, Seed(0), &Device::Cpu).unwrap();
    fill(&mut params);
    let (images, labels) = batch(&space, case.batch);
    let blocks = case.gates.iter().map(Gates::values).collect();
    let gates = NetGates { resolutions: vec![1.0], blocks };

    let mut pass = Pass::training(&mut params);
    let (logits, bound) = net.forward(&mut pass, &images, &gates, true).unwrap();
    let Loss { loss, dlogits, .. } = loss_of(logits.tensor(), &labels, 0.0).unwrap();
    let (gradients, mut rest) = pass.backward(&logits, dlogits).unwrap();
    let of_gates = net.gate_gradients(&bound, &mut rest).unwrap();

    assert_near("loss", &[loss], &[case.loss], case.loss);
    assert_logits("logits", logits.tensor(), &case.logits);
    assert_gradients(&params, &gradients, &case.gradients);
    for ((choices, found), expected) in
        space.blocks.iter().zip(&of_gates.blocks).zip(&case.gate_gradients)
    {
        let [found, expected] = [flat_gates(found), flat_gates(&expected.values())];
        let what = format!("gate gradients of block {}", choices.label());
        assert_near(&what, &found, &expected, norm(&expected));
    }
    assert_tensors(&params, &case.statistics);
    let mut pass = Pass::inference(&mut params);
    let (logits, _) = net.forward(&mut pass, &images, &gates, false).unwrap();
    assert_logits("logits at inference", logits.tensor(), &case.inference_logits);
}

#[test]
fn identity_shares_match_pytorch() {
    let case: SupernetCase = fixture("pytorch_supernet.json");
    let space = read_space(&case.space);
    let blocks = case
        .gates
        .iter()
        .map(|g| BlockProbabilities {
            types: g.types.clone(),
            expansions: g.expansions.clone(),
            widths: g.widths.clone(),
        })
        .collect();
    let probabilities = Probabilities { resolutions: vec![1.0], blocks };
    let found: Vec<f64> =
        propagate(&space, &probabilities, &1.0).blocks.iter().map(|b| b.identity).collect();
    let expected: Vec<f64> = case.gates.iter().map(|g| g.identity).collect();
    assert!(expected.iter().filter(|rho| **rho > 0.0).count() == 2);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}

#[test]
fn training_steps_match_pytorch() {
    let fixture: Networks = fixture("pytorch_networks.json");
    let space = read_space(&fixture.space);
    let (images, labels) = batch(&space, fixture.batch);
    for case in &fixture.cases {
        let (net, mut params) = Network::of_arch(&case.arch, Seed(0), &Device::Cpu).unwrap();
        fill(&mut params);
        let mut optimizer = OptimizerState::new(fixture.sgd.config(), &params).unwrap();
        for (step, expected) in case.losses.iter().enumerate() {
            let mut pass = Pass::training(&mut params);
            let logits = net.forward(&mut pass, &images).unwrap();
            let result = loss_of(logits.tensor(), &labels, fixture.label_smoothing).unwrap();
            let (gradients, _) = pass.backward(&logits, result.dlogits.clone()).unwrap();
            assert_near(&format!("loss {step}"), &[result.loss], &[*expected], *expected);
            if step == 0 {
                assert_logits("logits", logits.tensor(), &case.logits);
                assert_gradients(&params, &gradients, &case.gradients);
            }
            optimizer.step(&params, &gradients, fixture.sgd.learning_rate).unwrap();
        }
        assert_tensors(&params, &case.weights_after);
        assert_tensors(&params, &case.statistics);
        let mut pass = Pass::inference(&mut params);
        let logits = net.forward(&mut pass, &images).unwrap();
        assert_logits("logits at inference", logits.tensor(), &case.inference_logits);
        let logits = net.freeze(&params).unwrap().forward(&images).unwrap();
        assert_logits("logits of the frozen network", &logits, &case.inference_logits);
    }
}

#[test]
fn decided_networks_match_pytorch() {
    let fixture: Networks = fixture("pytorch_networks.json");
    let space = read_space(&fixture.space);
    for case in &fixture.cases {
        let block = |[block_type, expansion, width]: [usize; 3]| BlockDecision {
            block_type,
            expansion,
            width,
        };
        let blocks = case.decisions.iter().copied().map(block).collect();
        let arch = space.decide(&Decisions { resolution: 0, blocks });
        // The head is not a choice of a space; one case has the head of the released networks.
        assert_eq!(
            arch.to_json(),
            ArchSpec { head: arch.head.clone(), ..case.arch.clone() }.to_json()
        );
    }
}

impl Gates {
    fn values(&self) -> GateValues {
        GateValues {
            types: self.types.clone(),
            expansions: self.expansions.clone(),
            widths: self.widths.clone(),
            identity: self.identity,
        }
    }
}

fn flat_gates(gates: &GateValues) -> Vec<f64> {
    [&gates.types[..], &gates.expansions, &gates.widths, &[gates.identity]].concat()
}

impl Optimizer {
    fn config(&self) -> Sgd {
        Sgd {
            learning_rate: self.learning_rate,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            schedule: Schedule::Constant,
            warmup_epochs: 0.0,
            clip_norm: Some(self.clip_norm),
        }
    }
}
