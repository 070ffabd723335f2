//! Batches: order, bits, changes.

use super::*;
use crate::data::{Images, Normalisation, Pixels};
use crate::recipe::{Colour, DatasetName, Erase};

const AUGMENT: Augment =
    Augment { flip: true, crop_padding: 4, crop_area: None, colour: None, erase: None };

/// 200 images of 2x2, each filled with its index; the label is index mod 7.
fn numbered() -> Dataset {
    let bytes = (0..200u8).flat_map(|i| [i; 12]).collect();
    let images = Images::Memory(Pixels { height: 2, width: 2, bytes });
    let train = Split { images, labels: (0..200).map(|i| i % 7).collect() };
    Dataset {
        name: DatasetName::Cifar10,
        classes: Vec::new(),
        height: 2,
        width: 2,
        channels: 3,
        normalisation: Normalisation { mean: vec![0.0; 3], sd: vec![1.0 / 255.0; 3] },
        test: Split { labels: Vec::new(), ..train.clone() },
        train,
    }
}

fn slice() -> Dataset {
    crate::data::load(&DatasetName::FashionMnistSlice.into(), "/nowhere".as_ref()).unwrap()
}

/// The index of every image, in order of appearance.
fn seen(loader: &Loader, epoch: u64) -> Vec<usize> {
    let mut seen = Vec::new();
    for batch in loader.epoch(epoch) {
        let batch = batch.unwrap();
        let values = batch.xs.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        for (image, label) in values.iter().zip(batch.labels.iter()) {
            assert_eq!(image[0].round() as u32 % 7, *label);
            seen.push(image[0].round() as usize);
        }
    }
    seen
}

fn bits(batch: &Batch) -> Vec<u32> {
    let values = batch.xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn every_epoch_is_another_permutation() {
    let data = numbered();
    let some: Vec<usize> = (0..200).step_by(2).collect();
    let loader = Loader::training(&data, some.clone(), 20, Augment::default(), Seed(1), "test");
    let (one, two) = (seen(&loader, 0), seen(&loader, 1));
    assert_ne!(one, two);
    assert_eq!(one, seen(&loader, 0));
    for mut order in [one, two] {
        order.sort_unstable();
        assert_eq!(order, some);
    }
}

#[test]
fn only_evaluation_keeps_a_partial_batch() {
    let data = numbered();
    let training =
        Loader::training(&data, (0..70).collect(), 32, Augment::default(), Seed(1), "test");
    assert_eq!((training.batches(), training.images()), (2, 64));
    assert_eq!(seen(&training, 0).len(), 64);
    let evaluation = Loader::evaluation(&data, &data.train, (0..70).rev().collect(), 32);
    assert_eq!((evaluation.batches(), evaluation.images()), (3, 70));
    assert_eq!(seen(&evaluation, 5), (0..70).rev().collect::<Vec<_>>());
    assert_eq!(Loader::evaluation(&data, &data.test, Vec::new(), 32).epoch(0).count(), 0);
}

#[test]
fn pixels_are_normalised_per_channel() {
    let mut data = numbered();
    data.normalisation = Normalisation { mean: vec![0.5, 0.0, 0.2], sd: vec![0.5, 1.0, 0.25] };
    let batch = Loader::evaluation(&data, &data.train, vec![51], 1).epoch(0).next();
    let batch = batch.unwrap().unwrap();
    assert_eq!(batch.xs.dims(), [1, 2, 2, 3]);
    let values = batch.xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (value, expected) in values.iter().zip([-0.6, 0.2, 0.0]) {
        assert!((value - expected).abs() < 1e-6, "{values:?}");
    }
}

#[test]
fn seed_label_and_epoch_determine_the_bits() {
    let data = slice();
    let first = |seed, label, epoch| {
        let loader = Loader::training(&data, (0..1000).collect(), 64, AUGMENT, Seed(seed), label);
        bits(&loader.epoch(epoch).next().unwrap().unwrap())
    };
    let one = first(1, "train", 0);
    assert_eq!(one, first(1, "train", 0));
    for other in [first(2, "train", 0), first(1, "search", 0), first(1, "train", 1)] {
        assert_ne!(one, other);
    }
}

/// The first batch has the same bits with one thread and with five.
fn assert_threads_change_nothing(data: &Dataset) {
    let loader = Loader::training(data, (0..1000).collect(), 64, AUGMENT, Seed(1), "train");
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&loader.epoch(0).next().unwrap().unwrap()))
    };
    assert_eq!(with(1), with(5));
}

#[test]
fn threads_do_not_change_images() {
    assert_threads_change_nothing(&slice());
}

#[test]
fn epochs_augment_an_image_differently() {
    let data = slice();
    let loader = Loader::training(&data, vec![7], 1, AUGMENT, Seed(1), "train");
    let of = |epoch| bits(&loader.epoch(epoch).next().unwrap().unwrap());
    let distinct: std::collections::BTreeSet<_> = (0..8).map(of).collect();
    assert!(distinct.len() > 4, "162 changes are possible");
}

#[test]
fn images_are_augmented_before_scaling() {
    let own = slice();
    let scaled = own.clone().scaled(56);
    let of = |data| Loader::training(data, (0..64).collect(), 64, AUGMENT, Seed(1), "train");
    let small = of(&own).epoch(2).next().unwrap().unwrap();
    let large = of(&scaled).epoch(2).next().unwrap().unwrap();
    assert_eq!((large.xs.dims(), &large.labels[..]), (&[64, 56, 56, 1][..], &small.labels[..]));
    // The mean of the four pixels that came from one is a weighted mean of the nine pixels around
    // it, with the weights (1/8, 6/8, 1/8) along each axis.
    let values = |xs: &Tensor| xs.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    for (small, large) in values(&small.xs).iter().zip(values(&large.xs)) {
        let at = |y: usize, x: usize| small[y.min(27) * 28 + x.min(27)];
        for (y, x) in (0..28 * 28).map(|i| (i / 28, i % 28)) {
            let four = [(0, 0), (0, 1), (1, 0), (1, 1)];
            let four = four.map(|(down, right)| large[(2 * y + down) * 56 + 2 * x + right]);
            let along =
                |y: usize| (at(y, x.saturating_sub(1)) + 6.0 * at(y, x) + at(y, x + 1)) / 8.0;
            let expected = (along(y.saturating_sub(1)) + 6.0 * along(y) + along(y + 1)) / 8.0;
            assert!((four.iter().sum::<f32>() / 4.0 - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn threads_do_not_change_scaled_images() {
    assert_threads_change_nothing(&slice().scaled(40));
}

#[test]
fn a_share_is_the_beginning_of_an_epoch() {
    let data = slice();
    let loader = || Loader::training(&data, (0..1000).collect(), 64, AUGMENT, Seed(1), "train");
    let (all, part) = (loader(), loader().share(0.2));
    assert_eq!((all.batches(), part.batches(), part.images()), (15, 3, 192));
    let labels = |epoch: Epoch<'_>| -> Vec<Vec<u32>> {
        epoch.map(|batch| batch.unwrap().labels.to_vec()).collect()
    };
    for epoch in [0, 5] {
        assert_eq!(labels(part.epoch(epoch)), labels(all.epoch(epoch))[..3]);
    }
    assert_ne!(labels(part.epoch(0)), labels(part.epoch(5)));
    assert_eq!(loader().share(1e-9).batches(), 1);
    let none = Loader::training(&data, vec![1], 2, AUGMENT, Seed(1), "train").share(0.5);
    assert_eq!(none.batches(), 0);
}

#[test]
fn skipping_keeps_the_other_batches() {
    let data = slice();
    let loader = Loader::training(&data, (0..1000).collect(), 64, AUGMENT, Seed(1), "train");
    let all: Vec<_> = loader.epoch(3).map(|batch| bits(&batch.unwrap())).collect();
    assert_eq!(all.len(), loader.batches());
    let rest: Vec<_> = loader.epoch(3).skip(10).map(|batch| bits(&batch.unwrap())).collect();
    assert_eq!(rest, all[10..]);
    assert!(loader.epoch(3).nth(loader.batches()).is_none());
}

/// Everything that changes images.
const ALL: Augment = Augment {
    colour: Some(Colour { operations: 2, magnitude: 9 }),
    erase: Some(Erase::Rectangle { probability: 0.5, area: (0.02, 0.4), ratio: (0.3, 3.3) }),
    ..AUGMENT
};

#[test]
fn threads_and_skipped_batches_do_not_change_changed_and_mixed_images() {
    for data in [slice(), slice().scaled(40)] {
        let loader = Loader::training(&data, (0..1000).collect(), 64, ALL, Seed(1), "train");
        let loader = loader.mixing(Some(0.2));
        let last = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&loader.epoch(2).nth(14).unwrap().unwrap()))
        };
        assert_eq!(last(1), last(3));
        let all: Vec<_> = loader.epoch(2).map(|batch| bits(&batch.unwrap())).collect();
        assert_eq!(all[14], last(2));
    }
}

#[test]
fn one_kind_of_change_does_not_affect_another() {
    let data = slice();
    let first = |augment| {
        let loader = Loader::training(&data, (0..1000).collect(), 64, augment, Seed(1), "train");
        let batch = loader.epoch(0).next().unwrap().unwrap();
        batch.xs.flatten_from(1).unwrap().to_vec2::<f32>().unwrap()
    };
    let plain = first(AUGMENT);
    let erased = first(Augment { colour: None, ..ALL });
    let mut changed = 0;
    for (plain, erased) in plain.iter().zip(&erased) {
        assert!(plain.iter().zip(erased).all(|(plain, erased)| plain == erased || *erased == 0.0));
        changed += usize::from(plain != erased);
    }
    assert!((16..48).contains(&changed), "about half of 64: {changed}");
    let both = first(ALL);
    let coloured = first(Augment { erase: None, ..ALL });
    assert_ne!(coloured, plain);
    for (coloured, both) in coloured.iter().zip(&both) {
        assert!(coloured.iter().zip(both).all(|(one, both)| one == both || *both == 0.0));
    }
}

#[test]
fn mixed_batches_are_sums_of_two_images_with_the_share_of_their_labels() {
    let data = slice();
    // Even and odd: the image in the middle stays as it is.
    for size in [64, 7] {
        let loader =
            || Loader::training(&data, (0..700).collect(), size, AUGMENT, Seed(1), "train");
        let (plain, mixed) = (loader(), loader().mixing(Some(0.5)));
        let mut shares = Vec::new();
        for (plain, mixed) in plain.epoch(1).zip(mixed.epoch(1)) {
            let (plain, mixed) = (plain.unwrap(), mixed.unwrap());
            assert_eq!(plain.labels[..], mixed.labels[..]);
            assert_eq!(plain.labels.share(), None);
            let share = mixed.labels.share().unwrap() as f32;
            let values =
                |batch: &Batch| batch.xs.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
            let (before, after) = (values(&plain), values(&mixed));
            for (i, after) in after.iter().enumerate() {
                let pairs = before[i].iter().zip(&before[size - 1 - i]).zip(after);
                for ((own, other), after) in pairs {
                    assert!((share * own + (1.0 - share) * other - after).abs() < 1e-5);
                }
            }
            shares.push(share);
        }
        let first = shares[0];
        assert!(shares.iter().any(|share| (share - first).abs() > 0.1), "one share per batch");
    }
}
