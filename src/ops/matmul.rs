//! Matrix product over the last axis: a 1x1 convolution or a fully connected layer.
//!
//! `y = x w` with x `[…, c_in]` and w `[c_in, c_out]`. In channels-last layout a 1x1 convolution
//! is just this product. On the CPU the rows are divided into chunks, so that all three products
//! run on all threads, also the weight gradient with its small result.

use super::gpu::{Gpu, Matrix};
use super::host::{Host, expect, ordered_sum, rows_of, tensor, to_fill};
use super::lanes::{self, Instructions, Kernel, Layout, Mode, dispatch, multiply};
use crate::tiling::{MATMUL_ROWS, outer_chunk_rows};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// `y[…, c_out] = x[…, c_in] · w[c_in, c_out]`.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn forward(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (rows, c_in) = rows_of(x)?;
    let (w_in, c_out) = w.dims2()?;
    if c_in != w_in {
        bail!("matmul: x has {c_in} channels, w expects {w_in}");
    }
    if let Some(gpu) = Gpu::of(x.device())? {
        let y = gpu.output(with_last(x, c_out))?;
        let (xs, ws) = (Matrix::new(x, rows, c_in), Matrix::new(w, c_in, c_out));
        gpu.matmul(xs, ws, Matrix::new(&y, rows, c_out), false)?;
        return Ok(y);
    }
    let packed = lanes::pack(&Host::of(w)?, c_in, c_out);
    let y = product(&Host::of(x)?, &packed, c_in, c_out);
    tensor(y, with_last(x, c_out))
}

/// `dx[…, c_in] = dy[…, c_out] · wᵀ`.
///
/// # Errors
/// As [`forward`].
pub fn backward_input(w: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (c_in, c_out) = w.dims2()?;
    expect("matmul", "dy", dy, &with_last(dy, c_out))?;
    if let Some(gpu) = Gpu::of(dy.device())? {
        let (rows, _) = rows_of(dy)?;
        let dx = gpu.output(with_last(dy, c_in))?;
        let (dys, ws) = (Matrix::new(dy, rows, c_out), Matrix::new(w, c_in, c_out));
        gpu.matmul(dys, ws.t(), Matrix::new(&dx, rows, c_in), false)?;
        return Ok(dx);
    }
    let packed = lanes::pack_transposed(&Host::of(w)?, c_in, c_out);
    let dx = product(&Host::of(dy)?, &packed, c_out, c_in);
    tensor(dx, with_last(dy, c_in))
}

/// `dw[c_in, c_out] = xᵀ · dy`.
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, c_in) = rows_of(x)?;
    let (_, c_out) = rows_of(dy)?;
    expect("matmul", "dy", dy, &with_last(x, c_out))?;
    if let Some(gpu) = Gpu::of(x.device())? {
        let dw = gpu.output((c_in, c_out))?;
        let (xs, dys) = (Matrix::new(x, rows, c_in), Matrix::new(dy, rows, c_out));
        gpu.matmul(xs.t(), dys, Matrix::new(&dw, c_in, c_out), false)?;
        return Ok(dw);
    }
    let dw = outer(&Host::of(x)?, &Host::of(dy)?, c_in, c_out);
    tensor(dw, (c_in, c_out))
}

fn with_last(x: &Tensor, c: usize) -> Vec<usize> {
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = c;
    }
    dims
}

/// `a[rows, k] · b[k, n]`, b packed.
fn product(a: &[f32], b: &[f32], k: usize, n: usize) -> Vec<f32> {
    // SAFETY: the chunks cover all rows, and each chunk is stored in full.
    #[allow(unsafe_code)]
    let mut y = unsafe { to_fill(a.len() / k.max(1) * n) };
    y.par_chunks_mut(MATMUL_ROWS * n).zip(a.par_chunks(MATMUL_ROWS * k)).for_each(|(y, a)| {
        let shape = (y.len() / n, k, n);
        dispatch(Product { shape, a, layout: Layout::Rows(k), b, c: y, how: Mode::Store });
    });
    y
}

/// `aᵀ[m, rows] · b[rows, n]`: a product for each chunk of rows, summed in order.
pub(super) fn outer(a: &[f32], b: &[f32], m: usize, n: usize) -> Vec<f32> {
    let chunk = outer_chunk_rows(a.len() / m);
    let parts: Vec<Vec<f32>> = a
        .par_chunks(chunk * m)
        .zip(b.par_chunks(chunk * n))
        .map(|(a, b)| {
            let mut part = vec![0f32; m * n];
            for (a, b) in a.chunks(MATMUL_ROWS * m).zip(b.chunks(MATMUL_ROWS * n)) {
                let rows = a.len() / m;
                let packed = lanes::pack(b, rows, n);
                let (layout, c) = (Layout::Columns(m), &mut part[..]);
                let shape = (m, rows, n);
                dispatch(Product { shape, a, layout, b: &packed, c, how: Mode::Add });
            }
            part
        })
        .collect();
    ordered_sum(&parts).into_iter().map(|v| v as f32).collect()
}

/// [`multiply`], compiled for the instruction set.
pub(super) struct Product<'a> {
    /// Rows, depth, columns.
    pub shape: (usize, usize, usize),
    pub a: &'a [f32],
    pub layout: Layout,
    /// Packed.
    pub b: &'a [f32],
    pub c: &'a mut [f32],
    pub how: Mode,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        multiply::<I>(self.shape, self.a, self.layout, self.b, self.c, self.how);
    }
}
