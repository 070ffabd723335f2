//! Bias and activation, the loss, and updates in place.

use super::{ACTIVATIONS, CHANNELS, SLOPE, VALUE};
use crate::numbers::{assert_close, assert_gradient, assert_refused, random, row, tensor, values};
use crate::reference::{self, Map};
use repro::ops::{bias, loss, scale, update};

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
fn cross_entropy_matches_the_reference() {
    for (n, classes, smoothing) in [(1, 2, 0.0), (5, 3, 0.1), (4, 10, 0.3), (3, 101, 0.0)] {
        let what = format!("cross-entropy of {n} in {classes}");
        let logits: Vec<f64> = random("logits", n * classes).iter().map(|v| 4.0 * v).collect();
        let labels: Vec<u32> = (0..n).map(|i| ((i * 7 + 1) % classes) as u32).collect();
        let found = loss::cross_entropy(&tensor(&logits, &[n, classes]), &labels, smoothing);
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
fn large_logits_do_not_overflow() {
    let logits = tensor(&[1000.0, -1000.0, 0.0, 0.0], &[2, 2]);
    let found = loss::cross_entropy(&logits, &[1, 0], 0.0).unwrap();
    assert!((found.loss - 1000.0 - 0.5 * 2f64.ln()).abs() < 1e-9);
    assert_eq!(values(&found.dlogits), [0.5, -0.5, -0.25, 0.25]);
    assert_eq!(found.correct, 1);
}

#[test]
fn updates_in_place_match_their_formulas() {
    let (w, v, g) = (random("w", 37), random("v", 37), random("g", 37));
    let (ws, vs, gs) = (row(&w), row(&v), row(&g));
    assert!(
        (update::sum_of_squares(&ws).unwrap() - w.iter().map(|v| v * v).sum::<f64>()).abs() < 1e-9
    );
    let step = update::SgdStep {
        learning_rate: 0.3,
        momentum: 0.8,
        weight_decay: 0.05,
        gradient_scale: 0.5,
    };
    step.apply(&ws, &vs, &gs).unwrap();
    let velocity: Vec<f64> = (0..37).map(|i| 0.8 * v[i] + 0.5 * g[i] + 0.05 * w[i]).collect();
    let moved: Vec<f64> = (0..37).map(|i| w[i] - 0.3 * velocity[i]).collect();
    assert_close("velocity", &values(&vs), &velocity, 1e-6);
    assert_close("weight", &values(&ws), &moved, 1e-6);
    assert_eq!(values(&gs), g);

    update::accumulate(&gs, &row(&w)).unwrap();
    let total: Vec<f64> = (0..37).map(|i| g[i] + w[i]).collect();
    assert_close("sum", &values(&gs), &total, 1e-6);
    assert_refused(update::accumulate(&gs, &row(&w[..36])), &["axpby"]);
}
