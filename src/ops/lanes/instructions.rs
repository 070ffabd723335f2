//! The instruction sets that kernels are compiled for.

use super::{L, Lanes, load, multiply_add, one_row_at_a_time, store};
use std::sync::atomic::{AtomicU8, Ordering};

/// What the processor computes with: blocks in registers. With its own instructions the compiler cannot
/// find vectors across rows instead; [`Arrays`] is for processors whose instructions are not here.
pub(in crate::ops) trait Instructions {
    /// Whether it has a fused multiply-add.
    const FUSED: bool;
    /// Whether a block is one of 32 registers.
    const WIDE: bool;
    /// A block of channels.
    type Block: Copy;

    fn splat(value: f32) -> Self::Block;
    fn load(from: &[f32], at: usize) -> Self::Block;
    fn store(block: Self::Block, to: &mut [f32], at: usize);
    /// `a · b + c`, rounded once where it is one instruction.
    fn multiply_add(a: Self::Block, b: Self::Block, c: Self::Block) -> Self::Block;

    /// The values of some blocks. Not by `map`: its closures are not always compiled into the kernel.
    #[inline(always)]
    fn lanes<const M: usize>(blocks: [Self::Block; M]) -> [Lanes; M] {
        let mut lanes = [[0.0; L]; M];
        for m in 0..M {
            Self::store(blocks[m], &mut lanes[m], 0);
        }
        lanes
    }
}

/// What the compiler makes of arrays, with a fused multiply-add or without one.
struct Arrays<const FUSED: bool>;

impl<const FUSED: bool> Instructions for Arrays<FUSED> {
    const FUSED: bool = FUSED;
    const WIDE: bool = false;
    type Block = Lanes;

    #[inline(always)]
    fn splat(value: f32) -> Lanes {
        [value; L]
    }

    #[inline(always)]
    fn load(from: &[f32], at: usize) -> Lanes {
        one_row_at_a_time();
        load(from, at)
    }

    #[inline(always)]
    fn store(block: Lanes, to: &mut [f32], at: usize) {
        store(&block, to, at);
    }

    #[inline(always)]
    fn multiply_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        let mut sum = c;
        for l in 0..L {
            sum[l] = multiply_add::<Self>(a[l], b[l], c[l]);
        }
        sum
    }
}

/// A computation that is compiled for every instruction set. Everything that `run` calls must be
/// `#[inline(always)]`.
pub(in crate::ops) trait Kernel {
    fn run<I: Instructions>(self);
}

/// What the kernels are compiled for, from worst to best.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InstructionSet {
    Baseline,
    Neon,
    Avx2,
    Avx512,
}

/// Set by [`limit_instruction_set`].
static LIMIT: AtomicU8 = AtomicU8::new(InstructionSet::Avx512 as u8);

impl InstructionSet {
    const BEST_FIRST: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Baseline];

    /// Whether the processor supports it; the standard library caches the answer.
    #[inline]
    fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        use std::arch::is_x86_feature_detected as has;
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => has!("avx2") && has!("fma"),
            Self::Neon => cfg!(target_arch = "aarch64"),
            Self::Baseline => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The best that the processor supports and the limit allows.
    #[inline]
    fn chosen() -> Self {
        let limit = LIMIT.load(Ordering::Relaxed);
        let allowed = |set: &Self| *set as u8 <= limit && set.is_supported();
        Self::BEST_FIRST.into_iter().find(allowed).unwrap_or(Self::Baseline)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "AVX-512",
            Self::Avx2 => "AVX2+FMA",
            Self::Neon => "NEON",
            Self::Baseline => "baseline",
        }
    }
}

/// The name of the instruction set that the operators use.
#[must_use]
pub fn instruction_set() -> &'static str {
    InstructionSet::chosen().name()
}

/// For tests: from now on, the operators use no better instruction set than `name`. Returns whether the
/// processor supports it.
pub fn limit_instruction_set(name: &str) -> bool {
    let mut all = InstructionSet::BEST_FIRST.into_iter();
    let Some(set) = all.find(|set| set.name() == name && set.is_supported()) else { return false };
    LIMIT.store(set as u8, Ordering::Relaxed);
    true
}

/// Runs `kernel` with the best instruction set.
#[inline]
pub(in crate::ops) fn dispatch(kernel: impl Kernel) {
    match InstructionSet::chosen() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => {
            // SAFETY: the processor supports it, as `chosen` has checked.
            #[allow(unsafe_code)]
            unsafe {
                x86::avx512(kernel);
            }
        }
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => {
            // SAFETY: the processor supports it, as `chosen` has checked.
            #[allow(unsafe_code)]
            unsafe {
                x86::avx2(kernel);
            }
        }
        InstructionSet::Neon => kernel.run::<Arrays<true>>(),
        _ => kernel.run::<Arrays<false>>(),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Instructions, Kernel, L};
    use std::arch::x86_64::{
        __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) fn avx512(kernel: impl Kernel) {
        kernel.run::<Avx512>();
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(kernel: impl Kernel) {
        kernel.run::<Avx2>();
    }

    /// Only [`avx512`] uses it.
    struct Avx512;

    #[allow(unsafe_code)]
    impl Instructions for Avx512 {
        const FUSED: bool = true;
        const WIDE: bool = true;
        type Block = __m512;

        #[inline(always)]
        fn splat(value: f32) -> __m512 {
            // SAFETY: the processor has the instruction.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        fn load(from: &[f32], at: usize) -> __m512 {
            let from = &from[at..at + L];
            // SAFETY: as above, and the slice has `L` values.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }

        #[inline(always)]
        fn store(block: __m512, to: &mut [f32], at: usize) {
            let to = &mut to[at..at + L];
            // SAFETY: as above, and the slice has `L` values.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), block) }
        }

        #[inline(always)]
        fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the processor has the instruction.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
    }

    /// Only [`avx2`] uses it.
    struct Avx2;

    #[allow(unsafe_code)]
    impl Instructions for Avx2 {
        const FUSED: bool = true;
        const WIDE: bool = false;
        type Block = [__m256; 2];

        #[inline(always)]
        fn splat(value: f32) -> [__m256; 2] {
            // SAFETY: the processor has the instruction.
            [unsafe { _mm256_set1_ps(value) }; 2]
        }

        #[inline(always)]
        fn load(from: &[f32], at: usize) -> [__m256; 2] {
            let from = &from[at..at + L];
            // SAFETY: as above, and the slice has `L` values.
            unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from[L / 2..].as_ptr())] }
        }

        #[inline(always)]
        fn store(block: [__m256; 2], to: &mut [f32], at: usize) {
            let to = &mut to[at..at + L];
            // SAFETY: as above, and the slice has `L` values.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), block[0]);
                _mm256_storeu_ps(to[L / 2..].as_mut_ptr(), block[1]);
            }
        }

        #[inline(always)]
        fn multiply_add(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the processor has the instruction.
            unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        }
    }
}
