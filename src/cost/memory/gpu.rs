//! What the operators of a GPU use while they run: chunks of hidden maps, and partial sums, which are
//! f64 unless it says otherwise.

use super::operators::{LayerShape, SimulatedPass};
use super::tape::SizedMap;
use crate::tiling::{
    self, GPU_SCRATCH_VALUES, GpuTiles, gpu_chunk_images, gpu_covariance_rows, gpu_part_pixels,
    gpu_part_rows,
};

impl SimulatedPass<'_> {
    /// Bytes of a tensor of f64.
    fn doubles(&self, len: usize) -> u64 {
        self.tensors(1, 2 * len)
    }

    /// `parts` partial sums of `width` values, and their total.
    fn parts_and_total(&self, parts: usize, width: usize) -> u64 {
        self.doubles(parts * width) + self.doubles(width)
    }

    /// Sums of `width` values over `rows` rows of `channels` channels.
    pub(super) fn gpu_sums(&self, rows: usize, channels: usize, width: usize) -> u64 {
        let parts = rows.div_ceil(gpu_part_rows(rows, channels)).max(1);
        self.parts_and_total(parts, width)
    }

    /// Images in a chunk, of which each takes `values` values of working memory.
    fn gpu_chunk(&self, values: usize) -> usize {
        gpu_chunk_images(self.batch(), values, GPU_SCRATCH_VALUES)
    }

    /// `ops::conv`: forward pass, gradient of the filter, gradient of the input. With few channels the
    /// forward pass reads the input directly.
    pub(super) fn gpu_dense(&self, x: &SizedMap, layer: &LayerShape<'_>) -> [u64; 3] {
        let side = x.side.div_ceil(layer.stride);
        let windows = side * side * layer.kernel * layer.kernel * x.channels;
        let windows = self.tensors(1, self.gpu_chunk(windows) * windows);
        let forward = if x.channels <= tiling::GPU_FEW_CHANNELS { 0 } else { windows };
        [forward, windows, windows]
    }

    /// `ops::gram`.
    pub(super) fn gpu_covariance(&self, x: &SizedMap) -> u64 {
        let (rows, c) = (self.rows(x.side), x.channels);
        let parts = rows.div_ceil(gpu_covariance_rows(rows, c)).max(1);
        self.parts_and_total(parts, c * c)
    }

    /// `ops::depthwise`: forward pass, gradients of input and filter, gradients of the expansion.
    pub(super) fn gpu_depthwise(
        &self,
        x: &SizedMap,
        layer: &LayerShape<'_>,
        expands: bool,
    ) -> [u64; 3] {
        let (c_in, c, side) = (x.channels, layer.channels, x.side.div_ceil(layer.stride));
        let inside = x.side * x.side;
        let chunk = if expands { self.gpu_chunk(inside * c) } else { self.batch() };
        let outputs = GpuTiles::of_output((side, side), layer.kernel, layer.stride);
        let inputs = GpuTiles::of_input((x.side, x.side), layer.kernel, layer.stride);
        let (_, of_outputs) = outputs.parts(chunk, c);
        let (_, of_inputs) = inputs.parts(chunk, c);
        let raw = if expands { self.tensors(1, chunk * inside * c) } else { 0 };
        let forward = raw + self.parts_and_total(of_outputs, 2 * c);
        let filter = self.parts_and_total(of_outputs, layer.kernel * layer.kernel * c);
        if !expands {
            return [forward, filter, 0];
        }
        // W s, the products, and Σq and Σq(z - μ).
        let hidden = 2 * self.tensors(1, c_in * c) + self.doubles(of_inputs * 2 * c);
        let last = self.doubles(2 * c) + self.tensors(1, c_in * c);
        [forward, raw + filter + hidden, raw + hidden + last]
    }

    /// `ops::project`: forward and backward pass.
    pub(super) fn gpu_project(&self, z: &SizedMap, squeeze: Option<usize>) -> (u64, u64) {
        let (c, pixels, batch) = (z.channels, z.side * z.side, self.batch());
        let chunk = self.gpu_chunk(pixels * c);
        let hidden = self.tensors(1, chunk * pixels * c);
        let (mut of_gates, mut of_images) = (0, 0);
        if let Some(squeezed) = squeeze {
            let parts = pixels.div_ceil(gpu_part_pixels(chunk, pixels, c)).max(1);
            let pooling = if parts > 1 { self.tensors(1, parts * chunk * c) } else { 0 };
            of_gates = self.tensors(3, 3 * chunk * c) + self.tensors(2, 2 * chunk * squeezed);
            // Of every image: the pooled values, and the gradients of both layers. Those of the last
            // chunk are the ones of its gates.
            let rows = self.tensors(2, 2 * batch * c) + self.tensors(3, 3 * batch * squeezed);
            of_images = rows + of_gates + pooling;
        }
        let rows = chunk * pixels;
        let each = gpu_part_rows(rows, c);
        let parts = (batch * pixels).div_ceil(rows.max(1)) * rows.div_ceil(each).max(1);
        let sums = self.parts_and_total(parts, 3 * c);
        (hidden + of_gates, hidden + of_images + sums)
    }
}
