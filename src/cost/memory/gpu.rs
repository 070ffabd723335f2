//! What the operators of a GPU use while they run: chunks of hidden maps, and partial sums, which are
//! f64 unless it says otherwise. Gradients are in the order in which the operators allocate them.

use super::operators::{DepthwiseScratch, LayerShape, SimulatedPass, SupernetGates, made};
use super::tape::{GradientPart, GradientTarget, SizedMap};
use crate::tiling::{
    self, GPU_SCRATCH_VALUES, GpuTiles, gpu_chunk_images, gpu_covariance_rows, gpu_part_pixels,
    gpu_part_rows,
};

/// Where the gradients of a projection go: of γ and β, of the matrix, and of the squeeze-excite's weights, with
/// the bytes of the last.
type ProjectTargets = (GradientTarget, GradientTarget, Option<(GradientTarget, u64)>);

impl SimulatedPass<'_> {
    /// Bytes of a tensor of f64.
    fn doubles(&self, len: usize) -> u64 {
        self.tensors(&[2 * len])
    }

    /// `parts` partial sums of `width` values, and their total.
    fn parts_and_total(&self, parts: usize, width: usize) -> u64 {
        self.doubles(parts * width) + self.doubles(width)
    }

    /// The number of parts of a sum over `rows` rows of c channels.
    fn row_parts(rows: usize, c: usize) -> usize {
        rows.div_ceil(gpu_part_rows(rows, c)).max(1)
    }

    /// Mean and variance of c channels from partial sums; then, without the sums, the inverse deviation and the
    /// new running statistics.
    fn moments(&self, parts: usize, c: usize) -> u64 {
        let taken = self.parts_and_total(parts, 2 * c) + self.tensors(&[c; 2]);
        taken.max(self.tensors(&[c; 5]))
    }

    /// `norm::moments` of a map of that side.
    pub(super) fn gpu_moments(&self, side: usize, c: usize) -> u64 {
        self.moments(Self::row_parts(self.rows(side), c), c)
    }

    /// Moments of an expansion, from the covariance of its input.
    pub(super) fn gpu_moments_behind(&self, c_in: usize, c: usize) -> u64 {
        (self.tensors(&[c_in * c, c, c])).max(self.tensors(&[c; 5]))
    }

    /// Images in a chunk, of which each takes `values` values of working memory.
    fn gpu_chunk(&self, values: usize) -> usize {
        gpu_chunk_images(self.batch(), values, GPU_SCRATCH_VALUES)
    }

    /// `ops::loss`: the partial sums, and the numbers that stay until they are read.
    pub(super) fn gpu_loss(&self) -> [u64; 2] {
        [self.doubles(2 * self.batch()), self.tensors(&[4])]
    }

    /// `ops::conv`: forward pass, gradient of the filter, gradient of the input. With few channels the
    /// forward pass reads the input directly.
    pub(super) fn gpu_dense(&self, x: &SizedMap, layer: &LayerShape<'_>) -> [u64; 3] {
        let side = x.side.div_ceil(layer.stride);
        let windows = side * side * layer.kernel * layer.kernel * x.channels;
        let windows = self.tensors(&[self.gpu_chunk(windows) * windows]);
        let forward = if x.channels <= tiling::GPU_FEW_CHANNELS { 0 } else { windows };
        [forward.max(self.gpu_moments(side, layer.channels)), windows, windows]
    }

    /// `ops::gram`, without what it returns.
    pub(super) fn gpu_covariance(&self, x: &SizedMap) -> u64 {
        let (rows, c) = (self.rows(x.side), x.channels);
        let parts = rows.div_ceil(gpu_covariance_rows(rows, c)).max(1);
        self.parts_and_total(parts, c * c)
    }

    /// `ops::depthwise`.
    pub(super) fn gpu_depthwise(
        &self,
        x: &SizedMap,
        layer: &LayerShape<'_>,
        expands: bool,
    ) -> DepthwiseScratch {
        let (c_in, c, side) = (x.channels, layer.channels, x.side.div_ceil(layer.stride));
        let (inside, taps) = (x.side * x.side, layer.kernel * layer.kernel * c);
        let chunk = if expands { self.gpu_chunk(inside * c) } else { self.batch() };
        let outputs = GpuTiles::of_output((side, side), layer.kernel, layer.stride);
        let inputs = GpuTiles::of_input((x.side, x.side), layer.kernel, layer.stride);
        let (_, of_outputs) = outputs.parts(chunk, c);
        let (_, of_inputs) = inputs.parts(chunk, c);
        let where_wanted = |is_wanted: bool, bytes: u64| if is_wanted { bytes } else { 0 };
        let (input_wanted, weights_wanted) = (x.slot().is_some(), self.kind.weights_wanted);
        // x W of a chunk, which stays until the end.
        let raw = where_wanted(expands, self.tensors(&[chunk * inside * c]));
        let filter = where_wanted(weights_wanted, self.parts_and_total(of_outputs, taps));
        let forward = raw + self.moments(of_outputs, c);
        if !expands {
            return DepthwiseScratch { forward, of_filter: filter, of_input: 0, of_weights: 0 };
        }
        // W s, the products, and the parts of Σq and Σq(z - μ); then their totals.
        let matrix = self.tensors(&[c_in * c]);
        let kept = raw
            + where_wanted(input_wanted, matrix)
            + where_wanted(weights_wanted, matrix)
            + self.doubles(of_inputs * 2 * c);
        let summed = kept + self.doubles(2 * c);
        let terms = matrix + self.tensors(&[c_in, c_in * c_in]);
        DepthwiseScratch {
            forward,
            of_filter: kept + filter,
            of_input: summed + where_wanted(input_wanted, terms),
            // The covariance times W.
            of_weights: summed + matrix,
        }
    }

    /// `ops::project`.
    pub(super) fn gpu_project(
        &mut self,
        z: &SizedMap,
        (norm, weight, squeeze_excite): ProjectTargets,
        (squeeze, is_masked): (Option<usize>, bool),
        channels: usize,
    ) -> SizedMap {
        let (c, pixels, batch) = (z.channels, z.side * z.side, self.batch());
        let chunk = self.gpu_chunk(pixels * c);
        let hidden = self.tensors(&[chunk * pixels * c]);
        let gates = squeeze.map(|squeezed| self.squeeze_excite(chunk, pixels, (c, squeezed)));
        let SqueezeExciteScratch { forward, backward, rows, all_rows } = gates.unwrap_or_default();
        let forward = (hidden + forward).max(self.gpu_moments(z.side, channels));

        let parts = batch.div_ceil(chunk) * Self::row_parts(chunk * pixels, c);
        let sums = self.doubles(parts * 3 * c);
        let (matrix, hidden) =
            if self.kind.weights_wanted { (self.tensors(&[c * channels]), hidden) } else { (0, 0) };
        // The sums of all chunks stay until the end.
        let after = sums + self.doubles(3 * c) + self.tensors(&[3 * c]) + rows;
        let mask = self.gates_target(is_masked);
        let mut parts = vec![
            made(GradientTarget::Map(z.slot()), self.bytes(z.side, c), 0),
            made(weight, matrix, hidden + sums + backward),
            made(norm, self.tensors(&[c; 2]), after),
            made(mask, self.tensors(&[c]), after),
        ];
        if let (Some((weight, bytes)), Some(squeezed)) = (squeeze_excite, squeeze) {
            parts.push(made(weight, bytes, after + all_rows));
            parts.push(made(mask, self.tensors(&[squeezed]), after + all_rows));
        }
        self.call_behind_norm(z, channels, forward, parts)
    }

    /// The squeeze-excite of a projection, whose gates exist for a chunk of images at a time.
    fn squeeze_excite(
        &self,
        chunk: usize,
        pixels: usize,
        (c, squeezed): (usize, usize),
    ) -> SqueezeExciteScratch {
        let (wide, narrow) = (self.tensors(&[chunk * c]), self.tensors(&[chunk * squeezed]));
        let parts = pixels.div_ceil(gpu_part_pixels(chunk, pixels, c)).max(1);
        let sums = if parts > 1 { self.tensors(&[parts * chunk * c]) } else { 0 };
        // Of every image, pooled values and gradients stay until the end.
        let of_chunk = 2 * wide + 3 * narrow;
        let chunks = self.batch().div_ceil(chunk) as u64;
        let all = self.tensors(&[self.batch() * c, self.batch() * squeezed]);
        SqueezeExciteScratch {
            forward: sums + 3 * wide + 2 * narrow,
            backward: (chunks - 1) * of_chunk + sums + 5 * wide + 4 * narrow,
            rows: chunks * of_chunk,
            // The same in one tensor each, where there are several chunks.
            all_rows: if chunks > 1 {
                2 * all + self.tensors(&[self.batch() * squeezed])
            } else {
                0
            },
        }
    }

    /// `ops::norm`: the gradients of branches, each with where those of γ and β go and the slot of z, and of the
    /// identity with where it goes. At the end of a block there may be gates.
    pub(super) fn gpu_norm_gradients(
        &self,
        branches: &[(GradientTarget, Option<usize>)],
        identity: Option<GradientTarget>,
        ends_block: bool,
        (side, c): (usize, usize),
    ) -> Vec<GradientPart> {
        let sums = |width: usize| Self::row_parts(self.rows(side), c) * width;
        let gates = self.gates_target(ends_block);
        let mut parts = Vec::new();
        let has_mask = match self.kind.gates {
            SupernetGates::Absent => false,
            SupernetGates::Masked => true,
            SupernetGates::Explicit => branches.is_empty(),
        };
        if has_mask {
            parts.push(made(gates, self.tensors(&[c]), 0));
        }
        if self.kind.gates != SupernetGates::Absent && !branches.is_empty() {
            parts.push(made(gates, self.tensors(&[branches.len()]), 0));
        }
        for (norm, slot) in branches {
            // The parts are alive when dz is allocated.
            let (kept, rows) = (self.doubles(sums(3 * c)), self.tensors(&[3 * c]));
            parts.push(made(*norm, self.tensors(&[c; 2]), kept + rows + self.doubles(3 * c)));
            if slot.is_some() {
                parts.push(made(GradientTarget::Map(*slot), self.bytes(side, c), kept + rows));
            }
        }
        if let Some(to) = identity {
            let rho = self.gates_target(self.kind.gates != SupernetGates::Absent);
            let scratch = self.doubles(sums(c)) + self.doubles(c);
            parts.push(made(rho, self.tensors(&[1]), scratch));
            if to.is_wanted() {
                parts.push(made(to, self.bytes(side, c), 0));
            }
        }
        parts
    }

    /// `ops::pool`: partial sums in f32, where an image has several.
    pub(super) fn gpu_pool(&self, x: &SizedMap) -> u64 {
        let (pixels, c) = (x.side * x.side, x.channels);
        let parts = pixels.div_ceil(gpu_part_pixels(self.batch(), pixels, c)).max(1);
        if parts > 1 { self.tensors(&[parts * self.batch() * c]) } else { 0 }
    }
}

/// Working memory of a squeeze-excite: in the forward pass, in the backward pass, and after it the rows of all
/// images, by chunk and in one tensor each.
#[derive(Default)]
struct SqueezeExciteScratch {
    forward: u64,
    backward: u64,
    rows: u64,
    all_rows: u64,
}
