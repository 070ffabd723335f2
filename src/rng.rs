//! Randomness as a function of (seed, label, step).
//!
//! No generator is shared between call sites. Code that needs random numbers names their purpose
//! (`label`) and its position (`step`) and gets the same numbers in every process. So a resumed run
//! continues exactly as if it had not been interrupted.
//!
//! The generator is SplitMix64 (Steele, Lea & Flood 2014), which maps a counter to a number with a
//! bijective mixer. The key of a stream is a hash of the three coordinates.

/// The seed of a run: a coordinate without state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// One reproducible sequence of numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    counter: u64,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Seed {
    /// The stream for one purpose (`"weights/stem"`, `"shuffle"`, …) at one step.
    #[must_use]
    pub fn stream(self, label: &str, step: u64) -> Stream {
        let mut key = mix(self.0.wrapping_add(GOLDEN));
        for byte in label.bytes() {
            key = mix(key ^ u64::from(byte)).wrapping_add(GOLDEN);
        }
        Stream { key: mix(key ^ mix(step.wrapping_add(GOLDEN))), counter: 0 }
    }

    /// The seed of a part of the run. Its streams are independent of those of other parts, even for equal
    /// labels.
    #[must_use]
    pub fn child(self, part: &str) -> Self {
        Self(self.stream(part, 0).bits())
    }
}

impl Stream {
    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n`, without bias (Lemire's method with rejection).
    ///
    /// # Panics
    /// When `n` is zero.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "a range to draw from must not be empty");
        let n = n as u64;
        let threshold = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.bits()) * u128::from(n);
            if wide as u64 >= threshold {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Standard Gumbel, -ln(-ln U): the noise of the Gumbel-Softmax relaxation.
    pub fn gumbel(&mut self) -> f64 {
        let u = (self.bits() >> 11) as f64 + 0.5;
        -(-(u / (1u64 << 53) as f64).ln()).ln()
    }

    /// Beta with both parameters `alpha`: a ratio of two Gamma numbers. Their logarithms keep it a number where
    /// a small `alpha` makes both numbers tiny.
    pub fn symmetric_beta(&mut self, alpha: f64) -> f64 {
        let (a, b) = (self.log_gamma(alpha), self.log_gamma(alpha));
        1.0 / (1.0 + (b - a).exp())
    }

    /// The logarithm of a Gamma number (Marsaglia & Tsang 2000), from one of `shape` + 1 times a power of a
    /// uniform number.
    fn log_gamma(&mut self, shape: f64) -> f64 {
        let power = (1.0 - self.uniform()).ln() / shape;
        let d = shape + 2.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            let u = 1.0 - self.uniform();
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return (d * v).ln() + power;
            }
        }
    }

    /// A uniformly random order of `0..n` (Fisher-Yates).
    #[must_use]
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_all_coordinates() {
        let draw = |seed, label, step| Seed(seed).stream(label, step).bits();
        assert_eq!(draw(7, "shuffle", 3), draw(7, "shuffle", 3));
        let all = [draw(7, "shuffle", 3), draw(8, "shuffle", 3), draw(7, "gumbel", 3)];
        assert!(all[0] != all[1] && all[0] != all[2] && all[0] != draw(7, "shuffle", 4));
    }

    #[test]
    fn the_numbers_are_pinned() {
        let mut stream = Seed(0).stream("pin", 0);
        let pinned = [6_503_470_890_780_983_940, 4_500_478_907_939_516_666];
        assert_eq!([stream.bits(), stream.bits()], pinned);
    }

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        let mut stream = Seed(1).stream("moments", 0);
        let n = 200_000;
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || stream.uniform()) - 0.5).abs() < 4e-3);
        assert!(mean(&mut || stream.normal()).abs() < 1e-2);
        assert!((mean(&mut || stream.normal().powi(2)) - 1.0).abs() < 2e-2);
        // The mean of a standard Gumbel is Euler's constant.
        assert!((mean(&mut || stream.gumbel()) - 0.577_215_66).abs() < 1e-2);
    }

    #[test]
    fn beta_numbers_have_the_moments_of_their_distribution() {
        for (step, alpha) in [0.01, 0.2, 0.5, 1.0, 2.5].into_iter().enumerate() {
            let mut stream = Seed(1).stream("beta", step as u64);
            let numbers: Vec<f64> = (0..50_000).map(|_| stream.symmetric_beta(alpha)).collect();
            assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)), "{alpha}");
            let mean_of = |f: &dyn Fn(f64) -> f64| {
                numbers.iter().map(|number| f(*number)).sum::<f64>() / numbers.len() as f64
            };
            let (mean, variance) = (mean_of(&|x| x), mean_of(&|x| (x - 0.5).powi(2)));
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: {mean}");
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((variance / expected - 1.0).abs() < 0.02, "{alpha}: {variance} {expected}");
            // The fourth moment tells distributions of one variance apart.
            let fourth = mean_of(&|x| (x - 0.5).powi(4));
            let expected = 3.0 / (16.0 * (2.0 * alpha + 1.0) * (2.0 * alpha + 3.0));
            assert!((fourth / expected - 1.0).abs() < 0.03, "{alpha}: {fourth} {expected}");
        }
    }

    #[test]
    fn a_permutation_has_every_index_once() {
        let mut order = Seed(2).stream("order", 0).permutation(1000);
        assert_ne!(order[..10], (0..10).collect::<Vec<_>>()[..]);
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
