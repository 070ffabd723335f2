//! Writes safetensors files: eight bytes with the length of a JSON header, the header, the values. Tensors are
//! read from their device one after the other, so no copy of all of them is in memory.

use super::CheckpointError;
use crate::hex::hex;
use crate::ops::gpu;
use candle_core::Tensor;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a file of f32 tensors under another name, calls `before` with its SHA-256, and only then gives it its
/// name. A file of that name is replaced.
///
/// # Errors
/// When it cannot be written; nothing of it stays then.
pub fn write(
    path: &Path,
    metadata: &[(&str, String)],
    tensors: &[(String, &Tensor)],
    before: impl FnOnce(&str) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    // Two processes may write it at once, if one of them was replaced.
    let part = path.with_extension(format!("part-{}", std::process::id()));
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| CheckpointError::Io { path, error }
    };
    let result = write_part((&part, path), metadata, tensors).and_then(|hash| {
        before(&hash)?;
        fs::rename(&part, path).map_err(at(path))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        sync_folder(folder).map_err(at(folder))
    });
    if result.is_err() {
        // Half a file is of no use, and may be what fills the disk.
        let _ = fs::remove_file(&part);
    }
    result
}

/// Makes the names in a folder survive a power cut.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Writes the file `part` and returns its SHA-256. Errors name `path`, which it becomes.
fn write_part(
    (part, path): (&Path, &Path),
    metadata: &[(&str, String)],
    tensors: &[(String, &Tensor)],
) -> Result<String, CheckpointError> {
    let at = |error| CheckpointError::Io { path: path.to_owned(), error };
    let file = BufWriter::new(File::create(part).map_err(at)?);
    let mut output = Hashed { file, hash: Sha256::new() };
    let header = header(metadata, tensors);
    output.write(&(header.len() as u64).to_le_bytes()).map_err(at)?;
    output.write(header.as_bytes()).map_err(at)?;
    for (_, tensor) in tensors {
        let values = gpu::download(tensor)?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        output.write(&bytes).map_err(at)?;
    }
    let file = output.file.into_inner().map_err(|error| at(error.into_error()))?;
    file.sync_all().map_err(at)?;
    Ok(hex(&output.hash.finalize()))
}

struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }
}

/// The header, padded to a multiple of eight bytes.
fn header(metadata: &[(&str, String)], tensors: &[(String, &Tensor)]) -> String {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), Value::Object(metadata.collect()));
    let mut from = 0;
    for (name, tensor) in tensors {
        let to = from + tensor.elem_count() * size_of::<f32>();
        let entry = json!({ "dtype": "F32", "shape": tensor.dims(), "data_offsets": [from, to] });
        header.insert(name.clone(), entry);
        from = to;
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}
