//! Search spaces for tests: the shipped ones, and small ones that cover every kind of choice.

use crate::numbers::random;
use repro::cost::{BlockProbabilities, Probabilities, propagate};
use repro::net::{GateValues, NetGates};
use repro::rng::{Seed, Stream};
use repro::space::{BlockDecision, Decisions, SearchSpace, load_space, parse_space};
use std::path::Path;

/// All block types, expansion 1, strides, odd sides, skips with and without a projection.
const SMALL: &str = r#"
name = "small"
channel_divisor = 2
types = "all"
[input]
resolutions = [5, 7]
channels = 3
classes = 4
[stem]
kernel = 3
stride = 1
width = 6
activation = "hswish"
[[stage]]
blocks = 1
stride = 1
expansion = 1
width = [4, 6]
[[stage]]
blocks = 2
stride = 2
expansion = [1.5, 3.5]
width = [3, 5, 7]
[[stage]]
blocks = 1
stride = 1
expansion = [1.5, 2.5, 4.0]
width = [9, 11]
[head]
width = 13
activation = "hswish"
"#;

/// Has choices with a single option, which have no gate.
const SPARSE: &str = r#"
name = "sparse"
channel_divisor = 1
[input]
resolutions = [9]
channels = 1
classes = 3
[stem]
kernel = 5
stride = 2
width = 5
activation = "relu"
[[stage]]
blocks = 1
stride = 1
expansion = 2.0
width = 5
types = ["k5_relu_se", "skip"]
[[stage]]
blocks = 2
stride = 1
expansion = 3.0
width = [4, 8]
types = ["k3_hswish_se"]
[[stage]]
blocks = 1
stride = 2
expansion = [1.0, 2.0]
width = 6
types = ["skip"]
[[stage]]
blocks = 1
stride = 1
expansion = [1.0, 2.0]
width = 6
types = ["skip", "k3_relu"]
[head]
width = 7
activation = "relu"
"#;

/// Blocks without expansion, whose hidden channels are their input channels, behind chosen widths and
/// skips.
const UNEXPANDED: &str = r#"
name = "unexpanded"
channel_divisor = 1
types = ["k3_hswish", "k5_relu_se", "skip"]
[input]
resolutions = [7]
channels = 3
classes = 4
[stem]
kernel = 3
stride = 1
width = 12
activation = "hswish"
[[stage]]
blocks = 3
stride = 1
expansion = 1
width = [4, 8, 12]
[[stage]]
blocks = 2
stride = 2
expansion = 1
width = 9
[head]
width = 13
activation = "hswish"
"#;

/// Residual blocks, alone and among other types, wider and narrower than their input, with strides and
/// odd sides.
const DENSE: &str = r#"
name = "dense"
channel_divisor = 1
[input]
resolutions = [7]
channels = 3
classes = 4
[stem]
kernel = 3
stride = 1
width = 5
activation = "relu"
[[stage]]
blocks = 1
stride = 1
width = [3, 5, 8]
types = ["res3x3"]
[[stage]]
blocks = 2
stride = 2
width = [4, 6]
types = ["res3x3", "skip"]
[[stage]]
blocks = 2
stride = 1
expansion = [1.5, 2.0]
width = [3, 7]
types = ["k3_hswish_se", "res3x3", "skip"]
[head]
width = 9
activation = "relu"
"#;

/// Expansions that count from a block's own input, behind chosen widths and skips; some ratios of narrow inputs
/// give the same hidden channels, and one block has one ratio.
const OWN_INPUT: &str = r#"
name = "own_input"
channel_divisor = 2
expansion_of = "input"
types = ["k3_hswish", "k5_relu_se", "skip"]
[input]
resolutions = [7]
channels = 3
classes = 4
[stem]
kernel = 3
stride = 1
width = 6
activation = "hswish"
[[stage]]
blocks = 1
stride = 1
expansion = 1
width = [2, 6]
[[stage]]
blocks = 2
stride = 2
expansion = [1.25, 1.75, 3.0]
width = [3, 5, 8]
[[stage]]
blocks = 1
stride = 1
expansion = 2.0
width = [5, 8]
[head]
width = 9
activation = "relu"
"#;

pub fn own_input() -> SearchSpace {
    parse(OWN_INPUT)
}

pub fn dense() -> SearchSpace {
    parse(DENSE)
}

pub fn unexpanded() -> SearchSpace {
    parse(UNEXPANDED)
}

pub fn small() -> SearchSpace {
    parse(SMALL)
}

pub fn sparse() -> SearchSpace {
    parse(SPARSE)
}

pub fn parse(text: &str) -> SearchSpace {
    parse_space(text, Path::new("test.toml")).unwrap_or_else(|e| panic!("{e}"))
}

/// A space file of the repository.
pub fn shipped(name: &str) -> SearchSpace {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/spaces").join(name);
    load_space(&path).unwrap_or_else(|e| panic!("{e}"))
}

/// Decisions that are drawn uniformly.
pub fn draw(space: &SearchSpace, stream: &mut Stream) -> Decisions {
    let mut decisions = Decisions { resolution: 0, blocks: vec![] };
    for b in &space.blocks {
        decisions.blocks.push(BlockDecision {
            block_type: stream.below(b.types.len()),
            expansion: stream.below(b.expansions()),
            width: stream.below(b.widths.len()),
        });
    }
    for together in space.type_groups() {
        let block_type = decisions.blocks[together.start].block_type;
        decisions.blocks[together].iter_mut().for_each(|block| block.block_type = block_type);
    }
    if space.resolutions.len() > 1 {
        decisions.resolution = stream.below(space.resolutions.len());
    }
    decisions
}

pub fn decisions(space: &SearchSpace, label: &str, count: usize) -> Vec<Decisions> {
    let mut stream = Seed(17).stream(label, 0);
    (0..count).map(|_| draw(space, &mut stream)).collect()
}

/// Probability one for each decision, in any number type.
pub fn one_hot<N: Clone>(
    space: &SearchSpace,
    decisions: &Decisions,
    zero: &N,
    one: &N,
) -> Probabilities<N> {
    let of = |options: usize, chosen: usize| {
        (0..options).map(|i| if i == chosen { one.clone() } else { zero.clone() }).collect()
    };
    let blocks = space.blocks.iter().zip(&decisions.blocks).map(|(b, d)| BlockProbabilities {
        types: of(b.types.len(), d.block_type),
        expansions: of(b.expansions(), d.expansion),
        widths: of(b.widths.len(), d.width),
    });
    let resolutions = of(space.resolutions.len(), decisions.resolution);
    Probabilities { resolutions, blocks: blocks.collect() }
}

/// Random probabilities; those of each choice sum to one.
pub fn random_probabilities(space: &SearchSpace, label: &str) -> Probabilities<f64> {
    let simplex = |label: String, n: usize| -> Vec<f64> {
        let weights: Vec<f64> = random(&label, n).iter().map(|v| v.exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    };
    let blocks = space.blocks.iter().enumerate().map(|(i, b)| BlockProbabilities {
        types: simplex(format!("{label}/types/{i}"), b.types.len()),
        expansions: simplex(format!("{label}/expansions/{i}"), b.expansions()),
        widths: simplex(format!("{label}/widths/{i}"), b.widths.len()),
    });
    let resolutions = simplex(format!("{label}/resolutions"), space.resolutions.len());
    Probabilities { resolutions, blocks: blocks.collect() }
}

/// The gates that equal these probabilities, with their ρ.
pub fn gate_values(space: &SearchSpace, p: &Probabilities<f64>) -> NetGates {
    let shapes = propagate(space, p, &1.0).blocks;
    let blocks = p.blocks.iter().zip(shapes).map(|(p, shape)| GateValues {
        types: p.types.clone(),
        expansions: p.expansions.clone(),
        widths: p.widths.clone(),
        identity: shape.identity,
    });
    NetGates { resolutions: p.resolutions.clone(), blocks: blocks.collect() }
}
