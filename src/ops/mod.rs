//! Tensor operators: forward and backward, one file each, activations channels-last `[n, h, w, c]`
//! in f32.
//!
//! Every public function takes and gives candle tensors and chooses its kernel by the tensor's
//! device, so that a caller never knows which kernel ran. The CPU kernels live beside the entry
//! points, split their work into pieces whose number depends on the shape alone, and sum the
//! pieces in order: the same input gives the same bits on any number of threads.
//!
//! Only this room touches raw storage. Its `unsafe` code, and the allocator in `memory`, are all there
//! is.

mod activation;
pub mod bias;
pub mod conv;
pub mod depthwise;
pub mod gram;
mod host;
pub mod inference;
mod lanes;
pub mod loss;
pub mod matmul;
pub mod norm;
pub mod pad;
pub mod peak;
pub mod pool;
pub mod project;
pub mod subsample;
mod sums;
mod tile;
pub mod update;

pub use host::poison_outputs;
pub use lanes::{instruction_set, limit_instruction_set};
pub use sums::Moments;

use candle_core::{Device, Result, bail};

/// The error of an operator that has no kernel for the device of its input.
fn no_kernel<T>(op: &str, device: &Device) -> Result<T> {
    bail!("{op}: no kernel for {:?} yet; run with --device cpu", device.location())
}
