//! `--device`: the CPU or a GPU.

use super::ending::Usage;
use anyhow::{Result, anyhow};
use candle_core::Device;
use std::panic::catch_unwind;

/// Where operators compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
    /// The code for GPUs on the CPU, for tests.
    #[cfg(feature = "emulator")]
    Emulated,
}

impl DeviceChoice {
    /// Parses `cpu` or `cuda:N`, and `emulated` in a build with the emulator.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(given: &str) -> Result<Self, String> {
        let cuda = given.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (given, cuda) {
            ("cpu", _) => Ok(Self::Cpu),
            #[cfg(feature = "emulator")]
            ("emulated", _) => Ok(Self::Emulated),
            (_, Some(_)) if !cfg!(feature = "cuda") => Err(
                "this program was built without GPU support; build it with `cargo build --release \
                     --features cuda`"
                    .to_owned(),
            ),
            (_, Some(number)) => Ok(Self::Cuda(number)),
            _ => Err("expected cpu or cuda:N, as in cuda:0".to_owned()),
        }
    }

    pub fn name(self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(number) => format!("cuda:{number}"),
            #[cfg(feature = "emulator")]
            Self::Emulated => "emulated".to_owned(),
        }
    }

    /// # Errors
    /// When the GPU cannot be used.
    pub fn open(self) -> Result<Device> {
        let device = match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => open_cuda(number),
            #[cfg(feature = "emulator")]
            Self::Emulated => emulated(),
        };
        device.map_err(|error| Usage(format!("--device {}: {error}", self.name())).into())
    }
}

/// The GPU of this number. Without a driver the library that calls it panics.
fn open_cuda(number: usize) -> Result<Device> {
    match catch_unwind(|| Device::new_cuda(number)) {
        Ok(device) => device.map_err(|error| {
            let text = error.to_string();
            anyhow!("the GPU cannot be used ({})", text.lines().next().unwrap_or_default())
        }),
        Err(_) => Err(anyhow!("there is no NVIDIA driver on this machine")),
    }
}

/// The CPU, with the library of `REPRO_EMULATOR` between operators and tensors. `REPRO_EMULATOR_ORDER`
/// seeds the order of threads.
#[cfg(feature = "emulator")]
fn emulated() -> Result<Device> {
    use anyhow::Context;
    let library = std::env::var_os("REPRO_EMULATOR")
        .context("set REPRO_EMULATOR to the path of the emulator's library")?;
    let order = match std::env::var("REPRO_EMULATOR_ORDER") {
        Ok(order) => order.parse().context("REPRO_EMULATOR_ORDER is not a whole number")?,
        Err(_) => 0,
    };
    repro::ops::gpu::emulate(library.as_ref(), order)?;
    Ok(Device::Cpu)
}
