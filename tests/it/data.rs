//! The real CIFAR-10, fetched if it is absent.

use repro::data::{self, FetchMonitor, Presence, data_root};
use repro::progress::Quiet;
use repro::recipe::DatasetName;
use std::sync::atomic::AtomicBool;

#[test]
fn cifar10_is_the_published_data() {
    let root = data_root(None).unwrap();
    // Loading compares the MD5 of each of the six binary files with the published one.
    let monitor = FetchMonitor { progress: &Quiet, stop: &AtomicBool::new(false) };
    if data::presence(DatasetName::Cifar10, &root) == Presence::Absent {
        data::fetch(DatasetName::Cifar10, &root, None, monitor).unwrap_or_else(|e| panic!("{e}"));
    }
    let data = data::load(&DatasetName::Cifar10.into(), &root).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((data.height, data.width, data.channels, data.classes.len()), (32, 32, 3, 10));
    for (split, per_class) in [(&data.train, 5_000), (&data.test, 1_000)] {
        assert_eq!(split.bytes().len(), split.len() * data.image_len());
        for class in 0..10 {
            let n = split.labels.iter().filter(|&&label| label == class).count();
            assert_eq!(n, per_class, "{}", data.classes[class as usize]);
        }
    }
    let (mean, sd) = moments(data.train.bytes());
    for channel in 0..3 {
        assert!((mean[channel] - f64::from(data.normalisation.mean[channel])).abs() < 1e-4);
        assert!((sd[channel] - f64::from(data.normalisation.sd[channel])).abs() < 1e-4);
    }
}

/// Mean and standard deviation of pixel / 255 per channel.
fn moments(images: &[u8]) -> ([f64; 3], [f64; 3]) {
    let n = (images.len() / 3) as f64;
    let (mut sums, mut squares) = ([0u64; 3], [0u64; 3]);
    for pixel in images.chunks_exact(3) {
        for (channel, &value) in pixel.iter().enumerate() {
            sums[channel] += u64::from(value);
            squares[channel] += u64::from(value).pow(2);
        }
    }
    let mean = sums.map(|sum| sum as f64 / n / 255.0);
    let square = squares.map(|sum| sum as f64 / n / 255.0f64.powi(2));
    (mean, std::array::from_fn(|c| (square[c] - mean[c] * mean[c]).sqrt()))
}
