//! The gradient of a batch norm's input z, with the statistics as functions of z (training mode):
//!
//! dz = factor · (q - mean(q) - ẑ · mean(qẑ)),  q = dL/du · act'(u)
//!
//! The factor is γ/σ, times whatever the activation is multiplied by. Since ẑ = (z - μ)/σ, dz is
//! factor · (q - constant - z · linear), with one number of each per channel.

use super::HostNorm;
use crate::ops::activation::{ActivationFn, by_activation};
use crate::ops::lanes::{
    Instructions, Kernel, L, blocks, dispatch, load, load_some, multiply_add, one_row_at_a_time,
    store_some,
};
use crate::tiling::elementwise_rows;
use rayon::prelude::*;

/// The numbers per channel in the formula above, padded to full blocks.
pub(in crate::ops) struct InputGradientRows {
    factor: Vec<f32>,
    constant: Vec<f32>,
    linear: Vec<f32>,
}

impl InputGradientRows {
    /// `factor` is padded; `sum` is Σq and `sum_normalised` Σqẑ, both over `rows` values of each channel.
    pub(in crate::ops) fn new(
        norm: &HostNorm,
        factor: Vec<f32>,
        (sum, sum_normalised): (&[f64], &[f64]),
        rows: usize,
    ) -> Self {
        let n = rows as f64;
        let (mut constant, mut linear) = (vec![0f32; factor.len()], vec![0f32; factor.len()]);
        for j in 0..sum.len() {
            let slope = f64::from(norm.inverse[j]) * sum_normalised[j] / n;
            linear[j] = slope as f32;
            constant[j] = (sum[j] / n - f64::from(norm.mean[j]) * slope) as f32;
        }
        Self { factor, constant, linear }
    }

    /// Writes dz, where dL/du = `dy` up to the factor.
    pub(super) fn write(&self, norm: &HostNorm, c: usize, z: &[f32], dy: &[f32], dz: &mut [f32]) {
        let chunk = elementwise_rows(c) * c;
        let chunks = dz.par_chunks_mut(chunk).zip(z.par_chunks(chunk)).zip(dy.par_chunks(chunk));
        chunks.for_each(|((dz, z), dy)| {
            dispatch(WriteInputGradient { norm, rows: self, c, z, dy, dz });
        });
    }

    /// Turns q into dz, in place.
    pub(in crate::ops) fn finish(&self, c: usize, z: &[f32], q: &mut [f32]) {
        let chunk = elementwise_rows(c) * c;
        q.par_chunks_mut(chunk).zip(z.par_chunks(chunk)).for_each(|(q, z)| {
            dispatch(FinishInputGradient { rows: self, c, z, q });
        });
    }
}

struct WriteInputGradient<'a> {
    norm: &'a HostNorm,
    rows: &'a InputGradientRows,
    c: usize,
    z: &'a [f32],
    dy: &'a [f32],
    dz: &'a mut [f32],
}

impl Kernel for WriteInputGradient<'_> {
    #[inline(always)]
    fn run<I: Instructions>(mut self) {
        by_activation!(self.norm.activation, A => self.write::<I, A>());
    }
}

impl WriteInputGradient<'_> {
    #[inline(always)]
    fn write<I: Instructions, A: ActivationFn>(&mut self) {
        for block in blocks(self.c) {
            match block.1 {
                L => self.write_block::<I, true, A>(block),
                _ => self.write_block::<I, false, A>(block),
            }
        }
    }

    #[inline(always)]
    fn write_block<I: Instructions, const FULL: bool, A: ActivationFn>(
        &mut self,
        (at, valid): (usize, usize),
    ) {
        let (scale, shift) = self.norm.affine(at);
        let factor = load(&self.rows.factor, at);
        let (constant, linear) = (load(&self.rows.constant, at), load(&self.rows.linear, at));
        let rows = self.dy.chunks_exact(self.c).zip(self.z.chunks_exact(self.c));
        for (dz_row, (dy_row, z_row)) in self.dz.chunks_exact_mut(self.c).zip(rows) {
            one_row_at_a_time();
            let (dy, z) =
                (load_some::<FULL>(dy_row, at, valid), load_some::<FULL>(z_row, at, valid));
            let mut dz = [0f32; L];
            for l in 0..L {
                let q = dy[l] * A::derivative(multiply_add::<I>(z[l], scale[l], shift[l]));
                dz[l] = factor[l] * (q - multiply_add::<I>(z[l], linear[l], constant[l]));
            }
            store_some::<FULL>(&dz, dz_row, at, valid);
        }
    }
}

struct FinishInputGradient<'a> {
    rows: &'a InputGradientRows,
    c: usize,
    z: &'a [f32],
    q: &'a mut [f32],
}

impl Kernel for FinishInputGradient<'_> {
    #[inline(always)]
    fn run<I: Instructions>(mut self) {
        for block in blocks(self.c) {
            match block.1 {
                L => self.block::<I, true>(block),
                _ => self.block::<I, false>(block),
            }
        }
    }
}

impl FinishInputGradient<'_> {
    #[inline(always)]
    fn block<I: Instructions, const FULL: bool>(&mut self, (at, valid): (usize, usize)) {
        let factor = load(&self.rows.factor, at);
        let (constant, linear) = (load(&self.rows.constant, at), load(&self.rows.linear, at));
        for (q, z) in self.q.chunks_exact_mut(self.c).zip(self.z.chunks_exact(self.c)) {
            one_row_at_a_time();
            let (mut d, z) = (load_some::<FULL>(q, at, valid), load_some::<FULL>(z, at, valid));
            for l in 0..L {
                let fixed = multiply_add::<I>(z[l], linear[l], constant[l]);
                d[l] = factor[l] * (d[l] - fixed);
            }
            store_some::<FULL>(&d, q, at, valid);
        }
    }
}
