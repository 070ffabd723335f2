//! How fast and how large: steps of a supernet, of a derived network, and evaluation, with the real
//! operators, the real loader and the recipe of a manifest.

use crate::data::{Batch, Dataset, Loader};
use crate::manifest::Manifest;
use crate::memory;
use crate::net::Net;
use crate::nn::Pass;
use crate::rng::Seed;
use crate::search::Dmasking;
use crate::space::ArchSpec;
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
    /// A decided network in inference.
    Eval,
}

/// What a step took: medians over the steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    pub what: What,
    pub batch: usize,
    pub threads: usize,
    pub steps: usize,
    pub step_ms: f64,
    pub step_ms_min: f64,
    pub step_ms_max: f64,
    pub forward_ms: f64,
    pub backward_ms: f64,
    pub optimizer_ms: f64,
    /// Making the batch, which is not part of the step.
    pub data_ms: f64,
    pub images_per_second: f64,
    /// The most bytes allocated at once, above what was there before the network was built.
    pub peak_bytes: u64,
    /// How far the resident size rose above that of the idle process; `None` where the operating
    /// system does not tell.
    pub resident_bytes: Option<u64>,
}

/// Steps before the timed ones.
const WARM_UP: usize = 3;

/// One timed step: the batch, its parts and the whole, in seconds.
struct Sample {
    data: f64,
    step: f64,
    parts: StepSeconds,
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
    let indices: Vec<usize> = (0..dataset.train.len()).collect();
    let loader = Loader::training(dataset, indices, batch, manifest.search.augment, seed, "bench");
    anyhow::ensure!(loader.batches() > 0, "a batch of {batch} is more than all images");
    let idle = (memory::live_bytes(), memory::resident_bytes());
    memory::reset_peak();
    memory::reset_high_water();
    let samples = match what {
        What::Supernet => {
            let config = &manifest.search;
            let mut state = Dmasking::new(&manifest.space, config, seed, &Device::Cpu)?;
            let (tau, rate) = (config.temperature.initial, config.weights.learning_rate);
            run(&loader, steps, |batch, step| {
                Ok(state.weight_step(batch, step, tau, rate)?.seconds)
            })?
        }
        What::Network => {
            let arch = arch.context("no architecture to time")?;
            let (net, mut params) = Net::of_arch(arch, seed, &Device::Cpu)?;
            let config = &manifest.train;
            let mut optimizer = SgdState::new(config.optimizer, &params)?;
            let rate = config.optimizer.learning_rate;
            run(&loader, steps, |batch, _| {
                let target = (&batch.labels[..], config.label_smoothing);
                let forward = |pass: &mut Pass<'_>| net.forward(pass, &batch.xs);
                Ok(sgd_step(&mut params, &mut optimizer, rate, target, config.recompute, forward)?
                    .seconds)
            })?
        }
        What::Eval => {
            let arch = arch.context("no architecture to time")?;
            let (net, mut params) = Net::of_arch(arch, seed, &Device::Cpu)?;
            run(&loader, steps, |batch, _| {
                let start = Instant::now();
                net.forward(&mut Pass::inference(&mut params), &batch.xs)?;
                let forward = start.elapsed().as_secs_f64();
                Ok(StepSeconds { forward, ..StepSeconds::default() })
            })?
        }
    };
    let peak_bytes = memory::peak_bytes().saturating_sub(idle.0);
    let resident = memory::high_water_bytes().zip(idle.1);
    let resident_bytes = resident.map(|(peak, idle)| peak.saturating_sub(idle));
    Ok(summary(what, batch, &samples, peak_bytes, resident_bytes))
}

fn run(
    loader: &Loader<'_>,
    steps: usize,
    mut step: impl FnMut(&Batch, u64) -> Result<StepSeconds>,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::with_capacity(steps);
    let mut number = 0;
    for epoch in 0.. {
        let mut batches = loader.epoch(epoch);
        loop {
            let start = Instant::now();
            let Some(batch) = batches.next() else { break };
            let batch = batch?;
            let ready = Instant::now();
            let parts = step(&batch, number as u64)?;
            let sample = Sample {
                data: (ready - start).as_secs_f64(),
                step: ready.elapsed().as_secs_f64(),
                parts,
            };
            if number >= WARM_UP {
                samples.push(sample);
            }
            number += 1;
            if samples.len() == steps {
                return Ok(samples);
            }
        }
    }
    Ok(samples)
}

fn summary(
    what: What,
    batch: usize,
    samples: &[Sample],
    peak_bytes: u64,
    resident_bytes: Option<u64>,
) -> Measured {
    let sorted = |of: &dyn Fn(&Sample) -> f64| {
        let mut all: Vec<f64> = samples.iter().map(|s| 1e3 * of(s)).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let median = |of: &dyn Fn(&Sample) -> f64| {
        let all = sorted(of);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let steps = sorted(&|s| s.step);
    let step_ms = median(&|s| s.step);
    Measured {
        what,
        batch,
        threads: rayon::current_num_threads(),
        steps: samples.len(),
        step_ms,
        step_ms_min: steps.first().copied().unwrap_or_default(),
        step_ms_max: steps.last().copied().unwrap_or_default(),
        forward_ms: median(&|s| s.parts.forward),
        backward_ms: median(&|s| s.parts.backward),
        optimizer_ms: median(&|s| s.parts.optimizer),
        data_ms: median(&|s| s.data),
        images_per_second: batch as f64 / step_ms * 1e3,
        peak_bytes,
        resident_bytes,
    }
}
