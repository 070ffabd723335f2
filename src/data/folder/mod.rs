//! Image folders: `train/CLASS/*` and `val/CLASS/*`, as ImageNet is usually laid out. Classes are
//! the subfolders in the order of their names, images the files in theirs.
//!
//! Only names and sizes are kept in memory (about 70 MB for ImageNet); an image is read when its batch
//! is made. `val` is the test part. As for other data sets, validation images are taken from the
//! training images.

mod decode;
mod failure;
mod huffman;
pub(super) mod picture;
mod pnm;
mod scan;
mod tags;
mod view;

use super::{DataError, Dataset, Images, Normalisation, Split};
use crate::progress::{Amount, Progress};
use crate::recipe::{DatasetName, ImageFolder};
use picture::Picture;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub use view::CENTRE;
pub(super) use view::View;

const LAYOUT: &str = "an image folder holds train/CLASS/ and val/CLASS/ with image files";
/// How many names a message lists.
const SHOWN: usize = 3;
/// The number of images whose sizes are read to find the largest one, evenly spread over the folder.
const SIZED: usize = 10_000;
/// Bytes of each end of a file that a fingerprint covers.
const END: u64 = 4 << 10;

/// The images of one part by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// One of each class.
    folders: Vec<PathBuf>,
    /// One of each image, within the folder of its class.
    names: Vec<Box<str>>,
    /// Bytes of each file.
    bytes: Vec<u64>,
    /// Other files beside them, counted by their endings.
    left_out: BTreeMap<String, usize>,
}

impl Files {
    /// The file of an image, whose label is `class`.
    pub(super) fn path(&self, index: usize, class: u32) -> PathBuf {
        self.folders[class as usize].join(&*self.names[index])
    }

    /// Adds class, name, size and both ends of every image's file to a fingerprint.
    pub(super) fn describe(&self, labels: &[u32], hash: &mut Sha256) {
        let indexed = (0..labels.len()).into_par_iter();
        let ends: Vec<[u8; 32]> =
            indexed.map(|index| hash_of_ends(&self.path(index, labels[index]))).collect();
        for (index, (&label, ends)) in labels.iter().zip(&ends).enumerate() {
            let class = self.folders[label as usize].file_name().unwrap_or_default();
            // Each text after its length: no two lists have the same bytes.
            for text in [class.as_encoded_bytes(), self.names[index].as_bytes()] {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text);
            }
            hash.update(self.bytes[index].to_le_bytes());
            hash.update(ends);
        }
    }
}

/// SHA-256 of the first and last bytes of a file: uncompressed images of one size have the same
/// number of bytes. Of a file that cannot be read, zeros: an error names it when its turn comes.
fn hash_of_ends(path: &Path) -> [u8; 32] {
    let read = || -> io::Result<[u8; 32]> {
        // Not a FIFO, which would never end.
        if !fs::metadata(path)?.is_file() {
            return Ok([0; 32]);
        }
        let mut file = File::open(path)?;
        let mut bytes = Vec::with_capacity(2 * END as usize);
        file.by_ref().take(END).read_to_end(&mut bytes)?;
        let length = file.metadata()?.len();
        if length > END {
            file.seek(SeekFrom::Start(END.max(length.saturating_sub(END))))?;
            file.take(END).read_to_end(&mut bytes)?;
        }
        Ok(Sha256::digest(&bytes).into())
    };
    read().unwrap_or([0; 32])
}

/// The central square of an image file, whose side is this `share` of the shorter side, scaled to `side` pixels and
/// normalised: `[side, side, channels]`. With one channel, the mean of red, green and blue.
///
/// # Errors
/// When the file cannot be read, is damaged, too large, or no image of a known kind.
pub fn read_image(
    path: &Path,
    (side, channels): (usize, usize),
    share: f64,
    normalisation: &Normalisation,
) -> Result<Vec<f32>, DataError> {
    let picture = Picture::read(path)?;
    let view = View::square((picture.height, picture.width), share);
    let mut pixels = vec![0.0; side * side * channels];
    picture.write(view, (side, channels), normalisation, &mut pixels, |_| {});
    Ok(pixels)
}

/// Bytes that [`read_image`] takes in memory; 0 where it fails.
#[must_use]
pub fn image_bytes(path: &Path) -> u64 {
    Picture::decoding_bytes(path).unwrap_or(0)
}

/// Where the folder lies: as it says, from the data folder.
pub(super) fn place(folder: &ImageFolder, root: &Path) -> PathBuf {
    root.join(&folder.path)
}

/// Subfolders of the data folder that look like image folders, in the order of their names.
pub(super) fn found(root: &Path) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| ["train", "val"].iter().all(|part| path.join(part).is_dir());
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(is_one).collect();
    found.sort();
    found
}

/// Lists the folder's images, which are `folder.side` pixels wide and high when a network sees them.
pub(super) fn open(folder: &ImageFolder, root: &Path) -> Result<Dataset, DataError> {
    let place = place(folder, root);
    let (train, val) = (place.join("train"), place.join("val"));
    let classes = class_names(&train)?;
    refuse_other_classes(&val, &classes, &class_names(&val)?)?;
    let (train, test) = (list(&train, &classes)?, list(&val, &classes)?);
    let ImageFolder { side, mean, sd, .. } = folder;
    Ok(Dataset {
        name: DatasetName::ImageFolder,
        classes,
        height: *side,
        width: *side,
        channels: 3,
        normalisation: Normalisation { mean: mean.to_vec(), sd: sd.to_vec() },
        train,
        test,
    })
}

/// Lists images to evaluate a network on: `FOLDER/CLASS/*`, or `FOLDER/val/CLASS/*`. `names` are the classes of the
/// network, in their order, which folders have with `_` for `/`; where they are not known, the folders in the order of
/// their names are the classes.
///
/// # Errors
/// When the folder has another layout, or other classes.
pub fn open_evaluation(
    folder: &Path,
    (names, classes): (Option<&[String]>, usize),
    (side, channels): (usize, usize),
    normalisation: Normalisation,
) -> Result<Dataset, DataError> {
    let val = folder.join("val");
    let part = if val.is_dir() { val } else { folder.to_owned() };
    let found = class_names(&part)?;
    let names = match names {
        Some(names) => {
            let names: Vec<String> = names.iter().map(|name| name.replace('/', "_")).collect();
            let unknown: Vec<String> =
                found.iter().filter(|name| !names.contains(name)).cloned().collect();
            if !unknown.is_empty() {
                let reason = format!("the network has no class {}", first_names(&unknown));
                return Err(wrong(&part, reason));
            }
            names
        }
        None if found.len() == classes => found.clone(),
        None => {
            let reason = format!("has {} class folders, the network {classes}", found.len());
            return Err(wrong(&part, reason));
        }
    };
    let Split { images, labels } = list(&part, &found)?;
    let position = |label: u32| names.iter().position(|name| *name == found[label as usize]);
    let labels = labels.iter().filter_map(|label| Some(position(*label)? as u32)).collect();
    let images = match images {
        // The folders of the network's classes; those of classes without images are never read.
        Images::Files(files) => {
            let folders = names.iter().map(|name| part.join(name)).collect();
            Images::Files(Files { folders, ..files })
        }
        memory @ Images::Memory(_) => memory,
    };
    let none = Split { images: Images::Files(Files::default()), labels: Vec::new() };
    Ok(Dataset {
        name: DatasetName::ImageFolder,
        classes: names,
        height: side,
        width: side,
        channels,
        normalisation,
        train: none,
        test: Split { images, labels },
    })
}

/// Decodes every image of both parts. Returns how many there are, and what is wrong with those that
/// cannot be used.
pub(super) fn check(dataset: &Dataset, progress: &dyn Progress) -> (usize, Vec<DataError>) {
    let all: Vec<PathBuf> = [&dataset.train, &dataset.test].into_iter().flat_map(paths).collect();
    progress.started("decoding all images", Amount::Unknown);
    let wrong = all.par_iter().filter_map(|path| Picture::read(path).err()).collect();
    progress.finished();
    (all.len(), wrong)
}

/// Which files beside the images are not read, as text; `None` if there are none.
pub(super) fn left_out(dataset: &Dataset) -> Option<String> {
    let mut kinds = BTreeMap::new();
    for split in [&dataset.train, &dataset.test] {
        let Images::Files(files) = &split.images else { continue };
        for (kind, count) in &files.left_out {
            *kinds.entry(kind.as_str()).or_insert(0) += count;
        }
    }
    let total: usize = kinds.values().sum();
    let kinds: Vec<String> =
        kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let files = if total == 1 { "file" } else { "files" };
    (total > 0).then(|| format!("{total} other {files} left out ({})", kinds.join(", ")))
}

/// The most bytes that decoding one image takes, its file included, as far as the headers of many
/// tell.
pub(super) fn decoding_bytes(dataset: &Dataset) -> u64 {
    let all: Vec<PathBuf> = [&dataset.train, &dataset.test].into_iter().flat_map(paths).collect();
    let some: Vec<_> = all.iter().step_by(all.len().div_ceil(SIZED).max(1)).collect();
    some.par_iter().filter_map(|path| Picture::decoding_bytes(path).ok()).max().unwrap_or(0)
}

fn paths(split: &Split) -> Vec<PathBuf> {
    let Images::Files(files) = &split.images else { return Vec::new() };
    (0..split.len()).map(|index| files.path(index, split.labels[index])).collect()
}

fn class_names(part: &Path) -> Result<Vec<String>, DataError> {
    let mut classes = Vec::new();
    for (name, path) in entries(part)? {
        // Not the type of the entry: a link to a folder is one.
        if path.is_dir() {
            classes.push(name);
        }
    }
    if classes.is_empty() {
        return Err(wrong(part, format!("has no class folders; {LAYOUT}")));
    }
    classes.sort_unstable();
    Ok(classes)
}

fn refuse_other_classes(val: &Path, train: &[String], other: &[String]) -> Result<(), DataError> {
    let missing = |from: &[String], of: &[String]| {
        of.iter().filter(|name| from.binary_search(name).is_err()).cloned().collect::<Vec<_>>()
    };
    let (more, fewer) = (missing(train, other), missing(other, train));
    let mut differences = Vec::new();
    if !fewer.is_empty() {
        differences.push(format!("lacks {} of train", first_names(&fewer)));
    }
    if !more.is_empty() {
        differences.push(format!("has {}, which train lacks", first_names(&more)));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let reason = differences.join(" and ");
    Err(wrong(val, format!("{reason}; give both parts the same classes")))
}

/// The images of one part, class by class.
fn list(part: &Path, classes: &[String]) -> Result<Split, DataError> {
    let folders: Vec<PathBuf> = classes.iter().map(|class| part.join(class)).collect();
    let listed: Vec<Listed> =
        folders.par_iter().map(|folder| list_class(folder)).collect::<Result<_, _>>()?;
    let empty = classes.iter().zip(&listed).filter(|(_, listed)| listed.images.is_empty());
    let empty: Vec<String> = empty.map(|(class, _)| class.clone()).collect();
    if !empty.is_empty() {
        let reason = format!(
            "no image file (.{}) is in {}; add images or remove the folder",
            decode::ENDINGS.join(", ."),
            first_names(&empty)
        );
        return Err(wrong(part, reason));
    }
    let labels =
        (0..).zip(&listed).flat_map(|(class, listed)| vec![class; listed.images.len()]).collect();
    let mut left_out = BTreeMap::new();
    for (kind, count) in listed.iter().flat_map(|listed| &listed.left_out) {
        *left_out.entry(kind.clone()).or_insert(0) += count;
    }
    let (names, bytes) = listed.into_iter().flat_map(|listed| listed.images).unzip();
    Ok(Split { images: Images::Files(Files { folders, names, bytes, left_out }), labels })
}

/// The files in the folder of a class.
struct Listed {
    /// Names and sizes, in the order of the names.
    images: Vec<(Box<str>, u64)>,
    left_out: BTreeMap<String, usize>,
}

fn list_class(class: &Path) -> Result<Listed, DataError> {
    let mut listed = Listed { images: Vec::new(), left_out: BTreeMap::new() };
    for (name, path) in entries(class)? {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let ending = ending.map(str::to_ascii_lowercase).unwrap_or_default();
        let metadata = fs::metadata(&path);
        if metadata.as_ref().is_ok_and(Metadata::is_dir) {
            *listed.left_out.entry("folder".to_owned()).or_insert(0) += 1;
        } else if decode::ENDINGS.contains(&&*ending) {
            // Anything but a regular file is reported when it is read.
            let bytes = metadata.map_or(0, |metadata| metadata.len());
            listed.images.push((name.into_boxed_str(), bytes));
        } else {
            let kind = if ending.is_empty() { "without ending".to_owned() } else { ending };
            *listed.left_out.entry(kind).or_insert(0) += 1;
        }
    }
    listed.images.sort_unstable();
    Ok(listed)
}

/// Names and paths of the entries of a folder, without hidden files.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    if !folder.is_dir() {
        return Err(wrong(
            folder,
            format!("there is no such folder; {LAYOUT}: choose it with data.folder and --data"),
        ));
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::reading(folder))? {
        let path = entry.map_err(DataError::reading(folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(wrong(&path, "the name is not UTF-8; rename it".to_owned()));
        };
        if !name.starts_with('.') {
            all.push((name.to_owned(), path));
        }
    }
    Ok(all)
}

fn wrong(path: &Path, reason: String) -> DataError {
    DataError::NotTheData { path: path.to_owned(), reason }
}

/// The first names, and how many more there are.
fn first_names(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| format!("{name}/")).collect();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    first.join(", ") + &more
}
