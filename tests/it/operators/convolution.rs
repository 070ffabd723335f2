//! Matrix product and dense convolution.

use super::{SLOPE, VALUE, shape};
use crate::numbers::{assert_close, assert_gradient, random, random_map, tensor, values};
use crate::reference::{self, Map};
use candle_core::Tensor;
use repro::ops::{Moments, conv, matmul, norm};

#[test]
fn matmul_matches_the_reference() {
    // 2 · 37 · 29 rows are more than one task takes.
    for (h, w, c_in, c_out) in [
        (1, 1, 1, 1),
        (3, 5, 3, 17),
        (4, 4, 33, 12),
        (37, 29, 5, 3),
        (2, 1, 1025, 3),
        (1, 2, 2, 1030),
    ] {
        let what = format!("matmul {c_in} to {c_out}");
        let x = random_map("x", (2, h, w, c_in));
        let weight = random("w", c_in * c_out);
        let y = reference::convolve(&x, &weight, 1, 1, c_out);
        let dy = random("dy", y.data.len());
        let (xs, ws) = (x.tensor(), tensor(&weight, &[c_in, c_out]));
        let dys = tensor(&dy, &[2, h, w, c_out]);
        let found = matmul::forward(&xs, &ws).unwrap();
        assert_eq!(found.dims(), [2, h, w, c_out]);
        assert_close(&what, &values(&found), &y.data, VALUE);
        let dx = values(&matmul::backward_input(&ws, &dys).unwrap());
        assert_gradient(&format!("{what}, dx"), &dx, &x.data, 3, SLOPE, |moved| {
            let moved = Map::new(shape(&x), moved.to_vec());
            reference::convolve(&moved, &weight, 1, 1, c_out).dot(&dy)
        });
        let dw = values(&matmul::backward_weight(&xs, &dys).unwrap());
        assert_gradient(&format!("{what}, dw"), &dw, &weight, 3, SLOPE, |moved| {
            reference::convolve(&x, moved, 1, 1, c_out).dot(&dy)
        });
    }
}

#[test]
fn dense_convolution_matches_the_reference() {
    let maps = [(2, 5, 7, 1), (2, 8, 5, 3), (2, 1, 2, 3), (35, 6, 6, 5), (2, 3, 2, 1030)];
    let filters = [(1, 1, 4), (1, 2, 4), (3, 1, 17), (3, 2, 5), (5, 2, 4), (7, 2, 3), (3, 2, 1030)];
    for (n, h, w, c) in maps {
        // Many channels on one side only, to save time.
        for (k, stride, c_out) in filters.into_iter().filter(|f| f.2 * c < 1 << 15) {
            let what = format!("conv k{k} s{stride} on {n} of {h}x{w}x{c}");
            let x = random_map("x", (n, h, w, c));
            let weight = random("w", k * k * c * c_out);
            let y = reference::convolve(&x, &weight, k, stride, c_out);
            let (xs, ws) = (x.tensor(), tensor(&weight, &[k * k, c, c_out]));
            let (found, moments) = conv::forward(&xs, &ws, (k, stride), true).unwrap();
            assert_eq!(found.dims(), [y.n, y.h, y.w, c_out], "{what}");
            assert_close(&what, &values(&found), &y.data, VALUE);
            let direct = norm::moments(&found).unwrap();
            let Moments { mean, variance, .. } = moments.unwrap();
            assert_close(&format!("{what}, mean"), &values(&mean), &values(&direct.mean), 1e-4);
            let (variance, direct) = (values(&variance), values(&direct.variance));
            assert_close(&format!("{what}, variance"), &variance, &direct, 1e-4);

            let dy = random("dy", y.data.len());
            let dys = tensor(&dy, found.dims());
            let g = conv::backward(&xs, &ws, (k, stride), &dys, (true, true)).unwrap();
            let dx = values(&g.dx.unwrap());
            assert_gradient(&format!("{what}, dx"), &dx, &x.data, 2, SLOPE, |moved| {
                let moved = Map::new(shape(&x), moved.to_vec());
                reference::convolve(&moved, &weight, k, stride, c_out).dot(&dy)
            });
            let dw = values(&g.dw.unwrap());
            assert_gradient(&format!("{what}, dw"), &dw, &weight, 2, SLOPE, |moved| {
                reference::convolve(&x, moved, k, stride, c_out).dot(&dy)
            });
        }
    }
}

#[test]
fn dense_convolution_of_a_batch_equals_its_images() {
    // A GPU takes one image at once of the first batch, and two of the second.
    for (n, h, w, c) in [(5, 4, 3, 6), (5, 1, 2, 5)] {
        let (k, c_out) = (3, 7);
        let x = random_map("x", (n, h, w, c)).tensor();
        let weight = tensor(&random("w", k * k * c * c_out), &[k * k, c, c_out]);
        let dy = random_map("dy", (n, h, w, c_out)).tensor();
        let forward = |x: &Tensor| values(&conv::forward(x, &weight, (k, 1), false).unwrap().0);
        let backward = |x: &Tensor, dy: &Tensor| {
            let g = conv::backward(x, &weight, (k, 1), dy, (true, true)).unwrap();
            (values(&g.dx.unwrap()), values(&g.dw.unwrap()))
        };
        let (mut y, mut dx, mut dw) = (Vec::new(), Vec::new(), vec![0.0; weight.elem_count()]);
        for i in 0..n {
            let [x, dy] = [&x, &dy].map(|batch| batch.narrow(0, i, 1).unwrap());
            y.extend(forward(&x));
            let (image_dx, image_dw) = backward(&x, &dy);
            dx.extend(image_dx);
            dw.iter_mut().zip(image_dw).for_each(|(sum, d)| *sum += d);
        }
        let (batch_dx, batch_dw) = backward(&x, &dy);
        assert_close("y", &forward(&x), &y, 0.0);
        assert_close("dx", &batch_dx, &dx, 0.0);
        assert_close("dw", &batch_dw, &dw, VALUE);
    }
}
