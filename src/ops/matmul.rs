//! Matrix product over the last axis: a 1x1 convolution or a fully connected layer.
//!
//! `y = x w` with x `[…, c_in]` and w `[c_in, c_out]`. In channels-last layout a 1x1 convolution
//! is this and nothing else. On the CPU the rows are split into pieces, one single-threaded `gemm`
//! each: all three products then run on all threads, the weight gradient with its tiny result too.

use super::host::{Host, expect, ordered_sum, rows_of, tensor};
use super::no_kernel;
use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Rows that one piece of work takes.
const PIECE_ROWS: usize = 2048;

/// `y[…, c_out] = x[…, c_in] · w[c_in, c_out]`.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn forward(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (_, c_in) = rows_of(x)?;
    let (w_in, c_out) = w.dims2()?;
    if c_in != w_in {
        bail!("matmul: x has {c_in} channels, w expects {w_in}");
    }
    match x.device() {
        Device::Cpu => {
            let y = multiply(&Host::of(x)?, &Host::of(w)?, c_in, c_out, (c_out as isize, 1));
            tensor(y, with_last(x, c_out))
        }
        device => no_kernel("matmul", device),
    }
}

/// `dx[…, c_in] = dy[…, c_out] · wᵀ`.
///
/// # Errors
/// As [`forward`].
pub fn backward_input(w: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (c_in, c_out) = w.dims2()?;
    expect("matmul", "dy", dy, &with_last(dy, c_out))?;
    match dy.device() {
        Device::Cpu => {
            let dx = multiply(&Host::of(dy)?, &Host::of(w)?, c_out, c_in, (1, c_out as isize));
            tensor(dx, with_last(dy, c_in))
        }
        device => no_kernel("matmul", device),
    }
}

/// `dw[c_in, c_out] = xᵀ · dy`.
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (_, c_in) = rows_of(x)?;
    let (_, c_out) = rows_of(dy)?;
    expect("matmul", "dy", dy, &with_last(x, c_out))?;
    match x.device() {
        Device::Cpu => {
            let dw = outer(&Host::of(x)?, &Host::of(dy)?, c_in, c_out);
            tensor(dw, (c_in, c_out))
        }
        device => no_kernel("matmul", device),
    }
}

fn with_last(x: &Tensor, c: usize) -> Vec<usize> {
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = c;
    }
    dims
}

/// `a[rows, k] · b[k, n]`, b given with its (row, column) strides.
fn multiply(a: &[f32], b: &[f32], k: usize, n: usize, b_strides: (isize, isize)) -> Vec<f32> {
    let rows = a.len() / k.max(1);
    let mut y = vec![0f32; rows * n];
    y.par_chunks_mut(PIECE_ROWS * n).zip(a.par_chunks(PIECE_ROWS * k)).for_each(|(y, a)| {
        let m = y.len() / n;
        debug_assert!(a.len() == m * k && b.len() == k * n);
        // SAFETY: y holds m x n values, a holds m x k, b holds k x n under either stride order.
        #[allow(unsafe_code)]
        unsafe {
            gemm(m, n, k, y.as_mut_ptr(), a.as_ptr(), (k as isize, 1), b.as_ptr(), b_strides);
        }
    });
    y
}

/// `aᵀ[m, rows] · b[rows, n]`, piece by piece and summed in order.
pub(super) fn outer(a: &[f32], b: &[f32], m: usize, n: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = a
        .par_chunks(PIECE_ROWS * m)
        .zip(b.par_chunks(PIECE_ROWS * n))
        .map(|(a, b)| {
            let rows = a.len() / m;
            let mut part = vec![0f32; m * n];
            debug_assert!(b.len() == rows * n);
            // SAFETY: part holds m x n values, a holds rows x m read transposed, b rows x n.
            #[allow(unsafe_code)]
            unsafe {
                let (a_strides, b_strides) = ((1, m as isize), (n as isize, 1));
                let (a, b) = (a.as_ptr(), b.as_ptr());
                gemm(m, n, rows, part.as_mut_ptr(), a, a_strides, b, b_strides);
            }
            part
        })
        .collect();
    if parts.len() == 1 {
        return parts.into_iter().next().unwrap_or_default();
    }
    ordered_sum(&parts).into_iter().map(|v| v as f32).collect()
}

/// `dst[m, n] = lhs[m, k] · rhs[k, n]` on this thread; strides are (row, column), dst is dense.
///
/// # Safety
/// The pointers must cover the matrices that the sizes and strides describe.
#[allow(unsafe_code, clippy::too_many_arguments)]
unsafe fn gemm(
    m: usize,
    n: usize,
    k: usize,
    dst: *mut f32,
    lhs: *const f32,
    (lhs_rs, lhs_cs): (isize, isize),
    rhs: *const f32,
    (rhs_rs, rhs_cs): (isize, isize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            1,
            n as isize,
            false,
            lhs,
            lhs_cs,
            lhs_rs,
            rhs,
            rhs_cs,
            rhs_rs,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
