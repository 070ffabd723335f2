//! The terms of an expansion's gradients that depend on sums over the whole batch, on a GPU;
//! `batch_sums.cu` has the kernels, and the formulas are at the head of `depthwise.rs`.

use crate::ops::depthwise::{Expand, ExpandGradients};
use crate::ops::gpu::{Arg, Gpu, Launch, Matrix, Source, source};
use crate::ops::gram::GpuGram;
use crate::ops::host::rows_of;
use crate::ops::norm::gpu::norm_rows;
use candle_core::{Result, Tensor, bail};

const SOURCE: &Source = &source!("batch_sums");

/// W s `[c_in, c]`.
pub(super) fn scaled(gpu: &Gpu, expand: &Expand) -> Result<Tensor> {
    let (c_in, c) = expand.w.dims2()?;
    let scaled = gpu.output((c_in, c))?;
    let [_, inverse, gamma, _] = norm_rows(&expand.norm);
    let w = Arg::In(&expand.w);
    let args = [w, inverse, gamma, Arg::Out(&scaled), Arg::size(c_in), Arg::size(c)];
    gpu.launch(&Launch::map(SOURCE, "expand_scale", c_in, c), &args)?;
    Ok(scaled)
}

/// Σq and Σq(z - μ) of an expansion, and what they are multiplied by.
pub(super) struct BatchSums<'a> {
    gpu: &'a Gpu,
    expand: &'a Expand,
    gram: &'a GpuGram,
    /// `[2 c]`, f64.
    sums: &'a Tensor,
    x: &'a Tensor,
}

impl<'a> BatchSums<'a> {
    pub(super) fn new(
        gpu: &'a Gpu,
        expand: &'a Expand,
        sums: &'a Tensor,
        x: &'a Tensor,
    ) -> Result<Self> {
        let Some(gram) = &expand.gram else { bail!("depthwise: no gram of the expansion's input") };
        Ok(Self { gpu, expand, gram: gram.gpu()?, sums, x })
    }

    /// dx -= x W diag(s m₂/σ) Wᵀ + W (s m₁ - s m₂ μ/σ).
    pub(super) fn correct_input(&self, dx: &Tensor) -> Result<()> {
        let (gpu, w) = (self.gpu, &self.expand.w);
        let (c_in, c) = w.dims2()?;
        let (rows, _) = rows_of(self.x)?;
        let (weighted, constant) = (gpu.output((c_in, c))?, gpu.output(c_in)?);
        let launch = Launch::one(SOURCE, "expand_input_terms").with_blocks(c_in);
        let [mean, inverse, gamma, _] = norm_rows(&self.expand.norm);
        let mut args = vec![Arg::In(w), mean, inverse, gamma, Arg::In(self.sums)];
        args.extend([Arg::Out(&weighted), Arg::Out(&constant), Arg::size(rows), Arg::size(c)]);
        gpu.launch(&launch, &args)?;
        // B = -W diag(s m₂/σ) Wᵀ.
        let b = gpu.output((c_in, c_in))?;
        gpu.matmul(
            Matrix::new(&weighted, c_in, c),
            Matrix::new(w, c_in, c).t(),
            Matrix::new(&b, c_in, c_in),
            false,
        )?;
        let x = Matrix::new(self.x, rows, c_in);
        gpu.matmul(x, Matrix::new(&b, c_in, c_in), Matrix::new(dx, rows, c_in), true)?;
        let args = [Arg::In(&constant), Arg::Out(dx), Arg::size(rows), Arg::size(c_in)];
        gpu.launch(&Launch::map(SOURCE, "expand_add_constant", rows, c_in), &args)
    }

    /// dW, dγ, dβ.
    pub(super) fn weights(&self, products: &Tensor) -> Result<ExpandGradients> {
        let (gpu, w) = (self.gpu, &self.expand.w);
        let (c_in, c) = w.dims2()?;
        let covariance = self.gram.times(gpu, w)?;
        let dw = gpu.output((c_in, c))?;
        let (dgamma, dbeta) = (gpu.output(c)?, gpu.output(c)?);
        let [_, inverse, gamma, _] = norm_rows(&self.expand.norm);
        let args = [
            Arg::In(products),
            Arg::In(&covariance),
            Arg::In(&self.gram.mean),
            inverse,
            gamma,
            Arg::In(self.sums),
            Arg::Out(&dw),
            Arg::Out(&dgamma),
            Arg::Out(&dbeta),
            Arg::size(c_in),
            Arg::size(c),
        ];
        gpu.launch(&Launch::map(SOURCE, "expand_weight_gradients", c_in, c), &args)?;
        Ok(ExpandGradients { dw, dgamma, dbeta })
    }
}
