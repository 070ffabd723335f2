//! Random numbers, comparisons and finite differences for the numeric tests.

use crate::reference::{Map, Weights};
use candle_core::{Device, Tensor};
use repro::nn::Params;
use repro::ops;
use repro::ops::gpu::Fault;
use repro::ops::loss::BatchLoss;
use repro::rng::Seed;
use std::sync::Once;

/// Standard normal numbers that are exact in f32.
pub fn random(label: &str, n: usize) -> Vec<f64> {
    let mut stream = Seed(2020).stream(label, 0);
    (0..n).map(|_| f64::from(stream.normal() as f32)).collect()
}

pub fn random_map(label: &str, shape: (usize, usize, usize, usize)) -> Map {
    Map::new(shape, random(label, shape.0 * shape.1 * shape.2 * shape.3))
}

/// The environment variable that limits the instruction set of the numeric tests.
pub const INSTRUCTIONS: &str = "REPRO_TEST_INSTRUCTIONS";

/// The environment variables that make the numeric tests run on the emulator of a GPU: its library, and
/// the seed of the order of threads.
pub const EMULATOR: &str = "REPRO_TEST_EMULATOR";
pub const THREAD_ORDER: &str = "REPRO_TEST_THREAD_ORDER";
/// A [`ops::gpu::Fault`] of the emulator.
pub const FAULT: &str = "REPRO_TEST_FAULT";

/// Fills outputs with NaN first, so that a value that is read before it is written shows, and chooses
/// what runs the operators.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ops::poison_outputs();
        if let Ok(name) = std::env::var(INSTRUCTIONS) {
            assert!(ops::limit_instruction_set(&name), "{INSTRUCTIONS}={name}");
        }
        if let Some(library) = std::env::var_os(EMULATOR) {
            let order = std::env::var(THREAD_ORDER).unwrap().parse().unwrap();
            ops::gpu::emulate(library.as_ref(), order).unwrap();
            ops::gpu::limit_scratch(256);
            if let Ok(name) = std::env::var(FAULT) {
                let named = |fault: &Fault| format!("{fault:?}") == name;
                let fault = Fault::ALL.into_iter().find(named).unwrap();
                ops::gpu::make_fault(fault);
            }
        }
    });
}

pub fn tensor(data: &[f64], shape: &[usize]) -> Tensor {
    prepare();
    let data: Vec<f32> = data.iter().map(|v| *v as f32).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

pub fn row(data: &[f64]) -> Tensor {
    tensor(data, &[data.len()])
}

impl Map {
    pub fn tensor(&self) -> Tensor {
        tensor(&self.data, &[self.n, self.h, self.w, self.c])
    }
}

pub fn values(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// A cross-entropy that was read from the device.
pub struct Loss {
    pub loss: f64,
    pub correct: usize,
    pub dlogits: Tensor,
}

/// The cross-entropy of labels in host memory.
pub fn loss_of(logits: &Tensor, labels: &[u32], smoothing: f64) -> candle_core::Result<Loss> {
    let found = ops::loss::cross_entropy(logits, &labels.to_vec().into(), smoothing)?;
    let BatchLoss { loss, correct } = found.read()?;
    Ok(Loss { loss, correct: correct as usize, dlogits: found.dlogits })
}

/// All parameters and buffers in f64.
pub fn weights(params: &Params) -> Weights {
    params.named().map(|(name, tensor)| (name.to_owned(), values(tensor))).collect()
}

/// Moves every parameter and buffer away from its initial value, so that no shift is zero and no factor
/// one.
pub fn scramble(params: &mut Params, label: &str) {
    let all: Vec<(String, Tensor)> =
        params.named().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    for (name, old) in all {
        let noise = random(&format!("{label}/{name}"), old.elem_count());
        let moved = noise.iter().zip(values(&old)).map(|(r, old)| match name.rsplit('.').next() {
            Some("running_var") => (0.4 * r).exp(),
            Some("weight") => old,
            // Wide enough for gates that are fully closed or fully open.
            Some("bias") if name.ends_with("excite.bias") => 3.0 * r,
            _ => old + 0.3 * r,
        });
        params.set(&name, &tensor(&moved.collect::<Vec<_>>(), old.dims())).unwrap();
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Every entry within `tolerance` of the expected one, in units of the expected root mean square.
#[track_caller]
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = norm(expected) / (expected.len().max(1) as f64).sqrt();
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale.max(b.abs()) + 1e-12,
            "{what}[{i}] is {a}, expected {b} (tolerance {tolerance} of {scale})"
        );
    }
}

/// Compares a gradient with central differences of the f64 `loss` around `at`: along random directions
/// that involve every entry, and entry by entry if there are few. The tolerance is a share of the
/// gradient's norm, or of `floor` where that is larger.
#[track_caller]
pub fn assert_gradient(
    what: &str,
    found: &[f64],
    at: &[f64],
    directions: usize,
    (tolerance, floor): (f64, f64),
    loss: impl Fn(&[f64]) -> f64,
) {
    assert_eq!(found.len(), at.len(), "{what}");
    let unit = |i: usize| (0..at.len()).map(|j| f64::from(u8::from(i == j))).collect();
    let single = if at.len() <= 6 { at.len() } else { 0 };
    let signs = (0..directions).map(|d| -> Vec<f64> {
        random(&format!("{what}/{d}"), at.len()).into_iter().map(f64::signum).collect()
    });
    for (d, direction) in signs.chain((0..single).map(unit)).enumerate() {
        let h = 1e-6;
        let moved =
            |h: f64| -> Vec<f64> { at.iter().zip(&direction).map(|(a, d)| a + h * d).collect() };
        let slope = (loss(&moved(h)) - loss(&moved(-h))) / (2.0 * h);
        let along: f64 = found.iter().zip(&direction).map(|(g, d)| g * d).sum();
        assert!(
            (along - slope).abs() <= tolerance * norm(found).max(floor),
            "{what}, direction {d}: the gradient says {along}, differences say {slope} \
             (norm {}, tolerance {tolerance})",
            norm(found)
        );
    }
}

/// The result is an error whose message has all of `words`.
#[track_caller]
pub fn assert_refused<T>(result: candle_core::Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("should be refused, naming {words:?}") };
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}
