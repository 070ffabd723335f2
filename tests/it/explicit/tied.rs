//! With tied weights the explicit supernet equals the masked one, where both are the same function.

use super::{Explicit, WIDTHS, run, small};
use crate::invariants::{cut, pad};
use crate::numbers::{assert_close, scramble, values};
use crate::spaces::{decisions, dense, gate_values, one_hot, parse, random_probabilities, sparse};
use candle_core::{Device, Tensor};
use repro::cost::Probabilities;
use repro::net::{GatedNetwork, Supernet};
use repro::nn::{Params, Pass};
use repro::rng::Seed;
use repro::space::SearchSpace;
use std::collections::BTreeMap;

/// Expansions are choices, too. There is no squeeze-excite, which treats a mask differently.
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

/// The name in the masked supernet of a tensor of an option, without resolution, width and expansion.
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

/// Both supernets of a space. The weights of the explicit one are the first channels of the masked one.
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

    /// Compares logits, gradients of types and widths, and the sums of the gradients of tied weights.
    fn agree(&mut self, what: &str, p: &Probabilities<f64>) {
        self.agree_on(what, p, true);
    }

    /// [`Tied::agree`], with or without the gradients of widths.
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
fn equal_for_all_types_and_widths() {
    let mut tied = Tied::new(parse(WIDTHS));
    for label in ["one", "two", "three"] {
        let p = random_probabilities(&tied.explicit.space, label);
        tied.agree(label, &p);
    }
}

#[test]
fn equal_at_a_decided_resolution() {
    // Otherwise the functions differ: masking sums the resolutions behind every stage, the explicit
    // supernet only before the classifier.
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
fn equal_at_decided_expansions() {
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
fn equal_for_residual_blocks_of_decided_widths() {
    // Inner channels and outputs are one choice. Unless gates are one-hot, masks mix all pairs of both,
    // and options only equal pairs.
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
fn equal_for_all_expansions_with_tied_statistics() {
    // A batch norm with fixed statistics is linear, so sum and batch norm commute.
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
fn expansion_gradients_differ_between_supernets() {
    // The batch norm behind masked hidden channels has the statistics of the mixture; that of an option
    // has the statistics of the option. At decided expansions the outputs and the gradients of types and
    // widths agree, but the gradients of the expansions do not.
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
