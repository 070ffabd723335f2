//! y = act(x W + b): what a convolution with folded batch norm amounts to.

use super::map::{HostMap, PANEL, PART_ROWS, Part, Threads, parts};
use super::{HostLayer, MapShape};
use crate::ops::activation::{ActivationFn, by_activation};
use crate::ops::host::Host;
use crate::ops::lanes::{
    Instructions, Kernel, L, Lanes, blocks, dispatch, load, one_row_at_a_time, store,
};
use crate::ops::norm::{HostNorm, Norm, padded};
use crate::ops::project::scale_rows;
use crate::space::Activation;
use candle_core::{Result, Tensor};

/// W `[c_in, c_out]`, b `[c_out]` and the activation.
pub(super) struct Matrix {
    c_in: usize,
    c_out: usize,
    /// Panel by panel `[c_in, blocks of the panel, 16]`, columns padded with zeros.
    panels: Vec<f32>,
    bias: Bias,
}

/// act(z + b)
pub(super) struct Bias {
    /// Padded to full blocks.
    pub values: Vec<f32>,
    pub activation: Activation,
}

/// The rows of a matrix that [`Matrix`] multiplies. A row is `runs` runs of `depth` values. A run is blocks
/// of 16 values, of which the last may be shorter. The pitches say how far apart two neighbours begin.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub values: &'a [f32],
    pub runs: usize,
    pub depth: usize,
    pub row_pitch: usize,
    pub run_pitch: usize,
    pub block_pitch: usize,
}

impl<'a> Rows<'a> {
    /// Every `stride`-th pixel of a map.
    pub(super) fn of(x: HostMap<'a>, stride: usize) -> Self {
        Self {
            values: x.values,
            runs: 1,
            depth: x.shape.c,
            row_pitch: stride * L,
            run_pitch: 0,
            block_pitch: x.block_len(),
        }
    }

    /// From the row whose values begin at `at`.
    #[inline(always)]
    pub(super) fn starting_at(self, at: usize) -> Self {
        Self { values: &self.values[at..], ..self }
    }
}

impl Matrix {
    /// γ (x w - μ) / σ + β as one matrix and one bias.
    pub(super) fn folded(w: &Tensor, norm: &Norm) -> Result<Self> {
        let HostNorm { scale, shift, activation, .. } = HostNorm::of(norm)?;
        let mut scaled = Host::of(w)?.to_vec();
        scale_rows(&mut scaled, w.dim(1)?, &scale);
        Ok(Self::new(w.dims2()?, &scaled, Bias { values: shift, activation }))
    }

    pub(super) fn with_bias(
        w: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Self> {
        let (c_in, c_out) = w.dims2()?;
        let values = match bias {
            Some(bias) => padded(bias)?,
            None => vec![0.0; c_out.next_multiple_of(L)],
        };
        Ok(Self::new((c_in, c_out), &Host::of(w)?, Bias { values, activation }))
    }

    fn new((c_in, c_out): (usize, usize), w: &[f32], bias: Bias) -> Self {
        let mut panels = vec![0f32; c_in * c_out.next_multiple_of(L)];
        for (at, valid) in (0..c_out).step_by(PANEL * L).map(|at| (at, c_out - at)) {
            let width = (PANEL * L).min(valid.next_multiple_of(L));
            for (row, w) in w.chunks_exact(c_out).enumerate() {
                let valid = valid.min(width);
                panels[at * c_in + row * width..][..valid].copy_from_slice(&w[at..at + valid]);
            }
        }
        Self { c_in, c_out, panels, bias }
    }

    pub(super) fn c_out(&self) -> usize {
        self.c_out
    }

    /// Writes a map of `rows` pixels in parts of at most `part_rows`. `at` tells where the values of a row of
    /// x begin; the rows of a part are a `row_pitch` apart. The first channels of `added` are added.
    pub(super) fn apply(
        &self,
        (x, at): (Rows<'_>, impl Fn(usize) -> usize + Sync),
        y: &mut [f32],
        (rows, part_rows): (usize, usize),
        added: Option<HostMap<'_>>,
        threads: Threads,
    ) {
        threads.each(parts(y, rows, part_rows), |part| {
            dispatch(Product { matrix: self, x: x.starting_at(at(part.row)), part, added });
        });
    }

    /// Of all pixels of a map.
    pub(super) fn apply_to(
        &self,
        x: HostMap<'_>,
        y: &mut [f32],
        added: Option<HostMap<'_>>,
        threads: Threads,
    ) {
        let size = (x.rows(), PART_ROWS);
        self.apply((Rows::of(x, 1), |row| row * L), y, size, added, threads);
    }

    /// Writes some rows of a panel, without bias and activation.
    #[inline(always)]
    pub(super) fn multiply<I: Instructions>(
        &self,
        block: usize,
        x: Rows<'_>,
        y: &mut [&mut [f32]; PANEL],
    ) {
        let w = &self.panels[block * L * self.c_in..];
        if y[1].is_empty() {
            let [y, _] = y;
            multiply_panel::<I, 1>(x, w, &mut [y]);
        } else {
            let [first, second] = y;
            multiply_panel::<I, 2>(x, w, &mut [first, second]);
        }
    }

    #[inline(always)]
    pub(super) fn bias(&self) -> &Bias {
        &self.bias
    }
}

/// As many rows at once as the registers hold, and the last rows again where they are no multiple.
#[inline(always)]
fn multiply_panel<I: Instructions, const N: usize>(
    x: Rows<'_>,
    w: &[f32],
    y: &mut [&mut [f32]; N],
) {
    match (I::WIDE, N) {
        // Most maps have sides of 7 or 8 times a power of two.
        (true, _) if (y[0].len() / L).is_multiple_of(7) => multiply_groups::<I, 7, N>(x, w, y),
        (true, _) => multiply_groups::<I, 8, N>(x, w, y),
        (false, 1) => multiply_groups::<I, 4, N>(x, w, y),
        (false, _) => multiply_groups::<I, 2, N>(x, w, y),
    }
}

#[inline(always)]
fn multiply_groups<I: Instructions, const M: usize, const N: usize>(
    x: Rows<'_>,
    w: &[f32],
    y: &mut [&mut [f32]; N],
) {
    let rows = y[0].len() / L;
    if rows >= M {
        for row in (0..rows).step_by(M) {
            multiply_rows::<I, M, N>(row.min(rows - M), x, w, y);
        }
    } else if rows >= 4 {
        for row in [0, rows - 4] {
            multiply_rows::<I, 4, N>(row, x, w, y);
        }
    } else {
        for row in 0..rows {
            multiply_rows::<I, 1, N>(row, x, w, y);
        }
    }
}

#[inline(always)]
fn multiply_rows<I: Instructions, const M: usize, const N: usize>(
    row: usize,
    x: Rows<'_>,
    w: &[f32],
    y: &mut [&mut [f32]; N],
) {
    let mut sums = [[I::splat(0.0); N]; M];
    for run in 0..x.runs {
        let w = &w[run * x.depth * N * L..][..x.depth * N * L];
        let x_of_run = &x.values[row * x.row_pitch + run * x.run_pitch..];
        for (block, w) in w.chunks(L * N * L).enumerate() {
            let x_of_block = &x_of_run[block * x.block_pitch..];
            let depth = w.len() / (N * L);
            let mut rows = [&x_of_block[..0]; M];
            for (m, row) in rows.iter_mut().enumerate() {
                *row = &x_of_block[m * x.row_pitch..][..depth];
            }
            for (k, w) in w.chunks_exact(N * L).enumerate() {
                let mut columns = [I::splat(0.0); N];
                for n in 0..N {
                    columns[n] = I::load(w, n * L);
                }
                for m in 0..M {
                    let x = I::splat(rows[m][k]);
                    for n in 0..N {
                        sums[m][n] = I::multiply_add(x, columns[n], sums[m][n]);
                    }
                }
            }
        }
    }
    for n in 0..N {
        for m in 0..M {
            I::store(sums[m][n], y[n], (row + m) * L);
        }
    }
}

impl Bias {
    /// Adds the bias to some pixels of a block, and applies the activation.
    #[inline(always)]
    pub(super) fn finish(&self, block: usize, y: &mut [f32]) {
        let bias: Lanes = load(&self.values, block * L);
        by_activation!(self.activation, A => {
            for y in y.chunks_exact_mut(L) {
                one_row_at_a_time();
                let z = load(y, 0);
                let mut a = [0f32; L];
                for l in 0..L {
                    a[l] = A::value(z[l] + bias[l]);
                }
                store(&a, y, 0);
            }
        });
    }
}

struct Product<'a> {
    matrix: &'a Matrix,
    x: Rows<'a>,
    part: Part<'a>,
    added: Option<HostMap<'a>>,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self) {
        let Self { matrix, x, part: Part { block, row, mut blocks }, added } = self;
        matrix.multiply::<I>(block, x, &mut blocks);
        for (block, y) in (block..).zip(blocks).filter(|(_, y)| !y.is_empty()) {
            matrix.bias.finish(block, y);
            if let Some(added) = added {
                let x = &added.block(block)[row * L..];
                y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
            }
        }
    }
}

/// A 1x1 convolution of every `stride`-th pixel, or a fully connected layer.
pub(super) struct HostConv1x1 {
    pub matrix: Matrix,
    pub stride: usize,
}

impl HostLayer for HostConv1x1 {
    fn run(&self, x: HostMap<'_>, y: &mut [f32], threads: Threads) {
        if self.stride == 1 {
            return self.matrix.apply_to(x, y, None, threads);
        }
        let MapShape { h, w, .. } = x.shape;
        let [oh, ow] = [h, w].map(|side| side.div_ceil(self.stride));
        // Every part is a row of pixels.
        let at = |row: usize| {
            let (image, row) = (row / (oh * ow), row / ow % oh);
            (image * h + row * self.stride) * w * L
        };
        let size = (x.images * oh * ow, ow);
        self.matrix.apply((Rows::of(x, self.stride), at), y, size, None, threads);
    }
}

/// A filter of every block of channels: `[blocks, taps, 16]`, padded with zeros.
pub(super) fn filter_blocks(filter: &[f32], c: usize) -> Vec<f32> {
    let mut packed = Vec::new();
    for (at, valid) in blocks(c) {
        for tap in filter.chunks_exact(c) {
            let mut lanes = [0f32; L];
            lanes[..valid].copy_from_slice(&tap[at..at + valid]);
            packed.extend(lanes);
        }
    }
    packed
}
