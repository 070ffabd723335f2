//! Whether a device computes what the CPU computes: operators and blocks on a table of shapes, a short
//! search, and a supernet step beside the CPU's. Made for the first run on a new GPU.

mod blocks;
mod operators;
mod search;

pub use search::{Smoke, SmokeResult};

use crate::memory;
use crate::ops::gpu;
use crate::rng::Seed;
use candle_core::{Device, Result, Tensor};

/// One comparison of the device with the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub name: String,
    /// The tensor that differs most and by which share, or what failed.
    pub outcome: std::result::Result<(String, f64), String>,
    /// The largest difference from the CPU that passes, as a share of the largest value of the CPU's
    /// result.
    pub tolerance: f64,
}

impl Check {
    #[must_use]
    pub fn passes(&self) -> bool {
        // A difference that is not a number fails.
        self.outcome.as_ref().is_ok_and(|(_, difference)| *difference <= self.tolerance)
    }
}

/// Named results of one computation.
type Outputs = Vec<(&'static str, Tensor)>;

/// Runs every operator and every kind of block on `device` and on the CPU; calls `done` after each.
pub fn checks(device: &Device, mut done: impl FnMut(&Check)) -> Vec<Check> {
    let mut all = Vec::new();
    let mut add = |check: Check| {
        done(&check);
        all.push(check);
    };
    operators::run(device, &mut add);
    blocks::run(device, &mut add);
    all
}

/// Runs `f` with the CPU's kernels and the count of the host's memory, whatever the device of the other
/// runs is.
fn on_cpu<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(feature = "emulator")]
    return memory::on_host(|| gpu::on_host(f));
    #[cfg(not(feature = "emulator"))]
    memory::on_host(f)
}

/// Compares what `run` computes on `device` with what it computes on the CPU.
fn compare(
    (name, tolerance): (String, f64),
    device: &Device,
    run: impl Fn(&Device) -> Result<Outputs>,
) -> Check {
    let outcome = (|| {
        let values = |device: &Device| {
            let outputs = run(device)?;
            let read = |(name, tensor): (_, Tensor)| Ok((name, gpu::download(&tensor)?));
            outputs.into_iter().map(read).collect::<Result<Vec<(&'static str, Vec<f32>)>>>()
        };
        let (found, expected) = (values(device)?, on_cpu(|| values(&Device::Cpu))?);
        let differences = found.iter().zip(&expected);
        let mut worst = (String::new(), 0.0);
        for ((name, found), (_, expected)) in differences {
            let difference = difference(found, expected);
            if difference > worst.1 {
                worst = ((*name).to_owned(), difference);
            }
        }
        Ok(worst)
    })();
    let outcome = outcome.map_err(|error: candle_core::Error| error.to_string());
    Check { name, outcome, tolerance }
}

/// The largest difference, as a share of the largest expected value; infinite if one is not a number.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |most, v| most.max(f64::from(v.abs())));
    let differences = found.iter().zip(expected).map(|(found, expected)| {
        let difference = (f64::from(*found) - f64::from(*expected)).abs() / largest;
        if difference.is_nan() { f64::INFINITY } else { difference }
    });
    differences.fold(0.0, f64::max)
}

/// Normally distributed values, the same on every device.
fn random(label: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
    let mut stream = Seed(1).child("selftest").stream(label, 0);
    let values = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
    gpu::upload(values, shape, device)
}
