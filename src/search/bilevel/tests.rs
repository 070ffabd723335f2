//! The order of steps, and what each of them is given.

use super::*;
use crate::data::{self, Dataset};
use crate::manifest::{self, Overrides};
use crate::monitor::Checkpoints;
use crate::progress::Quiet;
use crate::recipe::{Augment, MethodName};
use crate::record::NullRecorder;
use crate::train::{StepSeconds, learning_rate};
use candle_core::Device;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A step and its arguments.
#[derive(Clone, Debug, PartialEq)]
enum Call {
    Weights { images: Vec<f32>, step: u64, tau: f64, rate: f64 },
    Alpha { images: Vec<f32>, next: Option<(Vec<f32>, f64)>, step: u64, tau: f64 },
}

/// Learns nothing, and keeps the calls.
struct Fake {
    alpha: ArchParams,
    params: Params,
    calls: Vec<Call>,
}

/// The first pixel of each image, which tells the images of these tests apart.
fn first_pixels(batch: &Batch) -> Vec<f32> {
    let xs = batch.xs.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    xs.into_iter().map(|image| image[0]).collect()
}

fn result() -> BatchLoss {
    BatchLoss { loss: 1.0, correct: 0.0 }
}

impl Relaxation for Fake {
    fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step> {
        let images = first_pixels(batch);
        self.calls.push(Call::Weights { images, step, tau, rate });
        Ok(Step { result: result(), seconds: StepSeconds::default(), fault: None })
    }

    fn alpha_step(
        &mut self,
        _: &AlphaConfig,
        batch: &Batch,
        next: Option<NextBatch<'_>>,
        step: u64,
        tau: f64,
    ) -> Result<AlphaStep> {
        let next = next.map(|next| (first_pixels(next.batch), next.rate));
        self.calls.push(Call::Alpha { images: first_pixels(batch), next, step, tau });
        Ok(AlphaStep { result: result(), loss: 1.0, cost: 1.0 })
    }

    fn alpha(&self) -> &ArchParams {
        &self.alpha
    }
    fn params(&self) -> &Params {
        &self.params
    }
    fn work(&self) -> Work {
        Work::default()
    }
    fn save(&self, _: &mut Stage) -> Result<()> {
        Ok(())
    }
    fn restore(&mut self, _: &Stage) -> Result<()> {
        Ok(())
    }
}

/// The calls of a search of three epochs, the first without α, on the images 0 to 95: 64 in the weight
/// split, in 4 batches, and 32 in the architecture split, in 2. The first pixel of image i is i.
fn calls(method: MethodName) -> (Vec<Call>, GradientSearch, SearchConfig) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
    let sets = vec![format!("search.method={method}")];
    let manifest = manifest::load(&path, &Overrides { sets, seeds: Vec::new() }).unwrap();
    let mut gradient = manifest.search().unwrap().methods[0].gradient().unwrap();
    gradient.alpha.warmup_epochs = 1;
    let mut config = manifest.search().unwrap().config.clone();
    (config.weight_share, config.batch_size) = (2.0 / 3.0, 16);
    (config.epochs, config.augment) = (3, Augment::default());
    let mut dataset = data::load(&manifest.data, Path::new("/nowhere")).unwrap();
    number_images(&mut dataset);
    let params =
        SharedWeights::new(&manifest.search().unwrap().space, Seed(1), &Device::Cpu).unwrap();
    let (alpha, params) =
        (ArchParams::new(&manifest.search().unwrap().space), params.params().clone());
    let mut fake = Fake { alpha, params, calls: Vec::new() };
    let (indices, stop) = ((0..96).collect::<Vec<_>>(), AtomicBool::new(false));
    let data = SearchData { dataset: &dataset, indices: &indices, device: &Device::Cpu };
    let (recorder, checkpoints) = (&mut NullRecorder(None), &mut Checkpoints::none());
    let mut monitor = Monitor { recorder, progress: &Quiet, stop: &stop, checkpoints };
    learn(
        &mut fake,
        &manifest.search().unwrap().space,
        data,
        (&gradient, &config),
        Seed(1),
        &mut monitor,
    )
    .unwrap();
    (fake.calls, gradient, config)
}

fn number_images(dataset: &mut Dataset) {
    dataset.normalisation = data::Normalisation { mean: vec![0.0], sd: vec![1.0 / 255.0] };
    let data::Images::Memory(pixels) = &mut dataset.train.images else { panic!("in memory") };
    let size = pixels.height * pixels.width;
    for i in 0..96 {
        pixels.bytes[i * size] = i as u8;
    }
}

/// Every pass of `batches` steps sees all of these images once, and no two passes have the same
/// order.
fn assert_passes(images: &[Vec<f32>], batches: usize, all: std::ops::Range<usize>) {
    let passes: Vec<Vec<f32>> = images.chunks(batches).map(<[_]>::concat).collect();
    for pass in &passes {
        let mut sorted: Vec<usize> = pass.iter().map(|pixel| pixel.round() as usize).collect();
        sorted.sort_unstable();
        assert_eq!(sorted, all.clone().collect::<Vec<_>>());
    }
    for (i, pass) in passes.iter().enumerate() {
        assert!(!passes[..i].contains(pass), "pass {i} repeats an order");
    }
}

#[test]
fn each_step_gets_its_images_temperature_and_rate() {
    for method in [MethodName::Dmasking, MethodName::Darts2] {
        let (calls, gradient, config) = calls(method);
        let tau_of = |epoch| gradient.temperature.at(epoch, config.epochs);
        let (mut weight_batches, mut alpha_batches) = (Vec::new(), Vec::new());
        let length = LoopLength { epochs: 3, per_epoch: 4 };
        let mut taus = Vec::new();
        for (i, one) in calls.iter().enumerate() {
            match one {
                Call::Weights { images, step, tau, rate } => {
                    assert_eq!(*step, weight_batches.len() as u64, "{method:?}");
                    assert_eq!(*rate, learning_rate(&config.weights, *step, length), "{method:?}");
                    taus.push(*tau);
                    weight_batches.push(images.clone());
                }
                Call::Alpha { images, next, step, tau } => {
                    assert_eq!(*step, alpha_batches.len() as u64, "{method:?}");
                    let epoch = match method {
                        MethodName::Darts2 => weight_batches.len() / 4,
                        _ => (weight_batches.len() - 1) / 4,
                    };
                    assert_eq!(*tau, tau_of(epoch), "{method:?}");
                    // A step of second order gets the next batch of the weights.
                    let following = match &calls.get(i + 1) {
                        Some(Call::Weights { images, rate, .. }) => Some((images.clone(), *rate)),
                        _ => None,
                    };
                    let second_order = method == MethodName::Darts2;
                    assert_eq!(*next, following.filter(|_| second_order));
                    alpha_batches.push(images.clone());
                }
            }
        }
        let epochs: Vec<f64> = (0..12).map(|step| tau_of(step / 4)).collect();
        assert_eq!(taus, epochs, "{method:?}");
        assert_passes(&weight_batches, 4, 0..64);
        assert_passes(&alpha_batches, 2, 64..96);
        // α has two epochs: of its own two batches, or of one beside each of the weights' four.
        assert_eq!(
            (weight_batches.len(), alpha_batches.len()),
            (12, if method == MethodName::Darts2 { 8 } else { 4 })
        );
    }
}
