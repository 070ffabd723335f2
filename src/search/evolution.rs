//! Ageing (regularised) evolution (Real et al. 2019). In each round a random sample of the population
//! competes, the best of the sample gets one mutated child, and the oldest individual is removed,
//! however good it is.

use super::score::better;
use crate::recipe::Evolution;
use crate::rng::Seed;
use crate::train::Score;
use anyhow::Result;
use std::collections::VecDeque;

/// Scores `candidates` individuals: first a random population, then children. `fresh` and `mutated`
/// get the number of the individual. Competitors are drawn with replacement, as in the paper. The best
/// is not returned, since `score` sees all of them.
///
/// # Errors
/// Those of `fresh`, `mutated` and `score`.
pub fn evolve<T>(
    config: Evolution,
    candidates: usize,
    seed: Seed,
    fresh: impl Fn(u64) -> Result<T>,
    mutated: impl Fn(&T, u64) -> Result<T>,
    mut score: impl FnMut(&T) -> Result<Score>,
) -> Result<()> {
    let mut population: VecDeque<(T, Score)> = VecDeque::with_capacity(config.population + 1);
    for i in 0..candidates as u64 {
        let individual = if population.len() < config.population {
            fresh(i)?
        } else {
            let mut stream = seed.stream("evolution/sample", i);
            let mut parent = stream.below(population.len());
            for _ in 1..config.sample {
                let other = stream.below(population.len());
                if better(&population[other].1, &population[parent].1) {
                    parent = other;
                }
            }
            mutated(&population[parent].0, i)?
        };
        let of_individual = score(&individual)?;
        population.push_back((individual, of_individual));
        if population.len() > config.population {
            population.pop_front();
        }
    }
    Ok(())
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
            Ok(child)
        };
        let mut best: f64 = 0.0;
        let score = |toy: &Toy| {
            best = best.max(sevens(toy).top1);
            Ok(sevens(toy))
        };
        evolve(config, 1000, seed, |i| Ok(fresh(seed, i)), mutated, score).unwrap();
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
        let mut parents = Vec::new();
        let parents_of = std::cell::RefCell::new(&mut parents);
        let mutated = |parent: &u64, i| {
            parents_of.borrow_mut().push(*parent);
            Ok(i)
        };
        let score = |i: &u64| Ok(Score { top1: 1.0 / (1.0 + *i as f64), loss: 0.0 });
        evolve(config, 6, Seed(0), Ok, mutated, score).unwrap();
        // Number 3 is a child of 0, 1 or 2, of which 0 is the best; then 0 is removed, and so on.
        assert_eq!(parents, [0, 1, 2]);
    }
}
