//! Runs launches on the CPU, for tests: the `.cu` files, compiled as C++ into a library whose
//! `emulator_launch` gives every buffer guard zones and runs the threads of a block as fibres
//! (`emulator.cpp`). Tensors are candle's CPU tensors.

mod gemm;

use super::slots::Slots;
use super::{Arg, GpuMemory, Launch, StructArg};
use crate::memory::{EMULATED_MARK, EMULATED_UNIT, EmulatedMemory, TensorMemory};
use crate::tiling::{GPU_LARGE_SLOTS, GPU_POOL_UNIT, GPU_SMALL_SLOTS, GPU_SMALL_UPLOAD};
use candle_core::{
    CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail,
};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A hash of the sources of the kernels and of the emulator, which the library was compiled with too.
pub const SOURCES: &str = env!("REPRO_EMULATOR_SOURCES");

/// The loaded library and the seed that orders threads.
pub struct Emulator {
    launch: LaunchFn,
    seed: u64,
}

/// `Argument` of `emulator.h`.
#[repr(C)]
struct RawArg {
    kind: u8,
    element: u8,
    count: u64,
    data: *mut c_void,
    owner: u64,
    offset: u64,
}

/// A mistake of host code that the emulator makes on purpose, to show that the tests would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A grid has one block fewer along x.
    ShortGrid,
    /// A buffer of partial sums has one value fewer.
    SmallScratch,
    /// A matrix product has the leading dimensions of its operands swapped.
    SwappedLeadingDimensions,
}

impl Fault {
    pub const ALL: [Self; 3] =
        [Self::ShortGrid, Self::SmallScratch, Self::SwappedLeadingDimensions];
}

type LaunchFn = unsafe extern "C" fn(
    *const c_char,
    *const u32,
    *const u32,
    u64,
    *const RawArg,
    u64,
    u64,
    u32,
    *mut c_char,
    u64,
) -> c_int;

static EMULATOR: OnceLock<Emulator> = OnceLock::new();
static FAULT: OnceLock<Fault> = OnceLock::new();

thread_local! {
    static ON_HOST: Cell<bool> = const { Cell::new(false) };
}

/// From now on, operators on CPU tensors run their GPU code on the emulator. `library` is the compiled
/// emulator, `seed` decides the order of threads.
///
/// # Errors
/// When the library cannot be loaded, or another one is.
pub fn emulate(library: &Path, seed: u64) -> Result<()> {
    let emulator = Emulator { launch: load(library)?, seed };
    if EMULATOR.set(emulator).is_err() {
        bail!("an emulator is loaded already");
    }
    Ok(())
}

/// From now on, the emulator makes this mistake in every launch.
pub fn make_fault(fault: Fault) {
    let _ = FAULT.set(fault);
}

fn makes(fault: Fault) -> bool {
    FAULT.get() == Some(&fault)
}

/// Runs `f` with the CPU's kernels, whether or not there is an emulator.
pub fn on_host<T>(f: impl FnOnce() -> T) -> T {
    let before = ON_HOST.replace(true);
    let result = f();
    ON_HOST.set(before);
    result
}

/// The emulator, where operators run on it.
pub(super) fn active() -> Option<&'static Emulator> {
    EMULATOR.get().filter(|_| !ON_HOST.get())
}

fn load(library: &Path) -> Result<LaunchFn> {
    let path = CString::new(library.as_os_str().as_encoded_bytes())
        .map_err(|_| candle_core::Error::msg("a path with a NUL"))?;
    // SAFETY: the library is an emulator's if it has both symbols, and then they have these types. It is
    // never unloaded.
    #[allow(unsafe_code)]
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        let symbol = |name: &CStr| {
            if handle.is_null() { std::ptr::null_mut() } else { libc::dlsym(handle, name.as_ptr()) }
        };
        let launch = symbol(c"emulator_launch");
        if launch.is_null() {
            bail!("{}: {}", library.display(), CStr::from_ptr(libc::dlerror()).to_string_lossy());
        }
        let sources = symbol(c"emulator_sources");
        if sources.is_null() || CStr::from_ptr(sources.cast()).to_bytes() != SOURCES.as_bytes() {
            bail!(
                "{} was compiled from other sources than this program; compile it again, as \
                 CONTRIBUTING.md describes",
                library.display()
            );
        }
        Ok(std::mem::transmute::<*mut c_void, LaunchFn>(launch))
    }
}

/// The message of an error.
pub(super) const OUT_OF_MEMORY: &str = "the emulator's limit of memory is reached";

static LIMIT: OnceLock<u64> = OnceLock::new();

/// From now on, tensors fail that do not fit into so many bytes beside all others.
pub fn limit_memory(bytes: u64) {
    let _ = LIMIT.set(bytes);
}

/// The limit and what is used of it.
pub(super) fn memory() -> Option<GpuMemory> {
    let total = *LIMIT.get()?;
    let (used, peak) = (EmulatedMemory.live(), EmulatedMemory.peak());
    Some(GpuMemory { used, peak, reserved: used, free: total.saturating_sub(used), total })
}

const _: () = assert!(EMULATED_UNIT == GPU_POOL_UNIT);

/// `len` values in memory that counts as the GPU's.
fn values<T: Copy>(len: usize, value: T) -> Result<Vec<T>> {
    let bytes = (len * size_of::<T>()).next_multiple_of(GPU_POOL_UNIT);
    if memory().is_some_and(|memory| memory.free < bytes as u64) {
        bail!("{OUT_OF_MEMORY}");
    }
    let mut values = Vec::with_capacity((bytes + EMULATED_MARK) / size_of::<T>());
    values.resize(len, value);
    Ok(values)
}

/// NaN, so that a value that no kernel has written shows.
pub(super) fn empty(shape: Shape, dtype: DType) -> Result<Tensor> {
    let len = shape.elem_count();
    match dtype {
        DType::F32 => Tensor::from_vec(values(len, f32::NAN)?, shape, &Device::Cpu),
        DType::F64 => Tensor::from_vec(values(len, f64::NAN)?, shape, &Device::Cpu),
        other => bail!("no buffer of {other:?}"),
    }
}

/// The buffers that uploads go through on a GPU (`cuda/upload.rs`).
struct Uploads {
    large: Slots<Vec<f32>, GPU_LARGE_SLOTS>,
    small: Slots<Vec<f32>, GPU_SMALL_SLOTS>,
}

static UPLOADS: Mutex<Uploads> = Mutex::new(Uploads { large: Slots::new(), small: Slots::new() });

/// A tensor with these values, which go through the same buffers as on a GPU.
pub(super) fn upload(from: &[f32], shape: Shape) -> Result<Tensor> {
    let mut to = values(from.len(), 0.0)?;
    let mut uploads = UPLOADS.lock().unwrap_or_else(PoisonError::into_inner);
    let new = |len| values(len, 0.0);
    let staged = if from.len() <= GPU_SMALL_UPLOAD {
        uploads.small.next(GPU_SMALL_UPLOAD, new)?
    } else {
        uploads.large.next(from.len(), new)?
    };
    staged[..from.len()].copy_from_slice(from);
    to.copy_from_slice(&staged[..from.len()]);
    Tensor::from_vec(to, shape, &Device::Cpu)
}

/// The values of a buffer, where they are. The library copies them.
struct Values {
    element: u8,
    count: usize,
    data: *mut c_void,
}

impl Values {
    /// Values to read.
    fn of(tensor: &Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((from, to)) = layout.contiguous_offsets() else {
            bail!("kernels take contiguous tensors, got {layout:?}")
        };
        let (element, data): (u8, *const c_void) = match &*storage {
            Storage::Cpu(CpuStorage::F32(data)) => (b'f', data[from..to].as_ptr().cast()),
            Storage::Cpu(CpuStorage::F64(data)) => (b'd', data[from..to].as_ptr().cast()),
            Storage::Cpu(CpuStorage::U32(data)) => (b'u', data[from..to].as_ptr().cast()),
            _ => bail!("kernels take f32, f64 and u32, got {:?}", tensor.dtype()),
        };
        Ok(Self { element, count: to - from, data: data.cast_mut() })
    }

    /// Values to write.
    fn of_output(tensor: &Tensor) -> Result<Self> {
        let values = Self::of(tensor)?;
        let place = OutputPlace(Cell::new(std::ptr::null_mut()));
        tensor.inplace_op1(&place)?;
        Ok(Self { data: place.0.get(), ..values })
    }

    fn overlaps(&self, other: &Self) -> bool {
        let range = |values: &Self| {
            let from = values.data as usize;
            from..from + values.count * if values.element == b'd' { 8 } else { 4 }
        };
        let (a, b) = (range(self), range(other));
        a.start < b.end && b.start < a.end
    }

    fn raw(&self, kind: u8, (owner, offset): (usize, usize)) -> RawArg {
        let Self { element, count, data } = *self;
        let (owner, offset) = (owner as u64, offset as u64);
        let scratch = kind == b'w' && element == b'd' && count > 1;
        let count = count - usize::from(scratch && makes(Fault::SmallScratch));
        RawArg { kind, element, count: count as u64, data, owner, offset }
    }
}

/// Finds out where the values of a tensor are, to write them.
struct OutputPlace(Cell<*mut c_void>);

impl InplaceOp1 for OutputPlace {
    fn name(&self) -> &'static str {
        "output place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((from, to)) = layout.contiguous_offsets() else { bail!("not contiguous") };
        self.0.set(match storage {
            CpuStorage::F32(data) => data[from..to].as_mut_ptr().cast(),
            CpuStorage::F64(data) => data[from..to].as_mut_ptr().cast(),
            CpuStorage::U32(data) => data[from..to].as_mut_ptr().cast(),
            _ => bail!("another type"),
        });
        Ok(())
    }
}

/// A buffer of a launch.
struct Buffer {
    values: Values,
    written: bool,
    /// The struct that points to it, and where.
    place: Option<(usize, usize)>,
}

impl Emulator {
    pub(super) fn launch(&self, launch: &Launch, args: &[Arg<'_>]) -> Result<()> {
        let buffers = buffers(args)?;
        refuse_overlaps(launch, &buffers)?;
        let mut numbers: Vec<[u8; 4]> = args.iter().map(number).collect();
        let mut structs: Vec<Vec<u8>> = args.iter().map(struct_bytes).collect();
        let mut raw = Vec::with_capacity(buffers.len() + args.len());
        {
            let mut own = buffers.iter().filter(|buffer| buffer.place.is_none());
            for ((arg, number), bytes) in args.iter().zip(&mut numbers).zip(&mut structs) {
                let value = |kind, data, count| RawArg {
                    kind,
                    element: 0,
                    count,
                    data,
                    owner: 0,
                    offset: 0,
                };
                let number = number.as_mut_ptr().cast();
                raw.push(match arg {
                    Arg::In(_) | Arg::Out(_) => {
                        let Some(buffer) = own.next() else { bail!("a buffer is missing") };
                        buffer.values.raw(if buffer.written { b'w' } else { b'r' }, (0, 0))
                    }
                    Arg::Absent => value(0, std::ptr::null_mut(), 0),
                    Arg::Int(_) => value(b'i', number, 0),
                    Arg::Unsigned(_) => value(b'u', number, 0),
                    Arg::Float(_) => value(b'f', number, 0),
                    Arg::Struct(_) => value(b'p', bytes.as_mut_ptr().cast(), bytes.len() as u64),
                });
            }
        }
        for buffer in &buffers {
            if let Some(place) = buffer.place {
                raw.push(buffer.values.raw(if buffer.written { b'W' } else { b'R' }, place));
            }
        }
        self.call(launch, &raw)
    }

    fn call(&self, launch: &Launch, raw: &[RawArg]) -> Result<()> {
        let Ok(kernel) = CString::new(launch.kernel) else { bail!("a kernel's name has a NUL") };
        let (x, y, z) = launch.grid;
        let mut grid = [x, y, z].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        if makes(Fault::ShortGrid) && grid[0] > 1 {
            grid[0] -= 1;
        }
        let block = [launch.block as u32, 1, 1];
        let mut error = [0u8; 512];
        let workers = rayon::current_num_threads() as u32;
        // SAFETY: every argument points to memory of the size that it says, which lives until after
        // the call, and nothing else uses the tensors meanwhile. Kernels access copies only; the library
        // checks each access.
        #[allow(unsafe_code)]
        let failed = unsafe {
            (self.launch)(
                kernel.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                launch.shared as u64,
                raw.as_ptr(),
                raw.len() as u64,
                self.seed,
                workers,
                error.as_mut_ptr().cast(),
                error.len() as u64,
            )
        };
        if failed != 0 {
            let message = CStr::from_bytes_until_nul(&error).unwrap_or_default();
            bail!("{}.cu: {}", launch.source.name, message.to_string_lossy());
        }
        Ok(())
    }
}

/// Refuses a launch that writes a buffer which it also reads or writes through another argument: the
/// library gives each argument a copy of its own, so the order of accesses would not show.
fn refuse_overlaps(launch: &Launch, buffers: &[Buffer]) -> Result<()> {
    for (i, first) in buffers.iter().enumerate() {
        for second in &buffers[i + 1..] {
            if (first.written || second.written) && first.values.overlaps(&second.values) {
                bail!("{}: a buffer is given twice, and the kernel writes it", launch.kernel);
            }
        }
    }
    Ok(())
}

fn buffers(args: &[Arg<'_>]) -> Result<Vec<Buffer>> {
    let mut buffers = Vec::new();
    let mut add = |tensor: &Tensor, written, place| {
        let values = if written { Values::of_output(tensor)? } else { Values::of(tensor)? };
        buffers.push(Buffer { values, written, place });
        Ok::<_, candle_core::Error>(())
    };
    for (i, arg) in args.iter().enumerate() {
        match arg {
            Arg::In(tensor) => add(tensor, false, None)?,
            Arg::Out(tensor) => add(tensor, true, None)?,
            Arg::Struct(StructArg { pointers, .. }) => {
                for (offset, tensor, written) in pointers {
                    add(tensor, *written, Some((i, *offset)))?;
                }
            }
            _ => {}
        }
    }
    Ok(buffers)
}

fn number(arg: &Arg<'_>) -> [u8; 4] {
    match arg {
        Arg::Int(value) => value.to_ne_bytes(),
        Arg::Unsigned(value) => value.to_ne_bytes(),
        Arg::Float(value) => value.to_ne_bytes(),
        _ => [0; 4],
    }
}

fn struct_bytes(arg: &Arg<'_>) -> Vec<u8> {
    match arg {
        Arg::Struct(StructArg { bytes, .. }) => bytes.clone(),
        _ => Vec::new(),
    }
}
