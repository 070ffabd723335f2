//! Cross-entropy on a GPU: one kernel with a warp per image, one that adds up the images.

use super::{CrossEntropy, Labels};
use crate::ops::gpu::{Arg, Deferred, Gpu, Launch, Source, WARP, source, upload};
use candle_core::{Result, Tensor};

const SOURCE: &Source = &source!("loss");

/// Images of a block, each of which takes a warp.
const IMAGES: usize = 4;

pub(super) fn cross_entropy(
    gpu: &Gpu,
    logits: &Tensor,
    labels: &Labels,
    smoothing: f64,
) -> Result<CrossEntropy> {
    let (n, classes) = logits.dims2()?;
    let share = labels.share.unwrap_or(1.0);
    let labels = match &labels.on_gpu {
        Some(labels) => labels.clone(),
        None => upload(labels.iter().map(|label| *label as f32).collect(), n, logits.device())?,
    };
    let dlogits = gpu.output((n, classes))?;
    let (parts, numbers) = (gpu.output_f64((n, 2))?, gpu.output((2, 2))?);
    let launch = Launch {
        source: SOURCE,
        kernel: "cross_entropy",
        grid: (n.div_ceil(IMAGES), 1, 1),
        block: IMAGES * WARP,
        shared: 0,
    };
    let pair = |value: f64| [value as f32, (value - f64::from(value as f32)) as f32];
    let mut args = vec![Arg::In(logits), Arg::In(&labels), Arg::Out(&dlogits), Arg::Out(&parts)];
    args.extend([Arg::size(n), Arg::size(classes)]);
    args.extend([pair(smoothing), pair(share)].concat().into_iter().map(Arg::Float));
    gpu.launch(&launch, &args)?;
    let args = [Arg::In(&parts), Arg::Out(&numbers), Arg::size(n)];
    gpu.launch(&Launch::one(SOURCE, "cross_entropy_total"), &args)?;
    Ok(CrossEntropy { numbers: Deferred::pairs(numbers), dlogits })
}
