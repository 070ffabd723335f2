//! One checkpoint as a file: a safetensors file whose metadata describes the run, and its SHA-256 in a
//! file beside it.
//!
//! `sha256sum -c ID.sha256` checks a checkpoint, and any reader of safetensors opens it. The file gets
//! its name only once it is complete and on the disk, so a checkpoint that has its name and fits its hash is
//! whole.

use super::stage::Group;
use super::{Checkpoint, CheckpointError, PhaseState, Stage, tensors};
use crate::hex::hex;
use crate::ops::gpu;
use crate::record::CheckpointId;
use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The version of the format. Another one is not read.
const VERSION: u64 = 2;

/// The key of the description among the metadata.
const KEY: &str = "repro.checkpoint";

/// The description of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u64,
    id: CheckpointId,
    phases: Vec<PhaseState>,
    has_architecture: bool,
    data_sha256: Option<String>,
    stages: BTreeMap<String, StageHeader>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StageHeader {
    values: Map<String, Value>,
    /// Groups and the names of their tensors, in order.
    tensors: Vec<(String, Vec<String>)>,
}

/// The name of a tensor in the file.
fn full_name(stage: &str, group: &str, name: &str) -> String {
    format!("{stage}/{group}/{name}")
}

/// The paths of a checkpoint's file and of its hash.
pub(super) fn paths(folder: &Path, id: CheckpointId) -> (PathBuf, PathBuf) {
    let path = |extension: &str| folder.join(format!("{id}.{extension}"));
    (path("safetensors"), path("sha256"))
}

/// Writes a checkpoint. Tensors are read from their device one after the other.
pub(super) fn write(folder: &Path, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let (path, hash_path) = paths(folder, checkpoint.id);
    let metadata = [(KEY, description(checkpoint))];
    let tensors: Vec<(String, &Tensor)> = all_tensors(checkpoint).collect();
    let written = tensors::write(&path, &metadata, &tensors, |hash| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let at = |error| CheckpointError::Io { path: hash_path.clone(), error };
        let mut file = File::create(&hash_path).map_err(at)?;
        file.write_all(format!("{hash}  {name}\n").as_bytes()).map_err(at)?;
        file.sync_all().map_err(at)
    });
    if written.is_err() {
        // It is of no checkpoint.
        let _ = fs::remove_file(&hash_path);
    }
    written
}

/// All tensors with their full names, in the order of the file.
fn all_tensors(checkpoint: &Checkpoint) -> impl Iterator<Item = (String, &Tensor)> {
    checkpoint.stages.iter().flat_map(|(stage, state)| {
        state.groups.iter().flat_map(move |group| {
            let named = group.tensors.iter();
            named.map(move |(name, tensor)| (full_name(stage, &group.name, name), tensor))
        })
    })
}

/// The description as JSON.
fn description(checkpoint: &Checkpoint) -> String {
    let stages = checkpoint.stages.iter().map(|(name, stage)| {
        let groups = stage.groups.iter().map(|group| {
            let names = group.tensors.iter().map(|(name, _)| name.clone());
            (group.name.clone(), names.collect())
        });
        let stage = StageHeader { values: stage.values.clone(), tensors: groups.collect() };
        (name.clone(), stage)
    });
    json!(Header {
        version: VERSION,
        id: checkpoint.id,
        phases: checkpoint.phases.clone(),
        has_architecture: checkpoint.has_architecture,
        data_sha256: checkpoint.data_sha256.clone(),
        stages: stages.collect(),
    })
    .to_string()
}

/// Reads a checkpoint, with its tensors on `device`.
pub(super) fn read(
    folder: &Path,
    id: CheckpointId,
    device: &Device,
) -> Result<Checkpoint, CheckpointError> {
    let (path, hash_path) = paths(folder, id);
    let open = |path: &Path| {
        fs::read(path).map_err(|error| CheckpointError::Io { path: path.to_owned(), error })
    };
    let damaged = |problem: &str| CheckpointError::Damaged {
        path: path.clone(),
        problem: problem.to_owned(),
    };
    let (bytes, hash) = (open(&path)?, open(&hash_path)?);
    let given = hash.split(|byte| *byte == b' ').next().unwrap_or_default();
    if given != hex(&Sha256::digest(&bytes)).as_bytes() {
        return Err(damaged("its SHA-256 is not the one in the file beside it"));
    }
    let checkpoint = parse(&bytes, device).map_err(|problem| damaged(&problem))?;
    if checkpoint.id != id {
        return Err(damaged(&format!("it is checkpoint {}", checkpoint.id)));
    }
    Ok(checkpoint)
}

/// The checkpoint in these bytes, or what is wrong with them.
pub(super) fn parse(bytes: &[u8], device: &Device) -> Result<Checkpoint, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| text(&e))?;
    let description = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let description = description.ok_or("it is no checkpoint of this program")?;
    let version = serde_json::from_str::<Value>(description).map_err(|e| text(&e))?;
    if version["version"] != VERSION {
        let problem = format!("its format has version {}, not {VERSION}", version["version"]);
        return Err(problem);
    }
    let header: Header = serde_json::from_str(description).map_err(|e| text(&e))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| text(&e))?;
    // A name takes a few bytes and its tensor any number, so each is read once.
    let (mut stages, mut listed) = (BTreeMap::new(), BTreeSet::new());
    for (name, StageHeader { values, tensors }) in header.stages {
        let mut groups = Vec::new();
        for (group, names) in tensors {
            let mut tensors = Vec::new();
            for tensor in names {
                let full = full_name(&name, &group, &tensor);
                let view = file.tensor(&full).map_err(|e| text(&e))?;
                if !listed.insert(full.clone()) {
                    return Err(format!("{full} is listed twice"));
                }
                if view.dtype() != Dtype::F32 {
                    return Err(format!("{full} is not f32"));
                }
                let numbers = view.data().as_chunks::<4>().0.iter().copied();
                let numbers = numbers.map(f32::from_le_bytes).collect();
                let value = gpu::upload(numbers, view.shape(), device).map_err(|e| text(&e))?;
                tensors.push((tensor, value));
            }
            groups.push(Group { name: group, tensors });
        }
        stages.insert(name, Stage { values, groups });
    }
    let Header { id, phases, has_architecture, data_sha256, .. } = header;
    Ok(Checkpoint { id, phases, has_architecture, data_sha256, stages })
}
