//! Sums over a batch: taken chunk by chunk, then added up in the order of the chunks.

use super::host::tensor;
use super::lanes::{Instructions, L, Lanes, load_some, multiply_add, one_row_at_a_time};
use candle_core::{Result, Tensor};

/// Mean and biased variance per channel, two rows `[c]`.
#[derive(Clone, Debug)]
pub struct Moments {
    pub mean: Tensor,
    pub variance: Tensor,
    /// The number of values that each is taken over.
    pub count: usize,
}

/// Rows that are summed in f32 before they are added up in f64.
const FLUSH: usize = 128;

/// Two sums per channel, for example Σz and Σz².
pub(super) struct ChannelSums {
    c: usize,
    sums: Vec<f64>,
}

impl ChannelSums {
    pub(super) fn new(c: usize) -> Self {
        Self { c, sums: vec![0.0; 2 * c] }
    }

    /// Adds to the first `valid` channels from `at`.
    #[inline(always)]
    pub(super) fn add(&mut self, at: usize, valid: usize, first: &Lanes, second: &Lanes) {
        for l in 0..valid {
            self.sums[at + l] += f64::from(first[l]);
            self.sums[self.c + at + l] += f64::from(second[l]);
        }
    }

    /// Adds Σ z and Σ z² of one block of channels over the rows of `z` `[rows, c]`.
    #[inline(always)]
    pub(super) fn gather<I: Instructions>(&mut self, z: &[f32], (at, valid): (usize, usize)) {
        // f32 only for a few rows: the variance is a difference of large numbers.
        for z in z.chunks(FLUSH * self.c) {
            let (sum, squares) = match valid {
                L => sums_of::<I, true>(z, self.c, (at, valid)),
                _ => sums_of::<I, false>(z, self.c, (at, valid)),
            };
            self.add(at, valid, &sum, &squares);
        }
    }

    pub(super) fn total(parts: Vec<Self>, c: usize) -> Self {
        let mut total = Self::new(c);
        for part in parts {
            for (t, p) in total.sums.iter_mut().zip(part.sums) {
                *t += p;
            }
        }
        total
    }

    pub(super) fn first(&self) -> &[f64] {
        &self.sums[..self.c]
    }

    pub(super) fn second(&self) -> &[f64] {
        &self.sums[self.c..]
    }

    /// Mean and variance, the sums being Σz and Σz² over `count` values.
    pub(super) fn moments(&self, count: usize) -> Result<Moments> {
        let n = count as f64;
        let mean: Vec<f64> = self.first().iter().map(|s| s / n).collect();
        let variance = self.second().iter().zip(&mean).map(|(s, m)| (s / n - m * m).max(0.0));
        Moments::new(mean.clone(), variance.collect(), count)
    }
}

impl Moments {
    pub(super) fn new(mean: Vec<f64>, variance: Vec<f64>, count: usize) -> Result<Self> {
        let c = mean.len();
        let row = |values: Vec<f64>| tensor(values.into_iter().map(|v| v as f32).collect(), c);
        Ok(Self { mean: row(mean)?, variance: row(variance)?, count })
    }
}

/// Adds vectors in order, in f64.
pub(super) fn sum_parts(parts: &[Vec<f32>]) -> Vec<f32> {
    match parts {
        [only] => only.clone(),
        _ => super::host::ordered_sum(parts).into_iter().map(|v| v as f32).collect(),
    }
}

#[inline(always)]
fn sums_of<I: Instructions, const FULL: bool>(
    z: &[f32],
    c: usize,
    (at, valid): (usize, usize),
) -> (Lanes, Lanes) {
    let (mut sum, mut squares) = ([0f32; L], [0f32; L]);
    for row in z.chunks_exact(c) {
        one_row_at_a_time();
        let z = load_some::<FULL>(row, at, valid);
        for l in 0..L {
            sum[l] += z[l];
            squares[l] = multiply_add::<I>(z[l], z[l], squares[l]);
        }
    }
    (sum, squares)
}
