//! The explicit supernet: its formula in plain f64, the masked supernet with tied weights, and the
//! derived network at one-hot gates.

mod formula;
mod one_hot;
mod resolutions;
mod tied;

use crate::harness::named_gradients;
use crate::numbers::{loss_of, random_map, scramble, values};
use crate::reference::Map;
use crate::spaces::{self, gate_values, random_probabilities, shipped};
use candle_core::{Device, Tensor};
use repro::manifest::{self, Overrides};
use repro::net::{ExplicitSupernet, GatedNetwork, NetGates};
use repro::nn::{Params, Pass};
use repro::recipe::Recompute;
use repro::rng::Seed;
use repro::space::SearchSpace;
use std::fs;

/// The tolerance of values behind a dozen f32 layers with batch norm.
const VALUE: f64 = 1e-3;
/// With hundreds of options some value is always close to a kink of its activation.
const SLOPE: (f64, f64) = (6e-3, 1e-3);

/// Only widths and types are choices, so masks and options are equal up to the end of a block.
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

/// The space with all block types, only at its largest resolution.
fn small() -> SearchSpace {
    let space = spaces::small();
    SearchSpace { resolutions: vec![space.max_resolution()], ..space }
}

/// A supernet with images, and with weights changed from their initial values.
struct Explicit {
    space: SearchSpace,
    net: ExplicitSupernet,
    params: Params,
    images: Map,
    labels: Vec<u32>,
}

/// The logits and all gradients of a pass.
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

/// Runs a training pass with gradients of the gates.
fn run(
    net: &impl GatedNetwork,
    params: &mut Params,
    images: &Map,
    labels: &[u32],
    gates: &NetGates,
) -> Found {
    let mut pass = Pass::training(params);
    let (logits, bound) = net.forward(&mut pass, &images.tensor(), gates, true).unwrap();
    let result = loss_of(logits.tensor(), labels, 0.0).unwrap();
    let (gradients, mut others) = pass.backward(&logits, result.dlogits).unwrap();
    Found {
        logits: values(logits.tensor()),
        weights: named_gradients(params, &gradients),
        gates: net.gate_gradients(&bound, &mut others).unwrap(),
    }
}

#[test]
fn recomputing_options_gives_equal_bits() {
    let gates = |space: &SearchSpace| gate_values(space, &random_probabilities(space, "again"));
    let run = |recompute: Recompute, frozen: bool| {
        let mut s = Explicit::new(small(), 3);
        let gates = gates(&s.space);
        let pass = if frozen { Pass::frozen(&mut s.params) } else { Pass::training(&mut s.params) };
        let mut pass = pass.recomputing(recompute);
        let (logits, bound) = s.net.forward(&mut pass, &s.images.tensor(), &gates, true).unwrap();
        let result = loss_of(logits.tensor(), &s.labels, 0.0).unwrap();
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
fn thread_count_does_not_change_option_bits() {
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

#[test]
fn hidden_widths_that_depend_on_the_input_are_refused() {
    let space = spaces::own_input();
    let error = ExplicitSupernet::new(&space, Seed(1), &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("do not depend on input widths"), "{error}");
    // In a manifest, with the place, before any work.
    let folder = tempfile::tempdir().unwrap();
    let text = include_str!("../../experiments/spaces/smoke.toml");
    let text = format!("expansion_of = \"input\"\n{text}");
    fs::write(folder.path().join("space.toml"), text).unwrap();
    let manifest = include_str!("../../experiments/smoke.toml");
    let manifest = manifest.replace("spaces/smoke.toml", "space.toml");
    let path = folder.path().join("manifest.toml");
    fs::write(&path, manifest).unwrap();
    let load = |method: &str| {
        let sets = vec![format!("search.method={method}")];
        manifest::load(&path, &Overrides { sets, seeds: Vec::new() })
    };
    for method in ["dnas", "darts", "darts2"] {
        let refused = load(method).err().unwrap().to_string();
        let expected = format!("\"{method}\" has a block for every number of hidden channels");
        assert!(refused.contains(&expected), "{refused}");
    }
    assert!(load("dmasking").is_ok());
}
