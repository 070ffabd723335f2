//! Architecture parameters α and the gates drawn from them.
//!
//! g = softmax((α + ε) / τ) with ε ~ Gumbel(0, 1) (Jang et al. 2017; FBNetV2 section 3). Each choice
//! has one vector of logits. They stay on the host in f64, since there are only a few hundred numbers.

use crate::cost::{BlockProbabilities, Probabilities};
use crate::net::NetGates;
use crate::recipe::Adam;
use crate::record::{ChoiceProbabilities, Metric, ResolutionProbability};
use crate::rng::{Seed, Stream};
use crate::space::{BlockDecision, Decisions, SearchSpace};
use serde::{Deserialize, Serialize};

/// The logits of every choice, and the state of Adam.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArchParams {
    /// One choice per group of blocks that share their type.
    types: Vec<Logits>,
    blocks: Vec<BlockLogits>,
    resolution: Logits,
    steps: i32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct BlockLogits {
    /// Position among the choices of types.
    group: usize,
    expansion: Logits,
    width: Logits,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Logits {
    values: Vec<f64>,
    /// Adam's first and second moments.
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Logits {
    fn new(options: usize) -> Self {
        let zeros = vec![0.0; options];
        Self { values: zeros.clone(), first: zeros.clone(), second: zeros }
    }

    fn is_open(&self) -> bool {
        self.values.len() > 1
    }

    /// The most probable option; among equals a random one.
    fn argmax(&self, ties: &mut Stream) -> usize {
        largest(&self.values, ties.permutation(self.values.len()).into_iter())
    }
}

/// The index of the largest value; among equals the first in `order`.
fn largest(values: &[f64], order: impl Iterator<Item = usize>) -> usize {
    order.reduce(|best, i| if values[i] > values[best] { i } else { best }).unwrap_or_default()
}

impl ArchParams {
    /// All options equally probable.
    #[must_use]
    pub fn new(space: &SearchSpace) -> Self {
        let groups = space.type_groups();
        let types = groups.iter().map(|group| Logits::new(space.blocks[group.start].types.len()));
        let blocks = groups.iter().enumerate().flat_map(|(group, blocks)| {
            space.blocks[blocks.clone()].iter().map(move |b| BlockLogits {
                group,
                expansion: Logits::new(b.expansions()),
                width: Logits::new(b.widths.len()),
            })
        });
        Self {
            types: types.collect(),
            blocks: blocks.collect(),
            resolution: Logits::new(space.resolutions.len()),
            steps: 0,
        }
    }

    /// Whether both have the same choices with the same numbers of options.
    #[must_use]
    pub fn has_choices_of(&self, other: &Self) -> bool {
        let options = |params: &Self| params.probabilities().map(|_| ());
        options(self) == options(other)
    }

    /// The gates of one step, by Gumbel-Softmax at temperature τ.
    #[must_use]
    pub fn gates(&self, seed: Seed, label: &str, step: u64, tau: f64) -> Probabilities<f64> {
        let mut noise = seed.stream(label, step);
        self.map(|choice| {
            let scaled = choice.values.iter().map(|alpha| (alpha + noise.gumbel()) / tau);
            softmax(&scaled.collect::<Vec<_>>())
        })
    }

    /// Softmax of the logits over τ, without noise.
    #[must_use]
    pub fn softened(&self, tau: f64) -> Probabilities<f64> {
        self.map(|choice| {
            softmax(&choice.values.iter().map(|alpha| alpha / tau).collect::<Vec<_>>())
        })
    }

    /// Softmax of the logits, without noise.
    #[must_use]
    pub fn probabilities(&self) -> Probabilities<f64> {
        self.map(|choice| softmax(&choice.values))
    }

    /// Block by block its type (the first block of a group for all of them), expansion and width,
    /// then the resolution: the order in which noise is drawn.
    fn map(&self, mut of: impl FnMut(&Logits) -> Vec<f64>) -> Probabilities<f64> {
        let mut types: Vec<Vec<f64>> = Vec::with_capacity(self.types.len());
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            if block.group == types.len() {
                types.push(of(&self.types[block.group]));
            }
            blocks.push(BlockProbabilities {
                types: types[block.group].clone(),
                expansions: of(&block.expansion),
                widths: of(&block.width),
            });
        }
        Probabilities { resolutions: of(&self.resolution), blocks }
    }

    /// The most probable option of every choice; among equals a random one.
    #[must_use]
    pub fn decide(&self, seed: Seed) -> Decisions {
        let mut ties = seed.stream("search/ties", 0);
        let types: Vec<usize> = self.types.iter().map(|choice| choice.argmax(&mut ties)).collect();
        let blocks = self.blocks.iter().map(|block| BlockDecision {
            block_type: types[block.group],
            expansion: block.expansion.argmax(&mut ties),
            width: block.width.argmax(&mut ties),
        });
        let blocks = blocks.collect();
        Decisions { resolution: self.resolution.argmax(&mut ties), blocks }
    }

    /// One step of Adam, given d loss / d gate at the soft `gates` of temperature τ. A choice that several
    /// blocks share gets the sum of their gradients.
    pub fn step(
        &mut self,
        config: &Adam,
        gates: &Probabilities<f64>,
        gradients: &NetGates,
        tau: f64,
    ) {
        self.steps += 1;
        // The moments start from zero and are corrected for it.
        let corrections =
            [config.beta1, config.beta2].map(|beta| 1.0 / (1.0 - beta.powi(self.steps)));
        let update = |choice: &mut Logits, gates: &[f64], d: &[f64]| {
            if choice.is_open() {
                choice.adam(config, corrections, &logit_gradients(gates, d, tau));
            }
        };
        let blocks = self.blocks.iter_mut().zip(&gates.blocks).zip(&gradients.blocks);
        for ((block, gates), d) in blocks {
            update(&mut block.expansion, &gates.expansions, &d.expansions);
            update(&mut block.width, &gates.widths, &d.widths);
        }
        for (group, choice) in self.types.iter_mut().enumerate() {
            let mut gates_of_group: &[f64] = &[];
            let mut total = vec![0.0; choice.values.len()];
            let blocks = self.blocks.iter().zip(&gates.blocks).zip(&gradients.blocks);
            for ((_, gates), d) in blocks.filter(|((block, _), _)| block.group == group) {
                gates_of_group = &gates.types;
                for (total, d) in total.iter_mut().zip(&d.types) {
                    *total += d;
                }
            }
            update(choice, gates_of_group, &total);
        }
        update(&mut self.resolution, &gates.resolutions, &gradients.resolutions);
    }

    /// Mean normalised entropy of each kind of choice with several options: 1 is undecided, 0 decided.
    /// The resolution's is there only if there are several.
    #[must_use]
    pub fn entropies(&self) -> Vec<(Metric, f64)> {
        let mean = |choices: &mut dyn Iterator<Item = &Logits>| {
            let (sum, open) = choices.filter(|choice| choice.is_open()).fold(
                (0.0, 0),
                |(sum, open): (f64, usize), choice| {
                    let largest = (choice.values.len() as f64).ln();
                    (sum + entropy(&softmax(&choice.values)) / largest, open + 1)
                },
            );
            sum / open.max(1) as f64
        };
        let mut means = vec![
            (Metric::SEARCH_ENTROPY_TYPE, mean(&mut self.types.iter())),
            (Metric::SEARCH_ENTROPY_EXPANSION, mean(&mut self.blocks.iter().map(|b| &b.expansion))),
            (Metric::SEARCH_ENTROPY_WIDTH, mean(&mut self.blocks.iter().map(|b| &b.width))),
        ];
        if self.resolution.is_open() {
            means.push((
                Metric::SEARCH_ENTROPY_RESOLUTION,
                mean(&mut [&self.resolution].into_iter()),
            ));
        }
        means
    }

    /// The probabilities with the blocks' names.
    #[must_use]
    pub fn named_probabilities(&self, space: &SearchSpace) -> Vec<ChoiceProbabilities> {
        let named = space.blocks.iter().zip(self.probabilities().blocks);
        named
            .map(|(block, p)| ChoiceProbabilities {
                block: block.label(),
                types: p.types,
                expansions: p.expansions,
                widths: p.widths,
            })
            .collect()
    }

    /// The probabilities of the resolutions; empty if there is only one.
    #[must_use]
    pub fn resolution_probabilities(&self, space: &SearchSpace) -> Vec<ResolutionProbability> {
        if !self.resolution.is_open() {
            return Vec::new();
        }
        let all = space.resolutions.iter().zip(softmax(&self.resolution.values));
        all.map(|(side, probability)| ResolutionProbability { side: *side, probability }).collect()
    }
}

/// One for the largest gate of every choice (the first of equals), zero for the others.
#[must_use]
pub fn hardened(soft: &Probabilities<f64>) -> Probabilities<f64> {
    let hard = |gates: &[f64]| -> Vec<f64> {
        let best = largest(gates, 0..gates.len());
        (0..gates.len()).map(|i| f64::from(u8::from(i == best))).collect()
    };
    let blocks = soft.blocks.iter().map(|block| BlockProbabilities {
        types: hard(&block.types),
        expansions: hard(&block.expansions),
        widths: hard(&block.widths),
    });
    Probabilities { resolutions: hard(&soft.resolutions), blocks: blocks.collect() }
}

impl Logits {
    fn adam(&mut self, config: &Adam, corrections: [f64; 2], gradients: &[f64]) {
        for (i, gradient) in gradients.iter().enumerate() {
            let d = gradient + config.weight_decay * self.values[i];
            self.first[i] = config.beta1 * self.first[i] + (1.0 - config.beta1) * d;
            self.second[i] = config.beta2 * self.second[i] + (1.0 - config.beta2) * d * d;
            let [mean, square] = [self.first[i] * corrections[0], self.second[i] * corrections[1]];
            self.values[i] -= config.learning_rate * mean / (square.sqrt() + 1e-8);
        }
    }
}

/// dα_i = g_i / τ · Σ_j g_j (dg_i - dg_j). Equal gradients of the gates give exactly zero: Adam would turn
/// what rounding leaves of them into whole steps.
fn logit_gradients(gates: &[f64], gate_gradients: &[f64], tau: f64) -> Vec<f64> {
    let pairs = || gates.iter().zip(gate_gradients);
    pairs()
        .map(|(g, d)| {
            g / tau * pairs().map(|(other, of_other)| other * (d - of_other)).sum::<f64>()
        })
        .collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|v| (v - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}

fn entropy(p: &[f64]) -> f64 {
    -p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logit_gradients_equal_finite_differences() {
        let (alpha, d, tau, h) = ([0.3, -0.5, 1.1], [0.7, 0.1, -0.4], 1.7, 1e-6);
        let value = |alpha: [f64; 3]| -> f64 {
            softmax(&alpha.map(|a| a / tau)).iter().zip(d).map(|(g, d)| g * d).sum()
        };
        let found = logit_gradients(&softmax(&alpha.map(|a| a / tau)), &d, tau);
        for i in 0..3 {
            let mut moved = [alpha; 2];
            moved[0][i] += h;
            moved[1][i] -= h;
            assert!((found[i] - (value(moved[0]) - value(moved[1])) / (2.0 * h)).abs() < 1e-9);
        }
    }
}
