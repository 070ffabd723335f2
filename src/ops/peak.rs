//! The processor's peak rates with the instruction set that the operators use. The operators' own
//! rates are reported as shares of them.

use super::lanes::{Instructions, Kernel, L, Lanes, dispatch, one_row_at_a_time};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Repetitions, of which the fastest counts: other programs may run in between.
const REPETITIONS: usize = 10;

/// f32 multiply-accumulates per second on all threads, with every operand in a register. An operator
/// must also load and store, so none is faster.
#[must_use]
pub fn macs_per_second() -> f64 {
    // Too few sums wait for each other, too many do not fit the registers. The best number depends on
    // the processor.
    let rates = [rate::<2>(), rate::<3>(), rate::<4>(), rate::<5>(), rate::<8>(), rate::<12>()];
    rates.into_iter().fold(0.0, f64::max)
}

/// The rate with `M` blocks of sums per thread.
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

/// Bytes read plus bytes written per second on all threads, while `bytes` bytes are updated in place
/// again and again. What fits a cache stays there, as it may between operators; larger sizes than
/// 256 MiB, which fit no cache, are not tried.
#[must_use]
pub fn bytes_per_second(bytes: u64) -> f64 {
    const AT_LEAST: usize = 1 << 26;
    const AT_MOST: u64 = 1 << 28;
    let len = (bytes.min(AT_MOST) as usize / size_of::<f32>()).max(1);
    let mut values = vec![1f32; len];
    let moved = 2 * size_of::<f32>() * len;
    let passes = AT_LEAST.div_ceil(moved);
    let chunk = len.div_ceil(rayon::current_num_threads());
    let seconds = best_seconds(|| {
        values.par_chunks_mut(chunk).for_each(|values| dispatch(Negate { passes, values }));
    });
    (passes * moved) as f64 / seconds
}

fn best_seconds(mut work: impl FnMut()) -> f64 {
    let seconds = (0..REPETITIONS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

/// sum = sum / 2 + 1, `rounds` times.
struct MultiplyAdd<'a, const M: usize> {
    rounds: usize,
    sums: &'a mut [Lanes; M],
}

impl<const M: usize> Kernel for MultiplyAdd<'_, M> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        let (half, one) = (I::splat(0.5), I::splat(1.0));
        let mut sums = [I::splat(0.0); M];
        for m in 0..M {
            sums[m] = I::load(&self.sums[m], 0);
        }
        for _ in 0..self.rounds {
            one_row_at_a_time();
            for sum in &mut sums {
                *sum = I::multiply_add(*sum, half, one);
            }
        }
        *self.sums = I::lanes(sums);
    }
}

struct Negate<'a> {
    passes: usize,
    values: &'a mut [f32],
}

impl Kernel for Negate<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        for _ in 0..self.passes {
            for value in &mut *self.values {
                *value = -*value;
            }
            black_box(&mut *self.values);
        }
    }
}
