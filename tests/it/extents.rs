//! Shapes for which a GPU needs many blocks or long sums. They take too long for the sanitizers.

use crate::numbers::{assert_close, random_map, values};
use crate::reference;
use repro::ops::gram::Gram;
use repro::ops::pool;

#[test]
fn more_images_than_a_grid_has_rows_are_pooled() {
    // A grid has at most 65,535 blocks in y.
    let x = random_map("x", (70_000, 1, 2, 1));
    let found = pool::forward(&x.tensor()).unwrap();
    assert_close("pooled", &values(&found), &reference::pool(&x).data, 1e-6);
}

#[test]
fn a_covariance_of_many_rows_is_accurate() {
    // More rows for each of a GPU's blocks than are summed in f32.
    let x = random_map("x", (1, 1100, 1024, 1)).by_channel(|_, v| v + 3.0);
    let moments = reference::moments(&x);
    let found = Gram::of(&x.tensor()).unwrap();
    let found = found.moments_behind(&crate::numbers::tensor(&[1.0], &[1, 1])).unwrap();
    assert_close("variance", &values(&found.variance), &moments.variance, 1e-6);
}
