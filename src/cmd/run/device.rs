//! `--device`: the CPU or a GPU.

use anyhow::{Context, Result};
use candle_core::Device;

/// Where the runs compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl DeviceChoice {
    /// Parses `cpu` or `cuda:N`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(given: &str) -> Result<Self, String> {
        let cuda = given.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (given, cuda) {
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(_)) if !cfg!(feature = "cuda") => Err(
                "this program was built without GPU support, and there are no CUDA kernels yet; \
                     to write some, build it with --features cuda"
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
        }
    }

    /// # Errors
    /// When the GPU cannot be used.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => Device::new_cuda(number)
                .with_context(|| format!("--device cuda:{number}: the GPU cannot be used")),
        }
    }
}
