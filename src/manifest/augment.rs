//! The sections `augment`: random changes to training images.

use super::dataset::MAX_SIDE;
use crate::document::{Entry, Section};
use crate::recipe::{Augment, Colour, DatasetName, Erase};
use std::ops::Bound::{Excluded, Included};

const MAX_OPERATIONS: u64 = 10;

/// No augmentation where the key or one of its parts is absent.
pub(super) fn read_augment(s: &Section<'_>, dataset: Option<DatasetName>) -> Option<Augment> {
    let augment = s.optional("augment", |value| {
        value.section(|s| {
            let flip = s.optional("flip", Entry::flag);
            let crop_padding = s.optional("crop_padding", |value| value.whole(0..=16));
            let areas = (Excluded(0.0), Included(1.0));
            let crop_area = s.optional("crop_area", |value| value.real(areas));
            forbid_other_crop(s, dataset);
            let colour = s.optional("colour", |value| value.section(read_colour));
            let erase = s.optional("erase", |value| value.section(read_erase));
            Some(Augment {
                flip: flip?.unwrap_or_default(),
                crop_padding: crop_padding?.unwrap_or_default(),
                crop_area: crop_area?,
                colour: colour?,
                erase: erase?,
            })
        })
    });
    augment.map(Option::unwrap_or_default)
}

/// Padded crops are for images of one size, crops by area for image folders.
fn forbid_other_crop(s: &Section<'_>, dataset: Option<DatasetName>) {
    match dataset {
        None => {}
        Some(DatasetName::ImageFolder) => {
            let problem = "does not apply to image folders, whose images have any size";
            s.forbid("crop_padding", problem, "remove it, or give crop_area = 0.08");
        }
        Some(_) => {
            let problem = "applies to image folders only";
            s.forbid("crop_area", problem, "remove it, or give crop_padding = 4");
        }
    }
}

fn read_colour(s: &Section<'_>) -> Option<Colour> {
    let operations = s.whole("operations", 1..=MAX_OPERATIONS);
    let magnitude = s.whole("magnitude", 0..=Colour::STRONGEST as u64);
    Some(Colour { operations: operations?, magnitude: magnitude? })
}

/// A square where its side is given, otherwise a random rectangle.
fn read_erase(s: &Section<'_>) -> Option<Erase> {
    if let Some(side) = s.get("side") {
        for key in ["probability", "area", "ratio"] {
            let problem = "does not belong to a square, which has a side";
            s.forbid(key, problem, "remove it, or remove side");
        }
        return Some(Erase::Square { side: side.whole(1..=MAX_SIDE)? });
    }
    let probability = s.real("probability", (Excluded(0.0), Included(1.0)));
    let area =
        read_bounds(s, "area", 1.0, "two shares of the area above 0 and at most 1, ascending");
    let ratio = read_bounds(s, "ratio", 100.0, "two ratios above 0 and at most 100, ascending");
    Some(Erase::Rectangle { probability: probability?, area: area?, ratio: ratio? })
}

/// The smallest and the largest number.
fn read_bounds(
    s: &Section<'_>,
    key: &'static str,
    most: f64,
    expected: &str,
) -> Option<(f64, f64)> {
    let value = s.require(key, expected)?;
    let numbers = value.list(1..=2, expected, |n| n.real((Excluded(0.0), Included(most))))?;
    match numbers[..] {
        [low, high] if low <= high => Some((low, high)),
        _ => value.refuse(expected),
    }
}
