//! Takes steps, times them, and records who holds how many bytes at the peak.

use crate::cost::{Backend, Footprint};
use crate::data::{Batch, Dataset, Loader};
use crate::memory::{self, Peak, Peaks};
use crate::nn::Params;
use crate::ops::gpu::{self, GpuMemory, Traffic};
use crate::recipe::{Augment, StepExtras};
use crate::rng::Seed;
use crate::tiling::GPU_POOL_UNIT;
use crate::train::StepSeconds;
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::time::Instant;

/// How many steps are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    /// Before the timed ones. The first step is slower: the threads have no tiles yet.
    pub warm_up: usize,
    /// At least so many are timed,
    pub timed: usize,
    /// and more until they took so many seconds together.
    pub seconds: f64,
}

/// One timed step: the batch, its parts and the whole, in seconds, and the multiply-accumulates that
/// it executed.
pub(super) struct Sample {
    pub data: f64,
    pub step: f64,
    pub parts: StepSeconds,
    pub macs: u64,
    /// Of the step and its batch.
    pub traffic: Traffic,
}

/// The timed steps of one benchmark.
pub(super) struct Samples {
    pub steps: Vec<Sample>,
    /// Of the timed step with the highest. On a GPU all bytes are in `rest`.
    pub peaks: Peaks,
    high_water_bytes: Option<u64>,
}

/// Memory in use before the network is built.
pub(super) struct Idle {
    pub live_bytes: u64,
    resident_bytes: Option<u64>,
    file_bytes: u64,
}

impl Idle {
    pub(super) fn now(device: &Device) -> Result<Self> {
        memory::release_freed_memory();
        let (live_bytes, resident_bytes) = (live_bytes(device)?, memory::resident_bytes());
        let file_bytes = memory::resident_file_bytes().unwrap_or_default();
        memory::reset_high_water();
        Ok(Self { live_bytes, resident_bytes, file_bytes })
    }

    /// How far the resident size rose during the steps. Pages of the program itself that were first
    /// used meanwhile do not count.
    pub(super) fn growth(&self, samples: &Samples) -> Option<u64> {
        let program = memory::resident_file_bytes().unwrap_or_default();
        let idle = self.resident_bytes? + program.saturating_sub(self.file_bytes);
        Some(samples.high_water_bytes?.saturating_sub(idle))
    }
}

/// What every benchmark starts from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub loader: &'a Loader<'a>,
    pub device: &'a Device,
    /// In use before the network is built.
    pub idle_bytes: u64,
}

/// All training images in batches.
pub(super) fn all_images(
    dataset: &Dataset,
    batch: usize,
    augment: Augment,
    seed: Seed,
) -> Result<Loader<'_>> {
    let images = dataset.train.len();
    let loader = Loader::training(dataset, (0..images).collect(), batch, augment, seed, "bench");
    anyhow::ensure!(loader.batches() > 0, "a batch of {batch} is more than all {images} images");
    Ok(loader)
}

/// What a network and its optimizer always hold.
pub(super) fn held(params: &Params, trains: Option<StepExtras>) -> Result<Footprint> {
    let unit = match gpu::backend(params.device())? {
        Backend::Cpu => 1,
        Backend::EmulatedGpu | Backend::Gpu => GPU_POOL_UNIT,
    };
    let bytes = |tensor: &Tensor| (4 * tensor.elem_count()).next_multiple_of(unit) as u64;
    let all: u64 = params.named().map(|(_, tensor)| bytes(tensor)).sum();
    let trained: u64 = params.tensors().map(|(tensor, _)| bytes(tensor)).sum();
    let StepExtras { squares, average, .. } = trains.unwrap_or_default();
    let weights = if average { 2 * all } else { all };
    let optimizer = u64::from(trains.is_some()) * trained * if squares { 2 } else { 1 };
    Ok(Footprint { weights, optimizer, ..Footprint::default() })
}

/// Whose bytes a peak is made of, of which so many are `held` always. What little layers and search
/// keep about themselves counts as activations.
pub(super) fn owners(held: Footprint, Peak { gradients, scratch, rest }: Peak) -> Footprint {
    let weights = held.weights.min(rest);
    let optimizer = held.optimizer.min(rest - weights);
    Footprint { weights, optimizer, activations: rest - weights - optimizer, gradients, scratch }
}

/// Bytes of tensors on the device; on the CPU all that the host has allocated.
pub(super) fn live_bytes(device: &Device) -> Result<u64> {
    Ok(of_gpu(device)?.map_or_else(memory::live_bytes, |memory| memory.used))
}

/// The memory of a real GPU.
fn of_gpu(device: &Device) -> Result<Option<GpuMemory>> {
    Ok(match gpu::backend(device)? {
        Backend::Gpu => gpu::memory(device)?,
        Backend::Cpu | Backend::EmulatedGpu => None,
    })
}

/// Begins to measure the peak of a step beyond `base` bytes. A trace of who holds them costs a lock and a
/// few counters per operator. It would ask a GPU's driver twice per operator, so there it is left out.
fn begin_peak(device: &Device, base: u64) -> Result<()> {
    if of_gpu(device)?.is_some() {
        gpu::reset_peak(device)?;
    } else {
        memory::begin_trace(base);
    }
    Ok(())
}

/// The peaks since [`begin_peak`].
fn end_peak(device: &Device, base: u64) -> Result<Peaks> {
    Ok(match of_gpu(device)? {
        None => memory::end_trace(),
        Some(GpuMemory { peak, .. }) => {
            let highest = Peak { rest: peak.saturating_sub(base), ..Peak::default() };
            Peaks { highest, ..Peaks::default() }
        }
    })
}

/// Takes and times steps, which return how many multiply-accumulates they executed.
pub(super) fn time_steps(
    source: Source<'_>,
    length: Length,
    mut step: impl FnMut(&Batch, u64) -> Result<(StepSeconds, u64)>,
) -> Result<Samples> {
    let Source { loader, device, idle_bytes } = source;
    let steps = Vec::with_capacity(length.timed);
    let mut samples = Samples { steps, peaks: Peaks::default(), high_water_bytes: None };
    let (mut number, mut timed) = (0, 0.0);
    for epoch in 0.. {
        let before = live_bytes(device)?;
        let mut batches = loader.epoch(epoch);
        let base = idle_bytes + live_bytes(device)?.saturating_sub(before);
        loop {
            let (start, earlier) = (Instant::now(), Traffic::now());
            let Some(batch) = batches.next() else { break };
            let (batch, data) = (batch?, start.elapsed().as_secs_f64());
            begin_peak(device, base)?;
            let ready = Instant::now();
            let (parts, macs) = step(&batch, number)?;
            let step = ready.elapsed().as_secs_f64();
            let peaks = end_peak(device, base)?;
            number += 1;
            if number <= length.warm_up as u64 {
                continue;
            }
            let traffic = Traffic::now().since(earlier);
            samples.steps.push(Sample { data, step, parts, macs, traffic });
            timed += step;
            if peaks.highest.bytes() > samples.peaks.highest.bytes() {
                samples.peaks = peaks;
            }
            if samples.steps.len() >= length.timed && timed >= length.seconds {
                samples.high_water_bytes = memory::high_water_bytes();
                return Ok(samples);
            }
        }
    }
    unreachable!("there is an epoch after every epoch")
}

/// In seconds; zero without samples.
pub(super) fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut all: Vec<f64> = samples.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    let upper = all.get(all.len() / 2).copied().unwrap_or_default();
    let lower = all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    f64::midpoint(lower, upper)
}
