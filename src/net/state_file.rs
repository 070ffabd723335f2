//! Files of state dicts: safetensors, and PyTorch's `.pth`. Of the latter only the tensors are read; nothing in it
//! is executed.

use ::safetensors::SafeTensors;
use candle_core::{Device, Tensor, safetensors};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A state dict with what this program wrote beside it.
pub struct StateFile {
    pub tensors: BTreeMap<String, Tensor>,
    /// The JSON text of the weights of a run: its architecture, classes and normalisation.
    pub description: Option<String>,
}

/// Reads a file of a state dict, on the CPU. One ending in `.safetensors` is of that format, others are taken for
/// PyTorch's.
///
/// # Errors
/// What is wrong with the file, in one sentence.
pub fn read_state_file(path: &Path) -> Result<StateFile, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    // Reading anything else may never end.
    if path.exists() && !path.is_file() {
        return Err(wrong(&"is not a regular file"));
    }
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let bytes = fs::read(path).map_err(|e| wrong(&e))?;
        let damaged =
            |e: &dyn std::fmt::Display| wrong(&format!("is no safetensors file, or damaged ({e})"));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
        let description = metadata.metadata().as_ref().and_then(|all| all.get("repro").cloned());
        let tensors = safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| damaged(&e))?;
        return Ok(StateFile { tensors: tensors.into_iter().collect(), description });
    }
    let tensors = super::pth::read(path).map_err(|problem| wrong(&problem))?;
    if tensors.is_empty() {
        return Err(wrong(&"it has no tensors at its top level; save `model.state_dict()` itself"));
    }
    Ok(StateFile { tensors, description: None })
}
