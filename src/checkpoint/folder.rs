//! The checkpoints of one run: `DATABASE.checkpoints/RUN/`. The last two are kept, so that there is another one
//! if the last is damaged.

use super::file::{self, paths};
use super::{Checkpoint, CheckpointError};
use crate::record::CheckpointId;
use candle_core::Device;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// What was found in a folder.
#[derive(Debug)]
pub struct Loaded {
    /// The newest checkpoint that is known and can be read.
    pub checkpoint: Option<Checkpoint>,
    /// Problems of newer ones, one sentence each.
    pub problems: Vec<String>,
}

impl Folder {
    /// The folder of a run of the database in this file. It need not exist.
    #[must_use]
    pub fn of_run(database: &Path, run: i64) -> Self {
        Self(Self::of_database(database).join(run.to_string()))
    }

    /// The folder with those of all runs.
    #[must_use]
    pub fn of_database(database: &Path) -> PathBuf {
        let mut name: OsString = database.as_os_str().to_owned();
        name.push(".checkpoints");
        PathBuf::from(name)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The checkpoints that there are, the oldest first.
    #[must_use]
    pub fn ids(&self) -> Vec<CheckpointId> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let id = |name: OsString| name.to_str()?.strip_suffix(".safetensors")?.parse().ok();
        let mut ids: Vec<CheckpointId> = entries.filter_map(|e| id(e.file_name())).collect();
        ids.sort_unstable();
        ids
    }

    /// Writes a checkpoint, and removes all earlier ones but `previous`.
    ///
    /// # Errors
    /// When it cannot be written. Earlier ones are then as they were.
    pub fn save(
        &self,
        checkpoint: &Checkpoint,
        previous: CheckpointId,
    ) -> Result<(), CheckpointError> {
        fs::create_dir_all(&self.0)
            .map_err(|error| CheckpointError::Io { path: self.0.clone(), error })?;
        file::write(&self.0, checkpoint)?;
        let is_old = |id: &CheckpointId| *id < checkpoint.id && *id != previous;
        for id in self.ids().into_iter().filter(is_old) {
            // If it stays, the next checkpoint tries again.
            let _ = self.remove_one(id);
        }
        Ok(())
    }

    /// Removes the checkpoints after this one: they are damaged, or belong to another state of the database.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove_after(&self, last: CheckpointId) -> Result<(), CheckpointError> {
        self.ids().into_iter().filter(|id| *id > last).try_for_each(|id| self.remove_one(id))
    }

    fn remove_one(&self, id: CheckpointId) -> Result<(), CheckpointError> {
        let (path, hash) = paths(&self.0, id);
        for path in [path, hash] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CheckpointError::Io { path, error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The newest checkpoint that is known and can be read, with its tensors on `device`.
    ///
    /// # Errors
    /// When there are known checkpoints, but none can be read; the error is that of the newest.
    pub fn load(
        &self,
        device: &Device,
        is_known: impl Fn(CheckpointId) -> bool,
    ) -> Result<Loaded, CheckpointError> {
        let mut problems = Vec::new();
        let mut first = None;
        for id in self.ids().into_iter().rev() {
            if !is_known(id) {
                let path = paths(&self.0, id).0;
                problems.push(format!("{}: the database does not know it", path.display()));
                continue;
            }
            match file::read(&self.0, id, device) {
                Ok(checkpoint) => return Ok(Loaded { checkpoint: Some(checkpoint), problems }),
                Err(error) => {
                    problems.push(error.to_string());
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(Loaded { checkpoint: None, problems }), Err)
    }

    /// What is wrong with the checkpoints, one sentence each. Reads all of them.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let read = |id| file::read(&self.0, id, &Device::Cpu);
        let errors = self.ids().into_iter().filter_map(|id| read(id).err());
        errors.map(|error| error.to_string()).collect()
    }

    /// Removes the folder. A missing one is no error.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn remove(&self) -> Result<(), CheckpointError> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CheckpointError::Io { path: self.0.clone(), error })
            }
            _ => {
                // The last run takes the outer folder with it; one that is not empty stays.
                if let Some(outer) = self.0.parent() {
                    let _ = fs::remove_dir(outer);
                }
                Ok(())
            }
        }
    }
}
