//! `--device`: the CPU or a GPU.

use super::ending::Usage;
use anyhow::Result;
use candle_core::Device;
use repro::cost::Backend;
use repro::env::Environment;
use repro::memory;
use repro::ops::gpu::{self, GpuProblem};
use repro::ops::instruction_set;

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
            (_, Some(_)) if gpu::toolkit().is_none() => Err(GpuProblem::NotBuilt.to_string()),
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

    /// This program on this machine, with what the driver says of the GPU.
    pub fn environment(self, threads: usize) -> Environment {
        let environment = Environment::detect(&self.name(), threads, instruction_set());
        let Self::Cuda(number) = self else { return environment };
        let Ok(driver) = gpu::driver_info() else { return environment };
        let release = driver.release.unwrap_or_else(|| "of unknown release".to_owned());
        let toolkit = gpu::toolkit().map(|toolkit| format!(", toolkit {}", toolkit.cuda));
        Environment {
            gpu: driver.gpus.get(number).map(|gpu| gpu.name.clone()),
            cuda: Some(format!("driver {release}{}", toolkit.unwrap_or_default())),
            ..environment
        }
    }

    /// # Errors
    /// When the GPU cannot be used.
    pub fn open(self) -> Result<Device> {
        let device: Result<Device> = match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => gpu::open(number).inspect(gpu::count_memory).map_err(Into::into),
            #[cfg(feature = "emulator")]
            Self::Emulated => emulated(),
        };
        device.map_err(|error| Usage(format!("--device {}: {error}", self.name())).into())
    }
}

/// What tensors on `device` can still take, if it is known, and of what that is a part.
///
/// # Errors
/// When the GPU cannot tell.
pub fn free_memory(device: &Device) -> Result<(Option<u64>, &'static str)> {
    Ok(match gpu::backend(device)? {
        Backend::Cpu => (memory::available_bytes(), "memory"),
        Backend::EmulatedGpu | Backend::Gpu => {
            (gpu::memory(device)?.map(|memory| memory.available()), "the GPU's memory")
        }
    })
}

/// The CPU, with the library of `REPRO_EMULATOR` between operators and tensors. `REPRO_EMULATOR_ORDER`
/// seeds the order of threads, and `REPRO_EMULATOR_MEMORY` limits the bytes of tensors.
#[cfg(feature = "emulator")]
fn emulated() -> Result<Device> {
    use anyhow::Context;
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let number = |name: &str, what: &str| {
        let value = set(name).map(|value| value.to_str().and_then(|text| text.parse().ok()));
        value.map(|value| value.with_context(|| format!("{name} is not {what}"))).transpose()
    };
    let library = set("REPRO_EMULATOR")
        .context("set REPRO_EMULATOR to the path of the emulator's library")?;
    let order = number("REPRO_EMULATOR_ORDER", "a whole number")?;
    let bytes = number("REPRO_EMULATOR_MEMORY", "a number of bytes")?;
    gpu::emulate(library.as_ref(), order.unwrap_or_default())?;
    gpu::count_memory(&Device::Cpu);
    if let Some(bytes) = bytes {
        gpu::limit_memory(bytes);
    }
    Ok(Device::Cpu)
}
