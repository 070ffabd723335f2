//! The folder of an export. It has a list of the files that are ours: those are replaced, everything else stays.

use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

/// The list of our files.
const LIST: &str = ".repro-logs.json";

/// Why logs cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{0} is not a folder; name another one")]
    NotAFolder(PathBuf),
    #[error(
        "{0} exists and was not written by `repro export-logs`; move it away, or name another folder"
    )]
    Foreign(PathBuf),
    #[error("{folder} holds an export for {found}; name another folder for {wanted}")]
    OtherFormat { folder: PathBuf, found: String, wanted: &'static str },
    #[error("{0} is damaged; remove the folder, or name another one")]
    Damaged(PathBuf),
    #[error(
        "{0} cannot be written: the disk or its quota is full; free some space and repeat the command"
    )]
    Full(PathBuf),
    #[error("{path} cannot be written: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LogError {
    /// Whether another folder on the command line is the answer.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NotAFolder(_)
            | Self::Foreign(_)
            | Self::OtherFormat { .. }
            | Self::Damaged(_) => true,
            Self::Full(_) | Self::Io { .. } | Self::Store(_) => false,
        }
    }

    pub(super) fn io(path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full(path),
            _ => Self::Io { path, cause },
        }
    }
}

/// What was wrong while a file was written.
#[derive(Debug)]
pub enum WriteError {
    Io(io::Error),
    Store(StoreError),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Names are relative to the folder, with `/` between their parts.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct List {
    format: String,
    files: BTreeSet<String>,
}

/// See [`LogFolder::open`].
pub struct LogFolder {
    path: PathBuf,
    format: &'static str,
    files: BTreeSet<String>,
    /// Files of the earlier export that the new one does not have.
    outdated: Vec<String>,
}

impl LogFolder {
    /// A folder to which exactly these files will be written. It is created.
    ///
    /// # Errors
    /// When one of the files is there and is not of an earlier export, when the folder has an export of another
    /// format, or when it cannot be written. Nothing has changed then.
    pub fn open(path: &Path, format: &'static str, files: Vec<String>) -> Result<Self, LogError> {
        if path.exists() && !path.is_dir() {
            return Err(LogError::NotAFolder(path.to_owned()));
        }
        let earlier = read_list(path)?;
        if let Some(List { format: found, .. }) = &earlier
            && *found != format
        {
            let (folder, found) = (path.to_owned(), found.clone());
            return Err(LogError::OtherFormat { folder, found, wanted: format });
        }
        let earlier = earlier.map(|list| list.files).unwrap_or_default();
        let files: BTreeSet<String> = files.into_iter().collect();
        for name in files.difference(&earlier) {
            let file = path.join(name);
            if fs::symlink_metadata(&file).is_ok() {
                return Err(LogError::Foreign(file));
            }
        }
        let outdated = earlier.difference(&files).cloned().collect();
        let folder = Self { path: path.to_owned(), format, files, outdated };
        // If this process ends early, the next one knows all files of both.
        folder.write_list(earlier.union(&folder.files).cloned().collect())?;
        Ok(folder)
    }

    /// Writes a file under another name and renames it when it is complete.
    ///
    /// # Errors
    /// When the disk or the database refuses.
    pub fn write(
        &self,
        name: &str,
        content: impl FnOnce(&mut dyn Write) -> Result<(), WriteError>,
    ) -> Result<(), LogError> {
        let file = self.path.join(name);
        let (parent, last) = (file.parent().unwrap_or(&self.path), file.file_name());
        let last = last.unwrap_or_default().to_string_lossy();
        // TensorBoard would open a name with `tfevents`.
        let part =
            parent.join(format!(".{}.part-{}", last.replace("tfevents", ""), std::process::id()));
        let written = (|| {
            fs::create_dir_all(parent)?;
            let mut out = BufWriter::new(File::create(&part)?);
            content(&mut out)?;
            out.flush()?;
            out.get_ref().sync_all()?;
            Ok(fs::rename(&part, &file)?)
        })();
        written.map_err(|error| {
            // Half a file is of no use.
            let _ = fs::remove_file(&part);
            match error {
                WriteError::Io(cause) => LogError::io(&file, cause),
                WriteError::Store(error) => error.into(),
            }
        })
    }

    /// Removes what is left of the earlier export.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(self) -> Result<(), LogError> {
        for name in &self.outdated {
            let file = self.path.join(name);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(LogError::io(&file, error));
                }
                _ => {}
            }
            let folders = file.ancestors().skip(1).take_while(|folder| *folder != self.path);
            for folder in folders {
                // Those that hold something else stay.
                let _ = fs::remove_dir(folder);
            }
        }
        self.write_list(self.files.clone())
    }

    fn write_list(&self, files: BTreeSet<String>) -> Result<(), LogError> {
        let list = List { format: self.format.to_owned(), files };
        self.write(LIST, |out| {
            serde_json::to_writer_pretty(&mut *out, &list).map_err(io::Error::from)?;
            Ok(writeln!(out)?)
        })
    }
}

/// The files of an earlier export, if there is one.
fn read_list(folder: &Path) -> Result<Option<List>, LogError> {
    let path = folder.join(LIST);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|_| LogError::Damaged(path.clone()))?,
    };
    let list: List = serde_json::from_str(&text).map_err(|_| LogError::Damaged(path.clone()))?;
    let is_inside = |name: &String| {
        let mut parts = Path::new(name).components().peekable();
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    if list.files.iter().all(is_inside) { Ok(Some(list)) } else { Err(LogError::Damaged(path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn export(path: &Path, format: &'static str, files: &[&str]) -> Result<(), LogError> {
        let names = files.iter().map(|&name| name.to_owned()).collect();
        let folder = LogFolder::open(path, format, names)?;
        for name in files {
            folder.write(name, |out| Ok(write!(out, "{format} {name}")?))?;
        }
        folder.finish()
    }

    #[test]
    fn an_export_replaces_only_the_earlier_one() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("new/logs");
        export(&path, "a", &["one/x", "one/y", "two/x"]).unwrap();
        fs::write(path.join("one/notes"), "mine").unwrap();
        export(&path, "a", &["three"]).unwrap();
        assert_eq!(names(&path), [LIST, "one", "three"]);
        assert_eq!(names(&path.join("one")), ["notes"]);
        assert_eq!(fs::read_to_string(path.join("three")).unwrap(), "a three");
        // What an export that ended early has written is known to the next one.
        let files = vec!["four".to_owned(), "five".to_owned()];
        let folder = LogFolder::open(&path, "a", files).unwrap();
        folder.write("four", |out| Ok(write!(out, "half")?)).unwrap();
        drop(folder);
        export(&path, "a", &["five"]).unwrap();
        assert_eq!(names(&path), [LIST, "five", "one"]);
    }

    #[test]
    fn nothing_else_is_overwritten() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        fs::write(path.join("runs"), "mine").unwrap();
        let refused = |format, files: &[&str]| export(path, format, files).unwrap_err().to_string();
        let error = refused("a", &["other", "runs"]);
        assert!(error.contains("runs exists and was not written by"), "{error}");
        assert_eq!(names(path), ["runs"]);
        export(path, "a", &["other"]).unwrap();
        let error = refused("b", &["more"]);
        assert!(error.contains("holds an export for a; name another folder for b"), "{error}");
        let error = export(&path.join("runs"), "a", &[]).unwrap_err().to_string();
        assert!(error.contains("is not a folder"), "{error}");
        for list in ["no JSON", r#"{"format":"a","files":["../runs"]}"#] {
            fs::write(path.join(LIST), list).unwrap();
            let error = refused("a", &["new"]);
            assert!(error.contains("is damaged"), "{error}");
        }
        assert_eq!(fs::read_to_string(path.join("runs")).unwrap(), "mine");
    }

    #[test]
    fn a_file_that_cannot_be_completed_leaves_the_earlier_one() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        export(path, "a", &["file"]).unwrap();
        let folder = LogFolder::open(path, "a", vec!["file".to_owned()]).unwrap();
        let full = |out: &mut dyn Write| {
            write!(out, "half")?;
            Err(io::Error::from(ErrorKind::StorageFull).into())
        };
        let error = folder.write("file", full).unwrap_err();
        assert!(error.to_string().contains("the disk or its quota is full"), "{error}");
        assert_eq!(names(path), [LIST, "file"]);
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "a file");
    }
}
