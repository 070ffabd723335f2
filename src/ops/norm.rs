//! Batch norm, activation, weighted sum of candidates, residual and channel mask in one operator:
//!
//! y = (Σ_t g_t · act_t(γ_t ẑ_t + β_t) + ρ x) ∘ m,  ẑ_t = (z_t - μ_t) / √(σ²_t + ε)
//!
//! This is every place where the networks normalise: inside an inverted residual (one candidate
//! with its activation, and the mask of the expansion), at its end (no activation, the input added)
//! and at the end of a supernet block (one candidate per block type, FBNetV2 section 3.1: the
//! masks are summed first and applied once). It keeps its inputs and two rows of statistics per
//! candidate; everything between is recomputed on the way back.
//!
//! The mask comes last because in front of a batch norm it would be cancelled.

use super::activation::{ActivationFn, HsigmoidFn, HswishFn, IdentityFn, ReluFn};
use super::host::{Host, ordered_sum, piece_rows, rows_of, tensor};
use super::lanes::{LaneKernel, load, over_channels, store};
use super::no_kernel;
use crate::space::Activation;
use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

/// ε of batch norm, the value of the released networks.
pub const EPSILON: f64 = 1e-5;

/// One summand: a raw convolution output and how to normalise it. All rows are `[c]`.
#[derive(Clone)]
pub struct Candidate {
    /// `[n, h, w, c]`
    pub z: Tensor,
    pub mean: Tensor,
    /// 1 / √(σ² + ε)
    pub inverse: Tensor,
    pub gamma: Tensor,
    pub beta: Tensor,
    pub activation: Activation,
}

/// What is summed, and with which factors.
#[derive(Clone, Default)]
pub struct Sum {
    pub candidates: Vec<Candidate>,
    /// g `[t]`; every candidate counts once when absent.
    pub gates: Option<Tensor>,
    /// x `[n, h, w, c]` and ρ `[1]`.
    pub identity: Option<(Tensor, Tensor)>,
    /// m `[c]`
    pub mask: Option<Tensor>,
}

/// Gradients of [`forward`], in the order of its inputs.
pub struct Gradients {
    /// Per candidate: dz `[n, h, w, c]`, dγ `[c]`, dβ `[c]`.
    pub candidates: Vec<(Tensor, Tensor, Tensor)>,
    /// `[t]`
    pub gates: Option<Tensor>,
    /// dx `[n, h, w, c]` and dρ `[1]`.
    pub identity: Option<(Tensor, Tensor)>,
    /// `[c]`
    pub mask: Option<Tensor>,
}

/// Mean and biased variance over all but the last axis: two rows `[c]`.
///
/// # Errors
/// When the device has no kernel.
pub fn moments(z: &Tensor) -> Result<(Tensor, Tensor)> {
    let (rows, c) = rows_of(z)?;
    match z.device() {
        Device::Cpu => {
            let zs = Host::of(z)?;
            let parts: Vec<Vec<f32>> = zs
                .par_chunks(piece_rows(c) * c)
                .map(|z| {
                    let mut sums = vec![0f32; 2 * c];
                    over_channels(c, &mut MomentSums { z, c, sums: &mut sums });
                    sums
                })
                .collect();
            let sums = ordered_sum(&parts);
            let mean: Vec<f64> = sums[..c].iter().map(|s| s / rows as f64).collect();
            let var = sums[c..].iter().zip(&mean).map(|(s, m)| (s / rows as f64 - m * m).max(0.0));
            let var = var.map(|v| v as f32).collect();
            Ok((tensor(mean.iter().map(|m| *m as f32).collect(), c)?, tensor(var, c)?))
        }
        device => no_kernel("norm", device),
    }
}

/// 1 / √(σ² + ε) for a row of variances.
///
/// # Errors
/// When the row is not on a device that candle can compute on.
pub fn inverse_deviation(variance: &Tensor) -> Result<Tensor> {
    (variance + EPSILON)?.sqrt()?.recip()
}

/// The sum at the head of this file, `[n, h, w, c]`.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn forward(sum: &Sum) -> Result<Tensor> {
    let like = sum.like()?;
    match like.device() {
        Device::Cpu => {
            let host = HostSum::of(sum)?;
            let c = host.c;
            let mut y = vec![0f32; like.elem_count()];
            let piece = piece_rows(c) * c;
            y.par_chunks_mut(piece).enumerate().for_each(|(i, y)| {
                let mut kernel = Forward { host: &host, from: i * piece, y };
                over_channels(c, &mut kernel);
            });
            tensor(y, like.shape())
        }
        device => no_kernel("norm", device),
    }
}

/// The gradients of [`forward`], the statistics seen as functions of z (training mode).
///
/// # Errors
/// As [`forward`].
pub fn backward(sum: &Sum, dy: &Tensor) -> Result<Gradients> {
    match dy.device() {
        Device::Cpu => backward_cpu(sum, dy),
        device => no_kernel("norm", device),
    }
}

impl Sum {
    fn like(&self) -> Result<&Tensor> {
        match (self.candidates.first(), &self.identity) {
            (Some(candidate), _) => Ok(&candidate.z),
            (None, Some((x, _))) => Ok(x),
            (None, None) => bail!("norm: nothing to sum"),
        }
    }
}

/// A candidate in host memory with everything that depends on the channel alone folded into rows.
struct HostCandidate<'a> {
    z: Host<'a>,
    mean: Host<'a>,
    inverse: Host<'a>,
    gamma: Host<'a>,
    beta: Host<'a>,
    gate: f32,
    activation: Activation,
}

struct HostSum<'a> {
    c: usize,
    candidates: Vec<HostCandidate<'a>>,
    identity: Option<(Host<'a>, f32)>,
    mask: Vec<f32>,
}

impl<'a> HostSum<'a> {
    fn of(sum: &'a Sum) -> Result<Self> {
        let (_, c) = rows_of(sum.like()?)?;
        let gates = sum.gates.as_ref().map(Host::of).transpose()?;
        let candidates = sum.candidates.iter().enumerate().map(|(t, candidate)| {
            Ok(HostCandidate {
                z: Host::of(&candidate.z)?,
                mean: Host::of(&candidate.mean)?,
                inverse: Host::of(&candidate.inverse)?,
                gamma: Host::of(&candidate.gamma)?,
                beta: Host::of(&candidate.beta)?,
                gate: gates.as_ref().map_or(1.0, |g| g[t]),
                activation: candidate.activation,
            })
        });
        let identity = match &sum.identity {
            Some((x, rho)) => Some((Host::of(x)?, Host::of(rho)?[0])),
            None => None,
        };
        let mask = match &sum.mask {
            Some(mask) => Host::of(mask)?.to_vec(),
            None => vec![1.0; c],
        };
        Ok(Self { c, candidates: candidates.collect::<Result<_>>()?, identity, mask })
    }
}

/// Σ z and Σ z² of a piece, per channel.
struct MomentSums<'a> {
    z: &'a [f32],
    c: usize,
    sums: &'a mut [f32],
}

impl LaneKernel for MomentSums<'_> {
    #[inline(always)]
    fn run<const L: usize>(&mut self, channel: usize) {
        let (mut sum, mut squares) = ([0f32; L], [0f32; L]);
        for row in self.z.chunks_exact(self.c) {
            let z = load::<L>(row, channel);
            for l in 0..L {
                sum[l] += z[l];
                squares[l] += z[l] * z[l];
            }
        }
        store(&sum, self.sums, channel);
        store(&squares, self.sums, self.c + channel);
    }
}

struct Forward<'a> {
    host: &'a HostSum<'a>,
    /// Where the piece begins in the full tensors.
    from: usize,
    y: &'a mut [f32],
}

impl LaneKernel for Forward<'_> {
    #[inline(always)]
    fn run<const L: usize>(&mut self, channel: usize) {
        let mask = load::<L>(&self.host.mask, channel);
        for (t, candidate) in self.host.candidates.iter().enumerate() {
            match candidate.activation {
                Activation::Identity => self.add::<L, IdentityFn>(candidate, channel, &mask, t > 0),
                Activation::Relu => self.add::<L, ReluFn>(candidate, channel, &mask, t > 0),
                Activation::Hswish => self.add::<L, HswishFn>(candidate, channel, &mask, t > 0),
                Activation::Hsigmoid => self.add::<L, HsigmoidFn>(candidate, channel, &mask, t > 0),
            }
        }
        if let Some((x, rho)) = &self.host.identity {
            let c = self.host.c;
            let x = &x[self.from..self.from + self.y.len()];
            for (y_row, x_row) in self.y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                let (mut y, x) = (load::<L>(y_row, channel), load::<L>(x_row, channel));
                for l in 0..L {
                    y[l] += rho * mask[l] * x[l];
                }
                store(&y, y_row, channel);
            }
        }
    }
}

impl Forward<'_> {
    /// y (+)= g · m · act(γ ẑ + β) for one candidate.
    #[inline(always)]
    fn add<const L: usize, A: ActivationFn>(
        &mut self,
        candidate: &HostCandidate<'_>,
        channel: usize,
        mask: &[f32; L],
        accumulate: bool,
    ) {
        let c = self.host.c;
        let (scale, shift) = affine::<L>(candidate, channel);
        let z = &candidate.z[self.from..self.from + self.y.len()];
        for (y_row, z_row) in self.y.chunks_exact_mut(c).zip(z.chunks_exact(c)) {
            let z = load::<L>(z_row, channel);
            let mut y = if accumulate { load::<L>(y_row, channel) } else { [0.0; L] };
            for l in 0..L {
                y[l] += candidate.gate * mask[l] * A::value(z[l] * scale[l] + shift[l]);
            }
            store(&y, y_row, channel);
        }
    }
}

/// γ ẑ + β as one multiplication and one addition.
#[inline(always)]
fn affine<const L: usize>(candidate: &HostCandidate<'_>, channel: usize) -> ([f32; L], [f32; L]) {
    let (mean, inverse) =
        (load::<L>(&candidate.mean, channel), load::<L>(&candidate.inverse, channel));
    let (gamma, beta) = (load::<L>(&candidate.gamma, channel), load::<L>(&candidate.beta, channel));
    let (mut scale, mut shift) = ([0f32; L], [0f32; L]);
    for l in 0..L {
        scale[l] = gamma[l] * inverse[l];
        shift[l] = beta[l] - mean[l] * scale[l];
    }
    (scale, shift)
}

/// Per-channel sums of a piece for one candidate: Σ dy·act, Σ dy·act', Σ dy·act'·ẑ.
struct CandidateSums<'a> {
    candidate: &'a HostCandidate<'a>,
    c: usize,
    from: usize,
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl LaneKernel for CandidateSums<'_> {
    #[inline(always)]
    fn run<const L: usize>(&mut self, channel: usize) {
        match self.candidate.activation {
            Activation::Identity => self.gather::<L, IdentityFn>(channel),
            Activation::Relu => self.gather::<L, ReluFn>(channel),
            Activation::Hswish => self.gather::<L, HswishFn>(channel),
            Activation::Hsigmoid => self.gather::<L, HsigmoidFn>(channel),
        }
    }
}

impl CandidateSums<'_> {
    #[inline(always)]
    fn gather<const L: usize, A: ActivationFn>(&mut self, channel: usize) {
        let c = self.c;
        let (scale, shift) = affine::<L>(self.candidate, channel);
        let mean = load::<L>(&self.candidate.mean, channel);
        let inverse = load::<L>(&self.candidate.inverse, channel);
        let (mut value, mut slope, mut slope_z) = ([0f32; L], [0f32; L], [0f32; L]);
        let z = &self.candidate.z[self.from..self.from + self.dy.len()];
        for (dy_row, z_row) in self.dy.chunks_exact(c).zip(z.chunks_exact(c)) {
            let (dy, z) = (load::<L>(dy_row, channel), load::<L>(z_row, channel));
            for l in 0..L {
                let u = z[l] * scale[l] + shift[l];
                let q = dy[l] * A::slope(u);
                value[l] += dy[l] * A::value(u);
                slope[l] += q;
                slope_z[l] += q * (z[l] - mean[l]);
            }
        }
        for l in 0..L {
            slope_z[l] *= inverse[l];
        }
        store(&value, self.sums, channel);
        store(&slope, self.sums, c + channel);
        store(&slope_z, self.sums, 2 * c + channel);
    }
}

/// dz = γ/σ · g · m · (dy·act' - mean(dy·act') - ẑ · mean(dy·act'·ẑ)) for a piece.
struct InputGradient<'a> {
    candidate: &'a HostCandidate<'a>,
    c: usize,
    from: usize,
    dy: &'a [f32],
    mask: &'a [f32],
    /// mean(dy·act') and mean(dy·act'·ẑ), one row after the other.
    means: &'a [f32],
    dz: &'a mut [f32],
}

impl LaneKernel for InputGradient<'_> {
    #[inline(always)]
    fn run<const L: usize>(&mut self, channel: usize) {
        match self.candidate.activation {
            Activation::Identity => self.write::<L, IdentityFn>(channel),
            Activation::Relu => self.write::<L, ReluFn>(channel),
            Activation::Hswish => self.write::<L, HswishFn>(channel),
            Activation::Hsigmoid => self.write::<L, HsigmoidFn>(channel),
        }
    }
}

impl InputGradient<'_> {
    #[inline(always)]
    fn write<const L: usize, A: ActivationFn>(&mut self, channel: usize) {
        let c = self.c;
        let (scale, shift) = affine::<L>(self.candidate, channel);
        let mean = load::<L>(&self.candidate.mean, channel);
        let inverse = load::<L>(&self.candidate.inverse, channel);
        let mask = load::<L>(self.mask, channel);
        let (mean_q, mean_qz) =
            (load::<L>(self.means, channel), load::<L>(self.means, c + channel));
        // dz = factor · (dy·act' - constant - z · linear), all three per channel.
        let (mut factor, mut constant, mut linear) = ([0f32; L], [0f32; L], [0f32; L]);
        for l in 0..L {
            factor[l] = scale[l] * self.candidate.gate * mask[l];
            linear[l] = inverse[l] * mean_qz[l];
            constant[l] = mean_q[l] - mean[l] * linear[l];
        }
        let z = &self.candidate.z[self.from..self.from + self.dy.len()];
        let rows = self.dy.chunks_exact(c).zip(z.chunks_exact(c));
        for (dz_row, (dy_row, z_row)) in self.dz.chunks_exact_mut(c).zip(rows) {
            let (dy, z) = (load::<L>(dy_row, channel), load::<L>(z_row, channel));
            let mut dz = [0f32; L];
            for l in 0..L {
                let q = dy[l] * A::slope(z[l] * scale[l] + shift[l]);
                dz[l] = factor[l] * (q - constant[l] - z[l] * linear[l]);
            }
            store(&dz, dz_row, channel);
        }
    }
}

/// Σ dy·x of a piece per channel, and dx = ρ · m · dy.
struct IdentityGradient<'a> {
    c: usize,
    dy: &'a [f32],
    x: &'a [f32],
    mask: &'a [f32],
    rho: f32,
    dx: &'a mut [f32],
    sums: &'a mut [f32],
}

impl LaneKernel for IdentityGradient<'_> {
    #[inline(always)]
    fn run<const L: usize>(&mut self, channel: usize) {
        let mask = load::<L>(self.mask, channel);
        let mut sum = [0f32; L];
        let rows = self.dy.chunks_exact(self.c).zip(self.x.chunks_exact(self.c));
        for (dx_row, (dy_row, x_row)) in self.dx.chunks_exact_mut(self.c).zip(rows) {
            let (dy, x) = (load::<L>(dy_row, channel), load::<L>(x_row, channel));
            let mut dx = [0f32; L];
            for l in 0..L {
                sum[l] += dy[l] * x[l];
                dx[l] = self.rho * mask[l] * dy[l];
            }
            store(&dx, dx_row, channel);
        }
        store(&sum, self.sums, channel);
    }
}

fn backward_cpu(sum: &Sum, dy: &Tensor) -> Result<Gradients> {
    let host = HostSum::of(sum)?;
    let dys = Host::of(dy)?;
    let (c, rows) = (host.c, dys.len() / host.c);
    let mut dmask = vec![0f64; c];
    let mut dgates = Vec::with_capacity(host.candidates.len());
    let mut candidates = Vec::with_capacity(host.candidates.len());
    for candidate in &host.candidates {
        let sums = candidate_sums(candidate, c, &dys);
        let factor = |j: usize| f64::from(candidate.gate * host.mask[j]);
        let scaled = |row: usize| (0..c).map(|j| (sums[row * c + j] * factor(j)) as f32).collect();
        let means: Vec<f32> = sums[c..].iter().map(|s| (s / rows as f64) as f32).collect();
        let dz = candidate_gradient(candidate, &host, &dys, &means);
        let (dbeta, dgamma): (Vec<f32>, Vec<f32>) = (scaled(1), scaled(2));
        candidates.push((tensor(dz, dy.shape())?, tensor(dgamma, c)?, tensor(dbeta, c)?));
        dgates.push((0..c).map(|j| f64::from(host.mask[j]) * sums[j]).sum::<f64>() as f32);
        for j in 0..c {
            dmask[j] += f64::from(candidate.gate) * sums[j];
        }
    }
    let identity = match &host.identity {
        Some((x, rho)) => {
            let (dx, sums) = identity_gradient(&host, x, *rho, &dys);
            let drho: f64 = (0..c).map(|j| f64::from(host.mask[j]) * sums[j]).sum();
            for j in 0..c {
                dmask[j] += f64::from(*rho) * sums[j];
            }
            Some((tensor(dx, dy.shape())?, tensor(vec![drho as f32], 1)?))
        }
        None => None,
    };
    let t = dgates.len();
    Ok(Gradients {
        candidates,
        gates: sum.gates.is_some().then(|| tensor(dgates, t)).transpose()?,
        identity,
        mask: match sum.mask {
            Some(_) => Some(tensor(dmask.iter().map(|v| *v as f32).collect(), c)?),
            None => None,
        },
    })
}

fn candidate_sums(candidate: &HostCandidate<'_>, c: usize, dy: &[f32]) -> Vec<f64> {
    let piece = piece_rows(c) * c;
    let parts: Vec<Vec<f32>> = dy
        .par_chunks(piece)
        .enumerate()
        .map(|(i, dy)| {
            let mut sums = vec![0f32; 3 * c];
            let from = i * piece;
            over_channels(c, &mut CandidateSums { candidate, c, from, dy, sums: &mut sums });
            sums
        })
        .collect();
    ordered_sum(&parts)
}

fn candidate_gradient(
    candidate: &HostCandidate<'_>,
    host: &HostSum<'_>,
    dy: &[f32],
    means: &[f32],
) -> Vec<f32> {
    let (c, mask) = (host.c, host.mask.as_slice());
    let piece = piece_rows(c) * c;
    let mut dz = vec![0f32; dy.len()];
    dz.par_chunks_mut(piece).zip(dy.par_chunks(piece)).enumerate().for_each(|(i, (dz, dy))| {
        let from = i * piece;
        over_channels(c, &mut InputGradient { candidate, c, from, dy, mask, means, dz });
    });
    dz
}

fn identity_gradient(host: &HostSum<'_>, x: &[f32], rho: f32, dy: &[f32]) -> (Vec<f32>, Vec<f64>) {
    let (c, mask) = (host.c, host.mask.as_slice());
    let piece = piece_rows(c) * c;
    let mut dx = vec![0f32; dy.len()];
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(piece)
        .zip(dy.par_chunks(piece).zip(x.par_chunks(piece)))
        .map(|(dx, (dy, x))| {
            let mut sums = vec![0f32; c];
            over_channels(c, &mut IdentityGradient { c, dy, x, mask, rho, dx, sums: &mut sums });
            sums
        })
        .collect();
    (dx, ordered_sum(&parts))
}
