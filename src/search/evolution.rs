//! Ageing (regularised) evolution (Real et al. 2019). In each round a random sample of the population
//! competes, the best of the sample gets one mutated child, and the oldest individual is removed,
//! however good it is.

use super::score::better;
use crate::recipe::Evolution;
use crate::rng::Seed;
use crate::train::Score;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Scored individuals, the oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Population<T>(VecDeque<(T, Score)>);

impl<T> Default for Population<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Population<T> {
    /// The parent of individual `i`; `None` while the population still grows, by random individuals.
    /// Competitors are drawn with replacement, as in the paper.
    #[must_use]
    pub fn parent(&self, config: Evolution, seed: Seed, i: u64) -> Option<&T> {
        let Self(all) = self;
        if all.len() < config.population {
            return None;
        }
        let mut stream = seed.stream("evolution/sample", i);
        let mut parent = stream.below(all.len());
        for _ in 1..config.sample {
            let other = stream.below(all.len());
            if better(&all[other].1, &all[parent].1) {
                parent = other;
            }
        }
        Some(&all[parent].0)
    }

    /// Adds an individual; the oldest one leaves a full population.
    pub fn add(&mut self, config: Evolution, individual: T, score: Score) {
        self.0.push_back((individual, score));
        if self.0.len() > config.population {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve digits; each 7 is worth a point.
    type Toy = [usize; 12];

    fn sevens(toy: &Toy) -> Score {
        let right = toy.iter().filter(|digit| **digit == 7).count();
        Score { top1: right as f64 / 12.0, loss: 0.0 }
    }

    fn fresh(seed: Seed, i: u64) -> Toy {
        let mut stream = seed.stream("fresh", i);
        std::array::from_fn(|_| stream.below(10))
    }

    /// The best accuracy of 1,000 individuals.
    fn best(population: usize, sample: usize, seed: Seed) -> f64 {
        let config = Evolution { population, sample };
        let mutated = |parent: &Toy, i| {
            let mut stream = seed.stream("mutate", i);
            let mut child = *parent;
            child[stream.below(12)] = stream.below(10);
            child
        };
        let (mut population, mut best) = (Population::default(), 0.0_f64);
        for i in 0..1000 {
            let parent = population.parent(config, seed, i);
            let toy = parent.map_or_else(|| fresh(seed, i), |parent| mutated(parent, i));
            best = best.max(sevens(&toy).top1);
            population.add(config, toy, sevens(&toy));
        }
        best
    }

    #[test]
    fn evolution_beats_random_search() {
        for seed in [Seed(1), Seed(2), Seed(3)] {
            let evolved = best(50, 10, seed);
            let random = best(1000, 1, seed);
            assert!(evolved > 0.9 && random < 0.6, "{evolved} {random}");
        }
    }

    #[test]
    fn the_oldest_individual_is_removed() {
        // The first is the best by far, and only members of the population have children.
        let config = Evolution { population: 3, sample: 20 };
        let mut population = Population::default();
        let mut parents = Vec::new();
        for i in 0..6_u64 {
            parents.extend(population.parent(config, Seed(0), i).copied());
            population.add(config, i, Score { top1: 1.0 / (1.0 + i as f64), loss: 0.0 });
        }
        // Number 3 is a child of 0, 1 or 2, of which 0 is the best; then 0 is removed, and so on.
        assert_eq!(parents, [0, 1, 2]);
    }
}
