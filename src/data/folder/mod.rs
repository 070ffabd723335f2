//! Image folders: `train/CLASS/*` and `val/CLASS/*`, as ImageNet is usually laid out. Classes are
//! the sub-folders in the order of their names, images the files in theirs.
//!
//! Only names are kept in memory (of ImageNet about 60 MB); an image is read when its batch is made.
//! `val` is the test part: as everywhere, validation images come out of the training images.

pub(super) mod picture;
mod view;

use super::{DataError, Dataset, Images, Normalisation, Split};
use crate::progress::{Amount, Progress};
use crate::recipe::{DatasetName, ImageFolder};
use picture::Picture;
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) use view::View;

const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];
const LAYOUT: &str =
    "an image folder holds train/CLASS/ and val/CLASS/ with .jpg, .jpeg or .png files";
/// So many names are told of many.
const TOLD: usize = 3;

/// The images of one part by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// One of each class.
    folders: Vec<PathBuf>,
    /// One of each image, within the folder of its class.
    names: Vec<Box<str>>,
}

impl Files {
    /// The file of an image, whose label is `class`.
    pub(super) fn path(&self, index: usize, class: u32) -> PathBuf {
        self.folders[class as usize].join(&*self.names[index])
    }
}

/// Where the folder lies: as it says, from the data folder.
pub(super) fn place(folder: &ImageFolder, root: &Path) -> PathBuf {
    root.join(&folder.path)
}

/// Sub-folders of the data folder that look like image folders, in the order of their names.
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

/// Decodes every image of both parts. Returns how many there are, and what is wrong with those that
/// cannot be used.
pub(super) fn check(dataset: &Dataset, progress: &dyn Progress) -> (usize, Vec<DataError>) {
    let all: Vec<PathBuf> = [&dataset.train, &dataset.test].into_iter().flat_map(paths).collect();
    progress.started("decoding all images", Amount::Unknown);
    let wrong = all.par_iter().filter_map(|path| Picture::read(path).err()).collect();
    progress.finished();
    (all.len(), wrong)
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
        return Err(wrong(part, format!("has no folder of a class in it; {LAYOUT}")));
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
        differences.push(format!("lacks {} of train", told(&fewer)));
    }
    if !more.is_empty() {
        differences.push(format!("has {}, which train lacks", told(&more)));
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
    let names: Vec<Vec<Box<str>>> =
        folders.par_iter().map(|folder| image_names(folder)).collect::<Result<_, _>>()?;
    let empty = classes.iter().zip(&names).filter(|(_, names)| names.is_empty());
    let empty: Vec<String> = empty.map(|(class, _)| class.clone()).collect();
    if !empty.is_empty() {
        let reason = format!(
            "no .jpg, .jpeg or .png file lies in {}; add some, or take it out",
            told(&empty)
        );
        return Err(wrong(part, reason));
    }
    let labels = (0..).zip(&names).flat_map(|(class, names)| vec![class; names.len()]).collect();
    let names = names.into_iter().flatten().collect();
    Ok(Split { images: Images::Files(Files { folders, names }), labels })
}

fn image_names(class: &Path) -> Result<Vec<Box<str>>, DataError> {
    let is_image = |name: &str| {
        let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|it| ENDINGS.iter().any(|ending| it.eq_ignore_ascii_case(ending)))
    };
    let mut names: Vec<Box<str>> = entries(class)?
        .into_iter()
        .filter(|(name, _)| is_image(name))
        .map(|(name, _)| name.into_boxed_str())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Names and paths of what lies in a folder, but for hidden files.
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
            return Err(wrong(&path, "the name is no UTF-8; rename it".to_owned()));
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
fn told(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(TOLD).map(|name| format!("{name}/")).collect();
    let more = match names.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    first.join(", ") + &more
}
