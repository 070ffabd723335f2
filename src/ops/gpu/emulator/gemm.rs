//! cuBLAS' matrix product on the emulator.

use super::{Emulator, Fault, Values, makes};
use crate::ops::gpu::Gemm;
use crate::ops::host::Host;
use crate::recipe::Precision;
use candle_core::{Result, bail};
use rayon::prelude::*;
use std::alloc::GlobalAlloc;

/// Working memory that does not count as the GPU's.
struct HostMemory {
    block: *mut u8,
    layout: std::alloc::Layout,
}

impl HostMemory {
    /// `len` zeros.
    fn zeros(len: usize) -> Result<Self> {
        let Ok(layout) = std::alloc::Layout::array::<f32>(len.max(1)) else { bail!("too large") };
        // SAFETY: the layout is not empty.
        #[allow(unsafe_code)]
        let block = unsafe { std::alloc::System.alloc_zeroed(layout) };
        if block.is_null() {
            bail!("the emulator is out of memory");
        }
        Ok(Self { block, layout })
    }

    fn values(&mut self) -> &mut [f32] {
        // SAFETY: the block holds so many zeros, and is borrowed with `self`.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.block.cast(), self.layout.size() / size_of::<f32>())
        }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // SAFETY: the block came from this allocator with this layout.
        #[allow(unsafe_code)]
        unsafe {
            std::alloc::System.dealloc(self.block, self.layout);
        }
    }
}

impl Emulator {
    /// cuBLAS' sgemm, in plain loops.
    #[allow(clippy::unused_self)]
    pub(in crate::ops::gpu) fn gemm(&self, gemm: &Gemm<'_>, precision: Precision) -> Result<()> {
        let Gemm { transpose_a, transpose_b, m, n, k, mut lda, mut ldb, ldc, .. } = *gemm;
        if makes(Fault::SwappedLeadingDimensions) {
            std::mem::swap(&mut lda, &mut ldb);
        }
        let needed = |rows: usize, columns: usize, ld: usize| {
            if ld < rows {
                bail!("gemm: a leading dimension of {ld} for {rows} rows");
            }
            Ok(ld * columns.saturating_sub(1) + if columns > 0 { rows } else { 0 })
        };
        let (a_rows, a_columns) = if transpose_a { (k, m) } else { (m, k) };
        let (b_rows, b_columns) = if transpose_b { (n, k) } else { (k, n) };
        let c = Values::of_output(gemm.c)?;
        if c.element != b'f' {
            bail!("gemm: c is not f32");
        }
        // SAFETY: these are the values of a tensor that nothing else uses meanwhile.
        #[allow(unsafe_code)]
        let c = unsafe { std::slice::from_raw_parts_mut(c.data.cast::<f32>(), c.count) };
        let (a, b) = (Host::of(gemm.a)?, Host::of(gemm.b)?);
        let fits = needed(a_rows, a_columns, lda)? <= a.len()
            && needed(b_rows, b_columns, ldb)? <= b.len()
            && needed(m, n, ldc)? <= gemm.c.elem_count();
        if !fits {
            bail!(
                "gemm: {m} x {n} x {k} with leading dimensions {lda}, {ldb}, {ldc} reads outside"
            );
        }
        let round = |value: f32| match precision {
            Precision::F32 => value,
            // TF32 keeps ten bits of the mantissa.
            Precision::Tf32 => f32::from_bits((value.to_bits() + 0x1000) & !0x1fff),
        };
        // Columns of op(A) follow each other, so that the inner loop reads and writes in order.
        let mut columns = HostMemory::zeros(m * k)?;
        let columns = &mut columns.values()[..m * k];
        for (p, column) in columns.chunks_exact_mut(m).enumerate() {
            for (i, value) in column.iter_mut().enumerate() {
                *value = round(a[if transpose_a { p + i * lda } else { i + p * lda }]);
            }
        }
        c.par_chunks_mut(ldc).take(n).enumerate().for_each(|(j, c)| {
            let mut sums = vec![0f32; m];
            for (p, column) in columns.chunks_exact(m).enumerate() {
                let factor = round(b[if transpose_b { j + p * ldb } else { p + j * ldb }]);
                sums.iter_mut().zip(column).for_each(|(sum, a)| *sum += factor * a);
            }
            for (to, sum) in c[..m].iter_mut().zip(sums) {
                // As cuBLAS does, β = 0 does not read C.
                let before = if gemm.beta == 0.0 { 0.0 } else { gemm.beta * *to };
                *to = gemm.alpha * sum + before;
            }
        });
        Ok(())
    }
}
