//! Time and memory of steps: of a supernet, of a derived network, and of evaluation, with the operators,
//! the loader and the recipe of a real run.

mod supernet;
mod timing;

pub use supernet::supernet_step;
pub use timing::Length;

use crate::cost::{self, Backend, Footprint, StepSetting};
use crate::data::Dataset;
use crate::manifest::{Manifest, SearchTask};
use crate::memory;
use crate::net::Network;
use crate::ops;
use crate::ops::gpu::{self, Traffic};
use crate::recipe::{Method, StepExtras, StepKind, SupernetKind, TrainConfig};
use crate::record::Work;
use crate::rng::Seed;
use crate::space::ArchSpec;
use crate::train::{NetworkTraining, StepSeconds};
use anyhow::{Context, Result};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::time::Instant;
use timing::{
    Idle, Sample, Samples, Source, all_images, held, live_bytes, median, owners, time_steps,
};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// One step of the supernet's weights.
    Supernet,
    /// One training step of a network.
    Network,
    /// Inference with a network that was frozen beforehand.
    Eval,
}

/// What is timed, with the method or network that it needs.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A step of the weights that the networks of this method share.
    Supernet(&'a SearchTask, &'a Method),
    Network(&'a ArchSpec),
    Eval(&'a ArchSpec),
}

impl Subject<'_> {
    #[must_use]
    pub fn what(&self) -> What {
        match self {
            Self::Supernet(..) => What::Supernet,
            Self::Network(_) => What::Network,
            Self::Eval(_) => What::Eval,
        }
    }
}

/// What a step took: medians over the steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    pub what: What,
    /// The method of the supernet; `None` for a network.
    pub method: Option<&'static str>,
    pub batch: usize,
    pub threads: usize,
    pub steps: usize,
    pub step_ms: f64,
    pub step_ms_min: f64,
    pub step_ms_max: f64,
    /// Including the loss. `None` on a GPU like the next two: the host only queues work there, and waits
    /// at the end of the step.
    pub forward_ms: Option<f64>,
    pub backward_ms: Option<f64>,
    pub optimizer_ms: Option<f64>,
    /// Making the batch, which is not part of the step.
    pub data_ms: f64,
    pub images_per_second: f64,
    /// What a step and its batch ask of a GPU; zeros on the CPU.
    pub traffic: StepTraffic,
    /// The network's multiply-accumulates in a step: those of its layers, three times where it
    /// trains (forward, and backward to inputs and weights).
    pub macs: u64,
    pub macs_per_second: f64,
    /// `macs_per_second` as a share of `machine.macs_per_second`.
    pub share_of_peak: f64,
    /// The same of `machine.bytes_per_second`, if every byte of the peak is read and written once.
    pub share_of_bandwidth: f64,
    /// The most bytes allocated at once in a timed step, without those from before the network was built,
    /// the data set and the order of its images. The sum of `memory`. Of a GPU's memory where the steps
    /// ran on one.
    pub peak_bytes: u64,
    /// The owners of the peak's bytes. In inference the weights include those packed for the kernels.
    /// `None` on a GPU, where they are not traced.
    pub memory: Option<Footprint>,
    /// The prediction of the memory model; `None` where it does not cover the step.
    pub predicted: Option<Footprint>,
    /// How far the resident size rose above that of the idle process since the network was built, without
    /// pages of the program itself; `None` where the operating system does not report it, and on a GPU.
    pub resident_bytes: Option<u64>,
    pub machine: MachinePeaks,
}

/// What a step asks of a GPU and moves to it and from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepTraffic {
    /// Kernels and matrix products.
    pub launches: u64,
    pub uploads: u64,
    pub uploaded_bytes: u64,
    /// For each the host waits.
    pub downloads: u64,
    pub downloaded_bytes: u64,
}

impl StepTraffic {
    /// The mean over the steps.
    fn mean(samples: &[Sample]) -> Self {
        let mean = |of: fn(&Traffic) -> u64| {
            samples.iter().map(|s| of(&s.traffic)).sum::<u64>() / samples.len().max(1) as u64
        };
        Self {
            launches: mean(|t| t.launches),
            uploads: mean(|t| t.uploads),
            uploaded_bytes: mean(|t| t.uploaded_bytes),
            downloads: mean(|t| t.downloads),
            downloaded_bytes: mean(|t| t.downloaded_bytes),
        }
    }
}

/// The peak rates of the machine, measured after the steps; zeros where the steps ran on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MachinePeaks {
    /// Multiply-accumulates per second in registers, see [`ops::peak::macs_per_second`].
    pub macs_per_second: f64,
    /// Bytes read and written per second in as much memory as the peak takes, see
    /// [`ops::peak::bytes_per_second`].
    pub bytes_per_second: f64,
}

/// Steps of [`measure`] before the timed ones.
const WARM_UP: usize = 3;

/// Times `steps` steps of `batch` images on `device`, whose memory is counted.
///
/// # Errors
/// When an operator fails, or the method shares no weights.
pub fn measure(
    manifest: &Manifest,
    dataset: &Dataset,
    target: Subject<'_>,
    (batch, steps): (usize, usize),
    device: &Device,
) -> Result<Measured> {
    ops::gpu::set_precision(manifest.precision);
    let seed = Seed(manifest.seeds[0]);
    let augment = match target {
        Subject::Supernet(task, _) => task.config.augment,
        Subject::Network(_) | Subject::Eval(_) => recipe(manifest)?.augment,
    };
    let loader = all_images(dataset, batch, augment, seed)?.on(device);
    let length = Length { warm_up: WARM_UP, timed: steps, seconds: 0.0 };
    let backend = gpu::backend(device)?;
    let idle = Idle::now(device)?;
    let source = Source { loader: &loader, device, idle_bytes: idle.live_bytes };
    let (samples, fixed) = match target {
        Subject::Supernet(task, method) => {
            let config = task.config.step(method);
            let config = config.with_context(|| format!("{} has no supernet", method.name()))?;
            supernet::steps(&task.space, &config, seed, source, length)?
        }
        Subject::Network(arch) => training(manifest, arch, seed, source, length)?,
        Subject::Eval(arch) => evaluation(arch, seed, source, length)?,
    };
    let resident_bytes = idle.growth(&samples).filter(|_| backend == Backend::Cpu);
    let predicted = predicted(manifest, target, (batch, dataset.width), device);
    let method = match target {
        Subject::Supernet(_, method) => Some(method.name().as_str()),
        Subject::Network(_) | Subject::Eval(_) => None,
    };
    let summary = summary((target.what(), backend), batch, &samples, fixed);
    Ok(Measured { method, predicted, resident_bytes, ..summary })
}

/// How the manifest trains networks.
fn recipe(manifest: &Manifest) -> Result<&TrainConfig> {
    manifest.train().context("the manifest trains no network: it has [search.table]")
}

/// Training steps of a network, and the bytes that its weights and their optimizer always hold.
fn training(
    manifest: &Manifest,
    arch: &ArchSpec,
    seed: Seed,
    source: Source<'_>,
    length: Length,
) -> Result<(Samples, Footprint)> {
    let (net, mut params) = Network::of_arch(arch, seed, source.device)?;
    let config = recipe(manifest)?;
    let fixed = held(&params, Some(config.extras()))?;
    let rate = config.optimizer.sgd.learning_rate;
    let mut network = NetworkTraining::new(&net, &mut params, config, (seed, "bench"))?;
    let samples = time_steps(source, length, |batch, number| {
        let step = network.step(batch, number, rate)?;
        let mut work = Work::default();
        work.add_training(cost::count(arch).macs, batch.labels.len());
        Ok((step.seconds, work.macs))
    })?;
    Ok((samples, fixed))
}

/// Forward passes of a frozen network, and the bytes that its weights always hold.
fn evaluation(
    arch: &ArchSpec,
    seed: Seed,
    source: Source<'_>,
    length: Length,
) -> Result<(Samples, Footprint)> {
    let (net, params) = Network::of_arch(arch, seed, source.device)?;
    let fixed = held(&params, None)?;
    let device = source.device;
    let on_gpu = gpu::in_use(device)?;
    let before = live_bytes(device)?;
    let network = net.freeze(&params)?;
    // As the kernels read them.
    let frozen = live_bytes(device)?.saturating_sub(before);
    let fixed = Footprint { weights: fixed.weights + frozen, ..fixed };
    let samples = time_steps(source, length, |batch, _| {
        let start = Instant::now();
        let logits = network.forward(&batch.xs)?;
        if on_gpu {
            // Waits for it.
            gpu::download(&logits)?;
        }
        let forward = start.elapsed().as_secs_f64();
        memory::map_made(|| 4 * logits.elem_count() as u64);
        let mut work = Work::default();
        work.add_inference(cost::count(arch).macs, batch.labels.len());
        Ok((StepSeconds { forward, ..StepSeconds::default() }, work.macs))
    })?;
    Ok((samples, fixed))
}

/// The memory model's prediction for a step on `batch` images of that side; `None` where it does not cover
/// the step.
#[must_use]
pub fn predicted(
    manifest: &Manifest,
    target: Subject<'_>,
    (batch, side): (usize, usize),
    device: &Device,
) -> Option<Footprint> {
    let backend = gpu::backend(device).ok()?;
    let setting = |recompute, extras| StepSetting {
        batch,
        threads: rayon::current_num_threads(),
        recompute,
        extras,
        backend,
    };
    match target {
        Subject::Network(arch) => {
            let train = manifest.train()?;
            let setting = setting(train.recompute, train.extras());
            Some(cost::network_step(arch, side, setting))
        }
        Subject::Supernet(SearchTask { space, config, .. }, method) => {
            let config = config.step(method)?;
            let setting = setting(config.recompute, StepExtras::default());
            match config.kind {
                StepKind::Gated(SupernetKind::Masked(_), _) => {
                    Some(cost::masked_step(space, setting))
                }
                StepKind::Gated(SupernetKind::Explicit, _) => {
                    Some(cost::explicit_step(space, setting))
                }
                StepKind::Path => None,
            }
        }
        Subject::Eval(_) => None,
    }
}

fn summary(
    (what, backend): (What, Backend),
    batch: usize,
    samples: &Samples,
    fixed: Footprint,
) -> Measured {
    let memory = owners(fixed, samples.peaks.highest);
    let samples = &samples.steps[..];
    let peak_bytes = memory.total();
    let on_gpu = backend != Backend::Cpu;
    let machine = if on_gpu {
        MachinePeaks::default()
    } else {
        MachinePeaks {
            macs_per_second: ops::peak::macs_per_second(),
            bytes_per_second: ops::peak::bytes_per_second(peak_bytes),
        }
    };
    let share = |rate: f64, peak: f64| if on_gpu { 0.0 } else { rate / peak };
    let median_ms = |of: fn(&Sample) -> f64| 1e3 * median(samples, of);
    let part_ms = |of: fn(&Sample) -> f64| (!on_gpu).then(|| median_ms(of));
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
        forward_ms: part_ms(|s| s.parts.forward),
        backward_ms: part_ms(|s| s.parts.backward),
        optimizer_ms: part_ms(|s| s.parts.optimizer),
        data_ms: median_ms(|s| s.data),
        images_per_second: batch as f64 * per_second,
        traffic: StepTraffic::mean(samples),
        macs,
        macs_per_second: macs as f64 * per_second,
        share_of_peak: share(macs as f64 * per_second, machine.macs_per_second),
        share_of_bandwidth: share(2.0 * peak_bytes as f64 * per_second, machine.bytes_per_second),
        peak_bytes,
        memory: (backend != Backend::Gpu).then_some(memory),
        predicted: None,
        resident_bytes: None,
        machine,
    }
}
