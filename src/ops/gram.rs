//! Mean and covariance of an activation's channels. The statistics of any linear map of the activation
//! follow from them, so batch norm behind a 1x1 convolution need not read the convolution's output.

mod gpu;

use super::gpu::Gpu;
use super::host::{Host, Scratch, rows_of};
use super::lanes::{
    Instructions, Kernel, L, Layout, blocks, dispatch, in_groups, load, load_some,
    one_row_at_a_time, product, store,
};
use super::sums::Moments;
use crate::tiling::{COVARIANCE_ROWS, covariance_chunk_rows};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

pub(super) use gpu::GpuGram;

/// Mean and covariance over all but the last axis.
#[derive(Clone, Debug)]
pub struct Gram {
    content: Content,
    /// The number of rows that both are taken over.
    rows: usize,
}

/// Where mean and covariance are: with the activation.
#[derive(Clone, Debug)]
enum Content {
    Host(HostGram),
    Gpu(GpuGram),
}

/// Mean and covariance in host memory.
#[derive(Clone, Debug)]
pub(super) struct HostGram {
    /// `[c]`
    pub mean: Vec<f64>,
    /// Biased covariance `[c, c]`.
    pub covariance: Vec<f64>,
}

impl Gram {
    /// Of x `[…, c]`.
    ///
    /// # Errors
    /// When the device has no kernel.
    pub fn of(x: &Tensor) -> Result<Self> {
        let (rows, c) = rows_of(x)?;
        if let Some(gpu) = Gpu::of(x.device())? {
            return Ok(Self { content: Content::Gpu(gpu::of(&gpu, x)?), rows });
        }
        let xs = Host::of(x)?;
        let chunk = covariance_chunk_rows(rows) * c;
        let parts: Vec<Vec<f64>> = xs
            .par_chunks(chunk)
            .map(|x| {
                let mut sums = vec![0f64; (c + 1) * c];
                dispatch(Products { c, x, sums: &mut sums });
                sums
            })
            .collect();
        Ok(Self { content: Content::Host(HostGram::from_sums(&parts, rows, c)), rows })
    }

    /// The moments of x · w, w `[c, c_out]`.
    ///
    /// # Errors
    /// When w does not fit or is on another device.
    pub fn moments_behind(&self, w: &Tensor) -> Result<Moments> {
        let ((c, _), of) = (w.dims2()?, self.channels());
        if c != of {
            bail!("gram: of {of} channels, w expects {c}");
        }
        match (&self.content, Gpu::of(w.device())?) {
            (Content::Host(gram), None) => gram.moments_behind(w, self.rows),
            (Content::Gpu(gram), Some(gpu)) => gram.moments_behind(&gpu, w, self.rows),
            _ => bail!("gram: the weight is on another device"),
        }
    }

    fn channels(&self) -> usize {
        match &self.content {
            Content::Host(gram) => gram.mean.len(),
            Content::Gpu(gram) => gram.mean.elem_count(),
        }
    }

    /// Mean and covariance in host memory.
    ///
    /// # Errors
    /// When they are on a GPU.
    pub(super) fn host(&self) -> Result<&HostGram> {
        match &self.content {
            Content::Host(gram) => Ok(gram),
            Content::Gpu(_) => bail!("gram: on a GPU, expected in host memory"),
        }
    }

    /// Mean and covariance on the GPU.
    ///
    /// # Errors
    /// When they are in host memory.
    pub(super) fn gpu(&self) -> Result<&GpuGram> {
        match &self.content {
            Content::Host(_) => bail!("gram: in host memory, expected on the GPU"),
            Content::Gpu(gram) => Ok(gram),
        }
    }
}

impl HostGram {
    /// From Σ x (the first row) and Σ x xᵀ (the lower triangle).
    fn from_sums(parts: &[Vec<f64>], rows: usize, c: usize) -> Self {
        let mut sums = vec![0f64; (c + 1) * c];
        for part in parts {
            for (sum, part) in sums.iter_mut().zip(part) {
                *sum += part;
            }
        }
        let n = rows as f64;
        let mean: Vec<f64> = sums[..c].iter().map(|s| s / n).collect();
        let mut covariance = vec![0f64; c * c];
        for i in 0..c {
            for j in 0..=i {
                let value = sums[(i + 1) * c + j] / n - mean[i] * mean[j];
                covariance[i * c + j] = value;
                covariance[j * c + i] = value;
            }
        }
        Self { mean, covariance }
    }

    fn moments_behind(&self, w: &Tensor, rows: usize) -> Result<Moments> {
        let c_out = w.dim(1)?;
        let w = Host::of(w)?;
        let mut mean = vec![0f64; c_out];
        for (m, row) in self.mean.iter().zip(w.chunks_exact(c_out)) {
            for (to, w) in mean.iter_mut().zip(row) {
                *to += m * f64::from(*w);
            }
        }
        let mut variance = vec![0f64; c_out];
        let product = self.times(&w, c_out);
        for (row, product) in w.chunks_exact(c_out).zip(product.chunks_exact(c_out)) {
            for ((to, w), p) in variance.iter_mut().zip(row).zip(product) {
                *to += f64::from(*w) * p;
            }
        }
        for v in &mut variance {
            *v = v.max(0.0);
        }
        Moments::new(mean, variance, rows)
    }

    /// Σ W `[c, columns]`, Σ being the covariance.
    pub(super) fn times(&self, w: &[f32], columns: usize) -> Vec<f64> {
        let mut product = vec![0f64; w.len()];
        product.par_chunks_mut(columns).enumerate().for_each(|(i, to)| {
            let c = self.mean.len();
            dispatch(Combination { factors: &self.covariance[i * c..][..c], rows: w, to });
        });
        product
    }
}

/// to = Σ_k factor_k · row_k.
struct Combination<'a> {
    factors: &'a [f64],
    rows: &'a [f32],
    to: &'a mut [f64],
}

impl Kernel for Combination<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        for (factor, row) in self.factors.iter().zip(self.rows.chunks_exact(self.to.len())) {
            for (to, value) in self.to.iter_mut().zip(row) {
                *to += factor * f64::from(*value);
            }
        }
    }
}

/// Σ x and Σ x xᵀ over one chunk.
struct Products<'a> {
    c: usize,
    x: &'a [f32],
    /// `[c + 1, c]`: Σ x, then the lower triangle of Σ x xᵀ, whole blocks at the diagonal.
    sums: &'a mut [f64],
}

impl Kernel for Products<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        let c = self.c;
        let mut columns = Scratch::new(COVARIANCE_ROWS * L);
        for x in self.x.chunks(COVARIANCE_ROWS * c) {
            let rows = x.len() / c;
            for (at, valid) in blocks(c) {
                let mut sum = [0f32; L];
                for row in 0..rows {
                    one_row_at_a_time();
                    let values = match valid {
                        L => load(x, row * c + at),
                        _ => load_some::<false>(x, row * c + at, valid),
                    };
                    for l in 0..L {
                        sum[l] += values[l];
                    }
                    store(&values, &mut columns, row * L);
                }
                for l in 0..valid {
                    self.sums[at + l] += f64::from(sum[l]);
                }
                in_groups!(I, c - at, (i, M) => {
                    let i = at + i;
                    let acc = product::<I, M>(rows, &x[i..], Layout::Columns(c), &columns);
                    for (m, acc) in acc.iter().enumerate() {
                        for l in 0..valid {
                            self.sums[(i + m + 1) * c + at + l] += f64::from(acc[l]);
                        }
                    }
                });
            }
        }
    }
}
