//! Shared weights: steps along paths, calibration and scores.

use super::*;
use crate::numbers::{random_map, values};
use candle_core::{Device, Tensor};
use repro::data::{self, Batch};
use repro::net::{Network, SharedWeights};
use repro::nn::{Params, Pass};
use repro::record::Work;
use repro::rng::Seed;
use repro::search::{Paths, Scorer, draw, split};
use repro::space::SearchSpace;
use repro::train::{self, OptimizerState, training_step};
use std::sync::atomic::AtomicBool;

fn batch(space: &SearchSpace, label: &str, n: usize) -> Batch {
    let side = space.max_resolution();
    let xs = random_map(label, (n, side, side, space.image_channels)).tensor();
    Batch { xs, labels: (0..n).map(|i| (i % space.classes) as u32).collect::<Vec<_>>().into() }
}

fn copies(params: &Params) -> Vec<(String, Tensor)> {
    let named = params.named().take(params.tensors().count());
    named.map(|(name, tensor)| (name.to_owned(), tensor.copy().unwrap())).collect()
}

#[test]
fn a_path_step_changes_only_its_own_weights() {
    let manifest = smoke(&["search.method=rs_ws"]);
    let space = &manifest.search().unwrap().space;
    let optimizer =
        (manifest.search().unwrap().config.weights, manifest.search().unwrap().config.recompute);
    let mut paths = Paths::new(space, optimizer, Seed(3), &Device::Cpu).unwrap();
    let path = |i| draw(space, None, &mut Seed(3).stream("draw", i)).unwrap();
    // Steps of other networks first, so that there are velocities that must not change.
    for i in 0..4 {
        paths.step(&path(i), &batch(space, "images", 8), 0.1).unwrap();
    }
    let before = copies(paths.weights().params());
    let chosen = path(9);
    let mut own = paths.weights().extract(&chosen).unwrap();
    paths.step(&chosen, &batch(space, "more images", 8), 0.1).unwrap();
    let after = copies(paths.weights().params());

    // The entries that belong to the network: those that its cut was copied from.
    let ones: Vec<Tensor> = before.iter().map(|(_, t)| t.zeros_like().unwrap()).collect();
    let part: Vec<Tensor> =
        own.params.tensors().map(|(tensor, _)| tensor.ones_like().unwrap()).collect();
    let mut belongs = ones;
    own.write_into(&mut belongs, &part).unwrap();
    let (mut moved, mut inside, mut outside) = (0, 0, 0);
    for (((name, before), (_, after)), belongs) in before.iter().zip(&after).zip(&belongs) {
        for ((b, a), own) in values(before).iter().zip(values(after)).zip(values(belongs)) {
            if own == 0.0 {
                assert_eq!(*b, a, "{name} is not of this network");
                outside += 1;
            } else {
                moved += usize::from(*b != a);
                inside += 1;
            }
        }
    }
    assert!(outside > 1000 && moved * 10 > inside * 9, "{moved} of {inside}, {outside}");

    // The first step equals that of the network alone.
    let mut fresh = Paths::new(space, optimizer, Seed(3), &Device::Cpu).unwrap();
    own = fresh.weights().extract(&chosen).unwrap();
    let images = batch(space, "images", 8);
    let mut optimizer =
        OptimizerState::new(manifest.search().unwrap().config.weights, &own.params).unwrap();
    let (net, target, none) =
        (&own.net, (&images.labels, 0.0), manifest.search().unwrap().config.recompute);
    training_step(&mut own.params, &mut optimizer, 0.1, target, none, |pass| {
        net.forward(pass, &images.xs)
    })
    .unwrap();
    fresh.step(&chosen, &images, 0.1).unwrap();
    let cut = fresh.weights().extract(&chosen).unwrap();
    for ((name, expected), (_, found)) in copies(&own.params).iter().zip(&copies(&cut.params)) {
        assert_eq!(values(expected), values(found), "{name}");
    }
}

#[test]
fn calibration_averages_the_batch_statistics() {
    let space = space("smoke");
    let shared = SharedWeights::new(&space, Seed(1), &Device::Cpu).unwrap();
    let path = draw(&space, None, &mut Seed(1).stream("draw", 0)).unwrap();
    let statistics = |labels: &[&str]| -> Vec<f64> {
        let mut cut = shared.extract(&path).unwrap();
        for (seen, label) in labels.iter().enumerate() {
            let mut pass = Pass::calibrating(&mut cut.params, seen);
            cut.net.forward(&mut pass, &batch(&space, label, 8).xs).unwrap();
        }
        let buffers = cut.params.named().skip(cut.params.tensors().count());
        buffers.flat_map(|(_, tensor)| values(tensor)).collect()
    };
    let (a, b, both) = (statistics(&["a"]), statistics(&["b"]), statistics(&["a", "b"]));
    assert!(a.len() > 100 && a != b);
    for ((a, b), both) in a.iter().zip(&b).zip(both) {
        let mean = f64::midpoint(*a, *b);
        assert!((mean - both).abs() <= 1e-5 * (1.0 + mean.abs()), "{mean} {both}");
    }
}

#[test]
fn scores_use_calibrated_statistics() {
    let (manifest, dataset) = (smoke(&[]), dataset());
    let indices: Vec<usize> = (0..400).collect();
    let (weights, held_out) = split(&indices, &manifest.search().unwrap().config);
    assert_eq!((weights.len(), held_out.len()), (320, 80));
    let scorer = Scorer::new(&dataset, (weights, held_out), 32, 2, &Device::Cpu).unwrap();
    let shared =
        SharedWeights::new(&manifest.search().unwrap().space, Seed(1), &Device::Cpu).unwrap();
    let path =
        draw(&manifest.search().unwrap().space, None, &mut Seed(1).stream("draw", 3)).unwrap();
    let mut work = Work::default();
    let score = scorer.score(&shared, &path, &mut work, &AtomicBool::new(false)).unwrap();
    let macs = macs(&manifest.search().unwrap().space, &path);
    let images = 2 * 32 + 80;
    assert_eq!(work, Work { images, macs: images * macs, architectures: 1 });

    // The same by hand.
    let arch = manifest.search().unwrap().space.decide(&path);
    let (net, mut params) = Network::of_arch(&arch, Seed(9), &Device::Cpu).unwrap();
    for (name, tensor) in shared.extract(&path).unwrap().params.named() {
        params.set(name, tensor).unwrap();
    }
    for seen in 0..2 {
        let of_batch = weights[seen * 32..][..32].to_vec();
        let loader = data::Loader::evaluation(&dataset, &dataset.train, of_batch, 32);
        let batch = loader.epoch(0).next().unwrap().unwrap();
        net.forward(&mut Pass::calibrating(&mut params, seen), &batch.xs).unwrap();
    }
    let by_hand = train::evaluate(
        &net,
        &params,
        &dataset,
        (&dataset.train, held_out.to_vec()),
        32,
        &AtomicBool::new(false),
    )
    .unwrap();
    assert_eq!(score, by_hand);
}
