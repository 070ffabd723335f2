//! Which images, and how many.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which images, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct DataConfig {
    pub source: ImageSource,
    /// How many training images are held out to monitor the training of the derived network. They
    /// are drawn by the seed, once per run.
    pub validation_images: usize,
}

/// Where the images come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageSource {
    /// A published data set.
    Dataset {
        name: DatasetName,
        /// Pixels per side that images are scaled to. They stay as they are when `None`.
        side: Option<usize>,
    },
    Folder(ImageFolder),
}

impl DataConfig {
    /// The name of the data set in manifests.
    #[must_use]
    pub fn dataset(&self) -> DatasetName {
        match self.source {
            ImageSource::Dataset { name, .. } => name,
            ImageSource::Folder(_) => DatasetName::ImageFolder,
        }
    }

    /// The folder that the images lie in, where they are the user's own.
    #[must_use]
    pub fn folder(&self) -> Option<&ImageFolder> {
        match &self.source {
            ImageSource::Dataset { .. } => None,
            ImageSource::Folder(folder) => Some(folder),
        }
    }
}

/// The whole data set as it is.
impl From<DatasetName> for DataConfig {
    fn from(name: DatasetName) -> Self {
        Self { source: ImageSource::Dataset { name, side: None }, validation_images: 0 }
    }
}

/// The data sets that the program can load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetName {
    /// 50,000 + 10,000 colour photos, 32x32, 10 classes.
    Cifar10,
    /// 50,000 + 10,000 colour photos, 32x32, 100 classes.
    Cifar100,
    /// 60,000 + 10,000 grey pictures of clothes, 28x28, 10 classes.
    FashionMnist,
    /// The first images of Fashion-MNIST, shipped with the program.
    FashionMnistSlice,
    /// The user's own images, in one folder per class.
    ImageFolder,
}

/// Where images lie, and how they are normalised: (pixel / 255 - mean) / sd, for red, green and blue.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFolder {
    /// Relative to the data folder, or absolute.
    pub path: PathBuf,
    /// Pixels per side that images are scaled to.
    pub side: usize,
    pub mean: [f32; 3],
    pub sd: [f32; 3],
}

impl ImageFolder {
    /// The mean of ImageNet's training images that torchvision uses, and most published networks.
    pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// The standard deviations that belong to [`Self::MEAN`].
    pub const SD: [f32; 3] = [0.229, 0.224, 0.225];
}
