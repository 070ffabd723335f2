//! Kernels that are loaded on a GPU.

use super::program;
use crate::ops::gpu::{Launch, Source};
use candle_core::cuda_backend::WrapErr;
use candle_core::{Result, bail};
use cudarc::driver::result::{launch_kernel, module};
use cudarc::driver::{CudaStream, sys};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Mutex, PoisonError};

/// The kernels of one GPU. They stay loaded.
pub(super) struct Functions {
    compute: (u32, u32),
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, Module>,
    functions: HashMap<&'static str, Function>,
}

#[derive(Clone, Copy)]
struct Module(sys::CUmodule);

/// A kernel and the sizes of its parameters in bytes.
#[derive(Clone, Copy)]
struct Function {
    raw: sys::CUfunction,
    parameters: &'static [usize],
}

// SAFETY: handles of the driver, which may be used by any thread.
#[allow(unsafe_code)]
unsafe impl Send for Module {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Send for Function {}

impl Functions {
    pub(super) fn new(compute: (u32, u32)) -> Self {
        Self { compute, loaded: Mutex::default() }
    }

    /// Launches a kernel on `stream`, whose context is the thread's.
    pub(super) fn launch(
        &self,
        stream: &CudaStream,
        launch: &Launch,
        mut values: Vec<Value>,
    ) -> Result<()> {
        let function = self.function(launch.source, launch.kernel)?;
        let fits = values.len() == function.parameters.len()
            && values.iter().zip(function.parameters).all(|(value, size)| value.fits(*size));
        if !fits {
            let given: Vec<usize> = values.iter().map(Value::size).collect();
            let kernel = launch.kernel;
            bail!("{kernel} takes arguments of {:?} bytes, not {given:?}", function.parameters);
        }
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(Value::pointer).collect();
        let (x, y, z) = launch.grid;
        let grid = (x as u32, y as u32, z as u32);
        let block = (launch.block as u32, 1, 1);
        // SAFETY: there is one argument for each parameter, with its bytes. That kernels stay within
        // their buffers is what the tests on the emulator check.
        #[allow(unsafe_code)]
        let launched = unsafe {
            launch_kernel(
                function.raw,
                grid,
                block,
                launch.shared as u32,
                stream.cu_stream(),
                &mut pointers,
            )
        };
        let place = || format!("{} on {grid:?} blocks of {}", launch.kernel, launch.block);
        launched.w().map_err(|error| error.context(place()))
    }

    fn function(&self, source: &Source, kernel: &'static str) -> Result<Function> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(kernel) {
            return Ok(*function);
        }
        let module = if let Some(module) = loaded.modules.get(source.name) {
            *module
        } else {
            let image = program::compile(source, self.compute)?;
            // SAFETY: the image is what NVRTC made.
            #[allow(unsafe_code)]
            let module = Module(unsafe { module::load_data(image.as_ptr().cast()) }.w()?);
            loaded.modules.insert(source.name, module);
            module
        };
        let Ok(name) = CString::new(kernel) else { bail!("a kernel's name has a NUL") };
        // SAFETY: the module is never unloaded.
        #[allow(unsafe_code)]
        let raw = unsafe { module::get_function(module.0, name) }
            .w()
            .map_err(|error| error.context(format!("{}.cu has no kernel {kernel}", source.name)))?;
        let function = Function { raw, parameters: parameters(raw)? };
        loaded.functions.insert(kernel, function);
        Ok(function)
    }
}

/// The sizes of a kernel's parameters. They live as long as the kernel, which is never unloaded.
fn parameters(function: sys::CUfunction) -> Result<&'static [usize]> {
    let mut sizes = Vec::new();
    loop {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: the function is loaded, and both are places for a size.
        #[allow(unsafe_code)]
        let found = unsafe {
            sys::cuFuncGetParamInfo(function, sizes.len(), &raw mut offset, &raw mut size)
        };
        // This is what the driver says of the parameter after the last.
        if found == sys::CUresult::CUDA_ERROR_INVALID_VALUE {
            return Ok(Vec::leak(sizes));
        }
        found.result().w()?;
        sizes.push(size);
    }
}

/// An argument as the driver takes it.
pub(super) enum Value {
    Pointer(sys::CUdeviceptr),
    Number([u8; 4]),
    Struct(Vec<u8>),
}

impl Value {
    fn size(&self) -> usize {
        match self {
            Self::Pointer(address) => size_of_val(address),
            Self::Number(bytes) => bytes.len(),
            Self::Struct(bytes) => bytes.len(),
        }
    }

    /// Whether a parameter of `size` bytes takes it. A struct may have padding at its end.
    fn fits(&self, size: usize) -> bool {
        self.size() == size || matches!(self, Self::Struct(bytes) if bytes.len() > size)
    }

    /// The driver copies the bytes behind this pointer when it launches.
    fn pointer(&mut self) -> *mut c_void {
        match self {
            Self::Pointer(address) => std::ptr::from_mut(address).cast(),
            Self::Number(bytes) => bytes.as_mut_ptr().cast(),
            Self::Struct(bytes) => bytes.as_mut_ptr().cast(),
        }
    }
}
