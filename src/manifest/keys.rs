//! Keys that several sections have: batches, augmentation, and what refers to another number.

use crate::document::{Entry, Section};
use crate::recipe::{Augment, DatasetName, Recompute};
use crate::space::SearchSpace;
use std::ops::Bound::{Excluded, Included};
use std::ops::RangeInclusive;

pub(super) const MAX_EPOCHS: u64 = 100_000;
pub(super) const MAX_IMAGES: u64 = 100_000_000;
pub(crate) const MAX_BATCH: u64 = 65_536;

/// Less than one batch of any data set.
const LEAST_SCALE: f64 = 1e-6;

pub(crate) const RECOMPUTES: &[(&str, Recompute)] =
    &[("none", Recompute::None), ("block", Recompute::Block)];

/// A name; no key, the default.
pub(super) fn optional_name<T: Copy + Default>(
    s: &Section<'_>,
    key: &'static str,
    names: &[(&str, T)],
) -> Option<T> {
    s.optional(key, |value| value.name(names)).map(Option::unwrap_or_default)
}

/// The share of a recipe's batches that every epoch of search and training has: all of them where
/// there is no key, and for what is read after it where the key is wrong, which is said.
pub(super) fn read_scale(s: &Section<'_>) -> f64 {
    let share = s.optional("scale", |value| value.real(LEAST_SCALE..=1.0));
    share.flatten().unwrap_or(1.0)
}

/// A batch has no more images than there are, and enough for the batch norms of `space`.
pub(super) fn read_batch(
    s: &Section<'_>,
    images: Option<usize>,
    space: Option<&SearchSpace>,
) -> Option<usize> {
    let value = s.require("batch_size", "how many images make a batch")?;
    let batch = at_most(&value, 1..=MAX_BATCH, images, "images")?;
    if let Some(space) = space.filter(|space| space.has_single_value_norm(batch)) {
        let problem = format!(
            "{batch} gives batch norm one value per channel where maps of the space \"{}\" have 1x1 \
             pixels",
            space.name
        );
        return value.fail(problem, "give 2 or more, or a space with larger maps");
    }
    Some(batch)
}

/// A number of the range that is not above `most`, which counts `what`.
pub(crate) fn at_most(
    value: &Entry<'_>,
    range: RangeInclusive<u64>,
    most: Option<usize>,
    what: &str,
) -> Option<usize> {
    let least = *range.start();
    let number = value.whole(range)?;
    match most.filter(|most| number > *most) {
        Some(most) => {
            let expected = if most as u64 >= least {
                format!("give a whole number from {least} to {most}")
            } else {
                format!("{least} is the least: let there be {least} {what} or more")
            };
            value.fail(format!("{number} is more than the {most} {what}"), expected)
        }
        None => Some(number),
    }
}

/// No key, no augmentation; the same for each of its parts.
pub(super) fn read_augment(s: &Section<'_>, dataset: Option<DatasetName>) -> Option<Augment> {
    let augment = s.optional("augment", |value| {
        value.section(|s| {
            let flip = s.optional("flip", Entry::flag);
            let crop_padding = s.optional("crop_padding", |value| value.whole(0..=16));
            let areas = (Excluded(0.0), Included(1.0));
            let crop_area = s.optional("crop_area", |value| value.real(areas));
            forbid_other_crop(s, dataset);
            Some(Augment {
                flip: flip?.unwrap_or_default(),
                crop_padding: crop_padding?.unwrap_or_default(),
                crop_area: crop_area?,
            })
        })
    });
    augment.map(Option::unwrap_or_default)
}

/// Images of one size are padded and cropped, those of a folder are cut out.
fn forbid_other_crop(s: &Section<'_>, dataset: Option<DatasetName>) {
    match dataset {
        None => {}
        Some(DatasetName::ImageFolder) => {
            let problem = "is about images of one size, and those of a folder have any";
            s.forbid("crop_padding", problem, "take it out, or give crop_area = 0.08");
        }
        Some(_) => {
            let problem = "is about images of any size, and those of this data set have one";
            s.forbid("crop_area", problem, "take it out, or give crop_padding = 4");
        }
    }
}
