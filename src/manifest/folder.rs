//! What `[data]` says of an image folder.

use crate::document::{Section, Value};
use crate::recipe::{DatasetName, ImageFolder};
use std::ops::Bound::{self, Excluded, Included};

/// Where an image folder lies and how it is normalised; `Some(None)` for another data set.
#[allow(clippy::option_option)]
pub(super) fn read_folder(
    s: &Section<'_>,
    dataset: Option<DatasetName>,
) -> Option<Option<ImageFolder>> {
    const PATH: &str = "the path of a folder with train/ and val/, from the data folder";
    let keys = ["folder", "mean", "sd"];
    match dataset {
        Some(DatasetName::ImageFolder) => {}
        Some(_) => {
            let expected = "take it out, or dataset = \"image-folder\"";
            for key in keys {
                s.forbid(key, "is about the images of a folder", expected);
            }
            return Some(None);
        }
        // Without a data set it cannot be told whether they belong.
        None => {
            for key in keys {
                s.get(key);
            }
            return None;
        }
    }
    let path = s.require("folder", PATH).and_then(|value| {
        let path = value.text(PATH)?;
        if path.is_empty() { value.refuse(PATH) } else { Some(path.into()) }
    });
    let mean = read_colours(s, "mean", Included(0.0), ImageFolder::MEAN);
    let sd = read_colours(s, "sd", Excluded(0.0), ImageFolder::SD);
    Some(Some(ImageFolder { path: path?, mean: mean?, sd: sd? }))
}

/// A number of each colour; no key, `default`.
fn read_colours(
    s: &Section<'_>,
    key: &'static str,
    least: Bound<f64>,
    default: [f32; 3],
) -> Option<[f32; 3]> {
    const EXPECTED: &str = "three numbers, of red, green and blue from 0 to 1";
    let read = |value: &Value<'_>| {
        let colours = value.list(1..=3, EXPECTED, |colour| colour.real((least, Included(1.0))))?;
        let colours: Vec<f32> = colours.into_iter().map(|colour| colour as f32).collect();
        colours.try_into().ok().or_else(|| value.refuse(EXPECTED))
    };
    s.optional(key, read).map(|colours| colours.unwrap_or(default))
}
