//! Steps of weights that networks share.

use super::timing::{Idle, Length, Samples, Source, all_images, held, median, owners, time_steps};
use crate::cost::{self, Footprint};
use crate::data::Dataset;
use crate::recipe::{StepConfig, StepExtras, StepKind};
use crate::record::{StepUsage, Work};
use crate::rng::Seed;
use crate::search::{Paths, draw, relaxation};
use crate::space::SearchSpace;
use anyhow::Result;
use candle_core::Device;

/// τ of the gates. A step takes the same at every temperature.
const TAU: f64 = 5.0;

/// Time and memory of one step of a supernet's weights on the CPU.
///
/// # Errors
/// When there are too few images, or an operator fails.
pub fn supernet_step(
    space: &SearchSpace,
    config: &StepConfig,
    dataset: &Dataset,
    seed: Seed,
    length: Length,
) -> Result<StepUsage> {
    let loader = all_images(dataset, config.batch_size, config.augment, seed)?;
    let idle = Idle::now(&Device::Cpu)?;
    let source = Source { loader: &loader, device: &Device::Cpu, idle_bytes: idle.live_bytes };
    let (samples, fixed) = steps(space, config, seed, source, length)?;
    let (timed, peaks) = (&samples.steps, samples.peaks);
    let owners = owners(fixed, peaks.highest);
    Ok(StepUsage {
        seconds: median(timed, |s| s.step),
        forward_seconds: median(timed, |s| s.parts.forward),
        backward_seconds: median(timed, |s| s.parts.backward),
        optimizer_seconds: median(timed, |s| s.parts.optimizer),
        peak_bytes: owners.total(),
        forward_bytes: peaks.forward,
        backward_bytes: peaks.backward,
        optimizer_bytes: peaks.after,
        weight_bytes: owners.weights,
        velocity_bytes: owners.optimizer,
        activation_bytes: owners.activations,
        gradient_bytes: owners.gradients,
        scratch_bytes: owners.scratch,
        resident_bytes: idle.growth(&samples),
        other_cores: None,
    })
}

/// Steps of either kind, and what the weights and their optimizer hold throughout.
pub(super) fn steps(
    space: &SearchSpace,
    config: &StepConfig,
    seed: Seed,
    source: Source<'_>,
    length: Length,
) -> Result<(Samples, Footprint)> {
    match config.kind {
        StepKind::Gated(..) => gated(space, config, seed, source, length),
        StepKind::Path => paths(space, config, seed, source, length),
    }
}

/// Steps of the weights of a supernet under gates, all options at once.
fn gated(
    space: &SearchSpace,
    config: &StepConfig,
    seed: Seed,
    source: Source<'_>,
    length: Length,
) -> Result<(Samples, Footprint)> {
    let mut state = relaxation(space, config, seed, source.device)?;
    let fixed = held(state.params(), Some(StepExtras::default()))?;
    let samples = time_steps(source, length, |batch, step| {
        let before = state.work().macs;
        let seconds = state.weight_step(batch, step, TAU, config.weights.learning_rate)?.seconds;
        Ok((seconds, state.work().macs - before))
    })?;
    Ok((samples, fixed))
}

/// Steps of shared weights, each of one network that is drawn for it.
fn paths(
    space: &SearchSpace,
    config: &StepConfig,
    seed: Seed,
    source: Source<'_>,
    length: Length,
) -> Result<(Samples, Footprint)> {
    let mut paths = Paths::new(space, (config.weights, config.recompute), seed, source.device)?;
    let fixed = held(paths.weights().params(), Some(StepExtras::default()))?;
    let samples = time_steps(source, length, |batch, step| {
        let path = draw(space, None, &mut seed.stream("paths/draw", step))?;
        let seconds = paths.step(&path, batch, config.weights.learning_rate)?.seconds;
        let mut work = Work::default();
        work.add_training(cost::count(&space.decide(&path)).macs, batch.labels.len());
        Ok((seconds, work.macs))
    })?;
    Ok((samples, fixed))
}
