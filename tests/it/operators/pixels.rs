//! Operators that move, pool or pad pixels without weights.

use super::{CHANNELS, SLOPE, VALUE, shape};
use crate::numbers::{
    assert_close, assert_gradient, assert_refused, random, random_map, tensor, values,
};
use crate::reference::{self, Map};
use candle_core::Tensor;
use repro::ops::subsample::Grid;
use repro::ops::{pad, pool, subsample, update};

#[test]
fn subsampling_reads_every_stride_th_pixel() {
    for (h, w, c) in [(5, 7, 1), (6, 5, 3), (1, 2, 17), (8, 8, 5), (3, 2, 1030)] {
        for stride in [1, 2, 3] {
            let what = format!("subsample s{stride} on {h}x{w}x{c}");
            let x = random_map("x", (2, h, w, c));
            let size = |side: usize| side.div_ceil(stride);
            let y = x.sampled((stride, 1), (size(h), size(w)));
            let grid = Grid::strided(stride, (h, w));
            let found = subsample::forward(&x.tensor(), grid).unwrap();
            assert_eq!(found.dims(), [2, y.h, y.w, c], "{what}");
            assert_eq!(values(&found), y.data, "{what}");
            let dy = random("dy", y.data.len());
            let dys = tensor(&dy, found.dims());
            let dx = values(&subsample::backward(&dys, grid, (h, w)).unwrap());
            assert_gradient(&format!("{what}, dx"), &dx, &x.data, 3, SLOPE, |moved| {
                let moved = Map::new(shape(&x), moved.to_vec());
                moved.sampled((stride, 1), (size(h), size(w))).dot(&dy)
            });
        }
    }
}

#[test]
fn merge_sums_the_maps_of_several_grids() {
    let (large, c) = ((9, 7), 5);
    let grids = [((1, 1), large), ((3, 2), (6, 5)), ((7, 2), (3, 2))];
    let parts = grids.map(|(ratio, (h, w))| (ratio, random_map(&format!("{h}"), (2, h, w, c))));
    let mut expected = Map::zeros(2, large.0, large.1, c);
    for (ratio, part) in &parts {
        let back = part.interspersed(*ratio, large);
        assert_eq!(back.sampled(*ratio, (part.h, part.w)), *part);
        expected.add(1.0, &back);
        let grid = Grid { ratio: *ratio, size: (part.h, part.w) };
        let read = subsample::forward(&back.tensor(), grid).unwrap();
        assert_eq!(values(&read), part.data);
    }
    let tensors = parts
        .each_ref()
        .map(|(ratio, part)| (part.tensor(), Grid { ratio: *ratio, size: (part.h, part.w) }));
    let found = subsample::merge(&tensors.each_ref().map(|(t, g)| (t, *g)), large).unwrap();
    assert_close("merged", &values(&found), &expected.data, 1e-6);
}

#[test]
fn merge_takes_any_number_of_parts() {
    let (size, c) = ((4, 3), 2);
    let parts: Vec<Map> = (0..19).map(|i| random_map(&format!("{i}"), (2, 2, 2, c))).collect();
    let mut expected = Map::zeros(2, size.0, size.1, c);
    for part in &parts {
        expected.add(1.0, &part.interspersed((2, 1), size));
    }
    let grid = Grid { ratio: (2, 1), size: (2, 2) };
    let tensors: Vec<Tensor> = parts.iter().map(Map::tensor).collect();
    let placed: Vec<_> = tensors.iter().map(|part| (part, grid)).collect();
    let found = subsample::merge(&placed, size).unwrap();
    assert_close("merged", &values(&found), &expected.data, 1e-6);
}

#[test]
fn pooling_is_the_mean_over_pixels() {
    // The first has several parts per image on a GPU.
    let large = [(1, 19, 23, 5), (2, 1, 1, 1030)];
    for (n, h, w, c) in CHANNELS.map(|c| (3, 5, 4, c)).into_iter().chain(large) {
        let what = format!("pool of {n}x{h}x{w}x{c}");
        let x = random_map("x", (n, h, w, c));
        let found = pool::forward(&x.tensor()).unwrap();
        assert_eq!(found.dims(), [n, c], "{what}");
        assert_close(&what, &values(&found), &reference::pool(&x).data, VALUE);
        let dy = random("dy", n * c);
        let dx = values(&pool::backward(&tensor(&dy, &[n, c]), (h, w)).unwrap());
        assert_gradient(&format!("{what}, dx"), &dx, &x.data, 3, SLOPE, |moved| {
            reference::pool(&Map::new(shape(&x), moved.to_vec())).dot(&dy)
        });
    }
}

#[test]
fn padded_sum_adds_existing_channels() {
    // More than one task; the sum may be wider than the widest summand.
    let shape = |c: usize| (2, 31, 37, c);
    let many = (1..=20).collect();
    for (widths, width) in
        [(vec![3, 17, 8], 17), (vec![5], 9), (vec![12, 12], 12), (vec![1, 1], 1), (many, 37)]
    {
        let what = format!("{widths:?} to {width}");
        let parts: Vec<Map> =
            widths.iter().map(|c| random_map(&format!("{what}/{c}"), shape(*c))).collect();
        let mut expected = Map::zeros(2, 31, 37, width);
        for part in &parts {
            expected.add(1.0, &part.padded_to(width));
        }
        let tensors: Vec<Tensor> = parts.iter().map(Map::tensor).collect();
        let found = pad::sum(&tensors.iter().collect::<Vec<_>>(), width).unwrap();
        assert_eq!(found.dims(), [2, 31, 37, width]);
        assert_close(&what, &values(&found), &expected.data, VALUE);
        let dy = random_map("dy", shape(width));
        let dys = dy.tensor();
        for c in widths {
            let dx = pad::backward(&dys, c).unwrap();
            assert_close(&what, &values(&dx), &dy.cut(c).data, 0.0);
            // It has memory of its own: gradients are accumulated in place.
            update::accumulate(&dx, &dx.ones_like().unwrap()).unwrap();
        }
        assert_close(&what, &values(&dys), &dy.data, 0.0);
    }
}

#[test]
fn a_cut_keeps_the_first_channels() {
    for (c, width) in [(17, 5), (5, 1), (1100, 1030)] {
        let x = random_map("x", (2, 3, 5, c));
        let found = pad::cut(&x.tensor(), width).unwrap();
        assert_eq!(found.dims(), [2, 3, 5, width]);
        assert_close("cut", &values(&found), &x.cut(width).data, 0.0);
        let dy = random_map("dy", (2, 3, 5, width));
        let dx = pad::cut_backward(&dy.tensor(), c).unwrap();
        assert_eq!(dx.dims(), [2, 3, 5, c]);
        assert_close("cut, dx", &values(&dx), &dy.padded_to(c).data, 0.0);
    }
    let x = random_map("x", (2, 3, 5, 4)).tensor();
    assert_refused(pad::cut(&x, 5), &[]);
    assert_refused(pad::cut_backward(&x, 3), &["pad: 4 of 3 channels"]);
}
