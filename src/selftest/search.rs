//! A short search and a supernet step on the pictures that come with the program.

use super::{Check, compare, on_cpu};
use crate::bench::{self, Measured, Subject};
use crate::data::{self, Dataset, Loader};
use crate::manifest::{self, Manifest, Overrides, SearchTask};
use crate::monitor::{Checkpoints, Monitor};
use crate::net::Network;
use crate::progress::Quiet;
use crate::record::{Metric, Recorder};
use crate::rng::Seed;
use crate::search::{self, SearchData};
use anyhow::{Context, Result};
use candle_core::Device;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const MANIFEST: &str = include_str!("../../experiments/smoke.toml");
const SPACE: &str = include_str!("../../experiments/spaces/smoke.toml");

/// A search of two epochs of six steps.
const SETTINGS: [&str; 4] =
    ["scale=0.25", "search.epochs=2", "search.images=240", "search.batch_size=8"];

const STEPS_PER_EPOCH: usize = 6;

/// Images of a step that is timed.
const BATCH: usize = 64;

const EVALUATION_TOLERANCE: f64 = 1e-5;

/// A manifest and its images.
pub struct Smoke {
    manifest: Manifest,
    dataset: Dataset,
}

/// The losses of all steps on both devices.
#[derive(Clone, Debug, PartialEq)]
pub struct SmokeResult {
    pub device: Vec<f64>,
    pub cpu: Vec<f64>,
}

impl SmokeResult {
    /// The largest relative difference that passes at a step. On the emulator, over several seeds and
    /// instruction sets of the CPU, losses differed by up to 1.7e-7 in the first epoch, which trains
    /// weights only, and then by up to 1e-5: Adam takes steps of one size however small a gradient is, so
    /// the rounding of a gradient near zero can change the architecture parameters visibly.
    #[must_use]
    pub fn tolerance(step: usize) -> f64 {
        if step < STEPS_PER_EPOCH { 1e-6 } else { 1e-4 }
    }

    #[must_use]
    pub fn passes(&self) -> bool {
        // A difference that is not a number fails.
        let near = |(step, (device, cpu)): (usize, (&f64, &f64))| {
            (device - cpu).abs() / cpu <= Self::tolerance(step)
        };
        self.device.len() == self.cpu.len()
            && self.device.iter().zip(&self.cpu).enumerate().all(near)
    }
}

/// Keeps the losses of the supernet's steps.
struct Losses(Vec<f64>);

impl Recorder for Losses {
    fn measure(&mut self, _: u64, metrics: &[(Metric, f64)]) -> Result<()> {
        let losses = metrics.iter().filter(|(metric, _)| *metric == Metric::SEARCH_STEP_LOSS);
        self.0.extend(losses.map(|(_, loss)| loss));
        Ok(())
    }
}

impl Smoke {
    /// Reads the manifest and the images, which are all part of the program.
    ///
    /// # Errors
    /// When they do not fit each other.
    pub fn new() -> Result<Self> {
        let overrides = Overrides { sets: SETTINGS.map(str::to_owned).to_vec(), seeds: Vec::new() };
        let manifest = manifest::parse(Path::new("smoke.toml"), (MANIFEST, SPACE), &overrides)?;
        let dataset = data::load(&manifest.data, Path::new(""))?;
        Ok(Self { manifest, dataset })
    }

    /// Searches on `device` and on the CPU.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn search(&self, device: &Device) -> Result<SmokeResult> {
        let losses = self.losses(device)?;
        Ok(SmokeResult { device: losses, cpu: on_cpu(|| self.losses(&Device::Cpu))? })
    }

    fn task(&self) -> Result<&SearchTask> {
        self.manifest.search().context("the manifest has no search")
    }

    fn losses(&self, device: &Device) -> Result<Vec<f64>> {
        let SearchTask { space, config, methods, .. } = self.task()?;
        let mut losses = Losses(Vec::new());
        let stop = AtomicBool::new(false);
        let checkpoints = &mut Checkpoints::none();
        let monitor =
            &mut Monitor { recorder: &mut losses, progress: &Quiet, stop: &stop, checkpoints };
        let indices: Vec<usize> = (0..config.images.unwrap_or(BATCH)).collect();
        let images = SearchData { dataset: &self.dataset, indices: &indices, device };
        search::search(space, images, &methods[0], config, Seed(1), monitor)?;
        Ok(losses.0)
    }

    /// Evaluates a new network on test images, with batch norm folded into its weights, on `device` and on
    /// the CPU. Logits are compared, since a new network's loss hardly depends on them.
    ///
    /// # Errors
    /// When the space has no network.
    pub fn evaluation(&self, device: &Device) -> Result<Check> {
        let space = &self.task()?.space;
        let arch = space.decide(&search::draw(space, None, &mut Seed(1).stream("selftest", 0))?);
        let name = format!("evaluation of a new network on {BATCH} images");
        Ok(compare((name, EVALUATION_TOLERANCE), device, |device| {
            let (net, params) = Network::of_arch(&arch, Seed(1), device)?;
            let test = (0..BATCH).collect();
            let loader = Loader::evaluation(&self.dataset, &self.dataset.test, test, BATCH);
            let images = loader.on(device).epoch(0).next();
            let images = images.unwrap_or_else(|| candle_core::bail!("there are no images"))?;
            Ok(vec![("logits", net.freeze(&params)?.forward(&images.xs)?)])
        }))
    }

    /// Time and memory of a supernet step on `device` and on the CPU.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn step(&self, device: &Device) -> Result<(Measured, Measured)> {
        let task = self.task()?;
        let subject = Subject::Supernet(task, &task.methods[0]);
        let measure =
            |device| bench::measure(&self.manifest, &self.dataset, subject, (BATCH, 5), device);
        Ok((measure(device)?, on_cpu(|| measure(&Device::Cpu))?))
    }
}
