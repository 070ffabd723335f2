//! Architecture parameters α and the gates drawn from them.
//!
//! g = softmax((α + ε) / τ) with ε ~ Gumbel(0, 1) (Jang et al. 2017; FBNetV2 section 3): one
//! vector of logits per choice, all on the host in f64: there are a few hundred numbers.

use crate::cost::BlockProbabilities;
use crate::net::GateGradients;
use crate::recipe::Adam;
use crate::record::ChoiceProbabilities;
use crate::rng::Seed;
use crate::space::{BlockDecision, Decisions, SearchSpace};

const KINDS: [&str; 3] = ["type", "expansion", "width"];

/// The logits of every choice, and Adam's memory of them.
#[derive(Clone, Debug)]
pub struct ArchParams {
    blocks: Vec<[Choice; 3]>,
    steps: i32,
}

#[derive(Clone, Debug, Default)]
struct Choice {
    logits: Vec<f64>,
    /// Adam's first and second moments.
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Choice {
    fn new(options: usize) -> Self {
        let zeros = vec![0.0; options];
        Self { logits: zeros.clone(), first: zeros.clone(), second: zeros }
    }

    fn best(&self) -> usize {
        let better = |best, (i, v): (usize, &f64)| if *v > self.logits[best] { i } else { best };
        self.logits.iter().enumerate().fold(0, better)
    }
}

impl ArchParams {
    /// All options alike.
    #[must_use]
    pub fn new(space: &SearchSpace) -> Self {
        let blocks = space
            .blocks
            .iter()
            .map(|b| [b.types.len(), b.expansions(), b.widths.len()].map(Choice::new));
        Self { blocks: blocks.collect(), steps: 0 }
    }

    /// Gates for one step, by Gumbel-Softmax at temperature τ.
    #[must_use]
    pub fn gates(
        &self,
        seed: Seed,
        label: &str,
        step: u64,
        tau: f64,
    ) -> Vec<BlockProbabilities<f64>> {
        let mut noise = seed.stream(label, step);
        self.map(|choice| {
            let scaled = choice.logits.iter().map(|alpha| (alpha + noise.gumbel()) / tau);
            softmax(&scaled.collect::<Vec<_>>())
        })
    }

    /// Softmax of the logits over τ, without noise.
    #[must_use]
    pub fn softened(&self, tau: f64) -> Vec<BlockProbabilities<f64>> {
        self.map(|choice| {
            softmax(&choice.logits.iter().map(|alpha| alpha / tau).collect::<Vec<_>>())
        })
    }

    /// Softmax of the logits, without noise.
    #[must_use]
    pub fn probabilities(&self) -> Vec<BlockProbabilities<f64>> {
        self.map(|choice| softmax(&choice.logits))
    }

    fn map(&self, mut of: impl FnMut(&Choice) -> Vec<f64>) -> Vec<BlockProbabilities<f64>> {
        self.blocks
            .iter()
            .map(|[types, expansions, widths]| BlockProbabilities {
                types: of(types),
                expansions: of(expansions),
                widths: of(widths),
            })
            .collect()
    }

    /// The likeliest option of every choice; the largest resolution.
    #[must_use]
    pub fn decide(&self, space: &SearchSpace) -> Decisions {
        let blocks = self.blocks.iter().map(|[types, expansions, widths]| BlockDecision {
            block_type: types.best(),
            expansion: expansions.best(),
            width: widths.best(),
        });
        Decisions { resolution: space.resolutions.len() - 1, blocks: blocks.collect() }
    }

    /// One step of Adam along d loss / d gate, at the `gates` of temperature τ that the loss was
    /// taken at.
    pub fn step(
        &mut self,
        config: &Adam,
        gates: &[BlockProbabilities<f64>],
        gradients: &[GateGradients],
        tau: f64,
    ) {
        self.steps += 1;
        // The moments start from zero and are corrected for it.
        let corrections =
            [config.beta1, config.beta2].map(|beta| 1.0 / (1.0 - beta.powi(self.steps)));
        for ((block, gates), d) in self.blocks.iter_mut().zip(gates).zip(gradients) {
            let of_choice = [
                (&gates.types, &d.types),
                (&gates.expansions, &d.expansions),
                (&gates.widths, &d.widths),
            ];
            for (choice, (gates, d)) in block.iter_mut().zip(of_choice) {
                if choice.logits.len() > 1 {
                    choice.adam(config, corrections, &logit_gradients(gates, d, tau));
                }
            }
        }
    }

    /// Mean entropy of the choices of each kind that have something to choose, divided by the
    /// largest it could be: 1 is undecided, 0 decided.
    #[must_use]
    pub fn entropies(&self) -> [(&'static str, f64); 3] {
        let mut out = [0, 1, 2].map(|kind| (KINDS[kind], 0.0));
        for (kind, (_, mean)) in out.iter_mut().enumerate() {
            let open = self.blocks.iter().map(|b| &b[kind]).filter(|c| c.logits.len() > 1);
            let all: Vec<f64> =
                open.map(|c| entropy(&softmax(&c.logits)) / (c.logits.len() as f64).ln()).collect();
            *mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
        }
        out
    }

    /// The probabilities with the blocks' names.
    #[must_use]
    pub fn named_probabilities(&self, space: &SearchSpace) -> Vec<ChoiceProbabilities> {
        let named = space.blocks.iter().zip(self.probabilities());
        named
            .map(|(block, p)| ChoiceProbabilities {
                block: block.label(),
                types: p.types,
                expansions: p.expansions,
                widths: p.widths,
            })
            .collect()
    }
}

impl Choice {
    fn adam(&mut self, config: &Adam, corrections: [f64; 2], gradients: &[f64]) {
        for (i, gradient) in gradients.iter().enumerate() {
            let d = gradient + config.weight_decay * self.logits[i];
            self.first[i] = config.beta1 * self.first[i] + (1.0 - config.beta1) * d;
            self.second[i] = config.beta2 * self.second[i] + (1.0 - config.beta2) * d * d;
            let [mean, square] = [self.first[i] * corrections[0], self.second[i] * corrections[1]];
            self.logits[i] -= config.learning_rate * mean / (square.sqrt() + 1e-8);
        }
    }
}

/// dα_i = g_i / τ · (dg_i - Σ_j g_j dg_j).
fn logit_gradients(gates: &[f64], gate_gradients: &[f64], tau: f64) -> Vec<f64> {
    let mean: f64 = gates.iter().zip(gate_gradients).map(|(g, d)| g * d).sum();
    gates.iter().zip(gate_gradients).map(|(g, d)| g / tau * (d - mean)).collect()
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
    fn logit_gradients_are_the_derivatives_of_the_softmax() {
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
