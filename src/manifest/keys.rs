//! Keys that several sections share: batches, and limits that depend on other keys.

use super::NetworkInput;
use crate::document::{Entry, Section, nearest_file};
use crate::recipe::{Precision, Recompute};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

pub(super) const MAX_EPOCHS: u64 = 100_000;
pub(super) const MAX_IMAGES: u64 = 100_000_000;
pub(crate) const MAX_BATCH: u64 = 65_536;

/// Less than one batch per epoch of any data set.
const LEAST_SCALE: f64 = 1e-6;

pub(crate) const RECOMPUTES: &[(&str, Recompute)] =
    &[("none", Recompute::None), ("block", Recompute::Block)];

pub(super) const PRECISIONS: &[(&str, Precision)] =
    &[("f32", Precision::F32), ("tf32", Precision::Tf32)];

/// One of several names; the default without the key.
pub(super) fn optional_name<T: Copy + Default>(
    s: &Section<'_>,
    key: &'static str,
    names: &[(&str, T)],
) -> Option<T> {
    s.optional(key, |value| value.name(names)).map(Option::unwrap_or_default)
}

/// The share of its batches that every epoch of search and training has. It is 1 without the key, and
/// also where the key is wrong, so that reading can continue.
pub(super) fn read_scale(s: &Section<'_>) -> f64 {
    let share = s.optional("scale", |value| value.real(LEAST_SCALE..=1.0));
    share.flatten().unwrap_or(1.0)
}

/// A batch has at most as many images as there are, and enough for the batch norms of networks with
/// this `input`.
pub(super) fn read_batch(
    s: &Section<'_>,
    images: Option<usize>,
    input: Option<&NetworkInput>,
) -> Option<usize> {
    let value = s.require("batch_size", "the number of images per batch")?;
    let batch = at_most(&value, 1..=MAX_BATCH, images, "images")?;
    if let Some(input) = input.filter(|input| input.has_single_value_norm(batch)) {
        let problem = format!(
            "{batch} gives batch norm one value per channel where maps of {} have 1x1 \
             pixels",
            input.of
        );
        return value.fail(problem, "give 2 or more, or larger maps");
    }
    Some(batch)
}

/// A number of the range, and at most `most`, the number of `what`.
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
                format!("give at least {least} {what}, since {least} is the smallest value here")
            };
            value.fail(format!("{number} is more than the {most} {what}"), expected)
        }
        None => Some(number),
    }
}

/// The path of an existing file, which is given relative to the folder of `manifest`.
pub(super) fn file_of(value: &Entry<'_>, manifest: &Path, expected: &str) -> Option<PathBuf> {
    let given = value.text(expected)?;
    let path = manifest.parent().unwrap_or(Path::new("")).join(given);
    if !given.is_empty() && path.is_file() {
        return Some(path);
    }
    let expected = format!("give {expected}");
    if given.is_empty() || path.exists() {
        return value.fail(format!("{} is not a regular file", value.given()), expected);
    }
    // As seen from the manifest again.
    let hint = nearest_file(&path)
        .and_then(|near| Some(Path::new(&near).file_name()?.to_owned()))
        .map(|name| Path::new(given).with_file_name(name).display().to_string());
    value.fail_with_hint(format!("there is no file {}", path.display()), expected, hint)
}
