//! Operators that have no parameters of their own, or only a matrix.

use super::{Check, Outputs, compare, random};
use crate::ops::groups::{self, GroupOrder, Groups};
use crate::ops::loss::{Labels, cross_entropy};
use crate::ops::subsample::Grid;
use crate::ops::update::{self, RmsPropOperands, RmsPropStep, SgdOperands, SgdStep};
use crate::ops::{bias, conv, matmul, norm, pad, pool, scale, subsample};
use crate::space::Activation;
use candle_core::{Device, Result};

/// Images, side and channels: odd sides, one channel, channels that are no multiple of four or of a
/// warp, more channels than a block has threads.
const SHAPES: [[usize; 3]; 5] = [[3, 9, 20], [2, 13, 1], [2, 8, 64], [5, 1, 33], [2, 2, 1100]];

// What passes is five to ten times the largest difference on the emulator, over several inputs and
// instruction sets of the CPU. The devices sum in other orders and fuse other operations.

/// Sums of many values: 6.9e-7.
const SUMS: f64 = 5e-6;
/// Sums of few values, and values that a norm scales: 2.1e-7.
const SHORT: f64 = 2e-6;
/// Copies, sums of two values, and sums in f64: no difference. A rounding of the result passes.
const EXACT: f64 = 2e-7;

/// One operator on an input of a shape.
type Operator = fn([usize; 3], &Device) -> Result<Outputs>;

const OPERATORS: &[(&str, Operator, f64)] = &[
    ("matmul", matrix_product, SUMS),
    ("dense convolution", convolution, SUMS),
    ("moments", moments, SUMS),
    ("pool", pooling, SUMS),
    ("bias", biases, SUMS),
    ("pad and cut", padding, EXACT),
    ("subsample and merge", subsampling, EXACT),
    ("mask of filters", masks, SHORT),
    ("groups", grouped, EXACT),
    ("cross-entropy", loss, EXACT),
    ("SGD", sgd, SHORT),
    ("RMSProp and an average", rmsprop, SHORT),
];

pub(super) fn run(device: &Device, add: &mut dyn FnMut(Check)) {
    for (name, operator, tolerance) in OPERATORS {
        for shape @ [n, side, c] in SHAPES {
            let name = format!("{name}, {n} x {side} x {side} x {c}");
            add(compare((name, *tolerance), device, |device| operator(shape, device)));
        }
    }
}

fn matrix_product([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let x = random("x", &[n, side, side, c], device)?;
    let (w, dy) = (random("w", &[c, 24], device)?, random("dy", &[n, side, side, 24], device)?);
    Ok(vec![
        ("y", matmul::forward(&x, &w)?),
        ("dx", matmul::backward_input(&w, &dy)?),
        ("dw", matmul::backward_weight(&x, &dy)?),
    ])
}

fn convolution([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let x = random("x", &[n, side, side, c], device)?;
    let (w, out) = (random("w", &[9, c, 12], device)?, side.div_ceil(2));
    let dy = random("dy", &[n, out, out, 12], device)?;
    let (y, _) = conv::forward(&x, &w, (3, 2), false)?;
    let gradients = conv::backward(&x, &w, (3, 2), &dy, (true, true))?;
    let gradients = [("dx", gradients.dx), ("dw", gradients.dw)];
    let gradients = gradients.into_iter().filter_map(|(name, tensor)| Some((name, tensor?)));
    Ok([("y", y)].into_iter().chain(gradients).collect())
}

fn moments([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let moments = norm::moments(&random("x", &[n, side, side, c], device)?)?;
    Ok(vec![("mean", moments.mean), ("variance", moments.variance)])
}

fn pooling([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let x = random("x", &[n, side, side, c], device)?;
    let dy = random("dy", &[n, c], device)?;
    Ok(vec![("y", pool::forward(&x)?), ("dx", pool::backward(&dy, (side, side))?)])
}

fn biases([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let x = random("x", &[n * side * side, c], device)?;
    let (b, dy) = (random("b", &[c], device)?, random("dy", &[n * side * side, c], device)?);
    let y = bias::forward(&x, Some(&b), Activation::Hswish)?;
    let gradients = bias::backward(&x, Some(&b), Activation::Hswish, &dy)?;
    let dbias = gradients.dbias.into_iter().map(|dbias| ("dbias", dbias));
    Ok([("y", y), ("dx", gradients.dx)].into_iter().chain(dbias).collect())
}

fn padding([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let x = random("x", &[n, side, side, c], device)?;
    let more = random("more", &[n, side, side, c + 3], device)?;
    Ok(vec![
        ("sum", pad::sum(&[&x, &more], c + 5)?),
        ("dx", pad::backward(&more, c)?),
        ("cut", pad::cut(&more, c)?),
        ("cut's dx", pad::cut_backward(&x, c + 2)?),
    ])
}

fn subsampling([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let x = random("x", &[n, side, side, c], device)?;
    let grid = Grid::strided(2, (side, side));
    let small = subsample::forward(&x, grid)?;
    let whole = Grid { ratio: (1, 1), size: (side, side) };
    let merged = subsample::merge(&[(&x, whole), (&small, grid)], (side, side))?;
    let back = subsample::backward(&small, grid, (side, side))?;
    Ok(vec![("y", small), ("merged", merged), ("dx", back)])
}

fn masks([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let w = random("w", &[n * side, c], device)?;
    let (mask, dy) = (random("mask", &[c], device)?, random("dy", &[n * side, c], device)?);
    Ok(vec![
        ("y", scale::forward(&w, &mask)?),
        ("dw", scale::backward_weight(&mask, &dy)?),
        ("dmask", scale::backward_mask(&w, &dy)?),
    ])
}

fn grouped([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let groups = Groups { number: 2, order: GroupOrder::Shuffled };
    let (each, columns) = (n * side, 2 * c);
    let w = random("w", &[each, columns], device)?;
    let d = random("d", &[2 * each, columns], device)?;
    Ok(vec![("dense", groups::dense(&w, groups)?), ("dw", groups::backward(&d, groups)?)])
}

fn loss([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let rows = n * side;
    let logits = random("logits", &[rows, c], device)?;
    let classes: Vec<u32> = (0..rows).map(|row| (row * 7 % c) as u32).collect();
    let values: Vec<f32> = classes.iter().map(|class| *class as f32).collect();
    let labels = if crate::ops::gpu::in_use(device)? {
        Labels::on_gpu(classes, crate::ops::gpu::upload(values, rows, device)?)
    } else {
        Labels::from(classes)
    };
    let result = cross_entropy(&logits, &labels.mixed(Some(0.3)), 0.1)?;
    let read = result.read()?;
    let numbers = vec![read.loss as f32, read.correct as f32];
    let numbers = crate::ops::gpu::upload(numbers, 2, device)?;
    Ok(vec![("dlogits", result.dlogits), ("loss and correct", numbers)])
}

fn rmsprop([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let tensor = |label: &str| random(label, &[n * side, c], device);
    let (weight, velocity, gradient) = (tensor("w")?, tensor("v")?, tensor("g")?);
    let square = crate::ops::gpu::ones_like(&weight)?;
    let sgd =
        SgdStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-3, clip_norm: Some(1.0) };
    let step = RmsPropStep { sgd, rho: 0.9, epsilon: 1e-3 };
    let (weight_of, velocity_of, gradient_of) = (&weight, &velocity, &gradient);
    let sgd = SgdOperands {
        weight: weight_of,
        velocity: velocity_of,
        gradient: gradient_of,
        decays: true,
    };
    step.apply(&[RmsPropOperands { sgd, square: &square }])?;
    update::average(&[(&square, &weight)], 0.3)?;
    Ok(vec![("weight", weight), ("velocity", velocity), ("square and average", square)])
}

fn sgd([n, side, c]: [usize; 3], device: &Device) -> Result<Outputs> {
    let tensor = |label: &str| random(label, &[n * side, c], device);
    let (weight, velocity, gradient) = (tensor("w")?, tensor("v")?, tensor("g")?);
    let step =
        SgdStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-3, clip_norm: Some(1.0) };
    let (weight_of, velocity_of, gradient_of) = (&weight, &velocity, &gradient);
    step.apply(&[SgdOperands {
        weight: weight_of,
        velocity: velocity_of,
        gradient: gradient_of,
        decays: true,
    }])?;
    Ok(vec![("weight", weight), ("velocity", velocity)])
}
