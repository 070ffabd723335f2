//! Bias and activation, the loss, and updates in place.

use super::{ACTIVATIONS, CHANNELS, SLOPE, VALUE};
use crate::numbers::{
    assert_close, assert_gradient, assert_refused, loss_of, prepare, random, row, tensor, values,
};
use crate::reference::{self, Map};
use candle_core::Device;
use repro::ops::gpu::Deferred;
use repro::ops::loss::{Labels, cross_entropy};
use repro::ops::{bias, gpu, scale, update};

#[test]
fn bias_and_activation_apply_to_every_row() {
    for activation in ACTIVATIONS {
        let widths = CHANNELS.into_iter().chain([1030]);
        for (c, with_bias) in widths.flat_map(|c| [(c, false), (c, true)]) {
            let x: Vec<f64> = random("x", 7 * c).iter().map(|v| 2.5 * v).collect();
            let bias = if with_bias { random("bias", c) } else { vec![0.0; c] };
            let dy = random("dy", 7 * c);
            let apply = |x: &[f64], bias: &[f64]| -> Map {
                Map::new((7, 1, 1, c), x.to_vec())
                    .by_channel(|j, v| reference::activate(activation, v + bias[j]))
            };
            let (xs, biases) = (tensor(&x, &[7, c]), row(&bias));
            let biases = with_bias.then_some(&biases);
            let what = format!("bias {activation} of {c}");
            let y = bias::forward(&xs, biases, activation).unwrap();
            assert_close(&what, &values(&y), &apply(&x, &bias).data, VALUE);
            let g = bias::backward(&xs, biases, activation, &tensor(&dy, &[7, c])).unwrap();
            let dx = values(&g.dx);
            assert_gradient(&format!("{what}, dx"), &dx, &x, 3, SLOPE, |moved| {
                apply(moved, &bias).dot(&dy)
            });
            assert_eq!(g.dbias.is_some(), with_bias);
            if let Some(dbias) = g.dbias {
                let dbias = values(&dbias);
                assert_gradient(&format!("{what}, dbias"), &dbias, &bias, 3, SLOPE, |moved| {
                    apply(&x, moved).dot(&dy)
                });
            }
        }
    }
}

#[test]
fn a_mask_scales_the_columns_of_a_filter() {
    for (shape, c) in [([1, 9], 33), ([25, 5], 1), ([9, 3], 17), ([1, 2], 1030)] {
        let (rows, shape) = (shape[0] * shape[1], [shape[0], shape[1], c]);
        let (w, mask, dy) = (random("w", rows * c), random("mask", c), random("dy", rows * c));
        let scaled = |w: &[f64], mask: &[f64]| -> Vec<f64> {
            w.iter().enumerate().map(|(i, w)| w * mask[i % c]).collect()
        };
        let dot = |y: &[f64]| y.iter().zip(&dy).map(|(y, dy)| y * dy).sum();
        let (ws, masks, dys) = (tensor(&w, &shape), row(&mask), tensor(&dy, &shape));
        let y = scale::forward(&ws, &masks).unwrap();
        assert_eq!(y.dims(), shape);
        assert_close("scaled", &values(&y), &scaled(&w, &mask), VALUE);
        let dw = values(&scale::backward_weight(&masks, &dys).unwrap());
        assert_gradient("scaled, dw", &dw, &w, 2, SLOPE, |moved| dot(&scaled(moved, &mask)));
        let dmask = values(&scale::backward_mask(&ws, &dys).unwrap());
        assert_gradient("scaled, dmask", &dmask, &mask, 2, SLOPE, |moved| dot(&scaled(&w, moved)));
    }
}

#[test]
fn rows_of_ones_are_filled() {
    for len in [1, 300] {
        assert_eq!(values(&gpu::ones(len, &Device::Cpu).unwrap()), vec![1.0; len]);
    }
}

#[test]
fn cross_entropy_matches_the_reference() {
    for (n, classes, smoothing) in
        [(1, 2, 0.0), (5, 3, 0.1), (4, 10, 0.3), (3, 101, 0.0), (301, 37, 0.1)]
    {
        let what = format!("cross-entropy of {n} in {classes}");
        let logits: Vec<f64> = random("logits", n * classes).iter().map(|v| 4.0 * v).collect();
        let labels: Vec<u32> = (0..n).map(|i| ((i * 7 + 1) % classes) as u32).collect();
        let found = loss_of(&tensor(&logits, &[n, classes]), &labels, smoothing);
        let found = found.unwrap();
        let expected = reference::cross_entropy(&logits, &labels, smoothing);
        assert!((found.loss - expected).abs() < 1e-9, "{what}: {} {expected}", found.loss);
        let d = values(&found.dlogits);
        assert_gradient(&what, &d, &logits, 5, SLOPE, |moved| {
            reference::cross_entropy(moved, &labels, smoothing)
        });
        let hits = logits
            .chunks(classes)
            .zip(&labels)
            .filter(|(row, label)| row.iter().all(|v| *v <= row[**label as usize]));
        assert_eq!(found.correct, hits.count(), "{what}");
    }
}

#[test]
fn mixed_labels_count_by_their_shares() {
    for (n, classes, smoothing, share) in [(1, 2, 0.0, 0.3), (5, 3, 0.1, 0.25), (6, 40, 0.2, 0.9)] {
        let what = format!("mixed cross-entropy of {n} in {classes}");
        let logits: Vec<f64> = random("mixed", n * classes).iter().map(|v| 4.0 * v).collect();
        let own: Vec<u32> = (0..n).map(|i| ((i * 7 + 1) % classes) as u32).collect();
        let other: Vec<u32> = own.iter().rev().copied().collect();
        let labels = Labels::from(own.clone()).mixed(Some(share));
        let found = cross_entropy(&tensor(&logits, &[n, classes]), &labels, smoothing).unwrap();
        let loss = |logits: &[f64]| {
            share * reference::cross_entropy(logits, &own, smoothing)
                + (1.0 - share) * reference::cross_entropy(logits, &other, smoothing)
        };
        let read = found.read().unwrap();
        assert!((read.loss - loss(&logits)).abs() < 1e-9, "{what}: {}", read.loss);
        assert_gradient(&what, &values(&found.dlogits), &logits, 5, SLOPE, loss);
        let hits = |labels: &[u32]| {
            let rows = logits.chunks(classes).zip(labels);
            let hit =
                |(row, label): &(&[f64], &u32)| row.iter().all(|v| *v <= row[**label as usize]);
            rows.filter(hit).count() as f64
        };
        let expected = share * hits(&own) + (1.0 - share) * hits(&other);
        assert!((read.correct - expected).abs() < 1e-9, "{what}: {}", read.correct);
    }
}

#[test]
fn large_logits_do_not_overflow() {
    let logits = tensor(&[1000.0, -1000.0, 0.0, 0.0], &[2, 2]);
    let found = loss_of(&logits, &[1, 0], 0.0).unwrap();
    assert!((found.loss - 1000.0 - 0.5 * 2f64.ln()).abs() < 1e-9);
    assert_eq!(values(&found.dlogits), [0.5, -0.5, -0.25, 0.25]);
    assert_eq!(found.correct, 1);
}

#[test]
fn of_equal_logits_the_first_counts() {
    let logits = [1.0, 3.0, 3.0, 0.0, 3.0, 1.0, 2.0, 2.0, -1.0, -1.0, -1.0, -1.0];
    let logits = tensor(&logits, &[3, 4]);
    for (labels, correct) in [([1, 0, 0], 3), ([2, 0, 0], 2), ([2, 2, 3], 0)] {
        assert_eq!(loss_of(&logits, &labels, 0.0).unwrap().correct, correct);
    }
}

#[test]
fn losses_that_are_not_finite_stay_so() {
    let logits = |other| tensor(&[0.0, other], &[1, 2]);
    let impossible = loss_of(&logits(f64::NEG_INFINITY), &[1], 0.0).unwrap();
    assert_eq!(impossible.loss, f64::INFINITY);
    for other in [f64::INFINITY, f64::NAN] {
        assert!(loss_of(&logits(other), &[0], 0.0).unwrap().loss.is_nan());
    }
}

#[test]
fn updates_in_place_match_their_formulas() {
    // One value, a part of a block, several blocks; the last does not decay.
    let counts = [1, 37, 5000, 3];
    let all = |name: &str| -> Vec<Vec<f64>> {
        counts.iter().map(|n| random(&format!("{name}{n}"), *n)).collect()
    };
    for clip_norm in [None, Some(1.5), Some(1e6)] {
        let (w, v, g) = (all("w"), all("v"), all("g"));
        let norm = g.iter().flatten().map(|v| v * v).sum::<f64>().sqrt();
        let scale = clip_norm.map_or(1.0, |bound: f64| (bound / norm).min(1.0));
        let rows = |all: &[Vec<f64>]| all.iter().map(|x| row(x)).collect::<Vec<_>>();
        let (ws, vs, gs) = (rows(&w), rows(&v), rows(&g));
        let step =
            update::SgdStep { learning_rate: 0.3, momentum: 0.8, weight_decay: 0.05, clip_norm };
        let operands = |i: usize| update::SgdOperands {
            weight: &ws[i],
            velocity: &vs[i],
            gradient: &gs[i],
            decays: i < 3,
        };
        step.apply(&[operands(3), operands(0), operands(1), operands(2)]).unwrap();
        for i in 0..counts.len() {
            let decay = if i < 3 { 0.05 } else { 0.0 };
            let velocity: Vec<f64> =
                (0..counts[i]).map(|j| 0.8 * v[i][j] + scale * g[i][j] + decay * w[i][j]).collect();
            let moved: Vec<f64> = (0..counts[i]).map(|j| w[i][j] - 0.3 * velocity[j]).collect();
            assert_close("velocity", &values(&vs[i]), &velocity, 1e-6);
            assert_close("weight", &values(&ws[i]), &moved, 1e-6);
            assert_eq!(values(&gs[i]), g[i]);
        }
    }
}

#[test]
fn more_tensors_than_one_launch_takes_are_updated() {
    let numbers = random("many", 2101);
    let ws: Vec<_> = numbers.iter().map(|v| row(&[*v, 1.0])).collect();
    let vs: Vec<_> = ws.iter().map(|w| w.zeros_like().unwrap()).collect();
    let gs: Vec<_> = numbers.iter().map(|v| row(&[2.0 * v, 0.0])).collect();
    let operands: Vec<_> = (0..ws.len())
        .map(|i| update::SgdOperands {
            weight: &ws[i],
            velocity: &vs[i],
            gradient: &gs[i],
            decays: i % 2 == 0,
        })
        .collect();
    let norm = numbers.iter().map(|v| 4.0 * v * v).sum::<f64>().sqrt();
    let squares = update::sum_of_squares(&gs.iter().collect::<Vec<_>>()).unwrap();
    assert!((squares.read().unwrap()[0].sqrt() / norm - 1.0).abs() < 1e-9);
    let step = update::SgdStep {
        learning_rate: 1.0,
        momentum: 0.0,
        weight_decay: 0.5,
        clip_norm: Some(norm / 4.0),
    };
    step.apply(&operands).unwrap();
    for (i, v) in numbers.iter().enumerate() {
        let decay = if i % 2 == 0 { 0.5 } else { 0.0 };
        assert_close("weight", &values(&ws[i]), &[v - 0.5 * v - decay * v, 1.0 - decay], 1e-5);
    }
    let all: Vec<_> = ws.iter().collect();
    let (first, read) = gpu::read(&[&Deferred::known(vec![7.0]), &squares], &all).unwrap();
    assert_eq!((first[0][0], first[1][0] > 0.0, read.len()), (7.0, true, 2101));
    for (read, w) in read.iter().zip(&ws) {
        assert_eq!(read.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), values(w));
    }
}

#[test]
fn sums_and_moved_copies_match_their_formulas() {
    let (g, w) = (random("g", 2051), random("w", 2051));
    let (gs, ws) = (row(&g), row(&w));
    let total: Vec<f64> = g.iter().zip(&w).map(|(g, w)| g + w).collect();
    assert_close("a + b", &values(&update::sum(&gs, &ws).unwrap()), &total, 1e-6);
    assert_close("a", &values(&gs), &g, 1e-6);
    assert_refused(update::sum(&gs, &row(&w[..36])), &["36"]);
    update::accumulate(&gs, &ws).unwrap();
    assert_close("sum", &values(&gs), &total, 1e-6);
    assert_refused(update::accumulate(&gs, &row(&w[..36])), &["axpby"]);

    let moved = update::moved(&[(&ws, Some(&gs)), (&gs, None)], -0.25).unwrap();
    let expected: Vec<f64> = w.iter().zip(values(&gs)).map(|(w, g)| w - 0.25 * g).collect();
    assert_close("moved", &values(&moved[0]), &expected, 1e-6);
    assert_eq!(values(&moved[1]), values(&gs));
}

#[test]
fn rows_of_one_upload_keep_their_values() {
    prepare();
    let rows: Vec<Vec<f32>> = [1, 4, 0, 7, 16].map(|n| vec![n as f32 + 0.5; n]).to_vec();
    let uploaded = gpu::upload_rows(rows.clone(), &Device::Cpu).unwrap();
    assert_eq!(uploaded.iter().map(|t| t.to_vec1::<f32>().unwrap()).collect::<Vec<_>>(), rows);
    assert!(gpu::upload_rows(Vec::new(), &Device::Cpu).unwrap().is_empty());
}
