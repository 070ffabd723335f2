//! A short search and a supernet step on the pictures that come with the program.

use super::on_cpu;
use crate::bench::{self, Measured, Subject};
use crate::data::{self, Dataset, Split};
use crate::manifest::{self, Manifest, Overrides};
use crate::monitor::Monitor;
use crate::net::Network;
use crate::progress::Quiet;
use crate::record::{Metric, Phase, PhaseUsage, Recorder, SearchedArchitecture};
use crate::rng::Seed;
use crate::search::{self, SearchData};
use anyhow::{Context, Result};
use candle_core::Device;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const MANIFEST: &str = include_str!("../../experiments/smoke.toml");
const SPACE: &str = include_str!("../../experiments/spaces/smoke.toml");

/// A search of 12 steps.
const SETTINGS: [&str; 4] =
    ["scale=0.25", "search.epochs=2", "search.images=240", "search.batch_size=8"];

/// Images of a step that is timed.
const BATCH: usize = 64;

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
    /// The loss of a fresh network on the test images, by the operators of inference.
    pub evaluated: (f64, f64),
}

impl SmokeResult {
    /// The largest relative difference that passes at a step. A loss differs by rounding, and each step
    /// of SGD amplifies differences.
    #[must_use]
    pub fn tolerance(step: usize) -> f64 {
        1e-5 * 2f64.powi(step as i32)
    }

    #[must_use]
    pub fn passes(&self) -> bool {
        let near = |step: usize, (a, b): (&f64, &f64)| (a - b).abs() <= Self::tolerance(step) * b;
        let mut steps = self.device.iter().zip(&self.cpu).enumerate();
        self.device.len() == self.cpu.len()
            && steps.all(|(step, losses)| near(step, losses))
            && near(0, (&self.evaluated.0, &self.evaluated.1))
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

    fn phase_started(&mut self, _: Phase) -> Result<()> {
        Ok(())
    }

    fn phase_finished(&mut self, _: Phase, _: PhaseUsage) -> Result<()> {
        Ok(())
    }

    fn architecture(&mut self, _: &SearchedArchitecture) -> Result<()> {
        Ok(())
    }
}

impl Smoke {
    /// Reads the manifest and the images; `folder` is an empty folder to work in.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let spaces = folder.join("spaces");
        fs::create_dir_all(&spaces).with_context(|| spaces.display().to_string())?;
        fs::write(spaces.join("smoke.toml"), SPACE)?;
        let path = folder.join("smoke.toml");
        fs::write(&path, MANIFEST)?;
        let sets = SETTINGS.map(str::to_owned).to_vec();
        let manifest = manifest::load(&path, &Overrides { sets, seeds: Vec::new() })?;
        let dataset = data::load(&manifest.data, folder)?;
        Ok(Self { manifest, dataset })
    }

    /// Searches on `device` and on the CPU, and evaluates a network on both.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn search(&self, device: &Device) -> Result<SmokeResult> {
        let (found, evaluated) = self.on(device)?;
        let (cpu, expected) = on_cpu(|| self.on(&Device::Cpu))?;
        Ok(SmokeResult { device: found, cpu, evaluated: (evaluated, expected) })
    }

    fn on(&self, device: &Device) -> Result<(Vec<f64>, f64)> {
        let Manifest { space, search, methods, .. } = &self.manifest;
        let mut losses = Losses(Vec::new());
        let stop = AtomicBool::new(false);
        let monitor = &mut Monitor { recorder: &mut losses, progress: &Quiet, stop: &stop };
        let indices: Vec<usize> = (0..search.images.unwrap_or(BATCH)).collect();
        let images = SearchData { dataset: &self.dataset, indices: &indices, device };
        search::search(space, images, &methods[0], search, Seed(1), monitor)?;
        let arch = space.decide(&search::draw(space, None, &mut Seed(1).stream("selftest", 0))?);
        let (net, params) = Network::of_arch(&arch, Seed(1), device)?;
        let test = (0..self.dataset.test.len()).collect();
        let split: &Split = &self.dataset.test;
        let score = crate::train::evaluate(&net, &params, &self.dataset, split, test)?;
        Ok((losses.0, score.loss))
    }

    /// Time and memory of a supernet step on `device` and on the CPU.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn step(&self, device: &Device) -> Result<(Measured, Measured)> {
        let subject = Subject::Supernet(&self.manifest.methods[0]);
        let measure =
            |device| bench::measure(&self.manifest, &self.dataset, subject, (BATCH, 5), device);
        Ok((measure(device)?, on_cpu(|| measure(&Device::Cpu))?))
    }
}
