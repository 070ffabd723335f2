//! Published fingerprints, and the comparison with what lies on the disk.

use super::DataError;
use crate::hex::hex;
use md5::Md5;
use sha2::Sha256;
use sha2::digest::Digest;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A fingerprint that the publisher of a file gives, in hex.
#[derive(Clone, Copy, Debug)]
pub(super) enum Published {
    Md5(&'static str),
    Sha256(&'static str),
}

/// Refuses bytes whose MD5 is not the published one.
pub(super) fn check_md5(
    bytes: &[u8],
    expected: &'static str,
    path: &Path,
    remedy: &str,
) -> Result<(), DataError> {
    compare("MD5", hex(&Md5::digest(bytes)), expected, path, remedy)
}

/// Refuses a file with another fingerprint, without holding the file in memory.
pub(super) fn check_file(path: &Path, published: Published, remedy: &str) -> Result<(), DataError> {
    match published {
        Published::Md5(expected) => compare("MD5", of_file::<Md5>(path)?, expected, path, remedy),
        Published::Sha256(expected) => {
            compare("SHA-256", of_file::<Sha256>(path)?, expected, path, remedy)
        }
    }
}

fn of_file<D: Digest>(path: &Path) -> Result<String, DataError> {
    let mut file = File::open(path).map_err(DataError::reading(path))?;
    let mut hasher = D::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(DataError::reading(path))?;
        if n == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

fn compare(
    kind: &'static str,
    actual: String,
    expected: &'static str,
    path: &Path,
    remedy: &str,
) -> Result<(), DataError> {
    if actual == expected {
        return Ok(());
    }
    let (path, remedy) = (path.to_owned(), remedy.to_owned());
    Err(DataError::WrongHash { path, kind, expected, actual, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn fingerprints_are_the_standards() {
        let path = Path::new("abc");
        assert!(check_md5(b"abc", "900150983cd24fb0d6963f7d28e17f72", path, "").is_ok());
        let error = check_md5(b"abd", "900150983cd24fb0d6963f7d28e17f72", path, "Delete it");
        let message = error.unwrap_err().to_string();
        assert!(message.contains("abc: the MD5 is 4911e516e5aa21d327512e0c8b197616"), "{message}");
        assert!(message.ends_with("Delete it"), "{message}");
    }

    #[test]
    fn a_file_is_hashed_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"abc").unwrap();
        assert!(check_file(&path, Published::Sha256(ABC), "").is_ok());
        assert!(check_file(&path, Published::Md5("900150983cd24fb0d6963f7d28e17f72"), "").is_ok());
        std::fs::write(&path, b"abcd").unwrap();
        let error = check_file(&path, Published::Sha256(ABC), "");
        assert!(matches!(error, Err(DataError::WrongHash { .. })));
    }
}
