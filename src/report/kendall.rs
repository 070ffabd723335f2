//! Kendall's τ-b, and the percentile bootstrap that gives its interval.

use crate::rng::Seed;
use std::cmp::Ordering;

/// Resamples of the bootstrap.
const RESAMPLES: u64 = 10_000;

/// Kendall's τ-b (Kendall 1945): concordant minus discordant pairs of items, over the geometric mean of the pairs that
/// are not tied in the first value and in the second. `None` where all are tied in either.
///
/// In O(n log n), by Knight (1966): after sorting by both values, the discordant pairs are those that a merge sort by
/// the second value swaps.
#[must_use]
pub fn tau_b(items: &[(f64, f64)]) -> Option<f64> {
    let mut items = items.to_vec();
    items.sort_by(|a, b| compare(a.0, b.0).then(compare(a.1, b.1)));
    let tied_in_first = tied_pairs(&items, |a, b| a.0 == b.0);
    let tied_in_both = tied_pairs(&items, |a, b| a == b);
    let mut seconds: Vec<f64> = items.iter().map(|item| item.1).collect();
    let discordant = sort_counting_swaps(&mut seconds);
    let tied_in_second = tied_pairs(&seconds, |a, b| a == b);
    let all = pairs(items.len());
    let untied = [all - tied_in_first, all - tied_in_second];
    let balance = untied[0] - tied_in_second + tied_in_both - 2 * discordant;
    let scale = (untied[0] as f64 * untied[1] as f64).sqrt();
    (scale > 0.0).then(|| balance as f64 / scale)
}

/// The order of `<`, in which both zeros are equal.
fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.total_cmp(&b))
}

/// Pairs of `n` items.
fn pairs(n: usize) -> i64 {
    n as i64 * (n as i64 - 1) / 2
}

/// Pairs that are equal, of sorted items.
fn tied_pairs<T>(sorted: &[T], equal: impl Fn(&T, &T) -> bool) -> i64 {
    sorted.chunk_by(equal).map(|tied| pairs(tied.len())).sum()
}

/// Sorts by merging, and counts the pairs that are in the wrong order before.
fn sort_counting_swaps(values: &mut [f64]) -> i64 {
    let middle = values.len() / 2;
    if middle == 0 {
        return 0;
    }
    let (left, right) = values.split_at_mut(middle);
    let mut swaps = sort_counting_swaps(left) + sort_counting_swaps(right);
    let mut merged = Vec::with_capacity(values.len());
    let (mut i, mut j) = (0, middle);
    while i < middle && j < values.len() {
        if values[j] < values[i] {
            swaps += (middle - i) as i64;
            merged.push(values[j]);
            j += 1;
        } else {
            merged.push(values[i]);
            i += 1;
        }
    }
    merged.extend(&values[i..middle]);
    // What is left on the right is in place.
    values[..merged.len()].copy_from_slice(&merged);
    swaps
}

/// The percentile bootstrap's 95 % interval of τ-b.
#[must_use]
pub fn interval(pairs: &[(f64, f64)]) -> Option<(f64, f64)> {
    bootstrap(pairs.len(), |networks| {
        tau_b(&networks.iter().map(|i| pairs[*i]).collect::<Vec<_>>())
    })
}

/// The percentile bootstrap's 95 % interval of a statistic of `n` items, which it gets by their numbers.
/// Items are drawn with replacement, always from the same stream. Resamples without a value are left
/// out.
pub fn bootstrap(n: usize, statistic: impl Fn(&[usize]) -> Option<f64>) -> Option<(f64, f64)> {
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

    /// By its definition, over all pairs.
    #[test]
    fn tau_b_agrees_with_counting() {
        let sign = |d: f64| i64::from(d > 0.0) - i64::from(d < 0.0);
        for case in 0..200 {
            let mut stream = Seed(7).stream("tau", case);
            let levels = 1 + stream.below(12);
            let n = stream.below(30);
            // Few levels give many ties.
            let mut value = || stream.below(levels) as f64 - 3.0;
            let items: Vec<(f64, f64)> = (0..n).map(|_| (value(), value())).collect();
            let (mut balance, mut untied) = (0, [0, 0]);
            for (i, a) in items.iter().enumerate() {
                for b in &items[..i] {
                    let signs = [sign(a.0 - b.0), sign(a.1 - b.1)];
                    balance += signs[0] * signs[1];
                    untied = [untied[0] + signs[0].abs(), untied[1] + signs[1].abs()];
                }
            }
            let scale = (untied[0] as f64 * untied[1] as f64).sqrt();
            let expected = (scale > 0.0).then(|| balance as f64 / scale);
            assert_eq!(tau_b(&items), expected, "{items:?}");
        }
    }

    #[test]
    fn the_interval_narrows_with_more_networks() {
        let sample = |n: u64| -> Vec<(f64, f64)> {
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
