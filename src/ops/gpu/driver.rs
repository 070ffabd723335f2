//! The NVIDIA driver of this machine: what it says about its GPUs, and why one cannot be used.
//!
//! The driver's library is opened when the program runs, so that a program built with GPU support also
//! starts on a machine without a driver.

use serde::Serialize;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;

/// A version of CUDA. The driver has one, the newest that it supports; the toolkit has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct CudaVersion {
    pub major: u32,
    pub minor: u32,
}

impl CudaVersion {
    /// From CUDA's numbers, as 13040 for 13.4.
    #[must_use]
    pub fn of_number(number: i32) -> Self {
        let number = number.max(0) as u32;
        Self { major: number / 1000, minor: number % 1000 / 10 }
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<CudaVersion> for String {
    fn from(version: CudaVersion) -> Self {
        version.to_string()
    }
}

/// A GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuInfo {
    pub name: String,
    pub memory_bytes: u64,
    /// Compute capability, major and minor.
    pub compute: (u32, u32),
}

/// Bytes of a GPU's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// Of this program's tensors now.
    pub used: u64,
    /// The most that they used at once since `reset_peak`.
    pub peak: u64,
    /// Taken by this program for tensors, used or not.
    pub reserved: u64,
    /// Not taken by any program.
    pub free: u64,
    pub total: u64,
}

/// What the driver says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriverInfo {
    /// As in 580.65.06, where the system tells.
    pub release: Option<String>,
    /// The newest CUDA that it supports.
    pub cuda: CudaVersion,
    /// In the order of their numbers.
    pub gpus: Vec<GpuInfo>,
}

/// What a program with GPU support was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Toolkit {
    pub cuda: CudaVersion,
    /// The least compute capability that the kernels of candle and of this program are compiled for.
    pub compute: (u32, u32),
}

/// Why a GPU cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuProblem {
    #[error(
        "this program was built without GPU support; build it with `cargo build --release \
         --features cuda`"
    )]
    NotBuilt,
    #[error("there is no NVIDIA driver on this machine")]
    NoDriver,
    #[error("the NVIDIA driver does not start: {0}")]
    Driver(String),
    #[error("the NVIDIA driver finds no GPU")]
    NoGpu,
    #[error("there is no GPU number {number}; the last is {last}")]
    NoSuchGpu { number: usize, last: usize },
    #[error(
        "the NVIDIA driver supports CUDA {driver}, but this program was built with CUDA {toolkit}; \
         update the driver, or build the program with an older CUDA"
    )]
    OldDriver { driver: CudaVersion, toolkit: CudaVersion },
    #[error(
        "the GPU has compute capability {}.{}, but this program was built for {}.{} and newer; build \
         it again with CUDA_COMPUTE_CAP={}{}",
        .gpu.0, .gpu.1, .least.0, .least.1, .gpu.0, .gpu.1
    )]
    OldGpu { gpu: (u32, u32), least: (u32, u32) },
    #[error("the GPU cannot be used: {0}")]
    Failed(String),
}

/// Whether a program built with `toolkit` can use GPU `number`.
///
/// # Errors
/// Why it cannot.
pub fn check(driver: &DriverInfo, number: usize, toolkit: Toolkit) -> Result<(), GpuProblem> {
    let Some(last) = driver.gpus.len().checked_sub(1) else { return Err(GpuProblem::NoGpu) };
    let Some(gpu) = driver.gpus.get(number) else {
        return Err(GpuProblem::NoSuchGpu { number, last });
    };
    // The driver compiles candle's kernels, and it knows no assembly language newer than itself.
    if driver.cuda < toolkit.cuda {
        return Err(GpuProblem::OldDriver { driver: driver.cuda, toolkit: toolkit.cuda });
    }
    if gpu.compute < toolkit.compute {
        return Err(GpuProblem::OldGpu { gpu: gpu.compute, least: toolkit.compute });
    }
    Ok(())
}

/// Asks the driver for its version and its GPUs.
///
/// # Errors
/// When there is no driver, or it does not start.
pub fn driver_info() -> Result<DriverInfo, GpuProblem> {
    Driver::open().ok_or(GpuProblem::NoDriver)?.info()
}

/// The release of the driver's kernel module.
fn release() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_release =
        |word: &&str| word.contains('.') && word.chars().all(|c| c == '.' || c.is_ascii_digit());
    text.lines().next()?.split_whitespace().find(is_release).map(str::to_owned)
}

/// The driver's library. It stays loaded.
#[derive(Clone, Copy)]
pub(super) struct Driver {
    library: *mut c_void,
}

// Numbers of `cuda.h`.
const NO_DEVICE: c_int = 100;
const COMPUTE_MAJOR: c_int = 75;
const COMPUTE_MINOR: c_int = 76;

type Init = unsafe extern "C" fn(c_uint) -> c_int;
type ErrorName = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
type GetInt = unsafe extern "C" fn(*mut c_int) -> c_int;
type DeviceGet = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type DeviceName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
type DeviceMemory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
type DeviceAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;

#[allow(unsafe_code)]
impl Driver {
    /// `None` where there is no driver.
    pub(super) fn open() -> Option<Self> {
        // SAFETY: the name ends with a NUL. Initialising NVIDIA's library has no precondition.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        (!library.is_null()).then_some(Self { library })
    }

    /// The address of a function; null where this driver lacks it.
    pub(super) fn symbol(self, name: &CStr) -> *mut c_void {
        // SAFETY: the library is open, and the name ends with a NUL.
        unsafe { libc::dlsym(self.library, name.as_ptr()) }
    }

    /// A function of type `F`, which must be that of `cuda.h`.
    fn function<F: Copy>(self, name: &CStr) -> Result<F, GpuProblem> {
        let symbol = self.symbol(name);
        if symbol.is_null() {
            return Err(GpuProblem::Driver(format!("it has no {}", name.to_string_lossy())));
        }
        debug_assert_eq!(size_of::<F>(), size_of_val(&symbol));
        // SAFETY: both are pointers; the callers name the type of each function.
        Ok(unsafe { std::mem::transmute_copy(&symbol) })
    }

    fn check(self, result: c_int) -> Result<(), GpuProblem> {
        if result == 0 {
            return Ok(());
        }
        let mut name = std::ptr::null();
        let get_name: ErrorName = self.function(c"cuGetErrorName")?;
        // SAFETY: `name` is a place for a pointer; the driver's text lives as long as the program.
        let name = unsafe {
            get_name(result, &raw mut name);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        };
        Err(GpuProblem::Driver(name.unwrap_or_else(|| format!("error {result}"))))
    }

    /// What it says about itself and its GPUs.
    pub(super) fn info(self) -> Result<DriverInfo, GpuProblem> {
        let init: Init = self.function(c"cuInit")?;
        let version: GetInt = self.function(c"cuDriverGetVersion")?;
        let device_count: GetInt = self.function(c"cuDeviceGetCount")?;
        let (mut number, mut count) = (0, 0);
        // SAFETY: the types are those of `cuda.h`, and each result is written to an integer.
        let started = unsafe {
            self.check(version(&raw mut number))?;
            init(0)
        };
        if started != NO_DEVICE {
            self.check(started)?;
            // SAFETY: as above.
            self.check(unsafe { device_count(&raw mut count) })?;
        }
        let gpus = (0..count).map(|number| self.gpu(number)).collect::<Result<_, _>>()?;
        Ok(DriverInfo { release: release(), cuda: CudaVersion::of_number(number), gpus })
    }

    fn gpu(self, number: c_int) -> Result<GpuInfo, GpuProblem> {
        let get: DeviceGet = self.function(c"cuDeviceGet")?;
        let name: DeviceName = self.function(c"cuDeviceGetName")?;
        let memory: DeviceMemory = self.function(c"cuDeviceTotalMem_v2")?;
        let attribute: DeviceAttribute = self.function(c"cuDeviceGetAttribute")?;
        let (mut device, mut bytes, mut major, mut minor) = (0, 0, 0, 0);
        let mut text = [0u8; 256];
        // SAFETY: the types are those of `cuda.h`; results are written to variables of these types,
        // and the name to a buffer whose length is passed.
        unsafe {
            self.check(get(&raw mut device, number))?;
            self.check(name(text.as_mut_ptr().cast(), text.len() as c_int, device))?;
            self.check(memory(&raw mut bytes, device))?;
            self.check(attribute(&raw mut major, COMPUTE_MAJOR, device))?;
            self.check(attribute(&raw mut minor, COMPUTE_MINOR, device))?;
        }
        let name = CStr::from_bytes_until_nul(&text).unwrap_or_default();
        Ok(GpuInfo {
            name: name.to_string_lossy().into_owned(),
            memory_bytes: bytes as u64,
            compute: (major as u32, minor as u32),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(cuda: i32, compute: &[(u32, u32)]) -> DriverInfo {
        let gpu = |&compute| GpuInfo { name: "a GPU".to_owned(), memory_bytes: 1 << 34, compute };
        let gpus = compute.iter().map(gpu).collect();
        DriverInfo { release: None, cuda: CudaVersion::of_number(cuda), gpus }
    }

    const TOOLKIT: Toolkit = Toolkit { cuda: CudaVersion { major: 13, minor: 4 }, compute: (8, 0) };

    #[test]
    fn a_gpu_is_usable_with_a_new_driver_and_the_capability() {
        assert_eq!(check(&driver(13040, &[(8, 0)]), 0, TOOLKIT), Ok(()));
        assert_eq!(check(&driver(14000, &[(7, 0), (12, 1)]), 1, TOOLKIT), Ok(()));
    }

    #[test]
    fn a_problem_says_what_to_do() {
        let problem =
            |driver: &DriverInfo, number| check(driver, number, TOOLKIT).unwrap_err().to_string();
        assert_eq!(problem(&driver(13040, &[]), 0), "the NVIDIA driver finds no GPU");
        let two = driver(13040, &[(9, 0), (9, 0)]);
        assert_eq!(problem(&two, 2), "there is no GPU number 2; the last is 1");
        assert_eq!(
            problem(&driver(13000, &[(9, 0)]), 0),
            "the NVIDIA driver supports CUDA 13.0, but this program was built with CUDA 13.4; update \
             the driver, or build the program with an older CUDA"
        );
        assert_eq!(
            problem(&driver(13040, &[(7, 5)]), 0),
            "the GPU has compute capability 7.5, but this program was built for 8.0 and newer; build \
             it again with CUDA_COMPUTE_CAP=75"
        );
    }
}
