//! State dicts as safetensors, with what a program needs to know about them as metadata.

use crate::checkpoint::{CheckpointError, tensors};
use crate::space::ArchSpec;
use crate::trained::TrainingImages;
use candle_core::Tensor;
use serde::Serialize;
use serde_json::json;
use std::path::Path;

/// The JSON text in the metadata under the key `repro`.
#[derive(Serialize)]
struct Description<'a> {
    architecture: &'a ArchSpec,
    #[serde(flatten)]
    images: &'a TrainingImages,
}

/// Writes the weights under the names of the published networks (see [`crate::net::state_dict`]). Where the
/// images of its training are known, the metadata have the architecture, the names of the classes and the
/// normalisation as JSON, so that the file is of use without the database.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    file: &Path,
    architecture: &ArchSpec,
    state: &[(String, Tensor)],
    images: Option<&TrainingImages>,
) -> Result<(), CheckpointError> {
    let mut metadata = vec![("format", "pt".to_owned())];
    if let Some(images) = images {
        metadata.push(("repro", json!(Description { architecture, images }).to_string()));
    }
    let entries: Vec<(String, &Tensor)> =
        state.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    tensors::write(file, &metadata, &entries, |_| Ok(()))
}
