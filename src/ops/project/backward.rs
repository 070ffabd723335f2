//! The backward pass of the projection, the squeeze-excite, the mask and the batch norm.

use super::{
    HostSqueezeExcite, Operands, Reader, Sizes, SqueezeExciteGates, add_vector_matrix, scale_rows,
};
use crate::ops::activation::{ActivationFn, by_activation, differentiate, evaluate};
use crate::ops::host::{Host, Scratch, tensor, to_fill};
use crate::ops::lanes::{
    self, Instructions, Kernel, L, Layout, Mode, blocks, dispatch, load, load_some, multiply,
    multiply_add, one_row_at_a_time, store_some,
};
use crate::ops::matmul::outer;
use crate::ops::norm::InputGradientRows;
use crate::ops::sums::{ChannelSums, sum_parts};
use crate::tiling::{chunk_images, projection_rows};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Gradients of [`super::forward`].
pub struct ProjectGradients {
    /// `[n, h, w, c]`
    pub dz: Tensor,
    /// `[c]`
    pub dgamma: Tensor,
    /// `[c]`
    pub dbeta: Tensor,
    /// `[c]`
    pub dmask: Tensor,
    /// `[c, c_out]`, when weights are wanted.
    pub dw: Option<Tensor>,
    pub squeeze_excite: Option<SqueezeExciteGradients>,
}

/// Gradients of [`super::SqueezeExciteWeights`], in the shapes of its tensors.
pub struct SqueezeExciteGradients {
    pub squeeze: Tensor,
    pub squeeze_bias: Tensor,
    pub excite: Tensor,
    pub excite_bias: Tensor,
    pub mask: Tensor,
}

/// [`super::backward`] on the CPU, of checked operands.
pub(super) fn backward(
    operands: Operands<'_>,
    Sizes { n, h, w, c, c_out }: Sizes,
    dy: &Tensor,
    weights_wanted: bool,
) -> Result<ProjectGradients> {
    let z = &operands.input.z;
    let (zs, dys) = (Host::of(z)?, Host::of(dy)?);
    let reader = Reader::of(operands, c)?;
    let back = reader.squeeze_excite.as_ref().map(Transposed::of);
    let w_back = lanes::pack_transposed(&Host::of(operands.w)?, c, c_out);
    let pixels = h * w;
    let shared = ProjectShared { reader: &reader, back, pixels, c_out, w: &w_back };
    // SAFETY: the product of every row is stored.
    #[allow(unsafe_code)]
    let mut q = unsafe { to_fill(zs.len()) };
    let chunk = chunk_images(n) * pixels;
    let parts: Vec<ProjectPartials> = q
        .par_chunks_mut(chunk * c)
        .zip(zs.par_chunks(chunk * c))
        .zip(dys.par_chunks(chunk * c_out))
        .map(|((q, z), dy)| {
            let mut parts = ProjectPartials::new(&shared, weights_wanted);
            dispatch(ProjectBackward { shared: &shared, z, dy, q, parts: &mut parts });
            parts
        })
        .collect();
    let total = ProjectPartials::total(parts, &shared);
    let dgamma = reader.norm.normalise_sums(total.slopes.second());
    let sums = (total.slopes.first(), &dgamma[..]);
    let factor = reader.norm.scale.clone();
    InputGradientRows::new(&reader.norm, factor, sums, n * pixels).finish(c, &zs, &mut q);
    let row = |values: &[f64]| tensor(values.iter().map(|v| *v as f32).collect(), c);
    Ok(ProjectGradients {
        dz: tensor(q, z.shape())?,
        dgamma: row(&dgamma)?,
        dbeta: row(total.slopes.first())?,
        dmask: row(total.mask.first())?,
        dw: weights_wanted.then(|| tensor(total.w, (c, c_out))).transpose()?,
        squeeze_excite: match &reader.squeeze_excite {
            Some(layers) => Some(total.images.gradients(layers, c)?),
            None => None,
        },
    })
}

/// What the tasks of all chunks read.
struct ProjectShared<'a> {
    reader: &'a Reader,
    back: Option<Transposed>,
    pixels: usize,
    c_out: usize,
    /// Wᵀ, packed.
    w: &'a [f32],
}

/// The matrices of a squeeze-excite, transposed.
struct Transposed {
    /// `[squeezed, c]`
    squeeze: Vec<f32>,
    /// `[c, squeezed]`
    excite: Vec<f32>,
}

impl Transposed {
    fn of(layers: &HostSqueezeExcite) -> Self {
        let squeezed = layers.squeezed;
        let c = layers.excite_bias.len();
        Self {
            squeeze: lanes::transpose(&layers.squeeze, c, squeezed),
            excite: lanes::transpose(&layers.excite, squeezed, c),
        }
    }
}

/// The factors of a squeeze-excite's gradients, one row per image.
#[derive(Default)]
struct ImageRows {
    pooled: Vec<f32>,
    masked: Vec<f32>,
    /// dL/d hidden, before the activation.
    dhidden: Vec<f32>,
    /// dL/d raw gates.
    draw: Vec<f32>,
    /// dL/d m', summed over images.
    mask: Vec<f64>,
}

/// The sums of one chunk.
struct ProjectPartials {
    /// aᵀ dy `[c, c_out]`; empty when not wanted.
    w: Vec<f32>,
    /// Σq and Σq(z - μ).
    slopes: ChannelSums,
    /// Σ dL/da · act(u), in the first half.
    mask: ChannelSums,
    images: ImageRows,
}

impl ProjectPartials {
    fn new(shared: &ProjectShared<'_>, weights_wanted: bool) -> Self {
        let c = shared.reader.c;
        Self {
            w: vec![0.0; if weights_wanted { c * shared.c_out } else { 0 }],
            slopes: ChannelSums::new(c),
            mask: ChannelSums::new(c),
            images: ImageRows::default(),
        }
    }

    fn total(parts: Vec<Self>, shared: &ProjectShared<'_>) -> Self {
        let c = shared.reader.c;
        let (mut ws, mut slopes, mut masks) = (vec![], vec![], vec![]);
        let mut images = ImageRows::default();
        for part in parts {
            ws.push(part.w);
            slopes.push(part.slopes);
            masks.push(part.mask);
            images.append(part.images);
        }
        Self {
            w: sum_parts(&ws),
            slopes: ChannelSums::total(slopes, c),
            mask: ChannelSums::total(masks, c),
            images,
        }
    }
}

impl ImageRows {
    fn append(&mut self, other: Self) {
        self.pooled.extend(other.pooled);
        self.masked.extend(other.masked);
        self.dhidden.extend(other.dhidden);
        self.draw.extend(other.draw);
        self.mask.resize(other.mask.len().max(self.mask.len()), 0.0);
        for (to, from) in self.mask.iter_mut().zip(other.mask) {
            *to += from;
        }
    }

    fn gradients(self, layers: &HostSqueezeExcite, c: usize) -> Result<SqueezeExciteGradients> {
        let squeezed = layers.squeezed;
        let columns = |rows: &[f32], n: usize| {
            let mut sums = vec![0f64; n];
            for row in rows.chunks_exact(n) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += f64::from(*value);
                }
            }
            tensor(sums.iter().map(|v| *v as f32).collect(), n)
        };
        let squeeze = outer(&self.pooled, &self.dhidden, c, squeezed);
        let excite = outer(&self.masked, &self.draw, squeezed, c);
        Ok(SqueezeExciteGradients {
            squeeze: tensor(squeeze, (c, squeezed))?,
            squeeze_bias: columns(&self.dhidden, squeezed)?,
            excite: tensor(excite, (squeezed, c))?,
            excite_bias: columns(&self.draw, c)?,
            mask: tensor(self.mask.iter().map(|v| *v as f32).collect(), squeezed)?,
        })
    }
}

/// The backward pass of one chunk of the batch.
struct ProjectBackward<'a> {
    shared: &'a ProjectShared<'a>,
    z: &'a [f32],
    dy: &'a [f32],
    q: &'a mut [f32],
    parts: &'a mut ProjectPartials,
}

impl Kernel for ProjectBackward<'_> {
    #[inline(always)]
    fn run<I: Instructions>(mut self) {
        let ProjectShared { reader, back, pixels, c_out, w } = self.shared;
        let (c, c_out, pixels) = (reader.c, *c_out, *pixels);
        let group = projection_rows(pixels);
        let mut tile = Scratch::new(group * c);
        let q_all = std::mem::take(&mut self.q);
        let groups = self.z.chunks(group * c).zip(self.dy.chunks(group * c_out));
        for (q, (z, dy)) in q_all.chunks_mut(group * c).zip(groups) {
            let a = &mut tile[..z.len()];
            let rows = z.len() / c;
            reader.read::<I>(z, a);
            multiply::<I>((rows, c_out, c), dy, Layout::Rows(c_out), w, q, Mode::Store);
            if let (Some(layers), Some(back)) = (&reader.squeeze_excite, back) {
                let images = a.chunks_exact_mut(pixels * c).zip(q.chunks_exact_mut(pixels * c));
                for (a, da) in images {
                    let gates = layers.gates(a, c);
                    through_gates(layers, back, &gates, a, da, &mut self.parts.images);
                    scale_rows(a, c, &gates.gates);
                }
            }
            if !self.parts.w.is_empty() {
                accumulate_outer::<I>(a, dy, (rows, c, c_out), &mut self.parts.w);
            }
            self.through_norm::<I>(z, q);
        }
    }
}

/// aᵀ · dy, added to `to`.
#[inline(always)]
fn accumulate_outer<I: Instructions>(
    a: &[f32],
    dy: &[f32],
    (rows, c, c_out): (usize, usize, usize),
    to: &mut [f32],
) {
    let packed = lanes::pack(dy, rows, c_out);
    multiply::<I>((c, rows, c_out), a, Layout::Columns(c), &packed, to, Mode::Add);
}

/// Turns the gradient of a ∘ s(a) into the gradient of a, and appends the factors of the weights'
/// gradients to `images`.
#[inline(always)]
fn through_gates(
    layers: &HostSqueezeExcite,
    back: &Transposed,
    gates: &SqueezeExciteGates,
    a: &[f32],
    da: &mut [f32],
    images: &mut ImageRows,
) {
    let c = gates.gates.len();
    let mut draw = vec![0f32; c];
    for (a, da) in a.chunks_exact(c).zip(da.chunks_exact(c)) {
        for ((sum, a), da) in draw.iter_mut().zip(a).zip(da) {
            *sum += a * da;
        }
    }
    for (d, raw) in draw.iter_mut().zip(&gates.raw) {
        *d *= differentiate(layers.gate, *raw);
    }
    let mut dhidden = vec![0f32; layers.squeezed];
    add_vector_matrix(&draw, &back.excite, &mut dhidden);
    images.mask.resize(layers.squeezed, 0.0);
    for (s, d) in dhidden.iter_mut().enumerate() {
        let hidden = gates.hidden[s];
        images.mask[s] += f64::from(*d * evaluate(layers.activation, hidden));
        *d *= layers.mask[s] * differentiate(layers.activation, hidden);
    }
    let mut dpooled = vec![0f32; c];
    add_vector_matrix(&dhidden, &back.squeeze, &mut dpooled);
    let share = c as f32 / a.len() as f32;
    for da in da.chunks_exact_mut(c) {
        for ((da, gate), d) in da.iter_mut().zip(&gates.gates).zip(&dpooled) {
            *da = *da * gate + d * share;
        }
    }
    images.pooled.extend_from_slice(&gates.pooled);
    images.masked.extend_from_slice(&gates.masked);
    images.dhidden.extend(dhidden);
    images.draw.extend(draw);
}

impl ProjectBackward<'_> {
    /// Turns dL/da in `q` into q = dL/da · m · act'(u), and adds to the sums.
    #[inline(always)]
    fn through_norm<I: Instructions>(&mut self, z: &[f32], q: &mut [f32]) {
        by_activation!(self.shared.reader.norm.activation, A => self.through_norm_by::<I, A>(z, q));
    }

    #[inline(always)]
    fn through_norm_by<I: Instructions, A: ActivationFn>(&mut self, z: &[f32], q: &mut [f32]) {
        for block in blocks(self.shared.reader.c) {
            match block.1 {
                L => self.through_norm_block::<I, true, A>(z, q, block),
                _ => self.through_norm_block::<I, false, A>(z, q, block),
            }
        }
    }

    #[inline(always)]
    fn through_norm_block<I: Instructions, const FULL: bool, A: ActivationFn>(
        &mut self,
        z: &[f32],
        q: &mut [f32],
        (at, valid): (usize, usize),
    ) {
        let reader = self.shared.reader;
        let c = reader.c;
        let (scale, shift) = reader.norm.affine(at);
        let (mean, mask) = (load(&reader.norm.mean, at), load(&reader.mask, at));
        let (mut slope, mut slope_z, mut value) = ([0f32; L], [0f32; L], [0f32; L]);
        for (q, z) in q.chunks_exact_mut(c).zip(z.chunks_exact(c)) {
            one_row_at_a_time();
            let (da, z) = (load_some::<FULL>(q, at, valid), load_some::<FULL>(z, at, valid));
            let mut out = [0f32; L];
            for l in 0..L {
                let u = multiply_add::<I>(z[l], scale[l], shift[l]);
                out[l] = da[l] * mask[l] * A::derivative(u);
                value[l] = multiply_add::<I>(da[l], A::value(u), value[l]);
                slope[l] += out[l];
                slope_z[l] = multiply_add::<I>(out[l], z[l] - mean[l], slope_z[l]);
            }
            store_some::<FULL>(&out, q, at, valid);
        }
        let none = [0f32; L];
        self.parts.slopes.add(at, valid, &slope, &slope_z);
        self.parts.mask.add(at, valid, &value, &none);
    }
}
