//! Launches on a real GPU, through candle's CUDA device: NVRTC compiles the kernels, cuBLAS multiplies
//! matrices.
//!
//! Everything that touches a tensor is in one stream, in the order of the calls, whichever thread makes
//! them. Memory is allocated and freed in that order too, so a tensor may be dropped while a kernel still
//! reads it. Only uploads have a second stream, for their own buffers (`upload.rs`).

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod forward;
mod functions;
mod pool;
mod program;
mod upload;

use super::driver::{self, CudaVersion, Driver, GpuMemory, GpuProblem, Toolkit};
use super::{Arg, Gemm, Launch, StructArg};
use crate::recipe::Precision;
use candle_core::cuda_backend::{CudaError, CudaStorageSlice, DeviceId, WrapErr};
use candle_core::{CudaDevice, DType, Device, Result, Shape, Storage, Tensor, bail};
use cudarc::cublas::{CudaBlas, result::gemm_ex, sys as cublas};
use cudarc::driver::result::{malloc_sync, memcpy_dtoh_async};
use cudarc::driver::{CudaStream, DevicePtr, sys};
use functions::{Functions, Value};
use pool::Pool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use upload::Uploads;

/// A CUDA device of candle, with what this program keeps for it.
#[derive(Clone)]
pub(in crate::ops) struct Cuda {
    device: CudaDevice,
    state: &'static State,
}

/// What is kept for a device until the program ends.
struct State {
    stream: Arc<CudaStream>,
    blas: Arc<CudaBlas>,
    functions: Functions,
    pool: Pool,
    uploads: Mutex<Uploads>,
}

static STATES: RwLock<Vec<(DeviceId, &'static State)>> = RwLock::new(Vec::new());

/// The toolkit that this program was built with.
pub(super) fn toolkit() -> Toolkit {
    let cuda = CudaVersion::of_number(program::toolkit_version());
    let nvrtc = program::architectures().ok().and_then(|known| known.into_iter().min());
    // What candle's kernels were compiled for, where the build was told.
    let candle = option_env!("REPRO_CUDA_COMPUTE_CAP").and_then(|given| given.parse().ok());
    let least = nvrtc.max(candle).unwrap_or_default() as u32;
    Toolkit { cuda, compute: (least / 10, least % 10) }
}

/// Opens GPU `number`.
pub(super) fn open(number: usize) -> std::result::Result<Device, GpuProblem> {
    let driver = Driver::open().ok_or(GpuProblem::NoDriver)?;
    driver::check(&driver.info()?, number, toolkit())?;
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    forward::forward_to(driver);
    let failed = |error: candle_core::Error| {
        GpuProblem::Failed(error.to_string().lines().next().unwrap_or_default().to_owned())
    };
    // A stream of its own: candle's default is a stream for each thread.
    let device = Device::new_cuda_with_stream(number).map_err(failed)?;
    Cuda::of(device.as_cuda_device().map_err(failed)?).map_err(failed)?;
    Ok(device)
}

/// Whether an error of candle's says that the GPU is out of memory.
pub(super) fn is_out_of_memory(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    match error.downcast_ref() {
        Some(CudaError::Cuda(error)) => error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY,
        Some(CudaError::Cublas(error)) => {
            error.0 == cublas::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED
        }
        _ => false,
    }
}

impl Cuda {
    pub(super) fn of(device: &CudaDevice) -> Result<Self> {
        let find = |states: &[(DeviceId, &'static State)]| {
            states.iter().find(|(id, _)| *id == device.id()).map(|(_, state)| *state)
        };
        if let Some(state) = find(&STATES.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Self { device: device.clone(), state });
        }
        let mut states = STATES.write().unwrap_or_else(PoisonError::into_inner);
        let state = if let Some(state) = find(&states) {
            state
        } else {
            let state: &'static State = Box::leak(Box::new(State::new(device)?));
            states.push((device.id(), state));
            state
        };
        Ok(Self { device: device.clone(), state })
    }

    pub(super) fn device(&self) -> Device {
        Device::Cuda(self.device.clone())
    }

    pub(super) fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        // SAFETY: kernels write every value before it is read.
        #[allow(unsafe_code)]
        unsafe {
            Tensor::empty(shape, dtype, &self.device())
        }
    }

    pub(super) fn launch(&self, launch: &Launch, args: &[Arg<'_>]) -> Result<()> {
        let values = args.iter().map(|arg| self.value(arg)).collect::<Result<_>>()?;
        self.state.stream.context().bind_to_thread().w()?;
        self.state.functions.launch(&self.state.stream, launch, values)
    }

    fn value(&self, arg: &Arg<'_>) -> Result<Value> {
        Ok(match arg {
            Arg::In(tensor) | Arg::Out(tensor) => Value::Pointer(self.address(tensor)?),
            Arg::Absent => Value::Pointer(0),
            Arg::Int(value) => Value::Number(value.to_ne_bytes()),
            Arg::Unsigned(value) => Value::Number(value.to_ne_bytes()),
            Arg::Float(value) => Value::Number(value.to_ne_bytes()),
            Arg::Struct(StructArg { bytes, pointers }) => {
                let mut bytes = bytes.clone();
                for (offset, tensor, _) in pointers {
                    let address = self.address(tensor)?.to_ne_bytes();
                    match bytes.get_mut(*offset..*offset + address.len()) {
                        Some(place) => place.copy_from_slice(&address),
                        None => {
                            bail!("a struct of {} bytes has no pointer at {offset}", bytes.len())
                        }
                    }
                }
                Value::Struct(bytes)
            }
        })
    }

    /// Where a tensor's values begin. Valid in the order of the stream while the tensor lives.
    fn address(&self, tensor: &Tensor) -> Result<sys::CUdeviceptr> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((from, _)) = layout.contiguous_offsets() else {
            bail!("kernels take contiguous tensors, got {layout:?}")
        };
        let Storage::Cuda(storage) = &*storage else {
            bail!("a tensor of {:?} in a kernel of the GPU", tensor.device().location())
        };
        let stream = &self.state.stream;
        let (start, size) = match &storage.slice {
            CudaStorageSlice::F32(data) => (data.device_ptr(stream).0, size_of::<f32>()),
            CudaStorageSlice::F64(data) => (data.device_ptr(stream).0, size_of::<f64>()),
            CudaStorageSlice::U32(data) => (data.device_ptr(stream).0, size_of::<u32>()),
            _ => bail!("kernels take f32, f64 and u32, got {:?}", tensor.dtype()),
        };
        Ok(start + (from * size) as u64)
    }

    /// In f32, products and sums are rounded to f32 (`COMPUTE_32F`): cuBLAS uses lower precision only
    /// where it is asked to. The pedantic mode would give up fast algorithms as well.
    pub(super) fn gemm(&self, gemm: &Gemm<'_>, precision: Precision) -> Result<()> {
        use cublas::cublasComputeType_t::{CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32};
        use cublas::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        for tensor in [gemm.a, gemm.b, gemm.c] {
            if tensor.dtype() != DType::F32 {
                bail!("gemm takes f32, got {:?}", tensor.dtype());
            }
        }
        let (a, b) = (self.address(gemm.a)?, self.address(gemm.b)?);
        let c = self.address(gemm.c)?;
        let operation = |transposed| if transposed { CUBLAS_OP_T } else { CUBLAS_OP_N };
        let float = cublas::cudaDataType_t::CUDA_R_32F;
        self.state.stream.context().bind_to_thread().w()?;
        // SAFETY: the buffers are on this GPU; that they are large enough is what the emulator checks.
        // α and β are read before the call returns.
        #[allow(unsafe_code)]
        unsafe {
            gemm_ex(
                *self.state.blas.handle(),
                operation(gemm.transpose_a),
                operation(gemm.transpose_b),
                gemm.m as i32,
                gemm.n as i32,
                gemm.k as i32,
                (&raw const gemm.alpha).cast(),
                a as *const _,
                float,
                gemm.lda as i32,
                b as *const _,
                float,
                gemm.ldb as i32,
                (&raw const gemm.beta).cast(),
                c as *mut _,
                float,
                gemm.ldc as i32,
                match precision {
                    Precision::F32 => CUBLAS_COMPUTE_32F,
                    Precision::Tf32 => CUBLAS_COMPUTE_32F_FAST_TF32,
                },
                cublas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()
    }

    /// Copies values to a new tensor; does not wait for the GPU.
    pub(super) fn upload(&self, values: &[f32], shape: Shape) -> Result<Tensor> {
        if values.len() != shape.elem_count() {
            bail!("{} values for a tensor of shape {shape:?}", values.len());
        }
        let tensor = self.empty(shape, DType::F32)?;
        if !values.is_empty() {
            let mut uploads = self.state.uploads.lock().unwrap_or_else(PoisonError::into_inner);
            uploads.upload(values, self.address(&tensor)?)?;
        }
        Ok(tensor)
    }

    /// The values of a tensor, once the GPU has computed and copied them.
    pub(super) fn download(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        if tensor.dtype() != DType::F32 {
            bail!("a download of {:?}, not f32", tensor.dtype());
        }
        let mut values = vec![0.0; tensor.elem_count()];
        if values.is_empty() {
            return Ok(values);
        }
        let address = self.address(tensor)?;
        let stream = &self.state.stream;
        stream.context().bind_to_thread().w()?;
        // SAFETY: the tensor is contiguous from `address`, and neither it nor `values` is freed or read
        // before the stream has been waited for.
        #[allow(unsafe_code)]
        let copied = unsafe { memcpy_dtoh_async(&mut values, address, stream.cu_stream()) };
        // Waits even after an error, for part of the copy may be under way.
        let done = stream.synchronize();
        copied.and(done).w()?;
        Ok(values)
    }

    pub(super) fn memory(&self) -> Result<GpuMemory> {
        self.state.stream.context().bind_to_thread().w()?;
        let (free, total) = pool::free_and_total()?;
        let pool = &self.state.pool;
        let (used, peak, reserved) = (pool.used()?, pool.peak()?, pool.reserved()?);
        Ok(GpuMemory { used, peak, reserved, free, total })
    }

    pub(super) fn reset_peak(&self) -> Result<()> {
        self.state.pool.reset_peak()
    }

    /// Waits until the GPU has done everything.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.state.stream.synchronize().w()
    }
}

/// cuBLAS' workspace. One that stays the same is what makes its results reproducible; this is the size
/// that NVIDIA recommends for its largest GPUs.
const WORKSPACE: usize = 32 << 20;

impl State {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let context = stream.context().clone();
        context.bind_to_thread().w()?;
        // SAFETY: all tensors are used in one stream, so they need no events to be in order. `Uploads`
        // orders its copy stream by events of its own.
        #[allow(unsafe_code)]
        unsafe {
            device.disable_event_tracking();
        }
        let blas = device.cublas_handle();
        // SAFETY: the workspace is never freed, and only this handle, in one stream, uses it. It is
        // taken from outside the pool, whose figures are those of tensors.
        #[allow(unsafe_code)]
        unsafe {
            let workspace = malloc_sync(WORKSPACE).w()?;
            cublas::cublasSetWorkspace_v2(*blas.handle(), workspace as *mut _, WORKSPACE)
                .result()
                .w()?;
        }
        let (major, minor) = context.compute_capability().w()?;
        Ok(Self {
            functions: Functions::new((major as u32, minor as u32)),
            pool: Pool::new(&context)?,
            uploads: Mutex::new(Uploads::new(stream.clone())?),
            stream,
            blas,
        })
    }
}
