//! Batch norm, activation, gated sum of branches, residual and channel mask in one operator:
//!
//! y = (Σ_t g_t · act_t(γ_t ẑ_t + β_t) + ρ x) ∘ m,  ẑ_t = (z_t - μ_t) / √(σ²_t + ε)
//!
//! Every block ends with it: one branch per block type, and the input where there is a residual or a
//! skip (FBNetV2 section 3.1: the masks are summed first and applied once). With one branch it is
//! plain batch norm, as behind the stem. It keeps its inputs and two rows of statistics per branch;
//! the backward pass computes everything else again.
//!
//! The mask comes last, because a batch norm behind it would cancel it.

mod backward;
pub(super) mod gpu;
mod input_gradient;
mod statistics;

pub use backward::{BranchGradients, NormGradients, NormWanted};
pub(super) use input_gradient::InputGradientRows;
pub use statistics::{follow, inverse_deviation};

use super::activation::{ActivationFn, by_activation};
use super::gpu::Gpu;
use super::host::{Host, expect, rows_of, tensor, to_fill};
use super::lanes::{
    Instructions, Kernel, L, Lanes, blocks, dispatch, load, load_some, multiply_add,
    one_row_at_a_time, store_some,
};
use super::sums::{ChannelSums, Moments};
use crate::space::Activation;
use crate::tiling::elementwise_rows;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// ε of batch norm, the value of the released networks.
pub const EPSILON: f64 = 1e-5;

/// Batch norm and activation of a raw convolution output z: u = γ (z - μ) / √(σ² + ε) + β, then
/// act(u). All rows are `[c]`. `T` is a tensor, or a value on the tape.
#[derive(Clone)]
pub struct Norm<T = Tensor> {
    /// μ
    pub mean: Tensor,
    /// 1 / √(σ² + ε)
    pub inverse: Tensor,
    pub gamma: T,
    pub beta: T,
    pub activation: Activation,
}

/// A raw convolution output with its batch norm and activation, which the next operator applies as
/// it reads.
#[derive(Clone)]
pub struct PreActivation<T = Tensor> {
    /// `[n, h, w, c]`
    pub z: T,
    pub norm: Norm<T>,
}

/// The operands of [`forward`].
#[derive(Clone)]
pub struct GatedSum<T = Tensor> {
    pub branches: Vec<PreActivation<T>>,
    /// g `[t]`; ones when absent.
    pub gates: Option<T>,
    /// x `[n, h, w, c]` and ρ `[1]`.
    pub identity: Option<(T, T)>,
    /// m `[c]`; ones when absent.
    pub mask: Option<T>,
}

/// Running statistics of a batch norm, for inference.
#[derive(Clone, Copy, Debug)]
pub struct Running<T = Tensor> {
    /// `[c]`
    pub mean: T,
    /// `[c]`, unbiased.
    pub variance: T,
}

impl<T> Norm<T> {
    /// The same with `f` of each operand.
    pub(crate) fn map<U>(&self, f: impl Fn(&T) -> U) -> Norm<U> {
        Norm {
            mean: self.mean.clone(),
            inverse: self.inverse.clone(),
            gamma: f(&self.gamma),
            beta: f(&self.beta),
            activation: self.activation,
        }
    }
}

impl<T> PreActivation<T> {
    /// The same with `f` of each operand.
    pub(crate) fn map<U>(&self, f: impl Fn(&T) -> U) -> PreActivation<U> {
        PreActivation { z: f(&self.z), norm: self.norm.map(f) }
    }
}

impl<T> GatedSum<T> {
    /// The same with `f` of each operand.
    pub(crate) fn map<U>(&self, f: impl Fn(&T) -> U) -> GatedSum<U> {
        GatedSum {
            branches: self.branches.iter().map(|branch| branch.map(&f)).collect(),
            gates: self.gates.as_ref().map(&f),
            identity: self.identity.as_ref().map(|(x, rho)| (f(x), f(rho))),
            mask: self.mask.as_ref().map(&f),
        }
    }
}

impl<T> Default for GatedSum<T> {
    fn default() -> Self {
        Self { branches: Vec::new(), gates: None, identity: None, mask: None }
    }
}

/// Mean and biased variance over all but the last axis.
///
/// # Errors
/// When the device has no kernel.
pub fn moments(z: &Tensor) -> Result<Moments> {
    if let Some(gpu) = Gpu::of(z.device())? {
        return gpu::moments(&gpu, z);
    }
    let (rows, c) = rows_of(z)?;
    let zs = Host::of(z)?;
    let sums = zs
        .par_chunks(elementwise_rows(c) * c)
        .map(|z| {
            let mut sums = ChannelSums::new(c);
            dispatch(MomentSums { z, c, sums: &mut sums });
            sums
        })
        .collect();
    ChannelSums::total(sums, c).moments(rows)
}

/// y `[n, h, w, c]` of the formula above.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn forward(sum: &GatedSum) -> Result<Tensor> {
    sum.check()?;
    let like = sum.like()?;
    if let Some(gpu) = Gpu::of(like.device())? {
        return gpu::forward(&gpu, sum);
    }
    let host = HostGatedSum::of(sum)?;
    // SAFETY: the first summand is stored; the others are added to it.
    #[allow(unsafe_code)]
    let mut y = unsafe { to_fill(like.elem_count()) };
    let chunk = elementwise_rows(host.c) * host.c;
    y.par_chunks_mut(chunk).enumerate().for_each(|(i, y)| {
        dispatch(NormForward { host: &host, from: i * chunk, y });
    });
    tensor(y, like.shape())
}

/// The gradients of [`forward`], with the statistics as functions of z (training mode).
///
/// # Errors
/// As [`forward`].
pub fn backward(sum: &GatedSum, dy: &Tensor, wanted: &NormWanted) -> Result<NormGradients> {
    sum.check()?;
    expect("norm", "dy", dy, sum.like()?.dims())?;
    match Gpu::of(dy.device())? {
        Some(gpu) => gpu::backward(&gpu, sum, dy, wanted),
        None => backward::backward(sum, dy, wanted),
    }
}

impl Norm {
    /// Refuses rows that do not have `c` channels.
    pub(super) fn check(&self, op: &str, c: usize) -> Result<()> {
        expect(op, "a mean", &self.mean, &[c])?;
        expect(op, "an inverse deviation", &self.inverse, &[c])?;
        expect(op, "gamma", &self.gamma, &[c])?;
        expect(op, "beta", &self.beta, &[c])
    }
}

impl GatedSum {
    /// Refuses shapes that do not fit together.
    fn check(&self) -> Result<()> {
        let like = self.like()?;
        let (_, c) = rows_of(like)?;
        for branch in &self.branches {
            expect("norm", "a branch", &branch.z, like.dims())?;
            branch.norm.check("norm", c)?;
        }
        if let Some(gates) = &self.gates {
            expect("norm", "the row of gates", gates, &[self.branches.len()])?;
        }
        if let Some((x, rho)) = &self.identity {
            expect("norm", "the identity", x, like.dims())?;
            expect("norm", "rho", rho, &[1])?;
        }
        self.mask.as_ref().map_or(Ok(()), |mask| expect("norm", "the mask", mask, &[c]))
    }

    fn like(&self) -> Result<&Tensor> {
        match (self.branches.first(), &self.identity) {
            (Some(branch), _) => Ok(&branch.z),
            (None, Some((x, _))) => Ok(x),
            (None, None) => bail!("norm: nothing to sum"),
        }
    }
}

/// A [`Norm`] in host memory, its rows padded with zeros to full blocks.
pub(super) struct HostNorm {
    pub mean: Vec<f32>,
    pub inverse: Vec<f32>,
    /// u = z · scale + shift.
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub activation: Activation,
}

impl HostNorm {
    pub(super) fn of(norm: &Norm) -> Result<Self> {
        let (mean, inverse) = (padded(&norm.mean)?, padded(&norm.inverse)?);
        let (gamma, beta) = (padded(&norm.gamma)?, padded(&norm.beta)?);
        let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok(Self { mean, inverse, scale, shift, activation: norm.activation })
    }

    /// Σqẑ per channel, from Σq(z - μ).
    pub(super) fn normalise_sums(&self, centred: &[f64]) -> Vec<f64> {
        centred.iter().zip(&self.inverse).map(|(sum, inverse)| sum * f64::from(*inverse)).collect()
    }

    /// Scale and shift of a block.
    #[inline(always)]
    pub(super) fn affine(&self, at: usize) -> (Lanes, Lanes) {
        (load(&self.scale, at), load(&self.shift, at))
    }
}

/// A row in host memory, padded with zeros to full blocks.
pub(super) fn padded(row: &Tensor) -> Result<Vec<f32>> {
    let mut values = Host::of(row)?.to_vec();
    values.resize(values.len().next_multiple_of(L), 0.0);
    Ok(values)
}

struct HostBranch<'a> {
    z: Host<'a>,
    norm: HostNorm,
    gate: f32,
}

struct HostGatedSum<'a> {
    c: usize,
    branches: Vec<HostBranch<'a>>,
    identity: Option<(Host<'a>, f32)>,
    /// Padded; ones where there is no mask.
    mask: Vec<f32>,
}

impl<'a> HostGatedSum<'a> {
    /// Of checked operands.
    fn of(sum: &'a GatedSum) -> Result<Self> {
        let (_, c) = rows_of(sum.like()?)?;
        let gates = sum.gates.as_ref().map(Host::of).transpose()?;
        let branches = sum.branches.iter().enumerate().map(|(t, branch)| {
            Ok(HostBranch {
                z: Host::of(&branch.z)?,
                norm: HostNorm::of(&branch.norm)?,
                gate: gates.as_ref().map_or(1.0, |g| g[t]),
            })
        });
        let identity = match &sum.identity {
            Some((x, rho)) => Some((Host::of(x)?, Host::of(rho)?[0])),
            None => None,
        };
        let mask = match &sum.mask {
            Some(mask) => padded(mask)?,
            None => vec![1.0; c.next_multiple_of(L)],
        };
        Ok(Self { c, branches: branches.collect::<Result<_>>()?, identity, mask })
    }
}

/// Σ z and Σ z² over a chunk, per channel.
struct MomentSums<'a> {
    z: &'a [f32],
    c: usize,
    sums: &'a mut ChannelSums,
}

impl Kernel for MomentSums<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        for block in blocks(self.c) {
            self.sums.gather::<I>(self.z, block);
        }
    }
}

struct NormForward<'a> {
    host: &'a HostGatedSum<'a>,
    /// Offset of the chunk in the full tensors.
    from: usize,
    y: &'a mut [f32],
}

impl Kernel for NormForward<'_> {
    #[inline(always)]
    fn run<I: Instructions>(mut self) {
        let c = self.host.c;
        for block in blocks(c) {
            match block.1 {
                L => self.block::<I, true>(block),
                _ => self.block::<I, false>(block),
            }
        }
    }
}

impl NormForward<'_> {
    #[inline(always)]
    fn block<I: Instructions, const FULL: bool>(&mut self, block: (usize, usize)) {
        let c = self.host.c;
        let (at, valid) = block;
        for (t, branch) in self.host.branches.iter().enumerate() {
            by_activation!(branch.norm.activation, A => {
                self.add::<I, FULL, A>(branch, block, t > 0);
            });
        }
        let Some((x, rho)) = &self.host.identity else { return };
        let mask = load(&self.host.mask, at);
        let x = &x[self.from..self.from + self.y.len()];
        let first = self.host.branches.is_empty();
        for (y_row, x_row) in self.y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            one_row_at_a_time();
            let x = load_some::<FULL>(x_row, at, valid);
            let mut y = if first { [0.0; L] } else { load_some::<FULL>(y_row, at, valid) };
            for l in 0..L {
                y[l] = multiply_add::<I>(rho * mask[l], x[l], y[l]);
            }
            store_some::<FULL>(&y, y_row, at, valid);
        }
    }

    /// y = g · m · act(γ ẑ + β) for one branch, or += where `accumulate`.
    #[inline(always)]
    fn add<I: Instructions, const FULL: bool, A: ActivationFn>(
        &mut self,
        branch: &HostBranch<'_>,
        (at, valid): (usize, usize),
        accumulate: bool,
    ) {
        let c = self.host.c;
        let (scale, shift) = branch.norm.affine(at);
        let mut factor = load(&self.host.mask, at);
        for factor in &mut factor {
            *factor *= branch.gate;
        }
        let z = &branch.z[self.from..self.from + self.y.len()];
        for (y_row, z_row) in self.y.chunks_exact_mut(c).zip(z.chunks_exact(c)) {
            one_row_at_a_time();
            let z = load_some::<FULL>(z_row, at, valid);
            let mut y = if accumulate { load_some::<FULL>(y_row, at, valid) } else { [0.0; L] };
            for l in 0..L {
                let u = multiply_add::<I>(z[l], scale[l], shift[l]);
                y[l] = multiply_add::<I>(factor[l], A::value(u), y[l]);
            }
            store_some::<FULL>(&y, y_row, at, valid);
        }
    }
}
