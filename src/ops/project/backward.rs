//! The way back through the projection, the squeeze-excite, the mask and the norm.

use super::{
    Gates, HostSqueezeExcite, Reader, SqueezeExciteWeights, add_vector_matrix, check, scale_rows,
};
use crate::ops::activation::{ActivationFn, by_activation, differentiate, evaluate};
use crate::ops::host::{Host, Scratch, expect, nhwc, tensor, to_fill};
use crate::ops::lanes::{
    self, Kernel, L, Layout, Mode, blocks, dispatch, load, load_some, multiply, multiply_add,
    one_row_at_a_time, store_some,
};
use crate::ops::matmul::outer;
use crate::ops::no_kernel;
use crate::ops::norm::{HostNorm, PreActivation};
use crate::ops::sums::{ChannelSums, sum_parts};
use crate::space::Activation;
use crate::tiling::{chunk_images, elementwise_rows, projection_rows};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// ProjectGradients of [`super::forward`].
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

/// ProjectGradients of a [`SqueezeExciteWeights`], in the shapes of its tensors.
pub struct SqueezeExciteGradients {
    pub squeeze: Tensor,
    pub squeeze_bias: Tensor,
    pub excite: Tensor,
    pub excite_bias: Tensor,
    pub mask: Tensor,
}

/// The gradients of [`super::forward`], the statistics seen as functions of z (training mode).
///
/// # Errors
/// As [`super::forward`].
pub fn backward(
    input: &PreActivation,
    mask: Option<&Tensor>,
    squeeze_excite: Option<&SqueezeExciteWeights>,
    w: &Tensor,
    dy: &Tensor,
    weights_wanted: bool,
) -> Result<ProjectGradients> {
    let (n, h, width, c) = nhwc(&input.z)?;
    let c_out = check(c, mask, squeeze_excite, w)?;
    expect("project", "dy", dy, &[n, h, width, c_out])?;
    match dy.device() {
        Device::Cpu => {
            let (zs, dys) = (Host::of(&input.z)?, Host::of(dy)?);
            let reader = Reader::of(input, mask, squeeze_excite)?;
            let back = reader.squeeze_excite.as_ref().map(Transposed::of);
            let w_back = lanes::pack_transposed(&Host::of(w)?, c, c_out);
            let pixels = h * width;
            let shared = ProjectShared { reader: &reader, back, pixels, c_out, w: &w_back };
            // SAFETY: the product is stored for all rows.
            #[allow(unsafe_code)]
            let mut q = unsafe { to_fill(zs.len()) };
            let piece = chunk_images(n) * pixels;
            let parts: Vec<ProjectPartials> = q
                .par_chunks_mut(piece * c)
                .zip(zs.par_chunks(piece * c))
                .zip(dys.par_chunks(piece * c_out))
                .map(|((q, z), dy)| {
                    let mut parts = ProjectPartials::new(&shared, weights_wanted);
                    dispatch(ProjectBackward { shared: &shared, z, dy, q, parts: &mut parts });
                    parts
                })
                .collect();
            let total = ProjectPartials::total(parts, &shared);
            let rows = InputRows::new(&reader.norm, &total.slopes, n * pixels, c);
            let dz = {
                let chunk = elementwise_rows(c) * c;
                q.par_chunks_mut(chunk).zip(zs.par_chunks(chunk)).for_each(|(q, z)| {
                    dispatch(Finish { rows: &rows, c, z, q });
                });
                tensor(q, input.z.shape())?
            };
            let row = |values: &[f64]| tensor(values.iter().map(|v| *v as f32).collect(), c);
            Ok(ProjectGradients {
                dz,
                dgamma: row(&rows.dgamma)?,
                dbeta: row(total.slopes.first())?,
                dmask: row(total.mask.first())?,
                dw: weights_wanted.then(|| tensor(total.w, (c, c_out))).transpose()?,
                squeeze_excite: match &reader.squeeze_excite {
                    Some(layers) => Some(total.images.gradients(layers, c)?),
                    None => None,
                },
            })
        }
        device => no_kernel("project", device),
    }
}

/// What all pieces read.
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
        let transpose = |m: &[f32], rows: usize, columns: usize| {
            let mut t = vec![0f32; rows * columns];
            for row in 0..rows {
                for column in 0..columns {
                    t[column * rows + row] = m[row * columns + column];
                }
            }
            t
        };
        Self {
            squeeze: transpose(&layers.squeeze, c, squeezed),
            excite: transpose(&layers.excite, squeezed, c),
        }
    }
}

/// Per image, one row each: what the gradients of a squeeze-excite are products of.
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

/// Sums over one piece.
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

/// One piece of the batch on one thread.
struct ProjectBackward<'a> {
    shared: &'a ProjectShared<'a>,
    z: &'a [f32],
    dy: &'a [f32],
    q: &'a mut [f32],
    parts: &'a mut ProjectPartials,
}

impl Kernel for ProjectBackward<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        let ProjectShared { reader, back, pixels, c_out, w } = self.shared;
        let (c, c_out, pixels) = (reader.c, *c_out, *pixels);
        let group = projection_rows(pixels);
        let mut tile = Scratch::new(group * c);
        let q_all = std::mem::take(&mut self.q);
        let groups = self.z.chunks(group * c).zip(self.dy.chunks(group * c_out));
        for (q, (z, dy)) in q_all.chunks_mut(group * c).zip(groups) {
            let a = &mut tile[..z.len()];
            let rows = z.len() / c;
            reader.read::<FUSED>(z, a);
            multiply::<FUSED>((rows, c_out, c), dy, Layout::Rows(c_out), w, q, Mode::Store);
            if let (Some(layers), Some(back)) = (&reader.squeeze_excite, back) {
                let images = a.chunks_exact_mut(pixels * c).zip(q.chunks_exact_mut(pixels * c));
                for (a, da) in images {
                    let gates = layers.gates(a, c);
                    through_gates(layers, back, &gates, a, da, &mut self.parts.images);
                    scale_rows(a, c, &gates.gates);
                }
            }
            if !self.parts.w.is_empty() {
                accumulate_outer::<FUSED>(a, dy, (rows, c, c_out), &mut self.parts.w);
            }
            self.slopes::<FUSED>(z, q);
        }
    }
}

/// aᵀ · dy, added to `to`.
#[inline(always)]
fn accumulate_outer<const FUSED: bool>(
    a: &[f32],
    dy: &[f32],
    (rows, c, c_out): (usize, usize, usize),
    to: &mut [f32],
) {
    let packed = lanes::pack(dy, rows, c_out);
    multiply::<FUSED>((c, rows, c_out), a, Layout::Columns(c), &packed, to, Mode::Add);
}

/// Turns the gradient towards a ∘ s(a) into that towards a, and keeps what the gradients of the
/// layers are made of.
#[inline(always)]
fn through_gates(
    layers: &HostSqueezeExcite,
    back: &Transposed,
    gates: &Gates,
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
        *d *= differentiate(Activation::Hsigmoid, *raw);
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
    /// Turns dL/da in `q` into q = dL/da · m · act'(u), and gathers sums.
    #[inline(always)]
    fn slopes<const FUSED: bool>(&mut self, z: &[f32], q: &mut [f32]) {
        by_activation!(self.shared.reader.norm.activation, A => self.slopes_by::<FUSED, A>(z, q));
    }

    #[inline(always)]
    fn slopes_by<const FUSED: bool, A: ActivationFn>(&mut self, z: &[f32], q: &mut [f32]) {
        for block in blocks(self.shared.reader.c) {
            match block.1 {
                L => self.slopes_block::<FUSED, true, A>(z, q, block),
                _ => self.slopes_block::<FUSED, false, A>(z, q, block),
            }
        }
    }

    #[inline(always)]
    fn slopes_block<const FUSED: bool, const FULL: bool, A: ActivationFn>(
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
                let u = multiply_add::<FUSED>(z[l], scale[l], shift[l]);
                out[l] = da[l] * mask[l] * A::slope(u);
                value[l] = multiply_add::<FUSED>(da[l], A::value(u), value[l]);
                slope[l] += out[l];
                slope_z[l] = multiply_add::<FUSED>(out[l], z[l] - mean[l], slope_z[l]);
            }
            store_some::<FULL>(&out, q, at, valid);
        }
        let none = [0f32; L];
        self.parts.slopes.add(at, valid, &slope, &slope_z);
        self.parts.mask.add(at, valid, &value, &none);
    }
}

/// dz = scale · (q - m₁ - ẑ m₂), as scale · (q - constant - z · linear).
struct InputRows {
    scale: Vec<f32>,
    constant: Vec<f32>,
    linear: Vec<f32>,
    /// Σqẑ
    dgamma: Vec<f64>,
}

impl InputRows {
    fn new(norm: &HostNorm, slopes: &ChannelSums, rows: usize, c: usize) -> Self {
        let n = rows as f64;
        let mut out = Self {
            scale: norm.scale.clone(),
            constant: vec![0.0; norm.scale.len()],
            linear: vec![0.0; norm.scale.len()],
            dgamma: Vec::with_capacity(c),
        };
        for j in 0..c {
            let inverse = f64::from(norm.inverse[j]);
            let dgamma = slopes.second()[j] * inverse;
            let linear = inverse * dgamma / n;
            out.linear[j] = linear as f32;
            out.constant[j] = (slopes.first()[j] / n - f64::from(norm.mean[j]) * linear) as f32;
            out.dgamma.push(dgamma);
        }
        out
    }
}

struct Finish<'a> {
    rows: &'a InputRows,
    c: usize,
    z: &'a [f32],
    q: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        for block in blocks(self.c) {
            match block.1 {
                L => self.block::<FUSED, true>(block),
                _ => self.block::<FUSED, false>(block),
            }
        }
    }
}

impl Finish<'_> {
    #[inline(always)]
    fn block<const FUSED: bool, const FULL: bool>(&mut self, (at, valid): (usize, usize)) {
        let scale = load(&self.rows.scale, at);
        let (constant, linear) = (load(&self.rows.constant, at), load(&self.rows.linear, at));
        for (q, z) in self.q.chunks_exact_mut(self.c).zip(self.z.chunks_exact(self.c)) {
            one_row_at_a_time();
            let (mut d, z) = (load_some::<FULL>(q, at, valid), load_some::<FULL>(z, at, valid));
            for l in 0..L {
                let fixed = multiply_add::<FUSED>(z[l], linear[l], constant[l]);
                d[l] = scale[l] * (d[l] - fixed);
            }
            store_some::<FULL>(&d, q, at, valid);
        }
    }
}
