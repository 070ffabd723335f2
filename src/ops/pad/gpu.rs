//! Sums of maps of different widths on a GPU; `pad.cu` has the kernels.

use crate::ops::gpu::{Arg, Gpu, Launch, Source, StructArg, source};
use crate::ops::host::rows_of;
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("pad");

/// `PAD_PARTS`.
const PARTS: usize = 16;

/// The sum of `parts`, each with its width, cut or padded with zeros to the last of `dims`.
pub(super) fn sum(gpu: &Gpu, parts: &[(&Tensor, usize)], dims: &[usize]) -> Result<Tensor> {
    let y = gpu.output(dims)?;
    let (rows, width) = rows_of(&y)?;
    for (i, parts) in parts.chunks(PARTS).enumerate() {
        let mut all = StructArg::default();
        all.pointers(PARTS, parts.iter().map(|(part, _)| *part));
        all.sizes(PARTS, parts.iter().map(|(_, c)| *c));
        all.sizes(1, [parts.len()]);
        let mut args = vec![Arg::Struct(all.padded()), Arg::Out(&y), Arg::Int(i32::from(i > 0))];
        args.extend([rows, width].map(Arg::size));
        gpu.launch(&Launch::map(SOURCE, "pad_sum", rows, width), &args)?;
    }
    Ok(y)
}
