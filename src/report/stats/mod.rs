//! Statistics of a few numbers: paired differences with Student's t interval, p-value and minimum detectable effect,
//! Holm's correction, Wilson's interval of a share, and a straight line by least squares.

mod student;

use super::frame::mean_and_sd;
use student::{critical, detectable_shift, exceeds};

/// The mean of paired differences with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedDifferences {
    pub pairs: usize,
    pub mean: f64,
    /// With n - 1.
    pub sd: Option<f64>,
    /// The 95 % interval, mean ± t(0.975, n - 1) · sd/√n. `None` for one pair, and where all differences
    /// are equal, which says nothing about their variance.
    pub interval: Option<(f64, f64)>,
    /// Of the paired t test, two-sided; `None` where there is no interval.
    pub p: Option<f64>,
    /// The minimum detectable effect: the true mean difference λ · sd/√n for which such an interval
    /// excludes zero with a probability of 0.8, if the differences are normal and `sd` is their true
    /// standard deviation.
    pub detectable: Option<f64>,
}

impl PairedDifferences {
    /// `None` without differences.
    #[must_use]
    pub fn of(differences: &[f64]) -> Option<Self> {
        let (mean, sd) = mean_and_sd(differences)?;
        let pairs = differences.len();
        let varies = sd.filter(|sd| *sd > 0.0).map(|sd| {
            let (error, freedom) = (sd / (pairs as f64).sqrt(), pairs as f64 - 1.0);
            let t = critical(freedom);
            let interval = (mean - t * error, mean + t * error);
            let p = exceeds(mean.abs() / error, 0.0, freedom);
            (interval, p, detectable_shift(t, freedom) * error)
        });
        Some(Self {
            pairs,
            mean,
            sd,
            interval: varies.map(|(interval, ..)| interval),
            p: varies.map(|(_, p, _)| p),
            detectable: varies.map(|(.., difference)| difference),
        })
    }
}

/// Corrects the p-values of several tests by Holm (1979), so that none of them is below 0.05 by chance with a
/// probability above 0.05. Tests without a p-value are not counted.
#[must_use]
pub fn holm(ps: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(f64, usize)> =
        ps.iter().enumerate().filter_map(|(i, p)| Some(((*p)?, i))).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut corrected, mut largest) = (vec![None; ps.len()], 0.0);
    for (smaller, (p, i)) in order.iter().enumerate() {
        largest = f64::max(largest, p * (order.len() - smaller) as f64).min(1.0);
        corrected[*i] = Some(largest);
    }
    corrected
}

/// The 95 % interval of a share: Wilson's score interval (1927), which stays within 0..=1.
#[must_use]
pub fn wilson_interval(hits: u64, of: u64) -> (f64, f64) {
    // The 97.5 % quantile of the standard normal distribution.
    const Z: f64 = 1.959_963_984_540_054;
    let (n, p) = (of.max(1) as f64, hits as f64 / of.max(1) as f64);
    let (shrink, centre) = (1.0 + Z * Z / n, p + Z * Z / (2.0 * n));
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Exact at the ends, which rounding would miss.
    let low = if hits == 0 { 0.0 } else { (centre - half) / shrink };
    let high = if hits == of { 1.0 } else { (centre + half) / shrink };
    (low, high)
}

/// A straight line through points, by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearFit {
    pub slope: f64,
    pub intercept: f64,
    /// The 95 % interval of the slope, by Student's t; `None` for fewer than three points.
    pub interval: Option<(f64, f64)>,
    /// The share of the variance that the line explains; `None` without variance.
    pub r_squared: Option<f64>,
}

impl LinearFit {
    /// `None` if the points have fewer than two different x.
    #[must_use]
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|p| p.0), mean(|p| p.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|p| of(p.0 - x, p.1 - y)).sum();
        let (xx, xy, yy): (f64, f64, f64) =
            (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        if points.len() < 2 || xx <= 0.0 {
            return None;
        }
        let slope = xy / xx;
        let rest = sum(&|x, y| (y - slope * x).powi(2));
        let freedom = n - 2.0;
        let interval = (freedom >= 1.0).then(|| {
            let reach = critical(freedom) * (rest / freedom / xx).sqrt();
            (slope - reach, slope + reach)
        });
        let r_squared = (yy > 0.0).then(|| 1.0 - rest / yy);
        Some(Self { slope, intercept: y - slope * x, interval, r_squared })
    }
}

impl LinearFit {
    /// The line of the same points in another unit of y, of which `factor` make one.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        let interval = self.interval.map(|(low, high)| (factor * low, factor * high));
        let (slope, intercept) = (factor * self.slope, factor * self.intercept);
        Self { slope, intercept, interval, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() < tolerance, "{a} is not {b}");
    }

    #[test]
    fn shares_have_wilson_intervals() {
        // The ends are the shares p whose standard error leaves the measured share 1.96 errors away.
        for (hits, of) in [(7675, 10_000), (3, 40), (0, 10), (10, 10)] {
            let (n, share) = (of as f64, hits as f64 / of as f64);
            let (low, high) = wilson_interval(hits, of);
            assert!((0.0..=share).contains(&low) && (share..=1.0).contains(&high), "{low} {high}");
            for p in [low, high] {
                let squared = (share - p).powi(2) - 1.959_964_f64.powi(2) * p * (1.0 - p) / n;
                assert!(squared.abs() < 1e-8, "{hits}/{of}: {p}");
            }
        }
    }

    #[test]
    fn the_interval_and_the_effect_agree_with_a_calculation() {
        // Mean 2, sd 1: 4.302653/√3 on both sides.
        let paired = PairedDifferences::of(&[1.0, 2.0, 3.0]).unwrap();
        let (low, high) = paired.interval.unwrap();
        close(low, 2.0 - 2.484_138, 1e-5);
        close(high, 2.0 + 2.484_138, 1e-5);
        // The effect is larger than half the interval, and shrinks faster than 1/√n.
        let effect = paired.detectable.unwrap();
        assert!(effect > 2.484_138 && effect < 4.0, "{effect}");
        let twelve = PairedDifferences::of(&[1.0, 2.0, 3.0].repeat(4)).unwrap();
        assert!(twelve.detectable.unwrap() < effect / 2.0);
    }

    /// Anscombe's first quartet (1973), by SciPy 1.17.1: `linregress(x, y)`, and `t.ppf(0.975, 9)` standard errors.
    #[test]
    fn a_line_agrees_with_scipy() {
        let xs = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let ys = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let points: Vec<(f64, f64)> = xs.into_iter().zip(ys).collect();
        let line = LinearFit::fit(&points).unwrap();
        close(line.slope, 0.500_090_909_090_909_1, 1e-12);
        close(line.intercept, 3.000_090_909_090_910_3, 1e-12);
        close(line.r_squared.unwrap(), 0.666_542_459_508_775, 1e-12);
        let (low, high) = line.interval.unwrap();
        close(low, 0.233_370_136_385_187_5, 1e-11);
        close(high, 0.766_811_681_796_630_8, 1e-11);
        assert_eq!(LinearFit::fit(&points[..1]), None);
        assert_eq!(LinearFit::fit(&points[..2]).unwrap().interval, None);
        assert_eq!(LinearFit::fit(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }

    /// SciPy 1.17.1: `ttest_1samp(x, 0)` with its `confidence_interval(0.95)`, and
    /// `binomtest(k, n).proportion_ci(method="wilson")`.
    #[test]
    fn intervals_and_p_values_agree_with_scipy() {
        let paired = PairedDifferences::of(&[1.2, -0.5, 2.0, 2.5, 0.1]).unwrap();
        let (low, high) = paired.interval.unwrap();
        close(paired.p.unwrap(), 0.132_686_926_608_331_15, 1e-12);
        close(low, -0.502_228_464_041_405_9, 1e-10);
        close(high, 2.622_228_464_041_406, 1e-10);
        for (hits, of, low, high) in [
            (7675, 10_000, 0.759_118_834_895_388_8, 0.775_675_725_976_299_2),
            (3, 40, 0.025_836_025_774_588_198, 0.198_642_335_243_105_43),
        ] {
            let interval = wilson_interval(hits, of);
            close(interval.0, low, 1e-12);
            close(interval.1, high, 1e-12);
        }
    }

    #[test]
    fn p_values_are_corrected_from_the_smallest() {
        let holm = holm(&[Some(0.04), None, Some(0.01), Some(0.03), Some(0.9)]);
        for (corrected, expected) in holm.iter().zip([0.09, -1.0, 0.04, 0.09, 0.9]) {
            close(corrected.unwrap_or(-1.0), expected, 1e-15);
        }
    }

    #[test]
    fn equal_differences_have_no_interval() {
        let one = PairedDifferences::of(&[0.5]).unwrap();
        assert_eq!(
            (one.mean, one.sd, one.interval, one.p, one.detectable),
            (0.5, None, None, None, None)
        );
        assert_eq!(PairedDifferences::of(&[0.5, 0.5]).unwrap().interval, None);
        assert_eq!(PairedDifferences::of(&[]), None);
    }
}
