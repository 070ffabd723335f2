//! Where a run happens: program, machine, device, clock. The only place that reads a wall clock.

use serde::{Deserialize, Serialize};

/// What may make two runs of one manifest differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The package's version.
    pub version: String,
    /// The git revision that the program was built from, where it was built in a checkout.
    pub git_revision: Option<String>,
    /// Whether that checkout held changes that were not committed.
    pub git_dirty: Option<bool>,
    /// The compiler, as in `rustc 1.95.0`.
    pub rustc: String,
    /// Versions of the libraries that do arithmetic, as in `candle-core 0.11.1, gemm 0.19.0`.
    pub libraries: String,
    pub host: String,
    /// Operating system and architecture, as in `linux x86_64`.
    pub os: String,
    /// The processor's name.
    pub cpu: String,
    /// The instruction set that the kernels were compiled for at run time, as in `AVX2+FMA`.
    pub instructions: String,
    /// Processors that the program may use.
    pub cores: u32,
    /// Physical memory in bytes; 0 where it cannot be told.
    pub memory_bytes: u64,
    /// Threads that the operators run on.
    pub threads: u32,
    /// `cpu` or `cuda:N`.
    pub device: String,
}

/// Seconds since 1970, UTC.
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |d| d.as_secs_f64())
}
