//! The user's own copy of CIFAR: a .tar.gz, .tgz or plain .tar archive, or the unpacked folder.

use super::{Cifar, Members, pictures};
use crate::data::DataError;
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// An archive unpacks to no more than so many times the size of the data set.
const ARCHIVE_FACTOR: u64 = 4;

/// The files of any version of the data set that exist.
pub(super) fn members(set: &Cifar, path: &Path) -> Result<Members, DataError> {
    let metadata = fs::metadata(path).map_err(DataError::reading(path))?;
    if metadata.is_dir() {
        folder_members(set, path)
    } else if metadata.is_file() {
        archive_members(set, path)
    } else {
        Err(not_the_data(path, "is neither a regular file nor a folder".to_owned()))
    }
}

fn not_the_data(path: &Path, reason: String) -> DataError {
    DataError::NotTheData { path: path.to_owned(), reason }
}

impl Cifar {
    fn is_wanted(&self, name: &str) -> bool {
        pictures::is_wanted(self, name)
            || self.files.iter().any(|file| file.name == name || file.python == name)
    }

    /// The size of the largest file that is read.
    fn member_limit(&self) -> u64 {
        let largest = self.files.iter().map(|file| self.bytes(file)).max();
        2 * largest.unwrap_or_default() as u64
    }
}

/// From the folder itself, or from the one that an archive would have made in it.
fn folder_members(set: &Cifar, folder: &Path) -> Result<Members, DataError> {
    let mut members = Members::new();
    let inner = set.folders.iter().map(|name| folder.join(name));
    for folder in inner.chain([folder.to_owned()]).filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(&folder).map_err(DataError::reading(&folder))? {
            let path = entry.map_err(DataError::reading(&folder))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            // Not a FIFO, which would never end.
            if set.is_wanted(name) && path.is_file() {
                let file = File::open(&path).map_err(DataError::reading(&path))?;
                let bytes = read_limited(file, set).map_err(DataError::reading(&path))?;
                members.insert(name.to_owned(), bytes);
            }
        }
    }
    Ok(members)
}

fn read_limited(reader: impl Read, set: &Cifar) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(set.member_limit()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn archive_members(set: &Cifar, archive: &Path) -> Result<Members, DataError> {
    let mut file = BufReader::new(File::open(archive).map_err(DataError::reading(archive))?);
    let mut start = Vec::new();
    file.by_ref().take(512).read_to_end(&mut start).map_err(DataError::reading(archive))?;
    file.seek(SeekFrom::Start(0)).map_err(DataError::reading(archive))?;
    let limit = ARCHIVE_FACTOR * set.files.iter().map(|file| set.bytes(file) as u64).sum::<u64>();
    let members = if start.starts_with(&[0x1f, 0x8b]) {
        tar_members(set, MultiGzDecoder::new(file).take(limit))
    } else if start.get(257..262) == Some(b"ustar") {
        tar_members(set, file.take(limit))
    } else {
        let reason =
            "is not a .tar.gz, .tgz or .tar archive; give one of those, or the folder that was \
                      unpacked"
                .to_owned();
        return Err(not_the_data(archive, reason));
    };
    // Any error in here means that the archive is damaged.
    members
        .map_err(|error| DataError::Damaged { path: archive.to_owned(), reason: error.to_string() })
}

fn tar_members(set: &Cifar, stream: io::Take<impl Read>) -> io::Result<Members> {
    let limit = stream.limit();
    let mut archive = tar::Archive::new(stream);
    let mut members = Members::new();
    // Raw, because a long name would be read into memory whatever length its header claims.
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path()?.into_owned();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if set.is_wanted(name) {
            let bytes = read_limited(entry, set)?;
            members.insert(name.to_owned(), bytes);
        }
    }
    if archive.into_inner().limit() == 0 {
        let reason = format!("unpacks to more than {limit} bytes, more than the data set has");
        return Err(io::Error::other(reason));
    }
    Ok(members)
}
