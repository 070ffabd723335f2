//! The backward pass of the gated sum.

use super::{GatedSum, HostBranch, HostGatedSum, HostNorm, InputGradientRows};
use crate::ops::activation::{ActivationFn, by_activation};
use crate::ops::host::{Host, tensor, to_fill};
use crate::ops::lanes::{
    Instructions, Kernel, L, blocks, dispatch, load, load_some, multiply_add, one_row_at_a_time,
};
use crate::ops::sums::ChannelSums;
use crate::tiling::elementwise_rows;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Which of the large gradients to compute; the small ones are always computed.
#[derive(Clone, Debug)]
pub struct NormWanted {
    /// dz of each branch.
    pub branches: Vec<bool>,
    /// dx.
    pub identity: bool,
}

/// Gradients of [`super::forward`], in the order of its inputs.
pub struct NormGradients {
    pub branches: Vec<BranchGradients>,
    /// `[t]`
    pub gates: Option<Tensor>,
    /// dx `[n, h, w, c]`, when wanted.
    pub dx: Option<Tensor>,
    /// dρ `[1]`, where there is an identity.
    pub drho: Option<Tensor>,
    /// `[c]`
    pub mask: Option<Tensor>,
}

/// Gradients of one branch.
pub struct BranchGradients {
    /// `[n, h, w, c]`, when wanted.
    pub dz: Option<Tensor>,
    /// `[c]`
    pub dgamma: Tensor,
    /// `[c]`
    pub dbeta: Tensor,
}

/// [`super::backward`] on the CPU.
pub(super) fn backward(sum: &GatedSum, dy: &Tensor, wanted: &NormWanted) -> Result<NormGradients> {
    let host = HostGatedSum::of(sum)?;
    let dys = Host::of(dy)?;
    let c = host.c;
    let mask = &host.mask[..c];
    let mut dmask = vec![0f64; c];
    let mut gates = Vec::with_capacity(host.branches.len());
    let mut branches = Vec::with_capacity(host.branches.len());
    for (branch, wants) in host.branches.iter().zip(&wanted.branches) {
        let sums = BranchTotals::of(branch, c, &dys);
        gates.push(dot(mask, &sums.value) as f32);
        for (d, value) in dmask.iter_mut().zip(&sums.value) {
            *d += f64::from(branch.gate) * value;
        }
        let scaled = |values: &[f64]| {
            let factors = mask.iter().map(|m| f64::from(branch.gate * m));
            tensor(factors.zip(values).map(|(f, v)| (f * v) as f32).collect(), c)
        };
        let dz = wants.then(|| tensor(branch_gradient(branch, &host, &dys, &sums), dy.shape()));
        branches.push(BranchGradients {
            dz: dz.transpose()?,
            dgamma: scaled(&sums.slope_normalised)?,
            dbeta: scaled(&sums.slope)?,
        });
    }
    let (mut dx, mut drho) = (None, None);
    if let Some((x, rho)) = &host.identity {
        let (gradient, sums) = identity_gradient(&host, x, *rho, &dys, wanted.identity);
        for (d, value) in dmask.iter_mut().zip(&sums) {
            *d += f64::from(*rho) * value;
        }
        drho = Some(tensor(vec![dot(mask, &sums) as f32], 1)?);
        dx = wanted.identity.then(|| tensor(gradient, dy.shape())).transpose()?;
    }
    let t = gates.len();
    Ok(NormGradients {
        branches,
        gates: sum.gates.is_some().then(|| tensor(gates, t)).transpose()?,
        dx,
        drho,
        mask: match sum.mask {
            Some(_) => Some(tensor(dmask.iter().map(|v| *v as f32).collect(), c)?),
            None => None,
        },
    })
}

fn dot(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum()
}

/// Sums over all rows per channel for one branch, without its gate and the mask.
struct BranchTotals {
    /// Σ dy·act(u)
    value: Vec<f64>,
    /// Σ dy·act'(u)
    slope: Vec<f64>,
    /// Σ dy·act'(u)·ẑ
    slope_normalised: Vec<f64>,
}

impl BranchTotals {
    fn of(branch: &HostBranch<'_>, c: usize, dy: &[f32]) -> Self {
        let chunk = elementwise_rows(c) * c;
        let parts: Vec<(ChannelSums, ChannelSums)> = dy
            .par_chunks(chunk)
            .enumerate()
            .map(|(i, dy)| {
                let mut sums = (ChannelSums::new(c), ChannelSums::new(c));
                let z = &branch.z[i * chunk..][..dy.len()];
                dispatch(BranchSums { norm: &branch.norm, c, z, dy, sums: &mut sums });
                sums
            })
            .collect();
        let (values, slopes) = parts.into_iter().unzip();
        let (values, slopes) = (ChannelSums::total(values, c), ChannelSums::total(slopes, c));
        Self {
            value: values.first().to_vec(),
            slope: slopes.first().to_vec(),
            slope_normalised: branch.norm.normalise_sums(slopes.second()),
        }
    }
}

struct BranchSums<'a> {
    norm: &'a HostNorm,
    c: usize,
    z: &'a [f32],
    dy: &'a [f32],
    sums: &'a mut (ChannelSums, ChannelSums),
}

impl Kernel for BranchSums<'_> {
    #[inline(always)]
    fn run<I: Instructions>(mut self) {
        by_activation!(self.norm.activation, A => self.gather::<I, A>());
    }
}

impl BranchSums<'_> {
    #[inline(always)]
    fn gather<I: Instructions, A: ActivationFn>(&mut self) {
        for block in blocks(self.c) {
            match block.1 {
                L => self.gather_block::<I, true, A>(block),
                _ => self.gather_block::<I, false, A>(block),
            }
        }
    }

    #[inline(always)]
    fn gather_block<I: Instructions, const FULL: bool, A: ActivationFn>(
        &mut self,
        (at, valid): (usize, usize),
    ) {
        let (scale, shift) = self.norm.affine(at);
        let mean = load(&self.norm.mean, at);
        let (mut value, mut slope, mut slope_z) = ([0f32; L], [0f32; L], [0f32; L]);
        let rows = self.dy.chunks_exact(self.c).zip(self.z.chunks_exact(self.c));
        for (dy_row, z_row) in rows {
            one_row_at_a_time();
            let (dy, z) =
                (load_some::<FULL>(dy_row, at, valid), load_some::<FULL>(z_row, at, valid));
            for l in 0..L {
                let u = multiply_add::<I>(z[l], scale[l], shift[l]);
                let q = dy[l] * A::derivative(u);
                value[l] = multiply_add::<I>(dy[l], A::value(u), value[l]);
                slope[l] += q;
                slope_z[l] = multiply_add::<I>(q, z[l] - mean[l], slope_z[l]);
            }
        }
        let none = [0f32; L];
        self.sums.0.add(at, valid, &value, &none);
        self.sums.1.add(at, valid, &slope, &slope_z);
    }
}

fn branch_gradient(
    branch: &HostBranch<'_>,
    host: &HostGatedSum<'_>,
    dy: &[f32],
    sums: &BranchTotals,
) -> Vec<f32> {
    let c = host.c;
    let factors = branch.norm.scale.iter().zip(&host.mask);
    let factors = factors.map(|(scale, mask)| scale * branch.gate * mask).collect();
    let both = (&sums.slope[..], &sums.slope_normalised[..]);
    let rows = InputGradientRows::new(&branch.norm, factors, both, dy.len() / c);
    // SAFETY: every block of every row is written.
    #[allow(unsafe_code)]
    let mut dz = unsafe { to_fill(dy.len()) };
    rows.write(&branch.norm, c, &branch.z, dy, &mut dz);
    dz
}

/// dx = ρ · m · dy (empty unless `wanted`) and Σ dy·x per channel.
fn identity_gradient(
    host: &HostGatedSum<'_>,
    x: &[f32],
    rho: f32,
    dy: &[f32],
    wanted: bool,
) -> (Vec<f32>, Vec<f64>) {
    let (c, mask) = (host.c, host.mask.as_slice());
    let chunk = elementwise_rows(c) * c;
    // SAFETY: every value is written where it is wanted.
    #[allow(unsafe_code)]
    let mut dx = unsafe { to_fill(if wanted { dy.len() } else { 0 }) };
    if wanted {
        dx.par_chunks_mut(chunk).zip(dy.par_chunks(chunk)).for_each(|(dx, dy)| {
            dispatch(ScaledGradient { c, mask, rho, dy, dx });
        });
    }
    let sums = dy
        .par_chunks(chunk)
        .zip(x.par_chunks(chunk))
        .map(|(dy, x)| {
            let mut sums = ChannelSums::new(c);
            dispatch(Dots { c, dy, x, sums: &mut sums });
            sums
        })
        .collect();
    (dx, ChannelSums::total(sums, c).first().to_vec())
}

struct ScaledGradient<'a> {
    c: usize,
    mask: &'a [f32],
    rho: f32,
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for ScaledGradient<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        for (dx, dy) in self.dx.chunks_exact_mut(self.c).zip(self.dy.chunks_exact(self.c)) {
            for ((dx, dy), mask) in dx.iter_mut().zip(dy).zip(self.mask) {
                *dx = self.rho * mask * dy;
            }
        }
    }
}

struct Dots<'a> {
    c: usize,
    dy: &'a [f32],
    x: &'a [f32],
    sums: &'a mut ChannelSums,
}

impl Kernel for Dots<'_> {
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

impl Dots<'_> {
    #[inline(always)]
    fn block<I: Instructions, const FULL: bool>(&mut self, (at, valid): (usize, usize)) {
        let (mut sum, none) = ([0f32; L], [0f32; L]);
        for (dy, x) in self.dy.chunks_exact(self.c).zip(self.x.chunks_exact(self.c)) {
            one_row_at_a_time();
            let (dy, x) = (load_some::<FULL>(dy, at, valid), load_some::<FULL>(x, at, valid));
            for l in 0..L {
                sum[l] = multiply_add::<I>(dy[l], x[l], sum[l]);
            }
        }
        self.sums.add(at, valid, &sum, &none);
    }
}
