//! The second half of an inverted residual: batch norm and activation of the depthwise convolution's
//! raw output, mask of the hidden channels, squeeze-excite where there is one, and projection:
//!
//! y = (a ∘ s(a)) W,  a = act(BN(z)) ∘ m,  s(a) = gate(act(mean(a) W₁ + b₁) ∘ m' W₂ + b₂)
//!
//! (Sandler et al. 2018; Hu et al. 2018.) The mask m is that of FBNetV2 section 3.1. It comes before
//! the projection and before the pooling, so it is exactly a narrower expansion. a is computed image by
//! image in the cache and not stored; only z is kept for the backward pass.

mod backward;
pub(super) mod gpu;

pub use backward::{ProjectGradients, SqueezeExciteGradients};

use super::activation::{ActivationFn, by_activation, evaluate};
use super::gpu::Gpu;
use super::host::{Host, Scratch, expect, nhwc, tensor, to_fill};
use super::lanes::{
    self, Instructions, Kernel, L, Layout, Mode, blocks, dispatch, load, load_some, multiply,
    multiply_add, one_row_at_a_time, store_some,
};
use super::norm::{self, HostNorm, PreActivation, padded};
use super::pool::mean_of_rows;
use super::sums::{ChannelSums, Moments};
use crate::space::Activation;
use crate::tiling::{chunk_images, projection_rows};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// The weights of a squeeze-excite. `T` is a tensor, or a value on the tape.
#[derive(Clone)]
pub struct SqueezeExciteWeights<T = Tensor> {
    /// W₁ `[c, squeezed]`
    pub squeeze: T,
    /// b₁ `[squeezed]`
    pub squeeze_bias: T,
    /// W₂ `[squeezed, c]`
    pub excite: T,
    /// b₂ `[c]`
    pub excite_bias: T,
    /// m' `[squeezed]`
    pub mask: Option<T>,
    /// Between the two layers.
    pub activation: Activation,
    /// Behind them: a sigmoid, hard or not.
    pub gate: Activation,
}

impl<T> SqueezeExciteWeights<T> {
    /// The same with `f` of each operand.
    pub(crate) fn map<U>(&self, f: impl Fn(&T) -> U) -> SqueezeExciteWeights<U> {
        SqueezeExciteWeights {
            squeeze: f(&self.squeeze),
            squeeze_bias: f(&self.squeeze_bias),
            excite: f(&self.excite),
            excite_bias: f(&self.excite_bias),
            mask: self.mask.as_ref().map(f),
            activation: self.activation,
            gate: self.gate,
        }
    }
}

/// Input `[n, h, w, c]`, mask `[c]`, w `[c, c_out]` → y `[n, h, w, c_out]`, and its moments if
/// `statistics` are asked for.
///
/// # Errors
/// When the shapes do not fit or the device has no kernel.
pub fn forward(
    input: &PreActivation,
    mask: Option<&Tensor>,
    squeeze_excite: Option<&SqueezeExciteWeights>,
    w: &Tensor,
    statistics: bool,
) -> Result<(Tensor, Option<Moments>)> {
    let operands = Operands { input, mask, squeeze_excite, w };
    let sizes @ Sizes { n, h, w, c_out, .. } = operands.check()?;
    if let Some(gpu) = Gpu::of(input.z.device())? {
        let y = gpu::Projection { gpu: &gpu, operands }.forward(sizes)?;
        let moments = statistics.then(|| norm::moments(&y)).transpose()?;
        return Ok((y, moments));
    }
    let (y, sums) = forward_cpu(operands, sizes, statistics)?;
    let sums = ChannelSums::total(sums, c_out);
    let moments = statistics.then(|| sums.moments(n * h * w)).transpose()?;
    Ok((tensor(y, (n, h, w, c_out))?, moments))
}

/// The gradients of [`forward`], with the statistics as functions of z (training mode).
///
/// # Errors
/// As [`forward`].
pub fn backward(
    input: &PreActivation,
    mask: Option<&Tensor>,
    squeeze_excite: Option<&SqueezeExciteWeights>,
    w: &Tensor,
    dy: &Tensor,
    weights_wanted: bool,
) -> Result<ProjectGradients> {
    let operands = Operands { input, mask, squeeze_excite, w };
    let sizes = operands.check()?;
    expect("project", "dy", dy, &[sizes.n, sizes.h, sizes.w, sizes.c_out])?;
    match Gpu::of(dy.device())? {
        Some(gpu) => gpu::Projection { gpu: &gpu, operands }.backward(sizes, dy, weights_wanted),
        None => backward::backward(operands, sizes, dy, weights_wanted),
    }
}

/// The operands of [`forward`].
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub input: &'a PreActivation,
    pub mask: Option<&'a Tensor>,
    pub squeeze_excite: Option<&'a SqueezeExciteWeights>,
    pub w: &'a Tensor,
}

/// The shapes of z `[n, h, w, c]` and y `[n, h, w, c_out]`.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub c_out: usize,
}

impl Operands<'_> {
    /// # Errors
    /// When the shapes do not fit.
    pub(super) fn check(&self) -> Result<Sizes> {
        let (n, h, w, c) = nhwc(&self.input.z)?;
        self.input.norm.check("project", c)?;
        let c_out = check(c, self.mask, self.squeeze_excite, self.w)?;
        Ok(Sizes { n, h, w, c, c_out })
    }
}

/// The output and the sums of each chunk, which are zero unless `statistics` are asked for.
fn forward_cpu(
    operands: Operands<'_>,
    Sizes { n, h, w, c, c_out }: Sizes,
    statistics: bool,
) -> Result<(Vec<f32>, Vec<ChannelSums>)> {
    let pixels = h * w;
    let zs = Host::of(&operands.input.z)?;
    let reader = Reader::of(operands, c)?;
    let packed = lanes::pack(&Host::of(operands.w)?, c, c_out);
    // SAFETY: the product of every row is stored.
    #[allow(unsafe_code)]
    let mut y = unsafe { to_fill(n * pixels * c_out) };
    let chunk = chunk_images(n) * pixels;
    let sums = y
        .par_chunks_mut(chunk * c_out)
        .zip(zs.par_chunks(chunk * c))
        .map(|(y, z)| {
            let mut sums = ChannelSums::new(c_out);
            let (reader, w, sums_of) = (&reader, &packed, statistics.then_some(&mut sums));
            dispatch(ProjectForward { reader, pixels, c_out, w, z, y, sums: sums_of });
            sums
        })
        .collect();
    Ok((y, sums))
}

/// The number of output channels.
///
/// # Errors
/// When the shapes do not fit.
pub(super) fn check(
    c: usize,
    mask: Option<&Tensor>,
    squeeze_excite: Option<&SqueezeExciteWeights>,
    w: &Tensor,
) -> Result<usize> {
    let c_out = w.dims2()?.1;
    expect("project", "w", w, &[c, c_out])?;
    if let Some(mask) = mask {
        expect("project", "the mask", mask, &[c])?;
    }
    if let Some(se) = squeeze_excite {
        let squeezed = se.squeeze.dims2()?.1;
        expect("project", "the squeeze", &se.squeeze, &[c, squeezed])?;
        expect("project", "the squeeze's bias", &se.squeeze_bias, &[squeezed])?;
        expect("project", "the excitation", &se.excite, &[squeezed, c])?;
        expect("project", "the excitation's bias", &se.excite_bias, &[c])?;
        if let Some(mask) = &se.mask {
            expect("project", "the squeeze's mask", mask, &[squeezed])?;
        }
    }
    Ok(c_out)
}

/// Computes a ∘ s(a) from z.
struct Reader {
    c: usize,
    norm: HostNorm,
    /// Padded; ones if there is no mask.
    mask: Vec<f32>,
    squeeze_excite: Option<HostSqueezeExcite>,
}

struct HostSqueezeExcite {
    squeezed: usize,
    squeeze: Vec<f32>,
    squeeze_bias: Vec<f32>,
    excite: Vec<f32>,
    excite_bias: Vec<f32>,
    mask: Vec<f32>,
    activation: Activation,
    gate: Activation,
}

/// The intermediate values of a squeeze-excite for one image.
#[derive(Clone, Default)]
struct SqueezeExciteGates {
    /// mean(a) `[c]`
    pooled: Vec<f32>,
    /// Before the activation `[squeezed]`.
    hidden: Vec<f32>,
    /// After activation and mask `[squeezed]`.
    masked: Vec<f32>,
    /// Before the gates' function `[c]`.
    raw: Vec<f32>,
    /// s `[c]`
    gates: Vec<f32>,
}

impl Reader {
    fn of(operands: Operands<'_>, c: usize) -> Result<Self> {
        let Operands { input, mask, squeeze_excite, .. } = operands;
        Ok(Self {
            c,
            norm: HostNorm::of(&input.norm)?,
            mask: mask.map_or(Ok(vec![1.0; c.next_multiple_of(L)]), padded)?,
            squeeze_excite: squeeze_excite.map(HostSqueezeExcite::of).transpose()?,
        })
    }

    /// a for some rows.
    #[inline(always)]
    fn read<I: Instructions>(&self, z: &[f32], a: &mut [f32]) {
        by_activation!(self.norm.activation, A => self.read_by::<I, A>(z, a));
    }

    #[inline(always)]
    fn read_by<I: Instructions, A: ActivationFn>(&self, z: &[f32], a: &mut [f32]) {
        for block in blocks(self.c) {
            match block.1 {
                L => self.read_block::<I, true, A>(z, a, block),
                _ => self.read_block::<I, false, A>(z, a, block),
            }
        }
    }

    #[inline(always)]
    fn read_block<I: Instructions, const FULL: bool, A: ActivationFn>(
        &self,
        z: &[f32],
        a: &mut [f32],
        (at, valid): (usize, usize),
    ) {
        let (scale, shift) = self.norm.affine(at);
        let mask = load(&self.mask, at);
        for (a, z) in a.chunks_exact_mut(self.c).zip(z.chunks_exact(self.c)) {
            one_row_at_a_time();
            let z = load_some::<FULL>(z, at, valid);
            let mut out = [0f32; L];
            for l in 0..L {
                let u = multiply_add::<I>(z[l], scale[l], shift[l]);
                out[l] = A::value(u) * mask[l];
            }
            store_some::<FULL>(&out, a, at, valid);
        }
    }
}

impl HostSqueezeExcite {
    fn of(layers: &SqueezeExciteWeights) -> Result<Self> {
        let squeezed = layers.squeeze.dim(1)?;
        let values = |tensor| Ok::<_, candle_core::Error>(Host::of(tensor)?.to_vec());
        Ok(Self {
            squeezed,
            squeeze: values(&layers.squeeze)?,
            squeeze_bias: values(&layers.squeeze_bias)?,
            excite: values(&layers.excite)?,
            excite_bias: values(&layers.excite_bias)?,
            mask: match &layers.mask {
                Some(mask) => values(mask)?,
                None => vec![1.0; squeezed],
            },
            activation: layers.activation,
            gate: layers.gate,
        })
    }

    /// The gates of one image `[pixels, c]`.
    #[inline(always)]
    fn gates(&self, a: &[f32], c: usize) -> SqueezeExciteGates {
        let mut pooled = vec![0f32; c];
        mean_of_rows(a, &mut pooled);
        let mut hidden = self.squeeze_bias.clone();
        add_vector_matrix(&pooled, &self.squeeze, &mut hidden);
        let mut masked = vec![0f32; self.squeezed];
        for ((to, hidden), mask) in masked.iter_mut().zip(&hidden).zip(&self.mask) {
            *to = evaluate(self.activation, *hidden) * mask;
        }
        let mut raw = self.excite_bias.clone();
        add_vector_matrix(&masked, &self.excite, &mut raw);
        let mut gates = raw.clone();
        for gate in &mut gates {
            *gate = evaluate(self.gate, *gate);
        }
        SqueezeExciteGates { pooled, hidden, masked, raw, gates }
    }
}

/// to += v · matrix, the matrix being row-major.
#[inline(always)]
fn add_vector_matrix(v: &[f32], matrix: &[f32], to: &mut [f32]) {
    for (v, row) in v.iter().zip(matrix.chunks_exact(to.len())) {
        for (to, m) in to.iter_mut().zip(row) {
            *to += v * m;
        }
    }
}

/// Multiplies the first values of every row, which is `pitch` values long, by the gates.
#[inline(always)]
pub(super) fn scale_rows(rows: &mut [f32], pitch: usize, gates: &[f32]) {
    for row in rows.chunks_exact_mut(pitch) {
        for (value, gate) in row.iter_mut().zip(gates) {
            *value *= gate;
        }
    }
}

/// The forward pass of one chunk of the batch.
struct ProjectForward<'a> {
    reader: &'a Reader,
    pixels: usize,
    c_out: usize,
    w: &'a [f32],
    z: &'a [f32],
    y: &'a mut [f32],
    /// Where to add the statistics, if they are asked for.
    sums: Option<&'a mut ChannelSums>,
}

impl Kernel for ProjectForward<'_> {
    #[inline(always)]
    fn run<I: Instructions>(mut self) {
        let (c, c_out) = (self.reader.c, self.c_out);
        let group = projection_rows(self.pixels);
        let mut tile = Scratch::new(group * c);
        let groups = self.y.chunks_mut(group * c_out).zip(self.z.chunks(group * c));
        for (y, z) in groups {
            let a = &mut tile[..z.len()];
            self.reader.read::<I>(z, a);
            if let Some(squeeze_excite) = &self.reader.squeeze_excite {
                for a in a.chunks_exact_mut(self.pixels * c) {
                    let gates = squeeze_excite.gates(a, c);
                    scale_rows(a, c, &gates.gates);
                }
            }
            multiply::<I>((a.len() / c, c, c_out), a, Layout::Rows(c), self.w, y, Mode::Store);
            if let Some(sums) = &mut self.sums {
                for block in blocks(c_out) {
                    sums.gather::<I>(y, block);
                }
            }
        }
    }
}
