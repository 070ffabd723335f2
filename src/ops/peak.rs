//! The most that the processor can do with the instruction set that the operators use: what their
//! rates are measured by.

use super::lanes::{Kernel, L, Lanes, dispatch, multiply_add, one_row_at_a_time};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Tries, of which the best counts: something else may run in between.
const TRIES: usize = 10;

/// Multiply-accumulates of f32 per second, all threads together, when every operand is in a
/// register. An operator does the same and has to load and store besides, so none can be faster.
#[must_use]
pub fn macs_per_second() -> f64 {
    // Too few sums wait for one another, too many do not fit the registers; how many it takes
    // depends on the processor.
    let rates = [rate::<2>(), rate::<3>(), rate::<4>(), rate::<5>(), rate::<8>(), rate::<12>()];
    rates.into_iter().fold(0.0, f64::max)
}

/// The rate with `M` blocks of sums in each thread.
fn rate<const M: usize>() -> f64 {
    const ROUNDS: usize = 1 << 21;
    let macs = rayon::current_num_threads() * ROUNDS * M * L;
    let seconds = best_seconds(|| {
        rayon::broadcast(|_| {
            let mut sums = black_box([[1f32; L]; M]);
            dispatch(MultiplyAdd { rounds: ROUNDS, sums: &mut sums });
            black_box(sums)
        });
    });
    macs as f64 / seconds
}

/// Bytes per second, those read and those written, all threads together, when `bytes` bytes are
/// read and written in place again and again. What fits a cache stays there, as it can between
/// operators; more than fits any is not taken.
#[must_use]
pub fn bytes_per_second(bytes: u64) -> f64 {
    const AT_LEAST: usize = 1 << 26;
    const AT_MOST: u64 = 1 << 28;
    let len = (bytes.min(AT_MOST) as usize / size_of::<f32>()).max(1);
    let mut values = vec![1f32; len];
    let moved = 2 * size_of::<f32>() * len;
    let passes = AT_LEAST.div_ceil(moved);
    let piece = len.div_ceil(rayon::current_num_threads());
    let seconds = best_seconds(|| {
        values.par_chunks_mut(piece).for_each(|values| dispatch(Negate { passes, values }));
    });
    (passes * moved) as f64 / seconds
}

fn best_seconds(mut work: impl FnMut()) -> f64 {
    let seconds = (0..TRIES).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

/// sum = sum / 2 + 1, again and again.
struct MultiplyAdd<'a, const M: usize> {
    rounds: usize,
    sums: &'a mut [Lanes; M],
}

impl<const M: usize> Kernel for MultiplyAdd<'_, M> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (half, one) = ([0.5f32; L], [1f32; L]);
        let mut sums = *self.sums;
        for _ in 0..self.rounds {
            one_row_at_a_time();
            for sum in &mut sums {
                for l in 0..L {
                    sum[l] = multiply_add::<FUSED>(sum[l], half[l], one[l]);
                }
            }
        }
        *self.sums = sums;
    }
}

struct Negate<'a> {
    passes: usize,
    values: &'a mut [f32],
}

impl Kernel for Negate<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for _ in 0..self.passes {
            for value in &mut *self.values {
                *value = -*value;
            }
            black_box(&mut *self.values);
        }
    }
}
