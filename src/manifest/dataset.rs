//! The section `[data]`: which images, and whether they fit the networks.

use super::NetworkInput;
use super::folder::{read_folder, refuse_folder};
use super::keys::MAX_IMAGES;
use crate::document::{Entry, Section};
use crate::recipe::{DataConfig, DatasetName, ImageSource};

/// In pixels, the limit of spaces.
pub(crate) const MAX_SIDE: u64 = 1024;

pub(crate) const DATASETS: &[(&str, DatasetFacts)] = &[
    ("cifar10", DatasetFacts::new(DatasetName::Cifar10, 50_000, 32, 3)),
    ("cifar100", DatasetFacts::new(DatasetName::Cifar100, 50_000, 32, 3).of_classes(100)),
    ("fashion-mnist", DatasetFacts::new(DatasetName::FashionMnist, 60_000, 28, 1)),
    ("fashion-mnist-slice", DatasetFacts::new(DatasetName::FashionMnistSlice, 1_000, 28, 1)),
    ("image-folder", DatasetFacts { name: DatasetName::ImageFolder, channels: 3, known: None }),
];

/// The facts about a data set that manifest and space must agree with.
#[derive(Clone, Copy)]
pub(crate) struct DatasetFacts {
    pub name: DatasetName,
    pub channels: usize,
    /// `None` for an image folder: it is checked when the folder is opened.
    pub known: Option<KnownImages>,
}

#[derive(Clone, Copy)]
pub(crate) struct KnownImages {
    pub train_images: usize,
    pub side: usize,
    pub classes: usize,
}

impl DatasetFacts {
    const fn new(name: DatasetName, train_images: usize, side: usize, channels: usize) -> Self {
        Self { name, channels, known: Some(KnownImages { train_images, side, classes: 10 }) }
    }

    const fn of_classes(self, classes: usize) -> Self {
        match self.known {
            Some(known) => Self { known: Some(KnownImages { classes, ..known }), ..self },
            None => self,
        }
    }
}

/// The side of the images that `data` gives, in pixels; those of a published data set that is not scaled have its own.
pub(super) fn image_side(data: &DataConfig) -> usize {
    match &data.source {
        ImageSource::Folder(folder) => folder.side,
        ImageSource::Dataset { side: Some(side), .. } => *side,
        ImageSource::Dataset { name, side: None } => {
            let facts = DATASETS.iter().find(|(_, facts)| facts.name == *name);
            facts.and_then(|(_, facts)| facts.known).map_or(0, |known| known.side)
        }
    }
}

pub(super) fn read_data(
    s: &Section<'_>,
    dataset: &mut Option<DatasetFacts>,
    input: Option<&NetworkInput>,
) -> Option<DataConfig> {
    let value = s.require("dataset", "the name of a data set");
    *dataset = value.as_ref().and_then(|value| value.name(DATASETS));
    let scaled = s.get("side");
    let side = scaled.as_ref().map_or(Some(None), |value| value.whole(1..=MAX_SIDE).map(Some));
    let fits = match (&value, *dataset, input, side) {
        (Some(value), Some(dataset), Some(input), Some(side)) => {
            let scaled = scaled.as_ref().zip(side);
            check_side(value, scaled, &dataset, input).and(check_shape(value, &dataset, input))
        }
        _ => None,
    };
    let validation_images =
        s.require("validation_images", "the number of training images to hold out");
    let validation_images = validation_images.and_then(|value| {
        let images = value.whole(0..=MAX_IMAGES)?;
        let known = dataset.and_then(|dataset| dataset.known);
        let all = known.map_or(usize::MAX, |known| known.train_images);
        if images >= all {
            let problem = format!("{images} leaves none of the {all} training images");
            return value.fail(problem, format!("give a whole number from 0 to {}", all - 1));
        }
        Some(images)
    });
    let name = dataset.map(|dataset| dataset.name);
    // The images of a folder have any size: they are scaled to that of the networks.
    let source = if name == Some(DatasetName::ImageFolder) {
        let folder = read_folder(s, side.flatten().or(input.map(|input| input.resolution)));
        folder.map(ImageSource::Folder)
    } else {
        refuse_folder(s, name);
        name.zip(side).map(|(name, side)| ImageSource::Dataset { name, side })
    };
    fits?;
    Some(DataConfig { source: source?, validation_images: validation_images? })
}

/// Channels and classes of the networks must be those of the data set.
fn check_shape(value: &Entry<'_>, dataset: &DatasetFacts, input: &NetworkInput) -> Option<()> {
    let name = value.given();
    let mut fits = Some(());
    let fit = format!("give a data set and a {} that fit each other", input.noun());
    let mut complain = |what: &str, has: usize, takes: usize, expected: &str| {
        if has != takes {
            let problem = format!("{name} has {what} of {has}, {} takes {takes}", input.of);
            fits = value.fail(problem, expected);
        }
    };
    complain("a channel count", dataset.channels, input.channels, &fit);
    if let Some(known) = dataset.known {
        let advice = if input.is_network {
            format!("give classes = {}", known.classes)
        } else {
            fit.clone()
        };
        complain("a class count", known.classes, input.classes, &advice);
    }
    fits
}

/// The side of the images, scaled or not, must be the networks' largest resolution.
pub(crate) fn check_side(
    value: &Entry<'_>,
    scaled: Option<(&Entry<'_>, usize)>,
    dataset: &DatasetFacts,
    input: &NetworkInput,
) -> Option<()> {
    let (takes, of) = (input.resolution, &input.of);
    let own = dataset.known.map_or(takes, |known| known.side);
    match scaled {
        Some((_, side)) if input.takes(side) => Some(()),
        None if input.takes(own) => Some(()),
        Some((value, side)) => value.fail(
            format!("images scaled to {side}x{side} do not fit {of}"),
            format!("give {takes}, which it takes, or another {}", input.noun()),
        ),
        None => value.fail(
            format!("{} has an image side of {own}, {of} takes {takes}", value.given()),
            if takes as u64 > MAX_SIDE {
                let other = if input.is_network {
                    format!("resolution = {own}")
                } else {
                    "another space".to_owned()
                };
                format!("give {other}; images are scaled to at most {MAX_SIDE}")
            } else if input.is_network {
                format!("give side = {takes} to have the images scaled, or resolution = {own}")
            } else {
                format!("give side = {takes} to have the images scaled, or another space")
            },
        ),
    }
}
