//! How well shared weights rank networks: Kendall's τ-b between the accuracies with shared weights and
//! after training from scratch, with a bootstrap interval.

use super::measured::MeasuredRun;
use crate::record::Metric;
use crate::rng::Seed;
use crate::store::RunRow;
use crate::text::{Table, list, or_dash, run_ids};

/// Resamples of the bootstrap.
const RESAMPLES: u64 = 10_000;

/// Accuracies of one network, in 0..=1: with shared weights, and trained from scratch.
pub type AccuracyPair = (f64, f64);

/// Two accuracies of each network that is ranked.
pub const METRICS: [Metric; 2] = [Metric::RANK_SHARED_TOP1, Metric::RANK_ALONE_TOP1];

/// The networks that one run ranked. Several runs with the same seed and identical shared weights are
/// one measurement.
pub struct Ranking<'a> {
    pub runs: Vec<&'a RunRow>,
    pub pairs: Vec<AccuracyPair>,
}

/// The rankings of the runs that have ranked networks.
pub fn rankings<'a>(measured: &[MeasuredRun<'a>]) -> Vec<Ranking<'a>> {
    let mut rankings: Vec<Ranking<'a>> = Vec::new();
    for measured in measured {
        let run = measured.run;
        let pairs = measured.joined(METRICS[0], METRICS[1]);
        if pairs.is_empty() {
            continue;
        }
        let same = |r: &&mut Ranking<'_>| r.pairs == pairs && r.runs[0].seed == run.seed;
        match rankings.iter_mut().find(same) {
            Some(ranking) => ranking.runs.push(run),
            None => rankings.push(Ranking { runs: vec![run], pairs }),
        }
    }
    rankings
}

impl Ranking<'_> {
    fn methods(&self) -> String {
        let mut methods: Vec<&str> = self.runs.iter().map(|run| run.method.as_str()).collect();
        methods.dedup();
        list(methods)
    }

    fn ids(&self) -> Vec<i64> {
        self.runs.iter().map(|run| run.id).collect()
    }

    /// For a legend.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}: {}, seed {}", run_ids(self.ids()), self.methods(), self.runs[0].seed)
    }
}

/// One row per ranking.
pub fn table(rankings: &[Ranking<'_>]) -> Table {
    let mut table = Table::new(["method", ">seed", ">networks", ">τ-b", "95 % interval", ">run"]);
    for ranking in rankings {
        let interval = interval(&ranking.pairs);
        table.row([
            ranking.methods(),
            ranking.runs[0].seed.to_string(),
            ranking.pairs.len().to_string(),
            or_dash(tau_b(&ranking.pairs).map(|tau| format!("{tau:.2}"))),
            or_dash(interval.map(|(low, high)| format!("{low:.2} to {high:.2}"))),
            list(ranking.ids()),
        ]);
    }
    table
}

/// Kendall's τ-b (Kendall 1945): concordant minus discordant pairs of networks, over the geometric mean
/// of the pairs that are not tied in the first accuracy and in the second. `None` where all are tied
/// in either.
#[must_use]
pub fn tau_b(pairs: &[AccuracyPair]) -> Option<f64> {
    let (mut balance, mut untied) = (0_i64, [0_i64; 2]);
    for (i, a) in pairs.iter().enumerate() {
        for b in &pairs[..i] {
            let signs = [sign(a.0 - b.0), sign(a.1 - b.1)];
            balance += signs[0] * signs[1];
            untied = [untied[0] + signs[0].abs(), untied[1] + signs[1].abs()];
        }
    }
    let scale = (untied[0] as f64 * untied[1] as f64).sqrt();
    (scale > 0.0).then(|| balance as f64 / scale)
}

fn sign(difference: f64) -> i64 {
    i64::from(difference > 0.0) - i64::from(difference < 0.0)
}

/// One sentence for any two rankings of one seed over the same networks, trained alike: the difference
/// of their τ-b with an interval.
#[must_use]
pub fn differences(rankings: &[Ranking<'_>]) -> Vec<String> {
    let mut sentences = Vec::new();
    for (i, b) in rankings.iter().enumerate() {
        sentences.extend(rankings[..i].iter().filter_map(|a| difference(a, b)));
    }
    sentences
}

fn difference(a: &Ranking<'_>, b: &Ranking<'_>) -> Option<String> {
    let alone = |ranking: &Ranking<'_>| -> Vec<f64> { ranking.pairs.iter().map(|p| p.1).collect() };
    if a.runs[0].seed != b.runs[0].seed || alone(a) != alone(b) {
        return None;
    }
    let apart = |networks: &[usize]| {
        let tau =
            |r: &Ranking<'_>| tau_b(&networks.iter().map(|i| r.pairs[*i]).collect::<Vec<_>>());
        Some(tau(a)? - tau(b)?)
    };
    let all: Vec<usize> = (0..a.pairs.len()).collect();
    let ((low, high), observed) = bootstrap(all.len(), apart).zip(apart(&all))?;
    Some(format!(
        "τ-b of {} minus τ-b of {}: {observed:+.2}, 95 % interval {low:+.2} to {high:+.2} over the \
         networks, which both have in common.",
        a.label(),
        b.label()
    ))
}

/// The percentile bootstrap's 95 % interval of τ-b.
#[must_use]
pub fn interval(pairs: &[AccuracyPair]) -> Option<(f64, f64)> {
    bootstrap(pairs.len(), |networks| {
        tau_b(&networks.iter().map(|i| pairs[*i]).collect::<Vec<_>>())
    })
}

/// The percentile bootstrap's 95 % interval of a statistic of `n` items, which it gets by their numbers.
/// Items are drawn with replacement, always from the same stream. Resamples without a value are left
/// out.
fn bootstrap(n: usize, statistic: impl Fn(&[usize]) -> Option<f64>) -> Option<(f64, f64)> {
    if n == 0 {
        return None;
    }
    let resample = |i| {
        let mut stream = Seed(0).stream("report/bootstrap", i);
        statistic(&(0..n).map(|_| stream.below(n)).collect::<Vec<_>>())
    };
    let mut values: Vec<f64> = (0..RESAMPLES).filter_map(resample).collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.025).zip(quantile(&values, 0.975))
}

/// By linear interpolation between ascending values.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let at = share * values.len().checked_sub(1)? as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    Some(values[below] + (at - at.floor()) * (values[above] - values[below]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tau(a: &[f64], b: &[f64]) -> Option<f64> {
        tau_b(&a.iter().copied().zip(b.iter().copied()).collect::<Vec<_>>())
    }

    #[test]
    fn tau_b_has_the_known_values() {
        let up = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(tau(&up, &up), Some(1.0));
        assert_eq!(tau(&up, &[5.0, 4.0, 3.0, 2.0, 1.0]), Some(-1.0));
        // One neighbouring swap: (9 - 1) / 10.
        assert_eq!(tau(&up, &[1.0, 3.0, 2.0, 4.0, 5.0]), Some(0.8));
        // With ties, the example of scipy.stats.kendalltau: -0.4714045207910316.
        let (a, b) = ([12.0, 2.0, 1.0, 12.0, 2.0], [1.0, 4.0, 7.0, 1.0, 0.0]);
        assert!((tau(&a, &b).unwrap() + 0.471_404_520_791_031_6).abs() < 1e-15);
        assert_eq!(tau(&up, &[3.0; 5]), None);
        assert_eq!(tau(&[1.0], &[1.0]), None);
        assert_eq!(tau(&[], &[]), None);
    }

    #[test]
    fn the_interval_narrows_with_more_networks() {
        let sample = |n: u64| -> Vec<AccuracyPair> {
            let mut stream = Seed(4).stream("sample", 0);
            let pair = |_| {
                let x = stream.normal();
                (x, x + stream.normal())
            };
            (0..n).map(pair).collect()
        };
        let width = |n| {
            let (pairs, tau) = (sample(n), tau_b(&sample(n)).unwrap());
            let (low, high) = interval(&pairs).unwrap();
            assert!(low < tau && tau < high, "{low} {tau} {high}");
            assert_eq!(interval(&pairs), Some((low, high)));
            high - low
        };
        // By the square root of the number of networks: 2.
        let ratio = width(20) / width(80);
        assert!((1.5..3.0).contains(&ratio), "{ratio}");
        assert_eq!(interval(&[]), None);
    }

    #[test]
    fn the_bootstrap_of_a_mean_is_binomial() {
        // Of the mean of 0 and 1 by n drawn ones: binomial. With n = 100 shares of 0.5, the quantiles
        // of Binomial(100, 0.5) / 100 at 2.5 and 97.5 % are 0.40 and 0.60.
        let mean = |drawn: &[usize]| {
            let ones = drawn.iter().filter(|i| *i % 2 == 1).count();
            Some(ones as f64 / drawn.len() as f64)
        };
        let (low, high) = bootstrap(100, mean).unwrap();
        assert!((low - 0.40).abs() < 0.0101 && (high - 0.60).abs() < 0.0101, "{low} {high}");
        // And of 0.9: 0.84 and 0.95.
        let mean = |drawn: &[usize]| {
            Some(drawn.iter().filter(|i| **i < 90).count() as f64 / drawn.len() as f64)
        };
        let (low, high) = bootstrap(100, mean).unwrap();
        assert!((low - 0.84).abs() < 0.0101 && (high - 0.95).abs() < 0.0101, "{low} {high}");
    }
}
