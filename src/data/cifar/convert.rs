//! From the files of any version of the data set to the published binary files.

use super::Members;
use super::{BinaryFile, Cifar, IMAGE_BYTES, pickle, pictures};
use crate::data::DataError;
use rayon::prelude::*;
use std::fs;
use std::path::Path;

impl Cifar {
    /// Writes the binary files into `folder`, each checked. `path` is where the members come from.
    pub(super) fn convert(
        &self,
        path: &Path,
        members: &Members,
        folder: &Path,
    ) -> Result<(), DataError> {
        let has = |name: &str| members.contains_key(name);
        let damaged = |name: &str, reason: String| DataError::Damaged {
            path: path.to_owned(),
            reason: format!("{name}: {reason}"),
        };
        if self.files.iter().all(|file| has(file.name)) {
            return self
                .files
                .par_iter()
                .try_for_each(|file| self.write(path, folder, file, &members[file.name]));
        }
        if self.files.iter().all(|file| has(file.python)) {
            return self.files.par_iter().try_for_each(|file| {
                let records = self
                    .python_records(&members[file.python])
                    .map_err(|reason| damaged(file.python, reason))?;
                self.write(path, folder, file, &records)
            });
        }
        if pictures::are_all_there(self, members) {
            return self.convert_pictures(path, members, folder);
        }
        Err(DataError::NotTheData { path: path.to_owned(), reason: self.what_is_missing(members) })
    }

    fn what_is_missing(&self, members: &Members) -> String {
        let [binary, python] = self.folders;
        let lacks = |version: &str, name: fn(&BinaryFile) -> &'static str| {
            let (there, missing): (Vec<_>, Vec<_>) =
                self.files.iter().map(name).partition(|&name| members.contains_key(name));
            (!there.is_empty()).then(|| {
                format!("has {} of the {version} version but not {}", there[0], missing.join(", "))
            })
        };
        let found = lacks("binary", |file| file.name)
            .or_else(|| lacks("Python", |file| file.python))
            .unwrap_or_else(|| format!("holds no files of {}", self.name));
        format!(
            "{found}; give the binary version ({binary}: .tar.gz, .tar or folder) or the Python \
             version ({python}: the same)"
        )
    }

    /// The records of a file of the Python version.
    pub(super) fn python_records(&self, file: &[u8]) -> Result<Vec<u8>, String> {
        let batch = pickle::read_batch(file)?;
        let keys: &[&str] =
            if self.label_bytes == 1 { &["labels"] } else { &["coarse_labels", "fine_labels"] };
        let labels: Vec<&[u8]> =
            keys.iter().map(|key| batch.labels(key)).collect::<Result<_, _>>()?;
        let n = batch.pixels.len() / IMAGE_BYTES;
        if labels.iter().any(|labels| labels.len() != n) || batch.pixels.len() % IMAGE_BYTES != 0 {
            return Err(format!("labels do not fit {} bytes of pixels", batch.pixels.len()));
        }
        let mut records = Vec::with_capacity(n * self.record_bytes());
        for (i, image) in batch.pixels.chunks_exact(IMAGE_BYTES).enumerate() {
            records.extend(labels.iter().map(|labels| labels[i]));
            records.extend_from_slice(image);
        }
        Ok(records)
    }

    /// Writes one binary file, if it is the published one.
    pub(super) fn write(
        &self,
        path: &Path,
        folder: &Path,
        file: &BinaryFile,
        bytes: &[u8],
    ) -> Result<(), DataError> {
        self.check(bytes, file, path, "download it again")?;
        let target = folder.join(file.name);
        fs::write(&target, bytes).map_err(DataError::writing(&target))
    }
}
