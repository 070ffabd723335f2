//! What a step moves between the host and the GPU. The counts are of the whole process, so these tests
//! run one after the other, in a process of their own.

use crate::numbers::{prepare, values};
use candle_core::Device;
use repro::data::{self, Batch, Dataset, Loader, prefetched};
use repro::manifest::{self, Manifest, Overrides};
use repro::ops::gpu::{Traffic, on_host};
use repro::recipe::Augment;
use repro::rng::Seed;
use repro::search::{AlphaStep, NextBatch, Relaxation, relaxation};
use repro::train::Step;
use std::path::Path;

fn smoke(name: &str, method: &str) -> Manifest {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments").join(name);
    let sets = vec![format!("search.method={method}"), "search.batch_size=2".to_owned()];
    manifest::load(&path, &Overrides { sets, seeds: Vec::new() }).unwrap_or_else(|e| panic!("{e}"))
}

fn images(manifest: &Manifest) -> Dataset {
    data::load(&manifest.data, Path::new("/nowhere")).unwrap()
}

fn loader(dataset: &Dataset) -> Loader<'_> {
    Loader::training(dataset, (0..20).collect(), 2, Augment::default(), Seed(1), "test")
}

fn supernet(manifest: &Manifest) -> Box<dyn Relaxation> {
    let config =
        manifest.search().unwrap().config.step(&manifest.search().unwrap().methods[0]).unwrap();
    relaxation(&manifest.search().unwrap().space, &config, Seed(1), &Device::Cpu).unwrap()
}

fn weight_step(state: &mut dyn Relaxation, batch: &Batch) -> Step {
    state.weight_step(batch, 0, 5.0, 0.1).unwrap()
}

fn alpha_step(
    state: &mut dyn Relaxation,
    manifest: &Manifest,
    batch: &Batch,
    next: Option<NextBatch<'_>>,
) -> AlphaStep {
    let gradient = manifest.search().unwrap().methods[0].gradient().unwrap();
    state.alpha_step(&gradient.alpha, batch, next, 0, 5.0).unwrap()
}

/// What `f` moved: uploads and downloads.
fn moved<T>(f: impl FnOnce() -> T) -> (T, (u64, u64)) {
    let before = Traffic::now();
    let result = f();
    let traffic = Traffic::now().since(before);
    assert_eq!(traffic.uploads == 0, traffic.uploaded_bytes == 0);
    (result, (traffic.uploads, traffic.downloads))
}

#[test]
#[ignore = "run on the emulator by steps_move_few_values_between_host_and_gpu"]
fn a_step_is_one_upload_of_gates_and_one_download() {
    prepare();
    for (name, method) in [
        ("smoke.toml", "dmasking"),
        ("smoke.toml", "dnas"),
        ("smoke_resolutions.toml", "dmasking"),
        ("smoke_resolutions.toml", "dnas"),
    ] {
        let manifest = smoke(name, method);
        let dataset = images(&manifest);
        let mut state = supernet(&manifest);
        let loader = loader(&dataset);
        let mut batches = loader.epoch(0);
        // The images and labels of a batch come together.
        let (batch, counts) = moved(|| batches.next().unwrap().unwrap());
        assert_eq!(counts, (1, 0), "{name} {method}");
        let (_, counts) = moved(|| weight_step(&mut *state, &batch));
        assert_eq!(counts, (1, 1), "{name} {method}, weights");
        let (_, counts) = moved(|| alpha_step(&mut *state, &manifest, &batch, None));
        assert_eq!(counts, (1, 1), "{name} {method}, alpha");
    }
    // Of second order, a step has four passes and reads three of them.
    let manifest = smoke("smoke.toml", "darts2");
    let dataset = images(&manifest);
    let mut state = supernet(&manifest);
    let batch = loader(&dataset).epoch(0).next().unwrap().unwrap();
    let next = NextBatch { batch: &batch, rate: 0.1 };
    let (_, counts) = moved(|| alpha_step(&mut *state, &manifest, &batch, Some(next)));
    assert_eq!(counts, (4, 3), "darts2");
}

#[test]
#[ignore = "run on the emulator by steps_move_few_values_between_host_and_gpu"]
fn steps_agree_with_those_of_the_cpu() {
    prepare();
    for (name, method) in [("smoke_resolutions.toml", "dmasking"), ("smoke.toml", "darts2")] {
        let manifest = smoke(name, method);
        let dataset = images(&manifest);
        let run = || {
            let mut state = supernet(&manifest);
            let batch = loader(&dataset).epoch(0).next().unwrap().unwrap();
            let next = (method == "darts2").then_some(NextBatch { batch: &batch, rate: 0.1 });
            let alpha = alpha_step(&mut *state, &manifest, &batch, next);
            let mut losses = vec![alpha.result.loss, alpha.loss];
            losses.extend((0..2).map(|_| weight_step(&mut *state, &batch).result.loss));
            let weights: Vec<Vec<f64>> =
                state.params().tensors().map(|(tensor, _)| values(tensor)).collect();
            (losses, weights, state.alpha().probabilities())
        };
        let ((losses, weights, alpha), expected) = (run(), on_host(run));
        for (found, expected) in losses.iter().zip(&expected.0) {
            assert!((found - expected).abs() < 1e-4 * expected.abs(), "{found} {expected}");
        }
        for (found, expected) in weights.iter().flatten().zip(expected.1.iter().flatten()) {
            assert!((found - expected).abs() < 2e-3, "{method}: {found} {expected}");
        }
        // Adam's first step has the sign of the gradient, so that rounding does not matter.
        for (found, expected) in alpha.blocks.iter().zip(&expected.2.blocks) {
            for (found, expected) in found.widths.iter().zip(&expected.widths) {
                assert!((found - expected).abs() < 1e-3, "{method}: {found} {expected}");
            }
        }
    }
}

#[test]
#[ignore = "run on the emulator by steps_move_few_values_between_host_and_gpu"]
fn batches_that_are_made_ahead_are_the_same() {
    prepare();
    let dataset = images(&smoke("smoke.toml", "dmasking"));
    let loader = loader(&dataset);
    let all = |batches: &mut dyn Iterator<Item = candle_core::Result<Batch>>| {
        let batches = batches.map(|batch| batch.unwrap());
        batches.map(|batch| (values(&batch.xs), batch.labels.to_vec())).collect::<Vec<_>>()
    };
    let expected = all(&mut loader.epoch(3));
    assert_eq!(expected.len(), 10);
    assert_eq!(prefetched(&Device::Cpu, loader.epoch(3), all), expected);
    on_host(|| assert_eq!(prefetched(&Device::Cpu, loader.epoch(3), all), expected));
    // Who stops early does not wait for the rest.
    let first = prefetched(&Device::Cpu, loader.epoch(3), |batches| all(&mut batches.take(1)));
    assert_eq!(first, expected[..1]);
    // Two loaders in step.
    let pairs = loader.epoch(3).zip(loader.epoch(4));
    let pairs = prefetched(&Device::Cpu, pairs, |pairs| {
        pairs.map(|(one, _)| values(&one.unwrap().xs)).collect::<Vec<_>>()
    });
    assert!(pairs.iter().eq(expected.iter().map(|(xs, _)| xs)));
}
