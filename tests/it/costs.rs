//! Costs of decided networks and of supernets, and expected costs with their derivatives.

mod counting;
mod derivatives;
mod expected;
mod random_networks;
mod range;

use crate::spaces::{dense, own_input, parse, shipped, small, sparse, unexpanded};
use repro::cost::Probabilities;
use repro::space::{BlockDecision, Decisions, SearchSpace};

fn spaces() -> Vec<SearchSpace> {
    let shipped = ["fbnetv2_f_cifar.toml", "fbnetv2_f.toml", "nats_size.toml"].map(shipped);
    let own = [unexpanded(), small(), sparse(), dense(), own_input()];
    own.into_iter().chain(shipped).collect()
}

/// Three blocks with every kind of choice: 1,728 networks.
fn tiny() -> SearchSpace {
    parse(
        r#"
name = "tiny"
channel_divisor = 2
[input]
resolutions = [8]
channels = 3
classes = 4
[stem]
kernel = 3
stride = 1
width = 6
activation = "relu"
[[stage]]
blocks = 3
stride = 1
expansion = [1.5, 3.0]
width = [4, 6]
types = ["k3_relu", "k5_hswish_se", "skip"]
[head]
width = 8
activation = "relu"
"#,
    )
}

/// Every network of a space with its probability.
fn all_networks(space: &SearchSpace, p: &Probabilities<f64>) -> Vec<(Decisions, f64)> {
    let mut all = vec![(Decisions { resolution: 0, blocks: vec![] }, 1.0)];
    for (choices, p) in space.blocks.iter().zip(&p.blocks) {
        let mut longer = vec![];
        for (made, q) in &all {
            for block_type in 0..choices.types.len() {
                for expansion in 0..choices.expansions() {
                    for width in 0..choices.widths.len() {
                        let mut made = made.clone();
                        made.blocks.push(BlockDecision { block_type, expansion, width });
                        let share = p.types[block_type] * p.expansions[expansion];
                        longer.push((made, q * share * p.widths[width]));
                    }
                }
            }
        }
        all = longer;
    }
    all
}

/// All probabilities in one list; [`shaped`] is the inverse.
fn flat(p: &Probabilities<f64>) -> Vec<f64> {
    let mut all = vec![];
    let _ = p.map(|v| all.push(*v));
    all
}

fn shaped<N: Clone>(like: &Probabilities<f64>, flat: &[N]) -> Probabilities<N> {
    let mut rest = flat.iter().cloned();
    like.map(|_| rest.next().unwrap())
}

fn two_resolutions() -> SearchSpace {
    let mut space = small();
    space.resolutions = vec![20, 28];
    space
}
