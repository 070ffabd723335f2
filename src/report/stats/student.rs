//! Student's t and noncentral t: P(|T| > t), where T = (Z + λ)/√(χ²_ν/ν) and Z is standard normal.

/// Of the interval and of the test; two-sided.
const LEVEL: f64 = 0.05;
/// The probability that the minimum detectable effect is significant.
const POWER: f64 = 0.8;
/// Largest λ: its square is an exponent, and power 0.8 takes 17 at one degree of freedom.
const LARGEST_SHIFT: f64 = 37.0;

/// The t that |T| exceeds with a probability of 0.05 without a true difference.
pub fn critical(freedom: f64) -> f64 {
    root(100.0, |t| LEVEL - exceeds(t, 0.0, freedom))
}

/// The λ at which |T| exceeds `t` with a probability of 0.8.
pub fn detectable_shift(t: f64, freedom: f64) -> f64 {
    root(LARGEST_SHIFT, |shift| exceeds(t, shift, freedom) - POWER)
}

/// Where an increasing function becomes positive, between 0 and `end`.
fn root(end: f64, f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, end);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if f(middle) > 0.0 { high = middle } else { low = middle }
    }
    high
}

/// P(|T| > t) for t ≥ 0 and λ from 0 to [`LARGEST_SHIFT`].
///
/// T² has a noncentral F distribution, so that P(|T| ≤ t) = Σ pⱼ I(j + ½, ν/2), with Poisson weights pⱼ of mean λ²/2 and
/// the regularized incomplete beta function at x = t²/(ν + t²).
pub fn exceeds(t: f64, shift: f64, freedom: f64) -> f64 {
    let (squared, half) = (t * t, 0.5 * freedom);
    let (x, complement) = (squared / (freedom + squared), freedom / (freedom + squared));
    let mean = 0.5 * shift * shift;
    // 1 - I of each term. The first is computed as such, so that a small probability keeps its digits.
    let mut beyond = incomplete_beta(half, 0.5, complement, x);
    // I(a + 1, b) = I(a, b) - xᵃ(1-x)ᵇ / (a B(a, b))
    let mut step = (0.5 * x.ln() + half * complement.ln() - ln_beta(0.5, half)).exp() / 0.5;
    let (mut weight, mut left) = ((-mean).exp(), 1.0);
    let mut sum = weight * beyond;
    left -= weight;
    let mut j = 0.0;
    while left > 1e-16 && j < 10_000.0 {
        beyond += step;
        j += 1.0;
        step *= x * (j - 0.5 + half) / (j + 0.5);
        weight *= mean / j;
        left -= weight;
        sum += weight * beyond;
        // The weights rise up to the mean.
        if j > mean && weight < 1e-17 {
            break;
        }
    }
    sum.clamp(0.0, 1.0)
}

/// The regularized incomplete beta function I(a, b) at `x`, where `complement` is 1 - x.
fn incomplete_beta(a: f64, b: f64, x: f64, complement: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if complement <= 0.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, complement, x);
    }
    let factor = (a * x.ln() + b * complement.ln() - ln_beta(a, b)).exp() / a;
    factor / beta_fraction(a, b, x)
}

/// The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let apart = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut value, mut c, mut d) = (1.0, 1.0, 0.0);
    for i in 1..=400 {
        let m = f64::from(i / 2);
        let numerator = if i % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        d = 1.0 / apart(1.0 + numerator * d);
        c = apart(1.0 + numerator / c);
        value *= c * d;
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// ln Γ(x) for x > 0, by Stirling's series (DLMF 5.11.1) above 10 and by recurrence below.
fn ln_gamma(x: f64) -> f64 {
    /// B₂ₖ / (2k (2k - 1)).
    const TERMS: [f64; 8] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
        -3617.0 / 122_400.0,
    ];
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = TERMS.iter().rev().fold(0.0, |sum, term| sum * square + term) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - f64::ln(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() < tolerance, "{a} is not {b}");
    }

    /// SciPy 1.17.1: `t.ppf(0.975, ν)`.
    #[test]
    fn critical_values_agree_with_scipy() {
        for (freedom, t) in [
            (1.0, 12.706_204_736_174_694),
            (2.0, 4.302_652_729_749_462),
            (4.0, 2.776_445_105_197_793_4),
            (9.0, 2.262_157_162_798_205),
            (29.0, 2.045_229_642_132_703),
            (120.0, 1.979_930_405_082_440_2),
        ] {
            close(critical(freedom), t, 1e-11);
        }
    }

    /// SciPy 1.17.1: `2 * t.sf(t, ν)`.
    #[test]
    fn central_probabilities_agree_with_scipy() {
        for (t, freedom, p) in [
            (0.5, 1.0, 0.704_832_764_699_133_5),
            (2.0, 4.0, 0.116_116_523_516_815_56),
            (3.7, 9.0, 0.004_920_562_189_329_639_5),
            (6.5, 4.0, 0.002_890_007_117_100_734_5),
            (12.0, 29.0, 9.060_708_333_137_183e-13),
        ] {
            close(exceeds(t, 0.0, freedom) / p, 1.0, 1e-11);
        }
    }

    /// SciPy 1.17.1: `nct.sf(t, ν, λ) + nct.cdf(-t, ν, λ)`, and where that is 0.8 for the critical t. At one degree of
    /// freedom SciPy has no value there: with S = |Z'|, 0.8 is about P(|Z'| < λ/t), so that λ is above 1.28 t.
    #[test]
    fn noncentral_probabilities_agree_with_scipy() {
        for (freedom, t, shift, p) in [
            (1.0, 12.7, 16.0, 0.790_867_738_609_661_8),
            (4.0, 2.776, 3.5, 0.744_979_103_796_569_7),
            (9.0, 2.262, 0.5, 0.073_405_146_054_136_92),
            (29.0, 2.045, 2.9, 0.800_402_836_228_816_6),
            (120.0, 1.98, 1.3, 0.251_871_062_719_852_93),
        ] {
            close(exceeds(t, shift, freedom), p, 1e-10);
        }
        for (freedom, shift) in [
            (2.0, 5.653_489_266_197_123),
            (4.0, 3.761_059_553_825_020_4),
            (11.0, 3.078_388_675_702_222_5),
            (29.0, 2.898_742_846_324_863),
        ] {
            close(detectable_shift(critical(freedom), freedom), shift, 1e-9);
        }
        let shift = detectable_shift(critical(1.0), 1.0);
        assert!(shift > 1.28 * 12.7 && shift < 1.3 * 12.7, "{shift}");
    }
}
