//! Operands that do not fit are refused, and the message names both numbers.

use super::norm::{Summands, summands};
use crate::numbers::{assert_refused, loss_of, random_map};
use crate::reference::Map;
use candle_core::{DType, Device, Tensor};
use repro::ops::depthwise::{self, DepthwiseWanted};
use repro::ops::subsample::{self, Grid};
use repro::ops::{bias, conv, matmul, norm, pad, pool};
use repro::space::Activation;

/// An activation of six channels.
fn activation() -> Tensor {
    random_map("x", (2, 4, 4, 6)).tensor()
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn products_refuse_other_channel_counts() {
    let x = activation();
    assert_refused(matmul::forward(&x, &zeros(&[5, 3])), &["matmul", "6", "5"]);
    assert_refused(matmul::forward(&x, &zeros(&[6])), &[]);
    assert_refused(matmul::backward_input(&zeros(&[6, 3]), &x), &["matmul: dy", "3"]);
    let dy = zeros(&[2, 4, 3, 3]);
    assert_refused(matmul::backward_weight(&x, &dy), &["matmul: dy", "4, 4, 3]"]);
}

#[test]
fn convolutions_refuse_other_filters_and_strides() {
    let x = activation();
    let depthwise_of = |x: &Tensor, filter: &[usize], stride| {
        depthwise::forward(x, None, &zeros(filter), stride, false)
    };
    assert_refused(depthwise_of(&x, &[9, 5], 1), &["depthwise", "6", "5"]);
    assert_refused(depthwise_of(&x, &[49, 6], 1), &["depthwise", "49"]);
    assert_refused(depthwise_of(&zeros(&[4, 6]), &[9, 6], 1), &[]);
    assert_refused(depthwise_of(&x, &[9, 6], 0), &["depthwise: the stride is 0"]);
    let all = DepthwiseWanted { input: true, weights: true };
    let short_dy = depthwise::backward(&x, None, &zeros(&[9, 6]), 2, &x, all);
    assert_refused(short_dy.map(drop), &["depthwise: dy", "2, 2, 2, 6"]);

    assert_refused(conv::forward(&x, &zeros(&[9, 5, 2]), (3, 1), false), &["conv: w", "9, 6, 2"]);
    let w = zeros(&[9, 6, 2]);
    assert_refused(conv::forward(&x, &w, (3, 0), false), &["conv: the stride is 0"]);
    let short_dy = conv::backward(&x, &w, (3, 2), &x, (true, true));
    assert_refused(short_dy.map(drop), &["conv: dy", "2, 2, 2, 2"]);
}

#[test]
fn pixel_operators_refuse_other_sizes() {
    let x = activation();
    assert_refused(pool::forward(&zeros(&[4, 6])), &[]);
    assert_refused(pad::sum(&[], 6), &["pad", "nothing"]);
    assert_refused(pad::sum(&[&x], 5), &["pad: a summand", "5", "6"]);
    assert_refused(pad::sum(&[&x, &zeros(&[2, 4, 3, 6])], 6), &["pad: a summand", "4, 3, 6]"]);
    let grid = Grid::strided(2, (4, 4));
    assert_refused(subsample::backward(&x, grid, (4, 4)), &["subsample: dy", "2, 2, 2, 6"]);
    assert_refused(subsample::merge(&[], (4, 4)), &["nothing to merge"]);
    let larger = Grid { ratio: (3, 4), size: (4, 4) };
    let outside = Grid { ratio: (2, 1), size: (3, 2) };
    for grid in [larger, outside, Grid::strided(0, (4, 4))] {
        assert_refused(subsample::forward(&x, grid), &["does not fit a map of 4x4"]);
    }
}

#[test]
fn bias_refuses_other_channel_counts() {
    let (x, identity) = (activation(), Activation::Identity);
    let short = bias::forward(&x, Some(&zeros(&[5])), identity);
    assert_refused(short, &["bias: bias", "5", "6"]);
    let short_dy = bias::backward(&x, Some(&zeros(&[6])), identity, &zeros(&[2, 4, 4, 5]));
    assert_refused(short_dy, &["bias: dy"]);
}

#[test]
fn gated_sums_refuse_other_shapes() {
    assert_refused(norm::forward(&norm::GatedSum::default()), &["nothing to sum"]);
    let (shape, short) = ([2, 4, 4, 6], [2, 4, 4, 5]);
    let fitting = || Summands {
        gates: Some(vec![1.0]),
        identity: Some((Map::zeros(2, 4, 4, 6), 1.0)),
        mask: Some(vec![1.0; 6]),
        ..summands((2, 4, 4, 6), &[Activation::Identity])
    };
    let forward = |spoil: &dyn Fn(&mut norm::GatedSum)| {
        let mut sum = fitting().sum();
        spoil(&mut sum);
        norm::forward(&sum)
    };
    assert_eq!(forward(&|_| ()).unwrap().dims(), shape);
    assert_refused(forward(&|sum| sum.mask = Some(zeros(&[5]))), &["norm: the mask", "5", "6"]);
    assert_refused(forward(&|sum| sum.gates = Some(zeros(&[2]))), &["norm: the row of gates", "2"]);
    assert_refused(
        forward(&|sum| sum.identity = Some((zeros(&short), zeros(&[1])))),
        &["norm: the identity", "5", "6"],
    );
    assert_refused(
        forward(&|sum| sum.branches[0].norm.beta = zeros(&[5])),
        &["norm: beta", "5", "6"],
    );
    let wanted = norm::NormWanted { branches: vec![true], identity: true };
    let short_dy = norm::backward(&fitting().sum(), &zeros(&short), &wanted);
    assert_refused(short_dy.map(drop), &["norm: dy", "5", "6"]);
}

#[test]
fn the_loss_refuses_other_labels() {
    let logits = zeros(&[2, 3]);
    assert_refused(loss_of(&logits, &[0, 3], 0.0), &["2", "3 classes"]);
    assert_refused(loss_of(&logits, &[0], 0.0), &["1 labels", "2 images"]);
}

#[test]
fn only_contiguous_f32_is_accepted() {
    let x = activation();
    assert_refused(pool::forward(&x.transpose(1, 3).unwrap()), &["contiguous"]);
    assert_refused(pool::forward(&x.to_dtype(DType::F64).unwrap()), &["f32", "F64"]);
}
