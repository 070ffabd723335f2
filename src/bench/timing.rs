//! Takes steps, times them, and records who holds how many bytes at the peak.

use crate::cost::Footprint;
use crate::data::{Batch, Dataset, Loader};
use crate::memory::{self, Peak, Peaks};
use crate::nn::Params;
use crate::ops::gpu::Traffic;
use crate::recipe::Augment;
use crate::rng::Seed;
use crate::train::StepSeconds;
use anyhow::Result;
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
    /// Of the timed step with the highest.
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
    pub(super) fn now() -> Self {
        memory::release_freed_memory();
        let (live_bytes, resident_bytes) = (memory::live_bytes(), memory::resident_bytes());
        let file_bytes = memory::resident_file_bytes().unwrap_or_default();
        memory::reset_high_water();
        Self { live_bytes, resident_bytes, file_bytes }
    }

    /// How far the resident size rose during the steps. Pages of the program itself that were first
    /// used meanwhile do not count.
    pub(super) fn growth(&self, samples: &Samples) -> Option<u64> {
        let program = memory::resident_file_bytes().unwrap_or_default();
        let idle = self.resident_bytes? + program.saturating_sub(self.file_bytes);
        Some(samples.high_water_bytes?.saturating_sub(idle))
    }
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
pub(super) fn held(params: &Params, trains: bool) -> Footprint {
    let trained = if trains { 4 * params.count() as u64 } else { 0 };
    Footprint { weights: params.bytes(), optimizer: trained, ..Footprint::default() }
}

/// Whose bytes a peak is made of, of which so many are `held` always. What little layers and search
/// keep about themselves counts as activations.
pub(super) fn owners(held: Footprint, Peak { gradients, scratch, rest }: Peak) -> Footprint {
    let weights = held.weights.min(rest);
    let optimizer = held.optimizer.min(rest - weights);
    Footprint { weights, optimizer, activations: rest - weights - optimizer, gradients, scratch }
}

/// Takes and times steps, which return how many multiply-accumulates they executed. Traces who holds
/// the bytes beyond the `idle` ones, which costs a lock and a few counters per operator.
pub(super) fn time_steps(
    (loader, idle): (&Loader<'_>, u64),
    length: Length,
    mut step: impl FnMut(&Batch, u64) -> Result<(StepSeconds, u64)>,
) -> Result<Samples> {
    let steps = Vec::with_capacity(length.timed);
    let mut samples = Samples { steps, peaks: Peaks::default(), high_water_bytes: None };
    let (mut number, mut timed) = (0, 0.0);
    for epoch in 0.. {
        let before = memory::live_bytes();
        let mut batches = loader.epoch(epoch);
        let order = memory::live_bytes() - before;
        loop {
            let (start, earlier) = (Instant::now(), Traffic::now());
            let Some(batch) = batches.next() else { break };
            let batch = batch?;
            memory::begin_trace(idle + order);
            let ready = Instant::now();
            let (parts, macs) = step(&batch, number)?;
            let seconds = ready.elapsed().as_secs_f64();
            let peaks = memory::end_trace();
            number += 1;
            if number <= length.warm_up as u64 {
                continue;
            }
            let data = (ready - start).as_secs_f64();
            let traffic = Traffic::now().since(earlier);
            samples.steps.push(Sample { data, step: seconds, parts, macs, traffic });
            timed += seconds;
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
