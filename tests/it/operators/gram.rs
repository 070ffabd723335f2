//! The covariance of an input gives the moments behind any linear map of it.

use super::CHANNELS;
use crate::numbers::{assert_close, assert_refused, random, random_map, tensor, values};
use crate::reference::{self, Map};
use candle_core::{DType, Device, Tensor};
use repro::ops::gram::Gram;

const VALUE: f64 = 1e-4;

#[test]
fn covariance_gives_the_moments_of_linear_maps() {
    // Fewer rows than one chunk, one chunk, and several; channels with means far from zero.
    let maps = [(2, 1, 1), (2, 5, 7), (1, 8, 8), (3, 31, 29)];
    let shapes = maps.iter().flat_map(|map| CHANNELS.map(|c| (*map, c)));
    for ((n, h, w), c) in shapes.chain([((2, 2, 3), 130)]) {
        let x = random_map("x", (n, h, w, c)).by_channel(|j, v| 0.5 * v + (j % 5) as f64 - 2.0);
        let gram = Gram::of(&x.tensor()).unwrap();
        for c_out in [1, 4, 19] {
            let what = format!("behind {n}x{h}x{w}x{c} to {c_out}");
            let weight = random("w", c * c_out);
            let expected = reference::moments(&reference::convolve(&x, &weight, 1, 1, c_out));
            let found = gram.moments_behind(&tensor(&weight, &[c, c_out])).unwrap();
            assert_eq!(found.count, n * h * w, "{what}");
            assert_close(&what, &values(&found.mean), &expected.mean, VALUE);
            assert_close(&what, &values(&found.variance), &expected.variance, 1e-3);
        }
    }
}

#[test]
fn covariance_of_equal_rows_is_zero() {
    let flat = Map::new((2, 3, 3, 5), (0..90).map(|i| f64::from(i % 5) * 0.7).collect());
    let gram = Gram::of(&flat.tensor()).unwrap();
    let found = gram.moments_behind(&tensor(&random("w", 20), &[5, 4])).unwrap();
    for variance in values(&found.variance) {
        assert!((0.0..1e-6).contains(&variance), "{variance}");
    }
    let misfit = Tensor::zeros((6, 4), DType::F32, &Device::Cpu).unwrap();
    assert_refused(gram.moments_behind(&misfit), &["gram", "5", "6"]);
}
