//! The networks of a table that a search may find, ordered by their mean test top-1: all, or those within a budget.

use super::ExhaustiveTable;
use crate::recipe::{Budget, Objective};
use crate::report::kendall::{bootstrap, tau_b};
use crate::report::results::top1;
use crate::store::StoredBudget;
use std::collections::BTreeMap;

/// A network with its mean test top-1 over the seeds, in 0..=1.
pub struct PooledNetwork {
    pub number: usize,
    pub top1: f64,
    pub macs: u64,
    pub params: u64,
    /// One per seed of the table.
    top1s: Vec<f64>,
}

/// Networks that were trained with every seed, the worst first.
pub struct Pool {
    pub networks: Vec<PooledNetwork>,
    numbers: BTreeMap<String, usize>,
    seeds: usize,
}

/// How good a network is among those of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    pub top1: f64,
    /// The top-1 of the best network minus its own.
    pub regret: f64,
    /// The share of the other networks that are worse; equal ones count half.
    pub percentile: f64,
    /// 1 where no network is better, else 0; of draws the probability of that.
    pub hit: f64,
}

/// Whether networks may be ranked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Noise {
    /// One seed does not show it.
    Unknown,
    TooLarge(f64),
    Small,
}

/// Below this τ-b between two seeds, differences between networks are mostly noise.
pub const LEAST_TAU: f64 = 0.6;

impl Pool {
    /// Of the whole table, or of its networks within a budget.
    pub fn of(table: &ExhaustiveTable<'_>, budget: Option<&StoredBudget>) -> Self {
        let budget = budget.and_then(of_stored);
        let mut networks: Vec<PooledNetwork> = Vec::new();
        for network in &table.networks {
            let (macs, params) = (network.macs, network.params);
            let fits = budget.is_none_or(|budget| {
                let cost = if budget.objective == Objective::Macs { macs } else { params };
                budget.band().contains(&cost)
            });
            if let (true, Some(mean)) = (fits, table.mean_top1(network)) {
                let top1s = network.runs.values().filter_map(|run| top1(run)).collect();
                networks.push(PooledNetwork {
                    number: network.number,
                    top1: mean,
                    macs,
                    params,
                    top1s,
                });
            }
        }
        networks.sort_by(|a, b| a.top1.total_cmp(&b.top1));
        let places = networks.iter().enumerate();
        let numbers =
            places.map(|(place, network)| (table.networks[network.number].id.clone(), place));
        Self { numbers: numbers.collect(), seeds: table.seeds.len(), networks }
    }

    /// The best network; the first of several.
    pub fn best(&self) -> Option<&PooledNetwork> {
        let most = self.networks.last()?.top1;
        self.networks.iter().filter(|network| network.top1 >= most).min_by_key(|best| best.number)
    }

    /// The network of this architecture, if it is in the pool.
    pub fn standing(&self, id: &str) -> Option<Standing> {
        self.standing_of(&self.networks[*self.numbers.get(id)?])
    }

    fn standing_of(&self, network: &PooledNetwork) -> Option<Standing> {
        let (top1, best) = (network.top1, self.networks.last()?.top1);
        let worse = self.networks.partition_point(|other| other.top1 < top1);
        let not_better = self.networks.partition_point(|other| other.top1 <= top1);
        let others = self.networks.len() as f64 - 1.0;
        let ties = (not_better - worse) as f64 - 1.0;
        let percentile = if others > 0.0 { (worse as f64 + ties / 2.0) / others } else { 1.0 };
        let hit = if top1 >= best { 1.0 } else { 0.0 };
        Some(Standing { top1, regret: best - top1, percentile, hit })
    }

    /// The exact expectation for the best of `n` uniform draws, each of any network. `None` for no network.
    pub fn best_of(&self, n: u32) -> Option<Standing> {
        let all = self.networks.iter().map(|network| self.standing_of(network));
        let all = all.collect::<Option<Vec<Standing>>>().filter(|all| !all.is_empty())?;
        let expected = |of: fn(&Standing) -> f64| {
            let values: Vec<f64> = all.iter().map(of).collect();
            expected_last(&values, n)
        };
        Some(Standing {
            top1: expected(|s| s.top1),
            regret: expected(|s| s.regret),
            percentile: expected(|s| s.percentile),
            hit: expected(|s| s.hit),
        })
    }

    /// Kendall's τ-b between the top-1 of two seeds, the mean over all pairs of seeds. `None` for one seed.
    pub fn tau_between_seeds(&self) -> Option<f64> {
        self.tau_among(&(0..self.networks.len()).collect::<Vec<_>>())
    }

    /// The 95 % interval of the bootstrap over networks.
    pub fn tau_interval(&self) -> Option<(f64, f64)> {
        bootstrap(self.networks.len(), |places| self.tau_among(places))
    }

    fn tau_among(&self, places: &[usize]) -> Option<f64> {
        let pairs = (0..self.seeds).flat_map(|b| (0..b).map(move |a| (a, b)));
        let tau = |(a, b)| {
            let top1s = places.iter().map(|place| &self.networks[*place].top1s);
            tau_b(&top1s.map(|top1s| (top1s[a], top1s[b])).collect::<Vec<_>>())
        };
        let taus = pairs.map(tau).collect::<Option<Vec<f64>>>().filter(|taus| !taus.is_empty())?;
        Some(taus.iter().sum::<f64>() / taus.len() as f64)
    }

    /// Kendall's τ-b between a cost and the mean top-1.
    pub fn tau_of_cost(&self, cost: fn(&PooledNetwork) -> u64) -> Option<f64> {
        let pairs = self.networks.iter().map(|network| (cost(network) as f64, network.top1));
        tau_b(&pairs.collect::<Vec<_>>())
    }

    /// By the τ-b between seeds.
    pub fn noise(&self) -> Noise {
        match self.tau_between_seeds() {
            None => Noise::Unknown,
            Some(tau) if tau < LEAST_TAU => Noise::TooLarge(tau),
            Some(_) => Noise::Small,
        }
    }
}

/// The expected value of the item with the largest place among `n` draws with replacement from N items. All n are among
/// the first i with probability (i/N)^n, so that item i is the last with (i/N)^n - ((i - 1)/N)^n.
fn expected_last(values: &[f64], n: u32) -> f64 {
    let share = |i: usize| (i as f64 / values.len() as f64).powf(f64::from(n));
    values.iter().enumerate().map(|(i, value)| value * (share(i + 1) - share(i))).sum()
}

fn of_stored(stored: &StoredBudget) -> Option<Budget> {
    let objectives = [Objective::Macs, Objective::Params];
    let objective = objectives.into_iter().find(|known| known.name() == stored.objective)?;
    let StoredBudget { bound, tolerance, above, .. } = *stored;
    Some(Budget { objective, bound, tolerance, above })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    /// Networks of these accuracies with two seeds.
    fn pool(top1s: &[[f64; 2]]) -> Pool {
        let network = |(number, top1s): (usize, &[f64; 2])| PooledNetwork {
            number,
            top1: f64::midpoint(top1s[0], top1s[1]),
            macs: number as u64,
            params: 1,
            top1s: top1s.to_vec(),
        };
        let mut networks: Vec<_> = top1s.iter().enumerate().map(network).collect();
        networks.sort_by(|a, b| a.top1.total_cmp(&b.top1));
        let places = networks.iter().enumerate();
        let numbers = places.map(|(place, network)| (network.number.to_string(), place)).collect();
        Pool { networks, numbers, seeds: 2 }
    }

    #[test]
    fn the_best_of_n_draws_agrees_with_enumeration() {
        let mut stream = Seed(3).stream("pool", 0);
        for size in 1..=5_usize {
            // Few values, so that some are equal.
            let top1s: Vec<[f64; 2]> =
                (0..size).map(|_| [stream.below(3) as f64 / 4.0; 2]).collect();
            let pool = pool(&top1s);
            for n in 1..=4_u32 {
                let tuples = size.pow(n);
                let mut sum = [0.0; 3];
                for tuple in 0..tuples {
                    let drawn = (0..n).map(|i| tuple / size.pow(i) % size);
                    let best = drawn.max_by(|a, b| top1s[*a][0].total_cmp(&top1s[*b][0])).unwrap();
                    let standing = pool.standing(&best.to_string()).unwrap();
                    sum[0] += standing.regret;
                    sum[1] += standing.percentile;
                    sum[2] += standing.hit;
                }
                let exact = pool.best_of(n).unwrap();
                for (sum, exact) in sum.into_iter().zip([exact.regret, exact.percentile, exact.hit])
                {
                    assert!(
                        (sum / tuples as f64 - exact).abs() < 1e-12,
                        "{size} {n} {sum} {exact}"
                    );
                }
            }
        }
        assert_eq!(pool(&[]).best_of(1), None);
    }

    #[test]
    fn standings_count_ties_half() {
        let pool = pool(&[[0.5; 2], [0.25; 2], [0.5; 2], [0.0; 2]]);
        let of = |number: &str| pool.standing(number).unwrap();
        assert_eq!(of("0"), of("2"));
        assert_eq!(of("0"), Standing { top1: 0.5, regret: 0.0, percentile: 2.5 / 3.0, hit: 1.0 });
        assert_eq!(of("1"), Standing { top1: 0.25, regret: 0.25, percentile: 1.0 / 3.0, hit: 0.0 });
        assert_eq!(pool.standing("4"), None);
        assert_eq!(pool.best().unwrap().number, 0);
        // A uniform draw: the mean of all, by definition at percentile one half.
        let draw = pool.best_of(1).unwrap();
        assert_eq!((draw.top1, draw.percentile, draw.hit), (0.3125, 0.5, 0.5));
    }

    #[test]
    fn seeds_that_disagree_are_noise() {
        let agree = pool(&[[0.1, 0.2], [0.2, 0.3], [0.3, 0.4], [0.4, 0.5]]);
        assert_eq!(agree.tau_between_seeds(), Some(1.0));
        assert_eq!(agree.noise(), Noise::Small);
        assert_eq!(agree.tau_of_cost(|network| network.macs), Some(1.0));
        assert_eq!(agree.tau_of_cost(|network| network.params), None);
        // Three of six pairs are discordant.
        let disagree = pool(&[[0.1, 0.3], [0.2, 0.2], [0.3, 0.1], [0.4, 0.5]]);
        assert_eq!(disagree.noise(), Noise::TooLarge(0.0));
        let one = Pool { seeds: 1, ..agree };
        assert_eq!(one.noise(), Noise::Unknown);
    }
}
