//! Fashion-MNIST: 60,000 + 10,000 grey pictures of clothes, 28x28 pixels, 10 classes (Xiao, Rasul
//! & Vollgraf 2017), and the slice of it that is built into the program.
//!
//! The files are in the IDX format: a magic number whose last byte counts the dimensions, the
//! dimensions as big-endian 32-bit numbers, then the bytes.

use super::fetch::{FetchMonitor, Origin, Staging};
use super::{DataError, Dataset, Images, Normalisation, Pixels, Split, hash};
use crate::progress::Amount;
use crate::recipe::DatasetName;
use flate2::read::MultiGzDecoder;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

const SIDE: usize = 28;
const IMAGE_BYTES: usize = SIDE * SIDE;

const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// One file, with the MD5 of what it holds when unzipped: two compressors never agree on the rest.
struct IdxFile {
    name: &'static str,
    md5: &'static str,
}

const TRAIN: [IdxFile; 2] = [
    IdxFile { name: "train-images-idx3-ubyte.gz", md5: "f4a8712d7a061bf5bd6d2ca38dc4d50a" },
    IdxFile { name: "train-labels-idx1-ubyte.gz", md5: "9018921c3c673c538a1fc5bad174d6f9" },
];
const TEST: [IdxFile; 2] = [
    IdxFile { name: "t10k-images-idx3-ubyte.gz", md5: "8181f5470baa50b63fa0f6fddb340f0a" },
    IdxFile { name: "t10k-labels-idx1-ubyte.gz", md5: "15d484375f8d13e6eb1aabb0c3f46965" },
];

/// Where Debian's package puts it.
const DEBIAN: &str = "/usr/share/datasets/fashion-mnist";

/// How a person gets it.
pub(super) const REMEDY: &str = "install Debian's package (`apt-get install dataset-fashion-mnist`), or hand over a folder \
     with the four files: `repro data fetch fashion-mnist --from FOLDER`";

/// Where the data set lies in the data folder.
pub(super) fn place(root: &Path) -> PathBuf {
    root.join("fashion-mnist")
}

/// The folder that has all files: the data folder's own, else the system's.
pub(super) fn found(root: &Path) -> Option<PathBuf> {
    let whole = |folder: &PathBuf| files().all(|file| folder.join(file.name).is_file());
    [place(root), PathBuf::from(DEBIAN)].into_iter().find(whole)
}

fn files() -> impl Iterator<Item = &'static IdxFile> {
    TRAIN.iter().chain(&TEST)
}

/// Reads the whole data set.
pub(super) fn load(root: &Path) -> Result<Dataset, DataError> {
    let folder = found(root).ok_or_else(|| missing(&place(root)))?;
    let (train, test) = rayon::join(|| read(&folder, &TRAIN), || read(&folder, &TEST));
    Ok(dataset(DatasetName::FashionMnist, train?, test?))
}

/// The slice: the first 100 training and 20 test images of each class, in the files' order.
pub(super) fn load_slice() -> Result<Dataset, DataError> {
    let parse = |images: &[u8], labels: &[u8]| {
        let path = Path::new("the built-in slice of Fashion-MNIST");
        split(&unzip(images, path)?, &unzip(labels, path)?, path)
    };
    let train = parse(
        include_bytes!("fixture/train-images-idx3-ubyte.gz"),
        include_bytes!("fixture/train-labels-idx1-ubyte.gz"),
    )?;
    let test = parse(
        include_bytes!("fixture/t10k-images-idx3-ubyte.gz"),
        include_bytes!("fixture/t10k-labels-idx1-ubyte.gz"),
    )?;
    Ok(dataset(DatasetName::FashionMnistSlice, train, test))
}

/// Copies the data set from a folder, or checks the one that was installed. Returns whether it was
/// there already.
pub(super) fn fetch(
    root: &Path,
    from: Option<&Origin>,
    monitor: FetchMonitor<'_>,
) -> Result<bool, DataError> {
    let from = match from {
        None => {
            let folder = found(root).ok_or_else(|| missing(&place(root)))?;
            monitor.task("checking", Amount::Unknown, || {
                files().try_for_each(|file| read_checked(&folder, file).map(drop))
            })?;
            return Ok(true);
        }
        Some(Origin::Path(folder)) if folder.is_dir() => folder,
        Some(Origin::Path(path)) => return Err(no_folder(path)),
        Some(Origin::Url(url)) => return Err(no_folder(url.as_ref())),
    };
    let staging = Staging::begin(root, monitor)?;
    let new = staging.folder().join("fashion-mnist");
    fs::create_dir(&new).map_err(DataError::writing(&new))?;
    monitor.task("copying and checking", Amount::Unknown, || {
        files().try_for_each(|file| {
            monitor.check_stop()?;
            read_checked(from, file)?;
            let target = new.join(file.name);
            fs::copy(from.join(file.name), &target).map_err(DataError::writing(&target)).map(drop)
        })
    })?;
    staging.publish("fashion-mnist", &place(root))?;
    Ok(false)
}

fn no_folder(path: &Path) -> DataError {
    let reason = "is not a folder; give the one with the four files of Fashion-MNIST".to_owned();
    DataError::NotTheData { path: path.to_owned(), reason }
}

fn missing(place: &Path) -> DataError {
    let (place, remedy) = (place.to_owned(), REMEDY.to_owned());
    DataError::Missing { name: "Fashion-MNIST", place, remedy }
}

fn dataset(name: DatasetName, train: Split, test: Split) -> Dataset {
    Dataset {
        name,
        classes: CLASSES.map(str::to_owned).to_vec(),
        height: SIDE,
        width: SIDE,
        channels: 1,
        // Over the 60,000 training images.
        normalisation: Normalisation { mean: vec![0.2860], sd: vec![0.3530] },
        train,
        test,
    }
}

fn read(folder: &Path, [images, labels]: &[IdxFile; 2]) -> Result<Split, DataError> {
    split(&read_checked(folder, images)?, &read_checked(folder, labels)?, folder)
}

/// The unzipped bytes of one file, which are the published ones.
fn read_checked(folder: &Path, file: &IdxFile) -> Result<Vec<u8>, DataError> {
    let path = folder.join(file.name);
    if path.exists() && !path.is_file() {
        let reason = "is not a regular file".to_owned();
        return Err(DataError::NotTheData { path, reason });
    }
    let zipped = fs::read(&path).map_err(DataError::reading(&path))?;
    let bytes = unzip(&zipped, &path)?;
    hash::check_md5(&bytes, file.md5, &path, &format!("to replace it, {REMEDY}"))?;
    Ok(bytes)
}

/// No file of Fashion-MNIST is larger: 60,000 images and a header.
const LARGEST: u64 = 60_000 * IMAGE_BYTES as u64 + 16;

fn unzip(zipped: &[u8], path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let mut limited = MultiGzDecoder::new(zipped).take(LARGEST + 1);
    limited.read_to_end(&mut bytes).map_err(DataError::reading(path))?;
    if bytes.len() as u64 > LARGEST {
        let reason = format!("unpacks to more than {LARGEST} bytes");
        return Err(DataError::NotTheData { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

fn split(images: &[u8], labels: &[u8], path: &Path) -> Result<Split, DataError> {
    let damaged =
        |reason: &str| DataError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
    let labels = idx(labels, &[]).ok_or_else(|| damaged("not IDX labels"))?;
    let images = idx(images, &[SIDE, SIDE]).ok_or_else(|| damaged("not IDX images of 28x28"))?;
    if labels.len() * IMAGE_BYTES != images.len() || labels.iter().any(|&l| l > 9) {
        return Err(damaged("labels and images do not belong together"));
    }
    Ok(in_memory(images.to_vec(), labels))
}

fn in_memory(bytes: Vec<u8>, labels: &[u8]) -> Split {
    let images = Images::Memory(Pixels { height: SIDE, width: SIDE, bytes });
    Split { images, labels: labels.iter().map(|&label| u32::from(label)).collect() }
}

/// The elements of an IDX file of bytes whose dimensions after the first are `inner`.
fn idx<'a>(bytes: &'a [u8], inner: &[usize]) -> Option<&'a [u8]> {
    let rank = inner.len() + 1;
    let (header, elements) = bytes.split_at_checked(4 + 4 * rank)?;
    let mut words = header.as_chunks::<4>().0.iter().map(|&word| u32::from_be_bytes(word) as usize);
    // 0x08 says bytes.
    let magic_fits = words.next()? == 0x0800 + rank;
    let n = words.next()?;
    let fits = magic_fits && words.eq(inner.iter().copied());
    (fits && elements.len() == n * inner.iter().product::<usize>()).then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fetch::{bytes_below, unheard};
    use crate::fuzz::{Outcome, Reader, leave};

    #[test]
    fn the_slice_is_balanced_and_needs_no_folder() {
        let data = load_slice().unwrap();
        for (split, per_class) in [(&data.train, 100), (&data.test, 20)] {
            assert_eq!(split.bytes().len(), split.len() * data.image_len());
            for class in 0..10 {
                let n = split.labels.iter().filter(|&&label| label == class).count();
                assert_eq!(n, per_class, "class {class}");
            }
        }
    }

    #[test]
    fn a_header_that_does_not_fit_is_no_idx_file() {
        let labels = [0, 0, 8, 1, 0, 0, 0, 2, 5, 6];
        assert_eq!(idx(&labels, &[]), Some(&[5, 6][..]));
        assert_eq!(idx(&labels[..9], &[]), None, "an element is missing");
        assert_eq!(idx(&labels, &[SIDE, SIDE]), None, "labels are no images");
        assert_eq!(idx(&labels[..3], &[]), None, "the header is cut");
    }

    #[test]
    fn mutated_idx_files() {
        let gzipped = |bytes: &[u8]| {
            use std::io::Write;
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(bytes).unwrap();
            gz.finish().unwrap()
        };
        let header = |numbers: &[u32]| -> Vec<u8> {
            numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
        };
        let labels = [header(&[0x0801, 2]), vec![5, 6]].concat();
        let images = [header(&[0x0803, 2, 28, 28]), vec![7; 2 * IMAGE_BYTES]].concat();
        let path = Path::new("mutated");
        Reader {
            test: "data::fashion_mnist::tests::mutated_idx_files",
            name: "idx",
            inputs: vec![gzipped(&images), images.clone(), gzipped(&labels), labels.clone()],
            words: &[b"\0\0\x08\x01", b"\0\0\x08\x03", b"\0\0\0\x1c", b"\x1f\x8b\x08"],
            cases: 60_000,
            mend: leave,
            read: &|bytes| {
                let unzipped = unzip(bytes, path);
                let part = unzipped.as_ref().map_or(bytes, Vec::as_slice);
                let as_images = split(part, &labels, path);
                let as_labels = split(&images, part, path);
                // A byte of gzip unpacks to 1032 at most, and a growing list has three times its size.
                let unpacked = (1032 * bytes.len() as u64).min(LARGEST + 1);
                Outcome::of(unzipped.and(as_images.or(as_labels)), (1 << 17) + 4 * unpacked)
            },
        }
        .check();
    }

    #[test]
    fn files_that_are_not_the_published_ones_are_not_copied() {
        let (root, given) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = include_bytes!("fixture/train-images-idx3-ubyte.gz");
        fs::write(given.path().join(TRAIN[0].name), bytes).unwrap();
        let error = fetch(root.path(), Some(&Origin::Path(given.path().to_owned())), unheard())
            .unwrap_err();
        assert!(matches!(error, DataError::WrongHash { .. }), "{error}");
        fs::write(given.path().join(TRAIN[0].name), &bytes[..100]).unwrap();
        let error = fetch(root.path(), Some(&Origin::Path(given.path().to_owned())), unheard())
            .unwrap_err();
        assert!(matches!(error, DataError::Damaged { .. }), "{error}");
        assert_eq!(bytes_below(root.path()), 0);
    }

    #[test]
    fn the_debian_package_is_the_published_data() {
        let root = tempfile::tempdir().unwrap();
        let Some(folder) = found(root.path()) else {
            return; // Not installed: the fingerprints are also checked wherever it is used.
        };
        assert!(!fetch(root.path(), Some(&Origin::Path(folder)), unheard()).unwrap());
        let data = load(root.path()).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (60_000, 10_000));
        assert_eq!(found(root.path()).unwrap(), place(root.path()));
        let slice = load_slice().unwrap();
        assert_eq!(slice.train, first_of_each_class(&data.train, 100));
        assert_eq!(slice.test, first_of_each_class(&data.test, 20));
    }

    fn first_of_each_class(split: &Split, per_class: usize) -> Split {
        let (mut taken, mut bytes, mut labels) = ([0; 10], Vec::new(), Vec::new());
        for (image, &label) in split.bytes().chunks_exact(IMAGE_BYTES).zip(&split.labels) {
            if taken[label as usize] < per_class {
                taken[label as usize] += 1;
                bytes.extend(image);
                labels.push(label as u8);
            }
        }
        in_memory(bytes, &labels)
    }

    /// Writes `src/data/fixture/*.gz` from Debian's package.
    #[test]
    #[ignore = "rewrites committed files"]
    fn make_the_slice() {
        let data = load(Path::new("/nowhere")).unwrap();
        for (split, per_class, files) in [(&data.train, 100, &TRAIN), (&data.test, 20, &TEST)] {
            let slice = first_of_each_class(split, per_class);
            write_idx(files[0].name, &[slice.len(), SIDE, SIDE], slice.bytes());
            let labels: Vec<u8> = slice.labels.iter().map(|&label| label as u8).collect();
            write_idx(files[1].name, &[slice.len()], &labels);
        }
    }

    fn write_idx(name: &str, dimensions: &[usize], elements: &[u8]) {
        use std::io::Write;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/fixture");
        let file = fs::File::create(folder.join(name)).unwrap();
        let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::best());
        gz.write_all(&[0, 0, 8, dimensions.len() as u8]).unwrap();
        for &n in dimensions {
            gz.write_all(&(n as u32).to_be_bytes()).unwrap();
        }
        gz.write_all(elements).unwrap();
        gz.finish().unwrap();
    }
}
