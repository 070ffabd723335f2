//! Tensor operators: forward and backward, one file each, activations channels-last `[n, h, w, c]`
//! in f32.
//!
//! Every public function takes and returns candle tensors and chooses its kernel by the tensor's
//! device, so that callers need not know which kernel runs. The CPU kernels are beside the entry
//! points. They divide their work into chunks ([`crate::tiling`]) whose number depends on the shape
//! alone, and add up the chunks' sums in order: the same input gives the same bits on any number of
//! threads.
//!
//! Only this module touches raw storage. The only other `unsafe` code of the crate is in `child` and in
//! the allocator in `memory`.

mod activation;
pub mod bias;
pub mod conv;
pub mod depthwise;
pub mod gpu;
pub mod gram;
pub mod groups;
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
pub mod scale;
pub mod slice;
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
