//! The terms of an expansion's gradients that depend on sums over the whole batch. They are added after
//! all chunks are done; the formulas are at the head of the parent file.

use crate::ops::gram::HostGram;
use crate::ops::host::tensor;
use crate::ops::lanes::{self, Layout, Mode, dispatch};
use crate::ops::matmul::Product;
use crate::ops::norm::HostNorm;
use crate::ops::sums::ChannelSums;
use crate::tiling::elementwise_rows;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Gradients of an [`Expand`](super::Expand).
pub struct ExpandGradients {
    /// `[c_in, c]`
    pub dw: Tensor,
    /// `[c]`
    pub dgamma: Tensor,
    /// `[c]`
    pub dbeta: Tensor,
}

/// Σq and Σqẑ of an expansion, and what they are multiplied by.
pub(super) struct BatchSums<'a> {
    norm: &'a HostNorm,
    w: &'a [f32],
    gram: &'a HostGram,
    rows: f64,
    /// Σq and Σqẑ, per channel.
    sum: Vec<f64>,
    sum_normalised: Vec<f64>,
}

impl<'a> BatchSums<'a> {
    pub(super) fn new(
        norm: &'a HostNorm,
        w: &'a [f32],
        gram: &'a HostGram,
        sums: &ChannelSums,
        rows: usize,
    ) -> Self {
        Self {
            norm,
            w,
            gram,
            rows: rows as f64,
            sum: sums.first().to_vec(),
            sum_normalised: norm.normalise_sums(sums.second()),
        }
    }

    /// m₂ s / σ and s (m₁ - m₂ μ/σ) of channel j.
    fn input_terms(&self, j: usize) -> (f64, f64) {
        let scale = f64::from(self.norm.scale[j]);
        let inverse = f64::from(self.norm.inverse[j]);
        let (m1, m2) = (self.sum[j] / self.rows, self.sum_normalised[j] / self.rows);
        (scale * m2 * inverse, scale * (m1 - m2 * inverse * f64::from(self.norm.mean[j])))
    }

    /// dx -= x W diag(s m₂/σ) Wᵀ + W (s m₁ - s m₂ μ/σ).
    pub(super) fn correct_input(&self, dx: &mut [f32], x: &[f32]) {
        let c = self.sum.len();
        let c_in = self.w.len() / c;
        let terms: Vec<(f64, f64)> = (0..c).map(|j| self.input_terms(j)).collect();
        let mut weighted = vec![0f32; c_in * c];
        let mut constant = vec![0f32; c_in];
        for (i, (row, w)) in weighted.chunks_exact_mut(c).zip(self.w.chunks_exact(c)).enumerate() {
            let mut total = 0.0;
            for ((to, w), (linear, fixed)) in row.iter_mut().zip(w).zip(&terms) {
                *to = -(f64::from(*w) * linear) as f32;
                total -= f64::from(*w) * fixed;
            }
            constant[i] = total as f32;
        }
        // B = -W diag(s m₂/σ) Wᵀ, [c_in, c_in].
        let mut b = vec![0f32; c_in * c_in];
        let transposed = lanes::pack_transposed(self.w, c_in, c);
        dispatch(Product {
            shape: (c_in, c, c_in),
            a: &weighted,
            layout: Layout::Rows(c),
            b: &transposed,
            c: &mut b,
            how: Mode::Store,
        });
        let packed = lanes::pack(&b, c_in, c_in);
        let chunk = elementwise_rows(c_in) * c_in;
        dx.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(dx, x)| {
            for row in dx.chunks_exact_mut(c_in) {
                for (to, constant) in row.iter_mut().zip(&constant) {
                    *to += constant;
                }
            }
            let shape = (x.len() / c_in, c_in, c_in);
            let layout = Layout::Rows(c_in);
            dispatch(Product { shape, a: x, layout, b: &packed, c: dx, how: Mode::Add });
        });
    }

    /// dW, dγ, dβ.
    pub(super) fn weights(&self, products: &[f32]) -> Result<ExpandGradients> {
        let c = self.sum.len();
        let covariance = self.gram.times(self.w, c);
        let mut dw = vec![0f32; products.len()];
        for (i, dw) in dw.chunks_exact_mut(c).enumerate() {
            let mean = self.gram.mean[i];
            for (j, dw) in dw.iter_mut().enumerate() {
                let inverse = f64::from(self.norm.inverse[j]);
                let normalised = self.sum_normalised[j] * inverse * covariance[i * c + j];
                let d = f64::from(products[i * c + j]) - mean * self.sum[j] - normalised;
                *dw = (f64::from(self.norm.scale[j]) * d) as f32;
            }
        }
        let row = |values: &[f64]| tensor(values.iter().map(|v| *v as f32).collect(), c);
        Ok(ExpandGradients {
            dw: tensor(dw, (products.len() / c, c))?,
            dgamma: row(&self.sum_normalised)?,
            dbeta: row(&self.sum)?,
        })
    }
}
