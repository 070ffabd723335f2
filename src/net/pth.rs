//! Tensors of PyTorch's `.pth` files: a zip archive with a pickle, of which nothing is executed, and one file of
//! values per storage.

use crate::text::{printable_name, without_backtrace};
use candle_core::pickle::{Object, Stack, TensorInfo};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

type Archive = ZipArchive<BufReader<File>>;

/// The tensors at the top level of a file by their names; 64-bit numbers become f32.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
        format!(
            "is cut short, or neither a .pth file of PyTorch 1.6 or later nor safetensors ({error})"
        )
    })?;
    let names = archive.file_names().filter_map(Result::ok).map(|name| name.to_string());
    let pickles: Vec<String> = names.filter(|name| name.ends_with("data.pkl")).collect();
    let mut tensors = BTreeMap::new();
    for pickle in pickles {
        let folder = pickle.strip_suffix(".pkl").unwrap_or(&pickle);
        let entries = entries(&mut archive, &pickle);
        for (name, value) in entries.map_err(|error| format!("its {pickle} is damaged: {error}"))? {
            let problem = |error: String| format!("{}: {error}", printable_name(&name));
            let info = value
                .into_tensor_info(Object::Unicode(name.clone()), Path::new(folder))
                .map_err(|error| problem(reason(&error)))?;
            if let Some(info) = info {
                let tensor = tensor(&mut archive, &info, length).map_err(problem)?;
                tensors.insert(name, tensor);
            }
        }
    }
    Ok(tensors)
}

/// What a pickled dictionary has under names; nothing where another object is pickled.
fn entries(archive: &mut Archive, pickle: &str) -> Result<Vec<(String, Object)>, String> {
    let mut file = BufReader::new(archive.by_name(pickle).map_err(|error| error.to_string())?);
    let mut stack = Stack::empty();
    stack.read_loop(&mut file).map_err(|error| reason(&error))?;
    let object = stack.finalize().map_err(|error| reason(&error))?;
    let Object::Dict(entries) = object else { return Ok(Vec::new()) };
    let named = entries.into_iter().filter_map(|(name, value)| Some((name.unicode().ok()?, value)));
    Ok(named.collect())
}

/// Reads a tensor, however its values lie in their storage. The file has `length` bytes, and is not compressed.
fn tensor(archive: &mut Archive, info: &TensorInfo, length: u64) -> Result<Tensor, String> {
    let mut storage = archive.by_name(&info.path).map_err(|error| error.to_string())?;
    let (dims, strides) = (info.layout.dims(), info.layout.stride());
    let size = info.dtype.size_in_bytes() as u64;
    // Products that overflow are larger than any file.
    let steps =
        dims.iter().zip(strides).map(|(dim, stride)| dim.saturating_sub(1).saturating_mul(*stride));
    let span = steps.fold(1, usize::saturating_add);
    let count = dims.iter().fold(1, |count: usize, dim| count.saturating_mul(*dim));
    let from = info.layout.start_offset() as u64;
    if count > span
        || (span as u64).saturating_mul(size).saturating_add(from) > storage.size()
        || storage.size() > length
    {
        return Err(format!("its shape {dims:?} does not fit its values in the file"));
    }
    io::copy(&mut storage.by_ref().take(from), &mut io::sink())
        .map_err(|error| error.to_string())?;
    let mut bytes = vec![0; span * size as usize];
    storage.read_exact(&mut bytes).map_err(|error| error.to_string())?;
    let values = Tensor::from_raw_buffer(&bytes, info.dtype, &[span], &Device::Cpu)
        .and_then(|values| values.to_dtype(DType::F32)?.to_vec1::<f32>())
        .map_err(|error| reason(&error))?;
    let gathered = if info.layout.is_contiguous() {
        values
    } else {
        (0..count).map(|position| values[offset(position, dims, strides)]).collect()
    };
    Tensor::from_vec(gathered, dims, &Device::Cpu).map_err(|error| reason(&error))
}

/// Where the value at a position in the order of rows lies.
fn offset(mut position: usize, dims: &[usize], strides: &[usize]) -> usize {
    let mut offset = 0;
    for (dim, stride) in dims.iter().zip(strides).rev() {
        offset += position % dim * stride;
        position /= dim;
    }
    offset
}

/// candle's message without its backtrace.
fn reason(error: &impl Display) -> String {
    without_backtrace(&error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn text(text: &str) -> Vec<u8> {
        [&[b'X'][..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    fn numbers(numbers: &[u8]) -> Vec<u8> {
        let all = numbers.iter().flat_map(|number| [b'K', *number]);
        [b'('].into_iter().chain(all).chain([b't']).collect()
    }

    /// A file with one tensor of eight values 0, 1, …, as `torch.save` writes it.
    fn saved(storage: &str, offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
        let pickle = [
            b"\x80\x02}(".to_vec(),
            text("w"),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            format!("ctorch\n{storage}\n").into_bytes(),
            text("0"),
            text("cpu"),
            b"K\x08tQ".to_vec(),
            vec![b'K', offset],
            numbers(shape),
            numbers(strides),
            b"\x89}tRu.".to_vec(),
        ];
        let values: Vec<u8> = (0..8_u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let mut bytes = io::Cursor::new(Vec::new());
        let mut archive = ZipWriter::new(&mut bytes);
        for (name, content) in [("a/data.pkl", pickle.concat()), ("a/data/0", values)] {
            archive.start_file(name, SimpleFileOptions::default()).unwrap();
            archive.write_all(&content).unwrap();
        }
        archive.finish().unwrap();
        bytes.into_inner()
    }

    fn read_bytes(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn values_are_read_however_they_lie() {
        let read = |offset, shape: &[u8], strides: &[u8]| {
            let tensors = read_bytes(&saved("FloatStorage", offset, shape, strides)).unwrap();
            assert_eq!(tensors["w"].dims(), shape.iter().map(|d| *d as usize).collect::<Vec<_>>());
            tensors["w"].flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(read(0, &[2, 3], &[3, 1]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(read(2, &[2, 3], &[3, 1]), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(read(0, &[2, 3], &[1, 2]), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        assert_eq!(read(1, &[2, 2], &[4, 2]), [1.0, 3.0, 5.0, 7.0]);
        assert_eq!(read(7, &[], &[]), [7.0]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let refused = |bytes: &[u8]| read_bytes(bytes).unwrap_err();
        let complex = saved("ComplexFloatStorage", 0, &[4], &[1]);
        assert_eq!(refused(&complex), "w: unsupported storage type ComplexFloatStorage");
        let large = saved("FloatStorage", 0, &[255, 255], &[255, 1]);
        assert_eq!(refused(&large), "w: its shape [255, 255] does not fit its values in the file");
        let repeated = saved("FloatStorage", 0, &[255, 8], &[0, 1]);
        assert!(refused(&repeated).contains("does not fit its values"));
        let whole = saved("FloatStorage", 0, &[4], &[1]);
        let cut = refused(&whole[..whole.len() - 30]);
        assert!(cut.starts_with("is cut short, or neither a .pth file"), "{cut}");
    }
}
