//! The projection on a GPU; `project.cu` has the kernels.
//!
//! The hidden map a exists for a chunk of images at a time. The backward pass computes it again for the
//! gradient of w.

use super::{Operands, ProjectGradients, Sizes, SqueezeExciteGradients, SqueezeExciteWeights};
use crate::ops::activation::argument;
use crate::ops::gpu::{
    Arg, Gpu, ImageParts, Launch, Matrix, Parts, Source, appended, chunk_images, source,
    sum_columns, total,
};
use crate::ops::host::nhwc;
use crate::ops::norm::gpu::{finish_input_gradient, finish_sums, norm_rows};
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("project");

/// A projection of checked operands.
pub(in crate::ops) struct Projection<'a> {
    pub gpu: &'a Gpu,
    pub operands: Operands<'a>,
}

/// Images `first..first + images` of a batch.
#[derive(Clone, Copy)]
struct Chunk {
    first: usize,
    images: usize,
}

/// The intermediate values of a squeeze-excite, one row per image; as in `SqueezeExciteGates`.
struct Gates {
    pooled: Tensor,
    hidden: Tensor,
    masked: Tensor,
    raw: Tensor,
    gates: Tensor,
}

/// The factors of a squeeze-excite's gradients, one row per image.
struct ImageRows {
    pooled: Tensor,
    masked: Tensor,
    /// dL/d hidden, before the activation.
    dhidden: Tensor,
    /// dL/d raw gates.
    draw: Tensor,
    /// dL/d m'.
    mask: Tensor,
}

impl Chunk {
    /// The chunks of a batch of n images, each of which takes `values` values of working memory.
    fn all(n: usize, values: usize) -> Vec<Self> {
        let step = chunk_images(n, values);
        let chunk = |first| Self { first, images: step.min(n - first) };
        (0..n).step_by(step).map(chunk).collect()
    }

    /// These images of a map.
    fn of(self, map: &Tensor) -> Result<Tensor> {
        map.narrow(0, self.first, self.images)
    }
}

impl Projection<'_> {
    /// y `[n, h, w, c_out]`.
    pub(super) fn forward(&self, Sizes { n, h, w, c_out, .. }: Sizes) -> Result<Tensor> {
        let y = self.gpu.output((n, h, w, c_out))?;
        self.forward_into(&y)?;
        Ok(y)
    }

    /// Writes y `[n, h, w, c_out]`.
    pub(in crate::ops) fn forward_into(&self, y: &Tensor) -> Result<()> {
        let Operands { input, squeeze_excite, w: weight, .. } = self.operands;
        let ((n, h, w, c), c_out) = (nhwc(&input.z)?, weight.dim(1)?);
        let chunks = Chunk::all(n, h * w * c);
        let scratch = self.scratch(&chunks)?;
        for chunk in chunks {
            let rows = chunk.images * h * w;
            let (z, y) = (chunk.of(&input.z)?, chunk.of(y)?);
            let gates = squeeze_excite.map(|layers| self.gates(layers, &z)).transpose()?;
            self.activate(&z, gates.as_ref(), &scratch)?;
            let a = Matrix::new(&scratch, rows, c);
            let to = Matrix::new(&y, rows, c_out);
            self.gpu.matmul(a, Matrix::new(weight, c, c_out), to, false)?;
        }
        Ok(())
    }

    pub(super) fn backward(
        &self,
        Sizes { n, h, w, c, c_out }: Sizes,
        dy: &Tensor,
        weights_wanted: bool,
    ) -> Result<ProjectGradients> {
        let (gpu, pixels) = (self.gpu, h * w);
        let Operands { input, mask, squeeze_excite, w: weight } = self.operands;
        let q = gpu.output((n, h, w, c))?;
        let chunks = Chunk::all(n, pixels * c);
        let scratch = weights_wanted.then(|| self.scratch(&chunks)).transpose()?;
        let dw = weights_wanted.then(|| gpu.output((c, c_out))).transpose()?;
        let parts: Vec<Parts> = sum_parts(&chunks, pixels, c);
        let sums = gpu.output_f64((parts.iter().map(|parts| parts.parts).sum(), 3 * c))?;
        let (mut images, mut first_part) = (Vec::new(), 0);
        for (chunk, parts) in chunks.into_iter().zip(parts) {
            let rows = chunk.images * pixels;
            let (z, q) = (chunk.of(&input.z)?, chunk.of(&q)?);
            let dy = chunk.of(dy)?;
            let dy = Matrix::new(&dy, rows, c_out);
            gpu.matmul(dy, Matrix::new(weight, c, c_out).t(), Matrix::new(&q, rows, c), false)?;
            let sums = sums.narrow(0, first_part, parts.parts)?;
            first_part += parts.parts;
            let mut rows_of = None;
            if let Some(layers) = squeeze_excite {
                let gates = self.gates(layers, &z)?;
                let (rows, dpooled) = self.through_gates(layers, &z, &q, &gates)?;
                images.push(rows);
                rows_of = Some((gates.gates, dpooled));
            }
            self.through_norm((&z, &q), rows_of.as_ref(), scratch.as_ref(), (&sums, parts))?;
            if let (Some(a), Some(dw)) = (&scratch, &dw) {
                let (a, to) = (Matrix::new(a, rows, c), Matrix::new(dw, c, c_out));
                gpu.matmul(a.t(), dy, to, chunk.first > 0)?;
            }
        }
        drop(scratch);
        let sums = total(gpu, &sums)?;
        let finished = finish_sums(gpu, &input.norm, mask, &sums, n * pixels)?;
        finish_input_gradient(gpu, &input.z, &finished.rows, &q)?;
        Ok(ProjectGradients {
            dz: q,
            dgamma: finished.dgamma,
            dbeta: finished.dbeta,
            dmask: finished.dmask,
            dw,
            squeeze_excite: squeeze_excite.map(|_| weights(gpu, &images)).transpose()?,
        })
    }

    /// Working memory for a of the largest chunk, which is the first.
    fn scratch(&self, chunks: &[Chunk]) -> Result<Tensor> {
        let (_, h, w, c) = nhwc(&self.operands.input.z)?;
        self.gpu.output((chunks.first().map_or(0, |chunk| chunk.images), h, w, c))
    }

    /// What every kernel that computes a reads.
    fn reads<'b>(&'b self, z: &'b Tensor) -> Vec<Arg<'b>> {
        let mut args = vec![Arg::In(z)];
        args.extend(norm_rows(&self.operands.input.norm));
        args.push(Arg::maybe(self.operands.mask));
        args
    }

    fn activation(&self) -> Arg<'static> {
        argument(self.operands.input.norm.activation)
    }

    /// a ∘ s(a) of these images, at the beginning of `to`.
    fn activate(&self, z: &Tensor, gates: Option<&Gates>, to: &Tensor) -> Result<()> {
        let (n, h, w, c) = nhwc(z)?;
        let rows = n * h * w;
        let mut args = self.reads(z);
        args.push(Arg::maybe(gates.map(|gates| &gates.gates)));
        args.extend([Arg::Out(to), self.activation()]);
        args.extend([h * w, rows, c].map(Arg::size));
        self.gpu.launch(&Launch::map(SOURCE, "project_activate", rows, c), &args)
    }

    fn gates(&self, layers: &SqueezeExciteWeights, z: &Tensor) -> Result<Gates> {
        let (gpu, (n, h, w, c)) = (self.gpu, nhwc(z)?);
        let (pixels, squeezed) = (h * w, layers.squeeze.dim(1)?);
        let parts = ImageParts::of(n, pixels, c);
        let means = gpu.output((parts.parts, n, c))?;
        let mut args = self.reads(z);
        args.extend([Arg::Out(&means), self.activation(), Arg::Float(1.0 / pixels as f32)]);
        args.extend(parts.sizes());
        gpu.launch(&parts.launch(SOURCE, "project_pool"), &args)?;
        let pooled = parts.total(gpu, &means)?;

        let [hidden, masked] = [gpu.output((n, squeezed))?, gpu.output((n, squeezed))?];
        product((gpu, n), (&pooled, c), Matrix::new(&layers.squeeze, c, squeezed), &hidden)?;
        let mut args = vec![Arg::Out(&hidden), Arg::In(&layers.squeeze_bias)];
        args.extend([Arg::maybe(layers.mask.as_ref()), Arg::Out(&masked)]);
        args.extend([argument(layers.activation), Arg::size(n), Arg::size(squeezed)]);
        gpu.launch(&Launch::map(SOURCE, "project_squeeze", n, squeezed), &args)?;

        let [raw, gates] = [gpu.output((n, c))?, gpu.output((n, c))?];
        product((gpu, n), (&masked, squeezed), Matrix::new(&layers.excite, squeezed, c), &raw)?;
        let mut args = vec![Arg::Out(&raw), Arg::In(&layers.excite_bias), Arg::Out(&gates)];
        args.extend([argument(layers.gate), Arg::size(n), Arg::size(c)]);
        gpu.launch(&Launch::map(SOURCE, "project_excite", n, c), &args)?;
        Ok(Gates { pooled, hidden, masked, raw, gates })
    }

    /// The factors of the weights' gradients and the gradient of the pooled rows, from the gradient d of
    /// a ∘ s(a).
    fn through_gates(
        &self,
        layers: &SqueezeExciteWeights,
        z: &Tensor,
        d: &Tensor,
        gates: &Gates,
    ) -> Result<(ImageRows, Tensor)> {
        let (gpu, (n, h, w, c)) = (self.gpu, nhwc(z)?);
        let (pixels, squeezed) = (h * w, layers.squeeze.dim(1)?);
        let parts = ImageParts::of(n, pixels, c);
        let draw = gpu.output((parts.parts, n, c))?;
        let mut args = self.reads(z);
        args.extend([Arg::In(d), Arg::In(&gates.raw), Arg::Out(&draw), self.activation()]);
        args.push(argument(layers.gate));
        args.extend(parts.sizes());
        gpu.launch(&parts.launch(SOURCE, "project_gate_gradient"), &args)?;
        let draw = parts.total(gpu, &draw)?;

        let [dhidden, mask] = [gpu.output((n, squeezed))?, gpu.output((n, squeezed))?];
        product((gpu, n), (&draw, c), Matrix::new(&layers.excite, squeezed, c).t(), &dhidden)?;
        let mut args = vec![Arg::In(&gates.hidden), Arg::maybe(layers.mask.as_ref())];
        args.extend([Arg::Out(&dhidden), Arg::Out(&mask), argument(layers.activation)]);
        args.extend([n, squeezed].map(Arg::size));
        gpu.launch(&Launch::map(SOURCE, "project_squeeze_gradient", n, squeezed), &args)?;

        let dpooled = gpu.output((n, c))?;
        let squeeze = Matrix::new(&layers.squeeze, c, squeezed).t();
        product((gpu, n), (&dhidden, squeezed), squeeze, &dpooled)?;
        let (pooled, masked) = (gates.pooled.clone(), gates.masked.clone());
        Ok((ImageRows { pooled, masked, dhidden, draw, mask }, dpooled))
    }

    /// Turns dL/d(a ∘ s(a)) in `q` into dL/da · act'(u), with its sums; writes a ∘ s(a) to `a`. With
    /// squeeze-excite, `images` are the gates and the gradient of the pooled rows.
    fn through_norm(
        &self,
        (z, q): (&Tensor, &Tensor),
        images: Option<&(Tensor, Tensor)>,
        a: Option<&Tensor>,
        (sums, parts): (&Tensor, Parts),
    ) -> Result<()> {
        let (n, h, w, c) = nhwc(z)?;
        let pixels = h * w;
        let mut args = self.reads(z);
        args.push(Arg::maybe(images.map(|(gates, _)| gates)));
        args.push(Arg::maybe(images.map(|(_, dpooled)| dpooled)));
        args.extend([Arg::Out(q), Arg::maybe_out(a), Arg::Out(sums), self.activation()]);
        args.push(Arg::Float(1.0 / pixels as f32));
        args.extend([pixels, n * pixels, c, parts.rows].map(Arg::size));
        self.gpu.launch(&parts.launch(SOURCE, "project_backward", c), &args)
    }
}

/// The parts of each chunk; all have the same number of rows.
fn sum_parts(chunks: &[Chunk], pixels: usize, c: usize) -> Vec<Parts> {
    let rows_of = |chunk: &Chunk| chunk.images * pixels;
    let rows = Parts::of(chunks.first().map_or(0, rows_of), c).rows;
    chunks.iter().map(|chunk| Parts { parts: rows_of(chunk).div_ceil(rows), rows }).collect()
}

/// to `[n, …]` = x · matrix, with x `[n, width]`.
fn product(
    (gpu, n): (&Gpu, usize),
    (x, width): (&Tensor, usize),
    matrix: Matrix<'_>,
    to: &Tensor,
) -> Result<()> {
    let columns = to.dim(1)?;
    gpu.matmul(Matrix::new(x, n, width), matrix, Matrix::new(to, n, columns), false)
}

/// The gradients of a squeeze-excite's weights, from the rows of all images.
fn weights(gpu: &Gpu, chunks: &[ImageRows]) -> Result<SqueezeExciteGradients> {
    let all = |row: fn(&ImageRows) -> &Tensor| match chunks {
        [only] => Ok(row(only).clone()),
        _ => appended(gpu, &chunks.iter().map(row).collect::<Vec<_>>()),
    };
    let (pooled, masked) = (all(|rows| &rows.pooled)?, all(|rows| &rows.masked)?);
    let (dhidden, draw) = (all(|rows| &rows.dhidden)?, all(|rows| &rows.draw)?);
    let outer = |x: &Tensor, d: &Tensor| {
        let ((n, rows), columns) = (x.dims2()?, d.dim(1)?);
        let to = gpu.output((rows, columns))?;
        let (x, d) = (Matrix::new(x, n, rows), Matrix::new(d, n, columns));
        gpu.matmul(x.t(), d, Matrix::new(&to, rows, columns), false)?;
        Ok::<_, candle_core::Error>(to)
    };
    Ok(SqueezeExciteGradients {
        squeeze: outer(&pooled, &dhidden)?,
        squeeze_bias: sum_columns(gpu, &dhidden)?,
        excite: outer(&masked, &draw)?,
        excite_bias: sum_columns(gpu, &draw)?,
        mask: sum_columns(gpu, &all(|rows| &rows.mask)?)?,
    })
}
