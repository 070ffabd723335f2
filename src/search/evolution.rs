//! Regularised evolution (Real et al. 2019): of the living, some compete, the best of them has one
//! mutated child, and the oldest dies, however good it is.

use super::score::better;
use crate::recipe::Evolution;
use crate::rng::Seed;
use crate::train::Score;
use anyhow::Result;
use std::collections::VecDeque;

/// Scores `candidates` individuals: first a population of fresh ones, then children. `fresh` and
/// `mutated` get the individual's number. Competitors are drawn with replacement, as in the paper.
/// The best is not returned: whoever scores sees all of them.
///
/// # Errors
/// Those of what it is given.
pub fn evolve<T>(
    config: Evolution,
    candidates: usize,
    seed: Seed,
    fresh: impl Fn(u64) -> Result<T>,
    mutated: impl Fn(&T, u64) -> Result<T>,
    mut score: impl FnMut(&T) -> Result<Score>,
) -> Result<()> {
    let mut living: VecDeque<(T, Score)> = VecDeque::with_capacity(config.population + 1);
    for i in 0..candidates as u64 {
        let newborn = if living.len() < config.population {
            fresh(i)?
        } else {
            let mut stream = seed.stream("evolution/sample", i);
            let mut parent = stream.below(living.len());
            for _ in 1..config.sample {
                let other = stream.below(living.len());
                if better(&living[other].1, &living[parent].1) {
                    parent = other;
                }
            }
            mutated(&living[parent].0, i)?
        };
        let of_newborn = score(&newborn)?;
        living.push_back((newborn, of_newborn));
        if living.len() > config.population {
            living.pop_front();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digits; the more of them are 7, the better.
    type Toy = [usize; 12];

    fn sevens(toy: &Toy) -> Score {
        let right = toy.iter().filter(|digit| **digit == 7).count();
        Score { top1: right as f64 / 12.0, loss: 0.0 }
    }

    fn fresh(seed: Seed, i: u64) -> Toy {
        let mut stream = seed.stream("fresh", i);
        std::array::from_fn(|_| stream.below(10))
    }

    /// The accuracy of the best of 1,000.
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
    fn it_finds_what_random_search_of_the_same_length_does_not() {
        for seed in [Seed(1), Seed(2), Seed(3)] {
            let evolved = best(50, 10, seed);
            let random = best(1000, 1, seed);
            assert!(evolved > 0.9 && random < 0.6, "{evolved} {random}");
        }
    }

    #[test]
    fn the_oldest_dies_however_good_it_is() {
        // The first is the best by far, and only the living have children.
        let config = Evolution { population: 3, sample: 20 };
        let mut parents = Vec::new();
        let parents_of = std::cell::RefCell::new(&mut parents);
        let mutated = |parent: &u64, i| {
            parents_of.borrow_mut().push(*parent);
            Ok(i)
        };
        let score = |i: &u64| Ok(Score { top1: 1.0 / (1.0 + *i as f64), loss: 0.0 });
        evolve(config, 6, Seed(0), Ok, mutated, score).unwrap();
        // Number 3 is born while 0, 1, 2 live; then 0 dies, and so on.
        assert_eq!(parents, [0, 1, 2]);
    }
}
