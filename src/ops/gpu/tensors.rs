//! Many tensors in one launch: a struct that is passed by value says where they are and which blocks
//! take which of them. It has room for a thousand; more take several launches.

use super::{Arg, Gpu, Launch, Source, StructArg, source};
use candle_core::{DType, Device, Result, Shape, Tensor, bail};

const SOURCE: &Source = &source!("tensors");

/// `MOST_TENSORS` of `common.cuh`.
const MOST_TENSORS: usize = 1000;
/// `TENSOR_VALUES` of `common.cuh`.
const TENSOR_VALUES: usize = crate::tiling::GPU_TENSOR_VALUES;
/// Bytes of `TensorEntry` and of `TensorList`.
const ENTRY: usize = 32;
const LIST: usize = MOST_TENSORS * ENTRY + 8;

/// Threads of a block, which take four values each.
pub(in crate::ops) const TENSOR_BLOCK: usize = 256;

/// Up to three buffers of the same length, each with whether the kernel writes it.
pub(in crate::ops) type Operands<'a> = [Option<(&'a Tensor, bool)>; 3];

/// The tensors of one launch.
pub(in crate::ops) struct TensorList<'a> {
    /// The first of these tensors among all.
    pub first: usize,
    pub count: usize,
    /// Blocks of all lists before this one.
    pub blocks_before: usize,
    pub blocks: usize,
    bytes: Vec<u8>,
    pointers: Vec<(usize, &'a Tensor, bool)>,
}

impl<'a> TensorList<'a> {
    /// The lists of all `tensors`.
    ///
    /// # Errors
    /// When the operands of one tensor differ in length.
    pub(in crate::ops) fn of(tensors: &[Operands<'a>]) -> Result<Vec<Self>> {
        let mut lists: Vec<Self> = Vec::new();
        let mut blocks = 0;
        for (i, part) in tensors.chunks(MOST_TENSORS).enumerate() {
            let list = Self::one(i * MOST_TENSORS, blocks, part)?;
            blocks += list.blocks;
            lists.push(list);
        }
        Ok(lists)
    }

    fn one(first: usize, blocks_before: usize, tensors: &[Operands<'a>]) -> Result<Self> {
        let (mut bytes, mut pointers, mut blocks) = (vec![0; LIST], Vec::new(), 0);
        for (i, operands) in tensors.iter().enumerate() {
            let mut length = None;
            for (k, operand) in operands.iter().enumerate() {
                let Some((tensor, written)) = operand else { continue };
                let count = tensor.elem_count();
                if *length.get_or_insert(count) != count {
                    bail!("tensors of {length:?} and {count} values do not match");
                }
                pointers.push((i * ENTRY + 8 * k, *tensor, *written));
            }
            let length = length.unwrap_or_default();
            let numbers = [u32::try_from(length).map_err(candle_core::Error::wrap)?, blocks];
            for (k, number) in numbers.into_iter().enumerate() {
                let at = i * ENTRY + 24 + 4 * k;
                bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
            }
            blocks += length.div_ceil(TENSOR_VALUES) as u32;
        }
        bytes[MOST_TENSORS * ENTRY..][..4].copy_from_slice(&(tensors.len() as u32).to_ne_bytes());
        let (count, blocks) = (tensors.len(), blocks as usize);
        Ok(Self { first, count, blocks_before, blocks, bytes, pointers })
    }

    /// Launches `kernel`, whose first parameter is this list.
    ///
    /// # Errors
    /// When the launch fails.
    pub(in crate::ops) fn launch<'b>(
        &self,
        gpu: &Gpu,
        source: &'static Source,
        kernel: &'static str,
        args: impl IntoIterator<Item = Arg<'b>>,
    ) -> Result<()>
    where
        'a: 'b,
    {
        let launch = Launch {
            source,
            kernel,
            grid: (self.blocks, 1, 1),
            block: TENSOR_BLOCK,
            shared: TENSOR_BLOCK / super::WARP * size_of::<f64>(),
        };
        let (bytes, pointers) = (self.bytes.clone(), self.pointers.clone());
        let mut all = vec![Arg::Struct(StructArg { bytes, pointers })];
        all.extend(args);
        gpu.launch(&launch, &all)
    }
}

/// A row of ones.
///
/// # Errors
/// When the device is out of memory.
pub fn ones(len: usize, device: &Device) -> Result<Tensor> {
    match Gpu::of(device)? {
        None => Tensor::ones(len, DType::F32, device),
        Some(gpu) => filled(&gpu, len, 1.0),
    }
}

/// Zeros in the shape of a tensor.
///
/// # Errors
/// When the device is out of memory.
pub fn zeros_like(tensor: &Tensor) -> Result<Tensor> {
    match Gpu::of(tensor.device())? {
        None => tensor.zeros_like(),
        Some(gpu) => filled(&gpu, tensor.shape(), 0.0),
    }
}

/// Ones in the shape of a tensor.
///
/// # Errors
/// When the device is out of memory.
pub fn ones_like(tensor: &Tensor) -> Result<Tensor> {
    match Gpu::of(tensor.device())? {
        None => tensor.ones_like(),
        Some(gpu) => filled(&gpu, tensor.shape(), 1.0),
    }
}

fn filled(gpu: &Gpu, shape: impl Into<Shape>, value: f32) -> Result<Tensor> {
    let tensor = gpu.output(shape)?;
    let len = tensor.elem_count();
    let args = [Arg::Out(&tensor), Arg::Float(value), Arg::size(len)];
    gpu.launch(&Launch::values(SOURCE, "fill_row", len), &args)?;
    Ok(tensor)
}

/// A copy in memory of its own.
///
/// # Errors
/// When the device is out of memory.
pub fn copy(tensor: &Tensor) -> Result<Tensor> {
    match Gpu::of(tensor.device())? {
        None => tensor.copy(),
        Some(gpu) => concatenated(&gpu, &[tensor])?.reshape(tensor.shape()),
    }
}

/// Matrices with the same number of columns, one below the other.
///
/// # Errors
/// When a launch fails.
pub(in crate::ops) fn appended(gpu: &Gpu, matrices: &[&Tensor]) -> Result<Tensor> {
    let columns = matrices.first().map_or(Ok(0), |matrix| matrix.dim(1))?;
    concatenated(gpu, matrices)?.reshape(((), columns))
}

/// The values of all tensors, one after the other.
///
/// # Errors
/// When a launch fails.
pub(super) fn concatenated(gpu: &Gpu, tensors: &[&Tensor]) -> Result<Tensor> {
    let all = gpu.output(tensors.iter().map(|tensor| tensor.elem_count()).sum::<usize>())?;
    let mut places = Vec::with_capacity(tensors.len());
    let mut from = 0;
    for tensor in tensors {
        places.push(all.narrow(0, from, tensor.elem_count())?);
        from += tensor.elem_count();
    }
    let copies: Vec<Operands<'_>> = (tensors.iter().zip(&places))
        .map(|(tensor, place)| [Some((*tensor, false)), Some((place, true)), None])
        .collect();
    for list in TensorList::of(&copies)? {
        list.launch(gpu, SOURCE, "copy_tensors", [])?;
    }
    Ok(all)
}
