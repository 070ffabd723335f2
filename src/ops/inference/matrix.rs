//! y = act(x W + b): what a convolution with folded batch norm amounts to.

use super::{HostLayer, InferenceConv, MapShape};
use crate::ops::activation::{ActivationFn, by_activation};
use crate::ops::conv::ConvGeometry;
use crate::ops::host::{Host, Scratch};
use crate::ops::lanes::{
    self, Kernel, L, Layout, ROWS, blocks, dispatch, load, load_some, product, store_some,
};
use crate::ops::norm::{HostNorm, Norm, padded};
use crate::ops::project::scale_rows;
use crate::space::Activation;
use candle_core::{Result, Tensor};

/// W `[c_in, c_out]`, packed; b `[c_out]`, padded; the activation.
pub(super) struct Matrix {
    pub c_in: usize,
    pub c_out: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

/// Values from one row to the next, in x and in y.
#[derive(Clone, Copy)]
pub(super) struct Pitch {
    pub x: usize,
    pub y: usize,
}

impl Matrix {
    /// γ (x w - μ) / σ + β as one matrix and one bias.
    pub(super) fn folded(w: &Tensor, norm: &Norm) -> Result<Self> {
        let (c_in, c_out) = w.dims2()?;
        let HostNorm { scale, shift, activation, .. } = HostNorm::of(norm)?;
        let mut scaled = Host::of(w)?.to_vec();
        scale_rows(&mut scaled, c_out, &scale);
        let weights = lanes::pack(&scaled, c_in, c_out);
        Ok(Self { c_in, c_out, weights, bias: shift, activation })
    }

    pub(super) fn with_bias(
        w: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Self> {
        let (c_in, c_out) = w.dims2()?;
        let bias = match bias {
            Some(bias) => padded(bias)?,
            None => vec![0.0; c_out.next_multiple_of(L)],
        };
        let weights = lanes::pack(&Host::of(w)?, c_in, c_out);
        Ok(Self { c_in, c_out, weights, bias, activation })
    }

    /// Writes `rows` rows of y. `added`, a matrix and its pitch, is added to them: the first c_out values
    /// of each of its rows.
    #[inline(always)]
    pub(super) fn apply<const FUSED: bool>(
        &self,
        rows: usize,
        x: &[f32],
        y: &mut [f32],
        pitch: Pitch,
        added: Option<(&[f32], usize)>,
    ) {
        for (at, valid) in blocks(self.c_out) {
            let y = &mut y[at..];
            let added = added.map(|(x, pitch)| (&x[at..], pitch));
            by_activation!(self.activation, A => match valid {
                L => self.block::<FUSED, true, A>((at, valid), rows, x, y, pitch, added),
                _ => self.block::<FUSED, false, A>((at, valid), rows, x, y, pitch, added),
            });
        }
    }

    /// Writes one block of columns of `rows` rows, including lanes beyond the channels: rows of y are at
    /// least `L` values apart.
    #[inline(always)]
    pub(super) fn apply_block<const FUSED: bool>(
        &self,
        at: usize,
        rows: usize,
        x: &[f32],
        y: &mut [f32],
        pitch: Pitch,
    ) {
        by_activation!(self.activation, A => {
            self.block::<FUSED, true, A>((at, L), rows, x, y, pitch, None);
        });
    }

    #[inline(always)]
    fn block<const FUSED: bool, const FULL: bool, A: ActivationFn>(
        &self,
        block: (usize, usize),
        rows: usize,
        x: &[f32],
        y: &mut [f32],
        pitch: Pitch,
        added: Option<(&[f32], usize)>,
    ) {
        let grouped = rows - rows % ROWS;
        for row in (0..grouped).step_by(ROWS) {
            self.rows::<FUSED, FULL, A, ROWS>(block, row, x, y, pitch, added);
        }
        for row in grouped..rows {
            self.rows::<FUSED, FULL, A, 1>(block, row, x, y, pitch, added);
        }
    }

    #[inline(always)]
    fn rows<const FUSED: bool, const FULL: bool, A: ActivationFn, const M: usize>(
        &self,
        (at, valid): (usize, usize),
        row: usize,
        x: &[f32],
        y: &mut [f32],
        pitch: Pitch,
        added: Option<(&[f32], usize)>,
    ) {
        let w = &self.weights[at * self.c_in..];
        let layout = Layout::Rows(pitch.x);
        let sums = product::<FUSED, M>(self.c_in, &x[row * pitch.x..], layout, w);
        let bias = load(&self.bias, at);
        for (m, sum) in sums.iter().enumerate() {
            let mut out = match added {
                Some((x, pitch)) => load_some::<FULL>(x, (row + m) * pitch, valid),
                None => [0f32; L],
            };
            for l in 0..L {
                out[l] += A::value(sum[l] + bias[l]);
            }
            store_some::<FULL>(&out, y, (row + m) * pitch.y, valid);
        }
    }
}

/// A 1x1 convolution of every `stride`-th pixel, or a fully connected layer.
pub(super) struct HostConv1x1 {
    pub matrix: Matrix,
    pub stride: usize,
}

impl HostLayer for HostConv1x1 {
    fn run(&self, shape: MapShape, x: &[f32], y: &mut [f32]) {
        dispatch(Conv1x1Kernel { layer: self, shape, x, y });
    }
}

struct Conv1x1Kernel<'a> {
    layer: &'a HostConv1x1,
    shape: MapShape,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Conv1x1Kernel<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let HostConv1x1 { matrix, stride } = self.layer;
        let (c, c_out) = (matrix.c_in, matrix.c_out);
        if *stride == 1 {
            let rows = self.x.len() / c;
            return matrix.apply::<FUSED>(rows, self.x, self.y, Pitch { x: c, y: c_out }, None);
        }
        let (w, pitch) = (self.shape.w.div_ceil(*stride), Pitch { x: stride * c, y: c_out });
        // Every stride-th row of pixels of every image.
        let images = self.x.chunks_exact(self.shape.len());
        let kept = images.flat_map(|x| x.chunks_exact(self.shape.w * c).step_by(*stride));
        for (x, y) in kept.zip(self.y.chunks_exact_mut(w * c_out)) {
            matrix.apply::<FUSED>(w, x, y, pitch, None);
        }
    }
}

/// A dense convolution by im2col.
pub(super) struct HostConv {
    matrix: Matrix,
    kernel: usize,
    pub stride: usize,
}

impl HostConv {
    pub(super) fn new(conv: &InferenceConv) -> Result<Self> {
        let InferenceConv { kernel, stride, .. } = *conv;
        let matrix = Matrix::folded(&conv.w.flatten_to(1)?, &conv.norm)?;
        Ok(Self { matrix, kernel, stride })
    }

    fn geometry(&self, shape: MapShape) -> ConvGeometry {
        ConvGeometry::new((shape.h, shape.w, shape.c), self.kernel, self.stride)
    }

    /// The shape of the output for an input of this shape, which must fit.
    pub(super) fn behind(&self, shape: MapShape) -> MapShape {
        let g = self.geometry(shape);
        MapShape { h: g.oh, w: g.ow, c: self.matrix.c_out }
    }
}

impl HostLayer for HostConv {
    fn run(&self, shape: MapShape, x: &[f32], y: &mut [f32]) {
        dispatch(Convolve { layer: self, g: self.geometry(shape), x, y });
    }
}

struct Convolve<'a> {
    layer: &'a HostConv,
    g: ConvGeometry,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Convolve<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (g, matrix) = (self.g, &self.layer.matrix);
        let (pixels, window) = (g.oh * g.ow, g.window());
        let mut windows = Scratch::new(pixels * window);
        let images = self.x.chunks_exact(g.image());
        for (x, y) in images.zip(self.y.chunks_exact_mut(pixels * matrix.c_out)) {
            g.fill(x, &mut windows);
            let pitch = Pitch { x: window, y: matrix.c_out };
            matrix.apply::<FUSED>(pixels, &windows, y, pitch, None);
        }
    }
}
