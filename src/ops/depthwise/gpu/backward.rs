//! The backward pass on a GPU: for every chunk of images, the filter's gradient, then q in the place of
//! the raw hidden map, then the products with q.

use super::batch_sums::BatchSums;
use super::{Divided, Front, Tiles};
use crate::ops::depthwise::{DepthwiseGradients, DepthwiseWanted, Expand, TileGeometry};
use crate::ops::gpu::{Arg, Gpu, Matrix, divided, total};
use candle_core::{Result, Tensor};

pub(in crate::ops::depthwise) fn backward(
    gpu: &Gpu,
    (x, dy): (&Tensor, &Tensor),
    expand: Option<&Expand>,
    filter: &Tensor,
    g: &TileGeometry,
    wanted: DepthwiseWanted,
) -> Result<DepthwiseGradients> {
    let front = Front::new(gpu, g, x, expand)?;
    let outputs = Tiles::new(g, Divided::Output, front.chunk);
    let inputs = Tiles::new(g, Divided::Input, front.chunk);
    let pass = Pass { front, filter, dy, outputs, inputs };
    let dx = wanted.input.then(|| gpu.output(x.shape())).transpose()?;
    let taps = g.k * g.k * g.c;
    let dfilter = wanted.weights.then(|| gpu.output_f64((pass.outputs.parts, taps))).transpose()?;
    let hidden = expand.map(|expand| Hidden::new(&pass, expand, wanted)).transpose()?;
    for chunk in pass.front.chunks()? {
        let map = pass.front.map(chunk)?;
        let dx = dx.as_ref().map(|dx| dx.narrow(0, chunk.0, chunk.1)).transpose()?;
        if let Some(dfilter) = &dfilter {
            pass.filter_gradient(&map, dfilter, chunk)?;
        }
        match (&hidden, &dx) {
            (Some(hidden), _) => hidden.add(&pass, &map, dx.as_ref(), chunk)?,
            (None, Some(dx)) => pass.input_gradient(dx, None, chunk)?,
            (None, None) => {}
        }
    }
    let mut gradients = DepthwiseGradients { dx, dfilter: None, expand: None };
    if let Some(sums) = dfilter {
        gradients.dfilter = Some(divided(gpu, &total(gpu, &sums)?, 1, filter.shape())?);
    }
    if let (Some(hidden), Some(expand)) = (hidden, expand) {
        let sums = total(gpu, &hidden.sums)?;
        let last = BatchSums::new(gpu, expand, &sums, x)?;
        if let Some(dx) = &gradients.dx {
            last.correct_input(dx)?;
        }
        if let Some(products) = &hidden.products {
            gradients.expand = Some(last.weights(products)?);
        }
    }
    Ok(gradients)
}

/// What the kernels of all chunks read.
struct Pass<'a> {
    front: Front<'a>,
    filter: &'a Tensor,
    dy: &'a Tensor,
    outputs: Tiles<'a>,
    inputs: Tiles<'a>,
}

impl Pass<'_> {
    /// Adds to the partial sums of the filter's gradient; `map` is what the filter reads, before batch
    /// norm.
    fn filter_gradient(
        &self,
        map: &Tensor,
        parts: &Tensor,
        (from, images): (usize, usize),
    ) -> Result<()> {
        let dy = self.dy.narrow(0, from, images)?;
        let mut args = vec![Arg::In(map)];
        args.push(self.front.norm());
        args.extend([Arg::In(&dy), Arg::Out(parts), self.outputs.shape(images, from > 0)]);
        let kernels = ["depthwise_filter_gradient_3", "depthwise_filter_gradient_5"];
        self.front.gpu.launch(&self.outputs.launch(kernels, images), &args)
    }

    /// Without an expansion, stores dx in `out`. With one, `out` holds x W and gets q; `sums` are the
    /// partial sums of q and q (z - μ).
    fn input_gradient(
        &self,
        out: &Tensor,
        sums: Option<&Tensor>,
        (from, images): (usize, usize),
    ) -> Result<()> {
        let dy = self.dy.narrow(0, from, images)?;
        let mut args = vec![Arg::In(&dy)];
        args.push(self.front.norm());
        args.extend([Arg::In(self.filter), Arg::Out(out), Arg::maybe_out(sums)]);
        args.push(self.inputs.shape(images, from > 0));
        let kernels = ["depthwise_input_gradient_3", "depthwise_input_gradient_5"];
        self.front.gpu.launch(&self.inputs.launch(kernels, images), &args)
    }
}

/// The sums that an expansion needs, and what they are made with.
struct Hidden {
    /// W s `[c_in, c]`, if the input's gradient is wanted.
    scaled: Option<Tensor>,
    /// xᵀq `[c_in, c]`, if the weights' gradients are wanted.
    products: Option<Tensor>,
    /// Parts of Σq and Σq(z - μ).
    sums: Tensor,
}

impl Hidden {
    fn new(pass: &Pass<'_>, expand: &Expand, wanted: DepthwiseWanted) -> Result<Self> {
        let gpu = pass.front.gpu;
        let scaled = wanted.input.then(|| super::batch_sums::scaled(gpu, expand)).transpose()?;
        let products = wanted.weights.then(|| gpu.output(expand.w.shape())).transpose()?;
        let sums = gpu.output_f64((pass.inputs.parts, 2 * pass.front.g.c))?;
        Ok(Self { scaled, products, sums })
    }

    /// One chunk: turns x W in `map` into q, adds xᵀq and the sums, and stores q (W s)ᵀ in dx.
    fn add(
        &self,
        pass: &Pass<'_>,
        map: &Tensor,
        dx: Option<&Tensor>,
        (from, images): (usize, usize),
    ) -> Result<()> {
        let Front { gpu, g, x, .. } = pass.front;
        pass.input_gradient(map, Some(&self.sums), (from, images))?;
        let (rows, c_in) = (images * g.in_pixels(), x.dim(3)?);
        let q = Matrix::new(map, rows, g.c);
        if let Some(products) = &self.products {
            let x = x.narrow(0, from, images)?;
            let x = Matrix::new(&x, rows, c_in).t();
            gpu.matmul(x, q, Matrix::new(products, c_in, g.c), from > 0)?;
        }
        if let (Some(scaled), Some(dx)) = (&self.scaled, dx) {
            let back = Matrix::new(scaled, c_in, g.c).t();
            gpu.matmul(q, back, Matrix::new(dx, rows, c_in), false)?;
        }
        Ok(())
    }
}
