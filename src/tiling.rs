//! How the operators divide their work and how large their working memory is: what the kernels in
//! `ops` and the memory model in `cost` must agree on.
//!
//! Everything here is a function of the shapes alone. Sums over a batch are taken chunk by chunk and
//! then in the order of the chunks, so a result does not depend on the number of threads.

/// Which kernels compute, and where their tensors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    #[default]
    Cpu,
    /// The kernels of GPUs, with tensors in host memory.
    EmulatedGpu,
    Gpu,
}

/// Channels in a full block, which kernels hold in registers. Packed matrices are padded to a multiple.
pub const LANES: usize = 16;

/// A batch is divided into at most this many chunks, each with its own partial sums.
const CHUNKS: usize = 16;

/// Rows of a matrix product that one task takes. A weight gradient packs as many rows at once.
pub const MATMUL_ROWS: usize = 256;

/// Rows whose products are summed in f32 before a covariance adds them up in f64.
pub const COVARIANCE_ROWS: usize = 64;

/// Values that one task of an elementwise operator takes: 64 KiB of f32.
const ELEMENTWISE_VALUES: usize = 16 * 1024;

/// A projection takes at least this many rows at once, so that loading the matrix pays off.
const PROJECTION_ROWS: usize = 64;

/// Images in one chunk of a batch; the last chunk may have fewer.
#[must_use]
pub fn chunk_images(images: usize) -> usize {
    images.div_ceil(CHUNKS).max(1)
}

/// Rows in one chunk of a sum of outer products, which is a weight gradient.
#[must_use]
pub fn outer_chunk_rows(rows: usize) -> usize {
    rows.div_ceil(CHUNKS).next_multiple_of(MATMUL_ROWS)
}

/// Rows in one chunk of a covariance.
#[must_use]
pub fn covariance_chunk_rows(rows: usize) -> usize {
    rows.div_ceil(CHUNKS).next_multiple_of(COVARIANCE_ROWS)
}

/// Rows of `channels` values that one task of an elementwise operator takes.
#[must_use]
pub fn elementwise_rows(channels: usize) -> usize {
    (ELEMENTWISE_VALUES / channels.max(1)).max(1)
}

/// Rows that a projection takes at once: whole images of `pixels` rows.
#[must_use]
pub fn projection_rows(pixels: usize) -> usize {
    PROJECTION_ROWS.div_ceil(pixels) * pixels
}

/// Values in a packed matrix, whose columns are padded to full blocks.
#[must_use]
pub fn packed_len(rows: usize, columns: usize) -> usize {
    rows * columns.next_multiple_of(LANES)
}

/// Values in one row of a tile that is `width` pixels wide: one block of channels, and the border that
/// a filter of `kernel` x `kernel` taps reads.
#[must_use]
pub fn tile_pitch(width: usize, kernel: usize) -> usize {
    (width + 2 * (kernel / 2)) * LANES
}

/// Values in a tile of `height` x `width` pixels, with its border.
#[must_use]
pub fn tile_len(height: usize, width: usize, kernel: usize) -> usize {
    (height + 2 * (kernel / 2)) * tile_pitch(width, kernel)
}

/// Rows in one part of a GPU's sum over `rows` rows of `channels` channels: a block takes 32 channels,
/// and about a thousand blocks fill a large GPU. At most 1024 rows, so that each of a block's eight
/// threads per channel adds at most 128 values in f32.
#[must_use]
pub fn gpu_part_rows(rows: usize, channels: usize) -> usize {
    const BLOCKS: usize = 1024;
    let parts = (BLOCKS / channels.div_ceil(32).max(1)).max(1);
    rows.div_ceil(parts).clamp(32, 1024)
}

/// Values of working memory that a GPU operator takes for a chunk of images: 32 MiB of f32, which stay
/// in the cache of a large GPU.
pub const GPU_SCRATCH_VALUES: usize = 8 * 1024 * 1024;

/// Images in one chunk of a GPU operator, where each takes `values` of the chunk's `scratch` values; the
/// last chunk may have fewer.
#[must_use]
pub fn gpu_chunk_images(images: usize, values: usize, scratch: usize) -> usize {
    let chunks = images.div_ceil((scratch / values.max(1)).max(1)).max(1);
    images.div_ceil(chunks).max(1)
}

/// Rows in one part of a GPU's covariance of `channels` channels: a block takes 32 x 32 products, and
/// about a thousand blocks fill a large GPU. Their sums in f64 are at most 16 MiB, or one part.
#[must_use]
pub fn gpu_covariance_rows(rows: usize, channels: usize) -> usize {
    const BLOCKS: usize = 1024;
    let side = channels.div_ceil(32).max(1);
    let parts = (BLOCKS / (side * (side + 1) / 2)).max(1);
    rows.div_ceil(parts).max(32)
}

/// Pixels in one part of a GPU's sum over the pixels of each image: one part, unless a few large images
/// would leave most of a large GPU idle.
#[must_use]
pub fn gpu_part_pixels(images: usize, pixels: usize, channels: usize) -> usize {
    const BLOCKS: usize = 1024;
    let parts = (BLOCKS / (images * channels.div_ceil(32)).max(1)).max(1);
    pixels.div_ceil(parts).clamp(64, 1024)
}

/// Bytes of which a tensor in a GPU's memory pool takes a multiple. An assumption: CUDA promises addresses
/// that are multiples of 256 bytes or more (CUDA C++ Programming Guide, Device Memory Accesses), and not
/// what its pools take.
pub const GPU_POOL_UNIT: usize = 512;

/// Values of the largest small upload to a GPU.
pub const GPU_SMALL_UPLOAD: usize = 16 << 10;

/// Buffers on a GPU that small uploads go through in turn. They never grow.
pub const GPU_SMALL_SLOTS: usize = 16;

/// The same for large uploads, so that one is filled while another is copied. They grow to the largest
/// upload.
pub const GPU_LARGE_SLOTS: usize = 2;

/// Values of a tensor that one block of a GPU's update takes.
pub const GPU_TENSOR_VALUES: usize = 1024;

/// Input channels up to which a GPU's dense convolution reads its input directly, without windows.
pub const GPU_FEW_CHANNELS: usize = 4;

/// Adjacent pixels that a thread of a GPU's depthwise convolution computes.
pub const GPU_PIXEL_GROUP: usize = 4;

/// Pixels that a tile of a GPU's depthwise convolution reads, of 32 channels: 24 KiB, so that a
/// multiprocessor runs several blocks.
const GPU_TILE_PIXELS: usize = 192;

/// Rows of such a tile, at most.
const GPU_TILE_ROWS: usize = 16;

/// Warps of a block that computes such tiles, at most.
pub const GPU_TILE_WARPS: usize = 8;

/// How a GPU's depthwise convolution divides the map of one image into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuTiles {
    pub rows: usize,
    /// Groups of [`GPU_PIXEL_GROUP`] pixels in a row of a tile, 1 << shift.
    pub shift: usize,
    pub down: usize,
    pub across: usize,
    /// Rows and columns that a tile reads.
    pub read: (usize, usize),
    /// Pixels of a tile that one thread computes, at most.
    values: usize,
}

impl GpuTiles {
    /// For a map of `height` x `width` pixels that is computed with this stride. `read` is the number of
    /// pixels of the other map that so many pixels read.
    #[must_use]
    pub fn new(
        (height, width): (usize, usize),
        stride: usize,
        read: impl Fn(usize) -> usize,
    ) -> Self {
        let shift = usize::from(width > GPU_PIXEL_GROUP && stride <= 2);
        let columns = GPU_PIXEL_GROUP << shift;
        let fits = |rows: &usize| read(*rows) * read(columns) <= GPU_TILE_PIXELS;
        let most = (1..=GPU_TILE_ROWS).rev().find(fits).unwrap_or(1);
        // Tiles of equal height.
        let down = height.div_ceil(most).max(1);
        let rows = height.div_ceil(down).max(1);
        let read = (read(rows), read(columns));
        let values = (rows << shift).div_ceil(GPU_TILE_WARPS) * GPU_PIXEL_GROUP.min(width);
        Self { rows, shift, down, across: width.div_ceil(columns), read, values }
    }

    /// Tiles of the output, which read the input.
    #[must_use]
    pub fn of_output(output: (usize, usize), kernel: usize, stride: usize) -> Self {
        Self::new(output, stride, |pixels| (pixels - 1) * stride + kernel)
    }

    /// Tiles of the input, whose gradients read those of the output.
    #[must_use]
    pub fn of_input(input: (usize, usize), kernel: usize, stride: usize) -> Self {
        Self::new(input, stride, |pixels| (pixels - 1 + 2 * (kernel / 2)) / stride + 1)
    }

    /// Tiles that one block takes, and blocks for 32 channels of so many images: about two thousand
    /// blocks have an equal share of the work. There are more where a thread would add more than 256
    /// values in f32.
    #[must_use]
    pub fn parts(&self, images: usize, channels: usize) -> (usize, usize) {
        const BLOCKS: usize = 2048;
        const VALUES: usize = 256;
        let tiles = images * self.down * self.across;
        let blocks = (BLOCKS / channels.div_ceil(32).max(1)).max(1);
        let most = (VALUES / self.values.max(1)).max(1);
        let each = tiles.div_ceil(blocks).clamp(1, most);
        (each, tiles.div_ceil(each))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_a_covariance_stay_within_the_working_memory() {
        for rows in [1usize, 1000, 1 << 20, 1 << 30] {
            for c in [1, 32, 100, 400, 1440, 5000] {
                let parts = rows.div_ceil(gpu_covariance_rows(rows, c));
                // In f64.
                let values = 2 * parts * c * c;
                assert!(parts == 1 || values <= GPU_SCRATCH_VALUES / 2, "{rows} x {c}: {parts}");
            }
        }
    }

    #[test]
    fn a_thread_sums_few_pixels_of_a_depthwise_convolution_in_f32() {
        for side in [1, 3, 7, 28, 112] {
            for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (5, 3)] {
                let tiles = GpuTiles::of_output((side, side), kernel, stride);
                for images in [1, 128, 1 << 20] {
                    let (each, parts) = tiles.parts(images, 48);
                    assert!(each * tiles.values <= 256, "{side} {kernel} {stride}: {each}");
                    let pixels = images * side * side;
                    assert!(
                        parts <= 2048 || 200 * parts <= pixels,
                        "{side} {kernel} {stride}: {parts}"
                    );
                }
            }
        }
    }
}
