//! Batch norm and the gated sum on a GPU; `norm.cu` has the kernels.

use super::{
    BranchGradients, EPSILON, GatedSum, Norm, NormGradients, NormWanted, PreActivation, Running,
};
use crate::ops::gpu::{Arg, Gpu, Launch, Parts, Source, source, total};
use crate::ops::host::rows_of;
use crate::ops::sums::Moments;
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("norm");

const FINISH_BACKWARD: Launch = Launch::one(SOURCE, "norm_finish_backward");

pub(super) fn moments(gpu: &Gpu, z: &Tensor) -> Result<Moments> {
    let (rows, c) = rows_of(z)?;
    let parts = Parts::of(rows, c);
    let sums = gpu.output_f64((parts.parts, 2 * c))?;
    let args = [Arg::In(z), Arg::Out(&sums), Arg::size(rows), Arg::size(c), Arg::size(parts.rows)];
    gpu.launch(&parts.launch(SOURCE, "norm_moments", c), &args)?;
    finish_moments(gpu, &total(gpu, &sums)?, rows)
}

/// Mean and variance from Σz and Σz² `[2 c]` over `rows` rows.
pub(in crate::ops) fn finish_moments(gpu: &Gpu, sums: &Tensor, rows: usize) -> Result<Moments> {
    let c = sums.elem_count() / 2;
    let (mean, variance) = (gpu.output(c)?, gpu.output(c)?);
    let args = [Arg::In(sums), Arg::Out(&mean), Arg::Out(&variance), Arg::size(rows), Arg::size(c)];
    gpu.launch(&Launch::values(SOURCE, "norm_finish_moments", c), &args)?;
    Ok(Moments { mean, variance, count: rows })
}

pub(super) fn inverse_deviation(gpu: &Gpu, variance: &Tensor) -> Result<Tensor> {
    let c = variance.elem_count();
    let inverse = gpu.output(variance.shape())?;
    let epsilon = Arg::Float(EPSILON as f32);
    let args = [Arg::In(variance), Arg::Out(&inverse), epsilon, Arg::size(c)];
    gpu.launch(&Launch::values(SOURCE, "norm_inverse_deviation", c), &args)?;
    Ok(inverse)
}

/// `unbiased` is the ratio of the unbiased variance to the biased one.
pub(super) fn follow(
    gpu: &Gpu,
    batch: &Moments,
    running: Running<&Tensor>,
    momentum: f64,
    unbiased: f64,
) -> Result<(Tensor, Running)> {
    let c = batch.mean.elem_count();
    let moved = Running { mean: gpu.output(c)?, variance: gpu.output(c)? };
    let inverse = gpu.output(c)?;
    let args = [
        Arg::In(&batch.mean),
        Arg::In(&batch.variance),
        Arg::In(running.mean),
        Arg::In(running.variance),
        Arg::Out(&moved.mean),
        Arg::Out(&moved.variance),
        Arg::Out(&inverse),
        Arg::Float((1.0 - momentum) as f32),
        Arg::Float(momentum as f32),
        Arg::Float(unbiased as f32),
        Arg::Float(EPSILON as f32),
        Arg::size(c),
    ];
    gpu.launch(&Launch::values(SOURCE, "norm_follow", c), &args)?;
    Ok((inverse, moved))
}

pub(super) fn forward(gpu: &Gpu, sum: &GatedSum) -> Result<Tensor> {
    let like = sum.like()?;
    let (rows, c) = rows_of(like)?;
    let y = gpu.output(like.shape())?;
    let launch = Launch::map(SOURCE, "norm_forward", rows, c);
    // The identity is added together with the last branch.
    let summands = sum.branches.len().max(1);
    for t in 0..summands {
        let identity = sum.identity.as_ref().filter(|_| t + 1 == summands);
        let branch = sum.branches.get(t);
        let [z, mean, inverse, gamma, beta] =
            branch.map_or([const { Arg::Absent }; 5], rows_and_map);
        gpu.launch(
            &launch,
            &[
                z,
                mean,
                inverse,
                gamma,
                beta,
                Arg::maybe(sum.gates.as_ref()),
                Arg::maybe(identity.map(|(x, _)| x)),
                Arg::maybe(identity.map(|(_, rho)| rho)),
                Arg::maybe(sum.mask.as_ref()),
                Arg::Out(&y),
                Arg::size(t),
                branch.map_or(Arg::Int(0), |branch| activation(&branch.norm)),
                Arg::Int(i32::from(t > 0)),
                Arg::size(rows),
                Arg::size(c),
            ],
        )?;
    }
    Ok(y)
}

/// z, mean, inverse, gamma and beta.
fn rows_and_map(branch: &PreActivation) -> [Arg<'_>; 5] {
    let [mean, inverse, gamma, beta] = norm_rows(&branch.norm);
    [Arg::In(&branch.z), mean, inverse, gamma, beta]
}

/// Mean, inverse, gamma and beta.
pub(in crate::ops) fn norm_rows(norm: &Norm) -> [Arg<'_>; 4] {
    [&norm.mean, &norm.inverse, &norm.gamma, &norm.beta].map(Arg::In)
}

/// The number of the activation in `common.cuh`.
pub(in crate::ops) fn activation(norm: &Norm) -> Arg<'static> {
    crate::ops::activation::argument(norm.activation)
}

pub(super) fn backward(
    gpu: &Gpu,
    sum: &GatedSum,
    dy: &Tensor,
    wanted: &NormWanted,
) -> Result<NormGradients> {
    let (rows, c) = rows_of(sum.like()?)?;
    let backward = Backward { gpu, sum, dy, rows, c, parts: Parts::of(rows, c) };
    let dmask = sum.mask.as_ref().map(|_| gpu.output(c)).transpose()?;
    let gates = sum.gates.as_ref().map(|_| gpu.output(sum.branches.len())).transpose()?;
    let mut branches = Vec::with_capacity(sum.branches.len());
    for (t, wants) in wanted.branches.iter().enumerate() {
        branches.push(backward.branch(t, *wants, gates.as_ref(), dmask.as_ref())?);
    }
    let (mut dx, mut drho) = (None, None);
    if let Some((x, rho)) = &sum.identity {
        drho = Some(backward.identity_sums(x, rho, dmask.as_ref())?);
        if wanted.identity {
            dx = Some(backward.identity_gradient(rho)?);
        }
    }
    Ok(NormGradients { branches, gates, dx, drho, mask: dmask })
}

struct Backward<'a> {
    gpu: &'a Gpu,
    sum: &'a GatedSum,
    dy: &'a Tensor,
    rows: usize,
    c: usize,
    parts: Parts,
}

impl Backward<'_> {
    fn branch(
        &self,
        t: usize,
        wanted: bool,
        gates: Option<&Tensor>,
        dmask: Option<&Tensor>,
    ) -> Result<BranchGradients> {
        let (gpu, c, branch) = (self.gpu, self.c, &self.sum.branches[t]);
        let sums = gpu.output_f64((self.parts.parts, 3 * c))?;
        let [z, mean, inverse, gamma, beta] = rows_and_map(branch);
        let sizes = [Arg::size(self.rows), Arg::size(c), Arg::size(self.parts.rows)];
        let mut args = vec![z, mean, inverse, gamma, beta, Arg::In(self.dy), Arg::Out(&sums)];
        args.push(activation(&branch.norm));
        args.extend(sizes);
        gpu.launch(&self.parts.launch(SOURCE, "norm_backward_sums", c), &args)?;
        let (dgamma, dbeta) = (gpu.output(c)?, gpu.output(c)?);
        let rows_out = wanted.then(|| gpu.output((3, c))).transpose()?;
        let [mean, inverse, gamma, _] = norm_rows(&branch.norm);
        self.finish(
            &total(gpu, &sums)?,
            [mean, inverse, gamma, Arg::maybe(self.sum.gates.as_ref())],
            [
                Arg::maybe_out(gates),
                Arg::maybe_out(dmask),
                Arg::Out(&dgamma),
                Arg::Out(&dbeta),
                Arg::maybe_out(rows_out.as_ref()),
            ],
            (t, t > 0),
        )?;
        let dz = rows_out.map(|rows| self.input_gradient(branch, &rows)).transpose()?;
        Ok(BranchGradients { dz, dgamma, dbeta })
    }

    /// `at` is the position in the rows of gates; `accumulate` adds to the mask's gradient.
    fn finish(
        &self,
        sums: &Tensor,
        [mean, inverse, gamma, gate]: [Arg<'_>; 4],
        outputs: [Arg<'_>; 5],
        (at, accumulate): (usize, bool),
    ) -> Result<()> {
        let mask = Arg::maybe(self.sum.mask.as_ref());
        let mut args = vec![Arg::In(sums), mean, inverse, gamma, gate, mask];
        args.extend(outputs);
        args.extend([Arg::size(at), Arg::Int(i32::from(accumulate))]);
        args.extend([Arg::size(self.rows), Arg::size(self.c)]);
        self.gpu.launch(&FINISH_BACKWARD, &args)
    }

    fn input_gradient(&self, branch: &PreActivation, rows: &Tensor) -> Result<Tensor> {
        let dz = self.gpu.output(self.dy.shape())?;
        let [z, mean, inverse, gamma, beta] = rows_and_map(branch);
        let mut args = vec![z, mean, inverse, gamma, beta];
        args.extend([Arg::In(self.dy), Arg::In(rows), Arg::Out(&dz), activation(&branch.norm)]);
        args.extend([Arg::size(self.rows), Arg::size(self.c)]);
        self.gpu.launch(&Launch::map(SOURCE, "norm_input_gradient", self.rows, self.c), &args)?;
        Ok(dz)
    }

    /// dρ; adds to the mask's gradient.
    fn identity_sums(&self, x: &Tensor, rho: &Tensor, dmask: Option<&Tensor>) -> Result<Tensor> {
        let (gpu, c) = (self.gpu, self.c);
        let sums = gpu.output_f64((self.parts.parts, c))?;
        let mut args = vec![Arg::In(x), Arg::In(self.dy), Arg::Out(&sums)];
        args.extend([Arg::size(self.rows), Arg::size(c), Arg::size(self.parts.rows)]);
        gpu.launch(&self.parts.launch(SOURCE, "norm_identity_sums", c), &args)?;
        let drho = gpu.output(1)?;
        let absent = || Arg::Absent;
        self.finish(
            &total(gpu, &sums)?,
            [absent(), absent(), absent(), Arg::In(rho)],
            [Arg::Out(&drho), Arg::maybe_out(dmask), absent(), absent(), absent()],
            (0, !self.sum.branches.is_empty()),
        )?;
        Ok(drho)
    }

    fn identity_gradient(&self, rho: &Tensor) -> Result<Tensor> {
        let dx = self.gpu.output(self.dy.shape())?;
        let mask = Arg::maybe(self.sum.mask.as_ref());
        let args = [
            Arg::In(rho),
            mask,
            Arg::In(self.dy),
            Arg::Out(&dx),
            Arg::size(self.rows),
            Arg::size(self.c),
        ];
        self.gpu
            .launch(&Launch::map(SOURCE, "norm_identity_gradient", self.rows, self.c), &args)?;
        Ok(dx)
    }
}

/// The gradients of a batch norm in an operator that computes act(BN(z)) ∘ m itself.
pub(in crate::ops) struct SumGradients {
    pub dgamma: Tensor,
    pub dbeta: Tensor,
    pub dmask: Tensor,
    /// Factor, constant and linear part of dz, three rows.
    pub rows: Tensor,
}

/// From the sums of d act(u), of q = d act'(u) and of q (z - μ) `[3 c]` over `rows` rows, where d is the
/// gradient of act(BN(z)) ∘ m.
pub(in crate::ops) fn finish_sums(
    gpu: &Gpu,
    norm: &Norm,
    mask: Option<&Tensor>,
    sums: &Tensor,
    rows: usize,
) -> Result<SumGradients> {
    let c = sums.elem_count() / 3;
    let [dgamma, dbeta, dmask] = [gpu.output(c)?, gpu.output(c)?, gpu.output(c)?];
    let finished = SumGradients { dgamma, dbeta, dmask, rows: gpu.output((3, c))? };
    let [mean, inverse, gamma, _] = norm_rows(norm);
    let args = [
        Arg::In(sums),
        mean,
        inverse,
        gamma,
        Arg::Absent,
        Arg::maybe(mask),
        Arg::Absent,
        Arg::Out(&finished.dmask),
        Arg::Out(&finished.dgamma),
        Arg::Out(&finished.dbeta),
        Arg::Out(&finished.rows),
        Arg::Int(0),
        Arg::Int(0),
        Arg::size(rows),
        Arg::size(c),
    ];
    gpu.launch(&FINISH_BACKWARD, &args)?;
    Ok(finished)
}

/// Turns q into dz, in place; `finished` are the rows of [`SumGradients`].
pub(in crate::ops) fn finish_input_gradient(
    gpu: &Gpu,
    z: &Tensor,
    finished: &Tensor,
    q: &Tensor,
) -> Result<()> {
    let (rows, c) = rows_of(z)?;
    let args = [Arg::In(z), Arg::In(finished), Arg::Out(q), Arg::size(rows), Arg::size(c)];
    gpu.launch(&Launch::map(SOURCE, "norm_finish_input_gradient", rows, c), &args)
}
