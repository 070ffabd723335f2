//! Statistics of a few numbers: Student's t interval and minimum detectable effect of paired
//! differences, and a straight line by least squares.
//!
//! Intervals and effects rest on P(|T| > t), where T = (Z + λ)/S, Z is standard normal and S² is χ²_ν/ν: Student's t
//! at λ = 0, and noncentral t otherwise. Given S it is normal, and S is integrated out by Simpson's
//! rule.

use super::frame::mean_and_sd;

/// Of the interval and of the test; two-sided.
const LEVEL: f64 = 0.05;
/// The probability that a true difference of [`PairedDifferences::detectable`] is significant.
const POWER: f64 = 0.8;
/// Of Simpson's rule, which needs an even number; enough for four decimals of t at one degree of freedom.
const INTERVALS: usize = 1000;

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
            ((mean - t * error, mean + t * error), detectable_shift(t, freedom) * error)
        });
        Some(Self {
            pairs,
            mean,
            sd,
            interval: varies.map(|(interval, _)| interval),
            detectable: varies.map(|(_, difference)| difference),
        })
    }
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

/// The t that |T| exceeds with a probability of 0.05 without a true difference.
fn critical(freedom: f64) -> f64 {
    root(|t| LEVEL - exceeds(t, 0.0, freedom))
}

/// The λ at which |T| exceeds `t` with a probability of 0.8.
fn detectable_shift(t: f64, freedom: f64) -> f64 {
    root(|shift| exceeds(t, shift, freedom) - POWER)
}

/// Where an increasing function becomes positive, between 0 and 100.
fn root(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..44 {
        let middle = f64::midpoint(low, high);
        if f(middle) > 0.0 { high = middle } else { low = middle }
    }
    high
}

/// P(|T| > t); see the head of this file.
fn exceeds(t: f64, shift: f64, freedom: f64) -> f64 {
    // The density of S without its constant, which is the sum of the same terms. S has a standard
    // deviation of about 1/√(2ν), so that nothing is left outside of these ends.
    let reach = 8.0 / freedom.sqrt();
    let (from, to) = (f64::max(0.0, 1.0 - reach), 1.0 + reach);
    let (mut sum, mut all) = (0.0, 0.0);
    for i in 0..=INTERVALS {
        let weight = match i {
            0 | INTERVALS => 1.0,
            _ if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let s = from + (to - from) * i as f64 / INTERVALS as f64;
        // Divided by its value at 1, so that it does not vanish where ν is large.
        let density = weight * s.powf(freedom - 1.0) * (0.5 * freedom * (1.0 - s * s)).exp();
        sum += density * (normal(shift - t * s) + normal(-shift - t * s));
        all += density;
    }
    sum / all
}

/// The standard normal distribution function, by the series of Marsaglia (2004):
/// ½ + φ(x)(x + x³/3 + x⁵/(3·5) + …).
fn normal(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while f64::abs(term) > 1e-17 * f64::abs(sum) {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
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
    fn students_t_agrees_with_tables() {
        let table = [(1.0, 12.7062), (2.0, 4.3027), (4.0, 2.7764), (9.0, 2.2622), (120.0, 1.9799)];
        for (freedom, t) in table {
            close(critical(freedom), t, 1e-4);
        }
        close(normal(1.959_963_985), 0.975, 1e-9);
        close(normal(-7.9), 0.0, 1e-14);
    }

    /// R's manual, examples of `power.t.test`: two samples of n, a difference of one sd, for which
    /// λ = √(n/2) and ν = 2n - 2. 20 have a power of 0.8689528; a power of 0.9 needs 22.02110.
    #[test]
    fn the_power_agrees_with_r() {
        for (n, power) in [(20.0, 0.868_952_8), (22.021_10, 0.9)] {
            let freedom = 2.0 * n - 2.0;
            close(exceeds(critical(freedom), f64::sqrt(n / 2.0), freedom), power, 1e-6);
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

    /// Anscombe's first quartet (1973), as R's `lm` has it: slope 0.5001 with a standard error of
    /// 0.1179, R² 0.6665, and t(0.975, 9) = 2.2622.
    #[test]
    fn a_line_agrees_with_r() {
        let xs = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let ys = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let points: Vec<(f64, f64)> = xs.into_iter().zip(ys).collect();
        let line = LinearFit::fit(&points).unwrap();
        close(line.slope, 0.5001, 1e-4);
        close(line.intercept, 3.0001, 1e-4);
        close(line.r_squared.unwrap(), 0.6665, 1e-4);
        let (low, high) = line.interval.unwrap();
        close((high - low) / 2.0, 2.2622 * 0.1179, 2e-4);
        assert_eq!(LinearFit::fit(&points[..1]), None);
        assert_eq!(LinearFit::fit(&points[..2]).unwrap().interval, None);
        assert_eq!(LinearFit::fit(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }

    #[test]
    fn equal_differences_have_no_interval() {
        let one = PairedDifferences::of(&[0.5]).unwrap();
        assert_eq!((one.mean, one.sd, one.interval, one.detectable), (0.5, None, None, None));
        assert_eq!(PairedDifferences::of(&[0.5, 0.5]).unwrap().interval, None);
        assert_eq!(PairedDifferences::of(&[]), None);
    }
}
