//! How gradient methods alternate between weights and α, and the compute that they count.

use super::smoke;
use anyhow::Result;
use candle_core::Device;
use repro::cost;
use repro::data;
use repro::monitor::{Checkpoints, Monitor};
use repro::progress::Quiet;
use repro::recipe::{Method, MethodName, SearchConfig};
use repro::record::{Metric, Recorder, Work};
use repro::rng::Seed;
use repro::search::{SearchData, SearchOutcome, search};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Keeps the values of every metric.
#[derive(Default)]
struct Log(BTreeMap<Metric, Vec<f64>>);

impl Recorder for Log {
    fn measure(&mut self, _: u64, metrics: &[(Metric, f64)]) -> Result<()> {
        for (metric, value) in metrics {
            self.0.entry(*metric).or_default().push(*value);
        }
        Ok(())
    }
}

/// The same method with so many warm-up epochs.
fn with_warmup(mut method: Method, epochs: usize) -> Method {
    match &mut method {
        Method::Dmasking { alpha, .. }
        | Method::Dnas { alpha, .. }
        | Method::Darts { alpha, .. } => {
            alpha.warmup_epochs = epochs;
        }
        other => panic!("{other:?}"),
    }
    method
}

/// A search of two epochs, the first without α: a weight split of 128 images and an architecture split of
/// 32, in batches of 16.
fn short_search(method: MethodName) -> (SearchOutcome, Log) {
    let manifest = smoke(method);
    let dataset = data::load(&manifest.data, Path::new("/nowhere")).unwrap();
    let config =
        SearchConfig { epochs: 2, batch_size: 16, ..manifest.search().unwrap().config.clone() };
    let method = with_warmup(manifest.search().unwrap().methods[0], 1);
    let (images, stop) = ((0..160).collect::<Vec<_>>(), AtomicBool::new(false));
    let mut log = Log::default();
    let checkpoints = &mut Checkpoints::none();
    let mut monitor = Monitor { recorder: &mut log, progress: &Quiet, stop: &stop, checkpoints };
    let images = SearchData { dataset: &dataset, indices: &images, device: &Device::Cpu };
    let outcome =
        search(&manifest.search().unwrap().space, images, &method, &config, Seed(1), &mut monitor)
            .unwrap();
    (outcome, log)
}

#[test]
fn training_alternates_by_epoch_or_by_minibatch() {
    // DNAS: two minibatches for α at the end of an epoch. DARTS: one before each of the weights.
    for (method, steps) in [(MethodName::Dnas, 2), (MethodName::Darts, 8)] {
        let (outcome, log) = short_search(method);
        assert_eq!(log.0[&Metric::SEARCH_STEP_LOSS].len(), 16, "{method:?}");
        assert_eq!(log.0[&Metric::SEARCH_ALPHA_STEP_LOSS].len(), steps, "{method:?}");
        assert_eq!(outcome.work.images, 16 * (16 + steps as u64), "{method:?}");
        let entropies = &log.0[&Metric::SEARCH_ENTROPY_WIDTH];
        assert!((entropies[0] - 1.0).abs() < 1e-12, "{method:?}: α changed in the warm-up");
        assert!(entropies[1] < 1.0 - 1e-6, "{method:?}: {entropies:?}");
    }
}

#[test]
fn all_passes_of_the_explicit_supernet_count() {
    // Minibatches, and how often each takes the multiply-accumulates of the supernet: 3 for a step of the
    // weights, 2 for a backward pass without them. The second order takes the gradients of the next
    // minibatch, of the held-out one after the step, and of the next one twice for finite differences.
    let weights = (16, 16 * 3);
    for (method, passes, macs) in [
        (MethodName::Dnas, 2, 2 * 2),
        (MethodName::Darts, 8, 8 * 2),
        (MethodName::Darts2, 8 * 4, 8 * (3 + 3 + 2 * 2)),
    ] {
        let (outcome, _) = short_search(method);
        let images = 16 * (weights.0 + passes);
        let macs = 16
            * (weights.1 + macs)
            * cost::explicit_supernet(&smoke(method).search().unwrap().space).macs;
        assert_eq!(outcome.work, Work { images, macs, architectures: 0 }, "{method:?}");
        assert!(outcome.shared.is_none());
    }
}

#[test]
fn methods_on_one_supernet_differ() {
    let found = [MethodName::Dnas, MethodName::Darts, MethodName::Darts2].map(|method| {
        let (outcome, log) = short_search(method);
        (format!("{:?}", outcome.probabilities), log.0[&Metric::SEARCH_STEP_LOSS].clone())
    });
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert_ne!(found[a].0, found[b].0);
    }
    // In the warm-up they differ only in the noise of their gates.
    assert_ne!(found[0].1[..8], found[1].1[..8]);
    assert_eq!(found[1].1[..8], found[2].1[..8]);
    let (_, darts) = short_search(MethodName::Darts);
    assert_eq!(darts.0[&Metric::SEARCH_STEP_LOSS], found[1].1);
}
