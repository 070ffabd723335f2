//! How fast and how large: steps of a supernet, of a derived network, and evaluation, with the real
//! operators, the real loader and the recipe of a manifest.

use crate::cost::{self, Footprint, StepSetting};
use crate::data::{Batch, Dataset, Loader};
use crate::manifest::Manifest;
use crate::memory::{self, Peak, Peaks};
use crate::net::Net;
use crate::nn::{Params, Pass};
use crate::ops;
use crate::recipe::{Augment, Method, SearchConfig};
use crate::record::{StepUsage, Work};
use crate::rng::Seed;
use crate::search::{Paths, draw, relaxation};
use crate::space::{ArchSpec, SearchSpace};
use crate::train::{SgdState, StepSeconds, sgd_step};
use anyhow::{Context, Result};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// One step of the supernet's weights.
    Supernet,
    /// One training step of a decided network.
    Network,
    /// A decided network in inference, frozen beforehand.
    Eval,
}

/// What a step took: medians over the steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    pub what: What,
    /// The method whose supernet it is; `None` of a decided network.
    pub method: Option<&'static str>,
    pub batch: usize,
    pub threads: usize,
    pub steps: usize,
    pub step_ms: f64,
    pub step_ms_min: f64,
    pub step_ms_max: f64,
    /// Up to the loss.
    pub forward_ms: f64,
    pub backward_ms: f64,
    pub optimizer_ms: f64,
    /// Making the batch, which is not part of the step.
    pub data_ms: f64,
    pub images_per_second: f64,
    /// The network's multiply-accumulates in a step: those of its layers, three times where it
    /// trains (forward, and backward to inputs and weights).
    pub macs: u64,
    pub macs_per_second: f64,
    /// Of `machine.macs_per_second`.
    pub share_of_peak: f64,
    /// Of `machine.bytes_per_second`, if every byte of the peak were read and written once.
    pub share_of_bandwidth: f64,
    /// The most bytes allocated at once in a timed step, above what was there before the network was
    /// built and without the data set and the order of its images; the sum of `memory`.
    pub peak_bytes: u64,
    /// Whose bytes the peak is made of; in inference, weights are also as the kernels read them.
    pub memory: Footprint,
    /// What the memory model says of such a step; `None` where it has none.
    pub predicted: Option<Footprint>,
    /// How far the resident size rose above that of the idle process, from when the network was
    /// built, without pages of the program itself; `None` where the operating system does not tell.
    pub resident_bytes: Option<u64>,
    pub machine: Machine,
}

/// What the machine can do at most, measured beside the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Machine {
    /// Multiply-accumulates per second in registers, see [`ops::peak::macs_per_second`].
    pub macs_per_second: f64,
    /// Bytes read and written per second in as much memory as the peak takes, see
    /// [`ops::peak::bytes_per_second`].
    pub bytes_per_second: f64,
}

/// How many steps are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    /// Before the timed ones. The first one is not like the others: it finds no tiles of threads.
    pub warm_up: usize,
    /// At least so many are timed,
    pub timed: usize,
    /// and more until they took so many seconds together.
    pub seconds: f64,
}

/// Steps of [`measure`] before the timed ones.
const WARM_UP: usize = 3;

/// One timed step: the batch, its parts and the whole, in seconds, and what it executed.
struct Sample {
    data: f64,
    step: f64,
    parts: StepSeconds,
    macs: u64,
}

/// What the steps of a run showed.
struct Course {
    samples: Vec<Sample>,
    /// Of the timed step with the highest.
    peaks: Peaks,
    high_water_bytes: Option<u64>,
}

/// What there is before the network is built.
struct Idle {
    live_bytes: u64,
    resident_bytes: Option<u64>,
    file_bytes: u64,
}

impl Idle {
    fn begin() -> Self {
        memory::release_freed_memory();
        let (live_bytes, resident_bytes) = (memory::live_bytes(), memory::resident_bytes());
        let file_bytes = memory::resident_file_bytes().unwrap_or_default();
        memory::reset_high_water();
        Self { live_bytes, resident_bytes, file_bytes }
    }

    /// How far the resident size rose in a course, without the program's own pages that were first
    /// used meanwhile.
    fn growth(&self, course: &Course) -> Option<u64> {
        let program = memory::resident_file_bytes().unwrap_or_default();
        let idle = self.resident_bytes? + program.saturating_sub(self.file_bytes);
        Some(course.high_water_bytes?.saturating_sub(idle))
    }
}

/// Times `steps` steps of `batch` images on the CPU.
///
/// # Errors
/// When an operator fails, or a network is to be timed and `arch` is missing.
pub fn measure(
    manifest: &Manifest,
    dataset: &Dataset,
    what: What,
    arch: Option<&ArchSpec>,
    (batch, steps): (usize, usize),
) -> Result<Measured> {
    let seed = Seed(manifest.seeds[0]);
    let loader = all_images(dataset, batch, manifest.search.augment, seed)?;
    let length = Length { warm_up: WARM_UP, timed: steps, seconds: 0.0 };
    let idle = Idle::begin();
    let data = (&loader, idle.live_bytes);
    let (course, fixed) = match what {
        What::Supernet => match manifest.search.method {
            Method::RsWs | Method::Evolution => paths(manifest, seed, data, length)?,
            _ => supernet(&manifest.space, &manifest.search, seed, data, length)?,
        },
        What::Network => {
            let arch = arch.context("no architecture to time")?;
            let (net, mut params) = Net::of_arch(arch, seed, &Device::Cpu)?;
            let fixed = held(&params, true);
            let config = &manifest.train;
            let mut optimizer = SgdState::new(config.optimizer, &params)?;
            let (rate, keep) = (config.optimizer.learning_rate, config.recompute);
            let course = run(data, length, |batch, _| {
                let target = (&batch.labels[..], config.label_smoothing);
                let forward = |pass: &mut Pass<'_>| net.forward(pass, &batch.xs);
                let step = sgd_step(&mut params, &mut optimizer, rate, target, keep, forward)?;
                let mut work = Work::default();
                work.add_training(cost::count(arch).macs, batch.labels.len());
                Ok((step.seconds, work.macs))
            })?;
            (course, fixed)
        }
        What::Eval => {
            let arch = arch.context("no architecture to time")?;
            let (net, params) = Net::of_arch(arch, seed, &Device::Cpu)?;
            let fixed = held(&params, false);
            let before = memory::live_bytes();
            let network = net.freeze(&params)?;
            // As the kernels read them.
            let frozen = memory::live_bytes() - before;
            let fixed = Footprint { weights: fixed.weights + frozen, ..fixed };
            let course = run(data, length, |batch, _| {
                let start = Instant::now();
                let logits = network.forward(&batch.xs)?;
                let forward = start.elapsed().as_secs_f64();
                memory::map_made(|| 4 * logits.elem_count() as u64);
                let mut work = Work::default();
                work.add_inference(cost::count(arch).macs, batch.labels.len());
                Ok((StepSeconds { forward, ..StepSeconds::default() }, work.macs))
            })?;
            (course, fixed)
        }
    };
    let resident_bytes = idle.growth(&course);
    let predicted = predicted(manifest, what, arch, (batch, dataset.width));
    let method = (what == What::Supernet).then(|| manifest.search.method.name());
    Ok(Measured { method, predicted, resident_bytes, ..summary(what, batch, &course, fixed) })
}

/// All training images in batches.
fn all_images(dataset: &Dataset, batch: usize, augment: Augment, seed: Seed) -> Result<Loader<'_>> {
    let images = dataset.train.len();
    let loader = Loader::training(dataset, (0..images).collect(), batch, augment, seed, "bench");
    anyhow::ensure!(loader.batches() > 0, "a batch of {batch} is more than all {images} images");
    Ok(loader)
}

/// What steps of a supernet's weights take, on the CPU.
///
/// # Errors
/// When the method has no such supernet, there are too few images, or an operator fails.
pub fn supernet_step(
    space: &SearchSpace,
    config: &SearchConfig,
    dataset: &Dataset,
    seed: Seed,
    length: Length,
) -> Result<StepUsage> {
    let loader = all_images(dataset, config.batch_size, config.augment, seed)?;
    let idle = Idle::begin();
    let data = (&loader, idle.live_bytes);
    let (course, fixed) = supernet(space, config, seed, data, length)?;
    let (samples, peaks) = (&course.samples, course.peaks);
    let owners = owners(fixed, peaks.highest);
    Ok(StepUsage {
        seconds: median(samples, |s| s.step),
        forward_seconds: median(samples, |s| s.parts.forward),
        backward_seconds: median(samples, |s| s.parts.backward),
        optimizer_seconds: median(samples, |s| s.parts.optimizer),
        peak_bytes: owners.total(),
        forward_bytes: peaks.forward,
        backward_bytes: peaks.backward,
        optimizer_bytes: peaks.after,
        weight_bytes: owners.weights,
        velocity_bytes: owners.optimizer,
        activation_bytes: owners.activations,
        gradient_bytes: owners.gradients,
        scratch_bytes: owners.scratch,
        resident_bytes: idle.growth(&course),
    })
}

/// What the memory model says of a step on `batch` images of that side; `None` where it has none.
#[must_use]
pub fn predicted(
    manifest: &Manifest,
    what: What,
    arch: Option<&ArchSpec>,
    (batch, side): (usize, usize),
) -> Option<Footprint> {
    let (space, config) = (&manifest.space, &manifest.search);
    let setting =
        |recompute| StepSetting { batch, threads: rayon::current_num_threads(), recompute };
    match (what, config.method) {
        (What::Network, _) => {
            Some(cost::network_step(arch?, side, setting(manifest.train.recompute)))
        }
        (What::Supernet, Method::Dmasking) => {
            Some(cost::masked_step(space, setting(config.recompute)))
        }
        (What::Supernet, Method::Dnas | Method::Darts | Method::Darts2) => {
            Some(cost::explicit_step(space, setting(config.recompute)))
        }
        _ => None,
    }
}

/// Steps of the weights of a supernet under gates, all options at once.
fn supernet(
    space: &SearchSpace,
    config: &SearchConfig,
    seed: Seed,
    data: (&Loader<'_>, u64),
    length: Length,
) -> Result<(Course, Footprint)> {
    let mut state = relaxation(space, config, seed, &Device::Cpu)
        .context("there is no supernet to time: time a network, or take another search.method")?;
    let fixed = held(state.params(), true);
    let (tau, rate) = (config.tau(0), config.weights.learning_rate);
    let course = run(data, length, |batch, step| {
        let before = state.work().macs;
        let seconds = state.weight_step(batch, step, tau, rate)?.seconds;
        Ok((seconds, state.work().macs - before))
    })?;
    Ok((course, fixed))
}

/// Steps of shared weights, each of one network that is drawn for it.
fn paths(
    manifest: &Manifest,
    seed: Seed,
    data: (&Loader<'_>, u64),
    length: Length,
) -> Result<(Course, Footprint)> {
    let Manifest { space, search: config, .. } = manifest;
    let mut paths = Paths::new(space, config, seed, &Device::Cpu)?;
    let fixed = held(paths.weights().params(), true);
    let course = run(data, length, |batch, step| {
        let path = draw(space, None, &mut seed.stream("paths/draw", step))?;
        let seconds = paths.step(&path, batch, config.weights.learning_rate)?.seconds;
        let mut work = Work::default();
        work.add_training(cost::count(&space.decide(&path)).macs, batch.labels.len());
        Ok((seconds, work.macs))
    })?;
    Ok((course, fixed))
}

/// What a network and its optimizer always hold.
fn held(params: &Params, trains: bool) -> Footprint {
    let trained = if trains { 4 * params.count() as u64 } else { 0 };
    Footprint { weights: params.bytes(), optimizer: trained, ..Footprint::default() }
}

/// Whose bytes a peak is made of, of which so many are `held` always. What little layers and search
/// keep about themselves counts as activations.
fn owners(held: Footprint, Peak { gradients, scratch, rest }: Peak) -> Footprint {
    let weights = held.weights.min(rest);
    let optimizer = held.optimizer.min(rest - weights);
    Footprint { weights, optimizer, activations: rest - weights - optimizer, gradients, scratch }
}

/// Takes and times steps, which say how many multiply-accumulates they executed, and looks at who holds
/// the bytes beyond the `idle` ones, which costs a lock and a few counters per operator.
fn run(
    (loader, idle): (&Loader<'_>, u64),
    length: Length,
    mut step: impl FnMut(&Batch, u64) -> Result<(StepSeconds, u64)>,
) -> Result<Course> {
    let mut course = Course {
        samples: Vec::with_capacity(length.timed),
        peaks: Peaks::default(),
        high_water_bytes: None,
    };
    let (mut number, mut timed) = (0, 0.0);
    for epoch in 0.. {
        let before = memory::live_bytes();
        let mut batches = loader.epoch(epoch);
        let order = memory::live_bytes() - before;
        loop {
            let start = Instant::now();
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
            course.samples.push(Sample { data, step: seconds, parts, macs });
            timed += seconds;
            if peaks.highest.bytes() > course.peaks.highest.bytes() {
                course.peaks = peaks;
            }
            if course.samples.len() >= length.timed && timed >= length.seconds {
                course.high_water_bytes = memory::high_water_bytes();
                return Ok(course);
            }
        }
    }
    unreachable!("there is an epoch after every epoch")
}

/// In seconds; zero without samples.
fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut all: Vec<f64> = samples.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    let upper = all.get(all.len() / 2).copied().unwrap_or_default();
    let lower = all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    f64::midpoint(lower, upper)
}

fn summary(what: What, batch: usize, course: &Course, fixed: Footprint) -> Measured {
    let samples = &course.samples[..];
    let memory = owners(fixed, course.peaks.highest);
    let peak_bytes = memory.total();
    let machine = Machine {
        macs_per_second: ops::peak::macs_per_second(),
        bytes_per_second: ops::peak::bytes_per_second(peak_bytes),
    };
    let median_ms = |of: fn(&Sample) -> f64| 1e3 * median(samples, of);
    let steps = || samples.iter().map(|s| 1e3 * s.step);
    let step_ms = median_ms(|s| s.step);
    let per_second = 1e3 / step_ms;
    let macs = samples.iter().map(|s| s.macs).sum::<u64>() / samples.len().max(1) as u64;
    Measured {
        what,
        method: None,
        batch,
        threads: rayon::current_num_threads(),
        steps: samples.len(),
        step_ms,
        step_ms_min: steps().reduce(f64::min).unwrap_or_default(),
        step_ms_max: steps().reduce(f64::max).unwrap_or_default(),
        forward_ms: median_ms(|s| s.parts.forward),
        backward_ms: median_ms(|s| s.parts.backward),
        optimizer_ms: median_ms(|s| s.parts.optimizer),
        data_ms: median_ms(|s| s.data),
        images_per_second: batch as f64 * per_second,
        macs,
        macs_per_second: macs as f64 * per_second,
        share_of_peak: macs as f64 * per_second / machine.macs_per_second,
        share_of_bandwidth: 2.0 * peak_bytes as f64 * per_second / machine.bytes_per_second,
        peak_bytes,
        memory,
        predicted: None,
        resident_bytes: None,
        machine,
    }
}
