//! RMSProp against its formula, one number at a time.

use super::{sgd, three_params};
use crate::numbers::{assert_close, random, row, values};
use candle_core::Tensor;
use repro::checkpoint::Stage;
use repro::recipe::{Optimizer, RmsProp};
use repro::train::OptimizerState;

fn rmsprop(weight_decay: f64, clip_norm: Option<f64>) -> Optimizer {
    let rmsprop = Some(RmsProp { rho: 0.9, epsilon: 1e-3 });
    Optimizer { sgd: sgd(weight_decay, clip_norm), rmsprop }
}

/// The gradients of a step: of the filter, of the bias, and none.
fn gradients(step: usize) -> [Vec<f64>; 2] {
    [random(&format!("f{step}"), 12), random(&format!("b{step}"), 5)]
}

fn given([filter, bias]: &[Vec<f64>; 2]) -> [Option<Tensor>; 3] {
    [Some(row(filter).reshape((3, 4)).unwrap()), Some(row(bias)), None]
}

#[test]
fn rmsprop_matches_its_formula() {
    for clip_norm in [None, Some(1.5), Some(1e6)] {
        let params = three_params();
        let mut state = OptimizerState::new(rmsprop(0.01, clip_norm), &params).unwrap();
        let mut expected: Vec<Vec<f64>> = params.tensors().map(|(t, _)| values(t)).collect();
        let unused = expected[2].clone();
        // Velocity and mean square of each number.
        let mut kept: Vec<Vec<(f64, f64)>> =
            expected.iter().map(|w| vec![(0.0, 1.0); w.len()]).collect();
        for step in 0..5 {
            let gradients = gradients(step);
            let norm = gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
            let scale = clip_norm.map_or(1.0, |bound: f64| (bound / norm).min(1.0));
            let rate = 0.1 / (step + 1) as f64;
            for i in 0..2 {
                let decay = if i == 0 { 0.01 } else { 0.0 };
                for (j, (velocity, square)) in kept[i].iter_mut().enumerate() {
                    let g = scale * gradients[i][j] + decay * expected[i][j];
                    *square = 0.9 * *square + 0.1 * g * g;
                    *velocity = 0.9 * *velocity + rate * g / (*square + 1e-3).sqrt();
                    expected[i][j] -= *velocity;
                }
            }
            state.step(&params, &given(&gradients), rate).unwrap();
            for (i, (tensor, _)) in params.tensors().enumerate() {
                assert_close(&format!("parameter {i}"), &values(tensor), &expected[i], 1e-5);
            }
            assert_eq!(expected[2], unused);
        }
    }
}

#[test]
fn a_first_step_is_about_the_gradient_since_the_mean_square_starts_at_one() {
    let params = three_params();
    let before = values(params.tensors().nth(1).unwrap().0);
    let mut state = OptimizerState::new(rmsprop(0.0, None), &params).unwrap();
    state.step(&params, &[None, Some(row(&[2.0, -2.0, 0.5, 1.0, 0.0])), None], 0.1).unwrap();
    let after = values(params.tensors().nth(1).unwrap().0);
    let moved: Vec<f64> = before.iter().zip(&after).map(|(before, after)| before - after).collect();
    // 0.1 g / sqrt(0.9 + 0.1 g² + 0.001), from another program.
    let expected = [0.175_344_18, -0.175_344_18, 0.051_959_446, 0.099_950_037, 0.0];
    assert_close("moved", &moved, &expected, 1e-5);
}

#[test]
fn a_saved_state_continues_to_the_same_bits() {
    let run = |stop: Option<usize>| {
        let params = three_params();
        let mut state = OptimizerState::new(rmsprop(0.01, Some(1.5)), &params).unwrap();
        for step in 0..6 {
            if stop == Some(step) {
                let mut stage = Stage::default();
                state.save(&mut stage, &params);
                let fresh = OptimizerState::new(rmsprop(0.01, Some(1.5)), &params).unwrap();
                state = fresh.continued(&stage, &params).unwrap();
            }
            state.step(&params, &given(&gradients(step)), 0.05).unwrap();
        }
        params.sha256().unwrap()
    };
    assert_eq!(run(None), run(Some(3)));
}
