//! The running average of weights against a loop over numbers.

use super::three_params;
use crate::numbers::{assert_close, values};
use candle_core::Tensor;
use repro::nn::Params;
use repro::train::{WeightAverage, decay_after};

fn numbers(params: &Params) -> Vec<Vec<f64>> {
    params.named().map(|(_, tensor)| values(tensor)).collect()
}

#[test]
fn the_average_follows_weights_and_running_statistics() {
    let mut params = three_params();
    params.add_buffer("running".to_owned(), 3, 0.25).unwrap();
    let average = WeightAverage::new(0.6, &params).unwrap();
    let mut expected = numbers(&params);
    for step in 0..16u32 {
        let names: Vec<String> = params.named().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let moved = params.named().find(|(found, _)| *found == name).unwrap().1;
            let moved = ((moved * 0.7).unwrap() + 0.1 * f64::from(step)).unwrap();
            params.set(&name, &moved).unwrap();
        }
        average.follow(&params, step.into()).unwrap();
        // (1 + n) / (10 + n) after n steps, until that is 0.6.
        let decay = f64::min(0.6, f64::from(step + 2) / f64::from(step + 11));
        for (expected, value) in expected.iter_mut().zip(numbers(&params)) {
            for (expected, value) in expected.iter_mut().zip(value) {
                *expected = decay * *expected + (1.0 - decay) * value;
            }
        }
        for (i, (found, expected)) in numbers(average.params()).iter().zip(&expected).enumerate() {
            assert_close(&format!("tensor {i}"), found, expected, 1e-5);
        }
    }
}

#[test]
fn the_decay_rises_to_its_value() {
    assert_eq!(decay_after(0.9999, 0), 2.0 / 11.0);
    assert_eq!(decay_after(0.9999, 88), 90.0 / 99.0);
    assert_eq!(decay_after(0.5, 1_000), 0.5);
}

/// In f32 the two factors of a weighted mean do not sum to one: their error would add up.
#[test]
fn a_constant_weight_is_its_own_average_after_many_steps() {
    let params = three_params();
    let average = WeightAverage::new(0.9999, &params).unwrap();
    let bits = |params: &Params| -> Vec<f64> { numbers(params).concat() };
    for step in 0..2_000 {
        average.follow(&params, step).unwrap();
    }
    assert_eq!(bits(average.params()), bits(&params));
}

#[test]
fn the_average_shares_no_tensor_with_the_weights() {
    let params = three_params();
    let average = WeightAverage::new(0.9, &params).unwrap();
    let before = numbers(&params);
    let ones: Vec<Tensor> = params.tensors().map(|(t, _)| t.ones_like().unwrap()).collect();
    let pairs: Vec<(&Tensor, &Tensor)> = params.tensors().map(|(t, _)| t).zip(&ones).collect();
    repro::ops::update::average(&pairs, 1.0).unwrap();
    assert_eq!(numbers(average.params()), before);
    assert!(numbers(&params).concat().iter().all(|value| (value - 1.0).abs() < 1e-6));
}
