//! The keys of `[data]` that describe an image folder.

use crate::document::{Entry, Section};
use crate::recipe::{DatasetName, ImageFolder};
use std::ops::Bound::{self, Included};

/// The smallest standard deviation of a colour: a quarter of an 8-bit step.
const MIN_SD: f64 = 0.001;

/// Refuses the keys of an image folder for other data sets.
pub(super) fn refuse_folder(s: &Section<'_>, dataset: Option<DatasetName>) {
    for key in ["folder", "mean", "sd"] {
        match dataset {
            Some(_) => {
                let expected = "remove it, or give dataset = \"image-folder\"";
                s.forbid(key, "applies to image folders only", expected);
            }
            // Without a data set it is unknown whether the keys belong.
            None => drop(s.get(key)),
        }
    }
}

/// The path of the folder, and how its images are scaled and normalised.
pub(super) fn read_folder(s: &Section<'_>, side: Option<usize>) -> Option<ImageFolder> {
    const PATH: &str = "the path of a folder with train/ and val/, relative to the data folder";
    let path = s.require("folder", PATH).and_then(|value| {
        let path = value.text(PATH)?;
        if path.is_empty() { value.refuse(PATH) } else { Some(path.into()) }
    });
    let mean = read_colours(s, "mean", Included(0.0), ImageFolder::MEAN);
    // A smaller one gives pixel values that no learning rate suits.
    let sd = read_colours(s, "sd", Included(MIN_SD), ImageFolder::SD);
    Some(ImageFolder { path: path?, side: side?, mean: mean?, sd: sd? })
}

/// One number per colour; `default` without the key.
fn read_colours(
    s: &Section<'_>,
    key: &'static str,
    least: Bound<f64>,
    default: [f32; 3],
) -> Option<[f32; 3]> {
    const EXPECTED: &str = "three numbers from 0 to 1, for red, green and blue";
    let read = |value: &Entry<'_>| {
        let colours = value.list(1..=3, EXPECTED, |colour| colour.real((least, Included(1.0))))?;
        let colours: Vec<f32> = colours.into_iter().map(|colour| colour as f32).collect();
        colours.try_into().ok().or_else(|| value.refuse(EXPECTED))
    };
    s.optional(key, read).map(|colours| colours.unwrap_or(default))
}
