//! CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour photos of 32x32 pixels in 10 or 100 classes
//! (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images").
//!
//! The files of the original binary distribution are kept on disk and checked by their MD5s. Whatever
//! source they were converted from, they are bit for bit the published data.

mod convert;
mod given;
mod hub;
mod pickle;
mod pictures;
mod sets;
mod sources;

pub(super) use sets::{CIFAR10, CIFAR100};

use super::fetch::{FetchMonitor, Origin, Staging};
use super::{DataError, Dataset, Images, Normalisation, Pixels, Split, hash};
use crate::progress::Amount;
use crate::recipe::DatasetName;
use rayon::prelude::*;
use sources::Source;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
const IMAGE_BYTES: usize = 3 * PIXELS;

/// Files by their names, without folders.
type Members = BTreeMap<String, Vec<u8>>;

/// What differs between the two.
pub(super) struct Cifar {
    dataset: DatasetName,
    /// As in manifests; also that of the folder in the data folder.
    name: &'static str,
    classes: &'static [&'static str],
    /// Bytes in front of an image; the last one is the class.
    label_bytes: usize,
    mean: [f32; 3],
    sd: [f32; 3],
    /// In reading order; the last one holds the test images.
    files: &'static [BinaryFile],
    /// The folders in the published archives: of the binary version, of the Python version.
    folders: [&'static str; 2],
    /// The author's binary archive.
    archive: &'static str,
    /// In the order in which they are tried.
    sources: &'static [Source],
}

/// One file of the binary distribution.
struct BinaryFile {
    name: &'static str,
    /// Its counterpart in the Python version.
    python: &'static str,
    images: usize,
    md5: &'static str,
}

impl Cifar {
    /// The folder of the data set, which need not exist.
    pub(super) fn place(&self, root: &Path) -> PathBuf {
        root.join(self.name)
    }

    /// Whether all files exist with the right sizes. Loading checks their fingerprints.
    pub(super) fn is_present(&self, root: &Path) -> bool {
        let place = self.place(root);
        let whole = |file: &BinaryFile| {
            let length = fs::metadata(place.join(file.name)).map(|metadata| metadata.len());
            length.is_ok_and(|length| length == self.bytes(file) as u64)
        };
        self.files.iter().all(whole)
    }

    /// Reads the data set.
    ///
    /// # Errors
    /// When a file is missing, unreadable, or not the published one.
    pub(super) fn load(&self, root: &Path) -> Result<Dataset, DataError> {
        let folder = self.place(root);
        let (test, train) = self.files.split_last().ok_or(DataError::NoFolder)?;
        Ok(Dataset {
            name: self.dataset,
            classes: self.classes.iter().map(|&class| class.to_owned()).collect(),
            height: SIDE,
            width: SIDE,
            channels: 3,
            normalisation: Normalisation { mean: self.mean.to_vec(), sd: self.sd.to_vec() },
            train: self.read_files(&folder, train)?,
            test: self.read_files(&folder, std::slice::from_ref(test))?,
        })
    }

    /// Puts the data set into the data folder, from `from` or else from the first source that works.
    /// Returns whether it was there already.
    ///
    /// # Errors
    /// When no source works, `from` is not the published data, the disk refuses, or with
    /// [`DataError::Stopped`].
    pub(super) fn fetch(
        &self,
        root: &Path,
        from: Option<&Origin>,
        monitor: FetchMonitor<'_>,
    ) -> Result<bool, DataError> {
        let staging = Staging::begin(root, monitor)?;
        if self.is_present(root) && self.verify(&self.place(root)).is_ok() {
            return Ok(true);
        }
        let new = staging.folder().join(self.name);
        fs::create_dir(&new).map_err(DataError::writing(&new))?;
        match from {
            Some(Origin::Path(path)) => self.convert_given(path, &new, monitor)?,
            Some(Origin::Url(url)) => self.fetch_url(url, &staging, &new, monitor)?,
            None => self.try_sources(&staging, &new, monitor)?,
        }
        staging.publish(self.name, &self.place(root))?;
        staging.remove_downloads(self.name);
        Ok(false)
    }

    /// Converts a file or folder into the binary files.
    fn convert_given(
        &self,
        path: &Path,
        new: &Path,
        monitor: FetchMonitor<'_>,
    ) -> Result<(), DataError> {
        monitor.task("unpacking, converting and checking", Amount::Unknown, || {
            self.convert(path, &given::members(self, path)?, new)
        })
    }

    fn verify(&self, folder: &Path) -> Result<(), DataError> {
        self.files.par_iter().try_for_each(|file| self.read_file(folder, file).map(drop))
    }

    const fn record_bytes(&self) -> usize {
        self.label_bytes + IMAGE_BYTES
    }

    fn bytes(&self, file: &BinaryFile) -> usize {
        file.images * self.record_bytes()
    }

    fn remedy(&self) -> String {
        format!("replace the data set with `repro data fetch {}`", self.name)
    }

    /// The bytes of one file, checked against the published fingerprint.
    fn read_file(&self, folder: &Path, file: &BinaryFile) -> Result<Vec<u8>, DataError> {
        let path = folder.join(file.name);
        if !path.exists() {
            let (name, place, remedy) = (file.name, folder.to_owned(), self.remedy());
            return Err(DataError::Missing { name, place, remedy });
        }
        let bytes = fs::read(&path).map_err(DataError::reading(&path))?;
        self.check(&bytes, file, &path, &self.remedy())?;
        Ok(bytes)
    }

    /// Refuses bytes that are not the published ones.
    fn check(
        &self,
        bytes: &[u8],
        file: &BinaryFile,
        path: &Path,
        remedy: &str,
    ) -> Result<(), DataError> {
        let expected = self.bytes(file);
        if bytes.len() != expected {
            let reason = format!("{} holds {} bytes of {expected}", file.name, bytes.len());
            return Err(DataError::Damaged { path: path.to_owned(), reason });
        }
        hash::check_md5(bytes, file.md5, path, remedy)
    }

    fn read_files(&self, folder: &Path, files: &[BinaryFile]) -> Result<Split, DataError> {
        let n = files.iter().map(|file| file.images).sum::<usize>();
        let (mut bytes, mut labels) = (Vec::with_capacity(n * IMAGE_BYTES), Vec::with_capacity(n));
        let parts: Vec<(Vec<u8>, Vec<u32>)> = files
            .par_iter()
            .map(|file| Ok(self.parse(&self.read_file(folder, file)?)))
            .collect::<Result<_, DataError>>()?;
        for (part, part_labels) in parts {
            bytes.extend(part);
            labels.extend(part_labels);
        }
        let images = Images::Memory(Pixels { height: SIDE, width: SIDE, bytes });
        Ok(Split { images, labels })
    }

    /// Pixels (channels last) and classes of all records.
    fn parse(&self, records: &[u8]) -> (Vec<u8>, Vec<u32>) {
        let records = records.chunks_exact(self.record_bytes());
        let labels =
            records.clone().map(|record| u32::from(record[self.label_bytes - 1])).collect();
        let mut pixels = vec![0; records.len() * IMAGE_BYTES];
        for (record, image) in records.zip(pixels.chunks_exact_mut(IMAGE_BYTES)) {
            interleave(&record[self.label_bytes..], image);
        }
        (pixels, labels)
    }
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
mod tests;
