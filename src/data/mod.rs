//! Images: sources, checks against published fingerprints, and batches.
//!
//! Validation images are always taken from the training images. Test images are used for the final
//! evaluation only.

mod augment;
mod batch;
mod catalog;
mod cifar;
mod colour;
mod erase;
mod error;
mod fashion_mnist;
mod fetch;
mod folder;
mod hash;
mod root;
mod scale;
mod source;

pub use batch::{Batch, Epoch, Loader, ReadableBatch, ahead, prefetched};
pub use catalog::{
    ALL, Description, FolderCheck, Presence, check_folder, decoding_bytes, describe, fetch, label,
    load, presence,
};
pub use error::DataError;
pub use fetch::{FetchMonitor, Origin};
pub use folder::{CENTRE, Files, image_bytes, open_evaluation, read_image};
pub use root::data_root;

use crate::hex::hex;
use crate::recipe::DatasetName;
use crate::rng::Seed;
use sha2::{Digest, Sha256};

/// A data set: its images in memory or in files.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub name: DatasetName,
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// Pixels that a network sees.
    pub height: usize,
    /// Pixels that a network sees.
    pub width: usize,
    pub channels: usize,
    pub normalisation: Normalisation,
    pub train: Split,
    /// For the final evaluation only.
    pub test: Split,
}

/// Images with their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub images: Images,
    pub labels: Vec<u32>,
}

/// Where the pixels are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Images {
    Memory(Pixels),
    /// Each image is read when its batch is made.
    Files(Files),
}

/// Pixels in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// n · height · width · channels: channels last, rows from the top.
    pub bytes: Vec<u8>,
}

/// A network sees (pixel / 255 - mean) / sd, per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    pub mean: Vec<f32>,
    pub sd: Vec<f32>,
}

impl Split {
    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The bytes of images in memory; empty for images in files.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.images {
            Images::Memory(pixels) => &pixels.bytes,
            Images::Files(_) => &[],
        }
    }
}

impl Dataset {
    /// Values of one image that a network sees.
    #[must_use]
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The share of an image's shorter side that a network sees when it is evaluated.
    #[must_use]
    pub fn seen_share(&self) -> f64 {
        match self.test.images {
            Images::Memory(_) => 1.0,
            Images::Files(_) => CENTRE,
        }
    }

    /// The same images, scaled to `side` x `side` pixels when their batch is made.
    #[must_use]
    pub fn scaled(self, side: usize) -> Self {
        Self { height: side, width: side, ..self }
    }

    /// Divides the training images into a training and a validation split: (train, validation), both
    /// in random order. The same seed always gives the same division.
    ///
    /// # Errors
    /// When no image would be left to train on.
    pub fn partition(
        &self,
        seed: Seed,
        validation_images: usize,
    ) -> Result<(Vec<usize>, Vec<usize>), DataError> {
        let available = self.train.len().saturating_sub(1);
        if validation_images > available {
            return Err(DataError::TooFewImages { asked: validation_images, available });
        }
        let mut validation = seed.stream("data/validation", 0).permutation(self.train.len());
        let train = validation.split_off(validation_images);
        Ok((train, validation))
    }

    /// SHA-256 over the images and labels of both parts, in hex. Of images in files it covers classes,
    /// names, sizes and the first and last 4 KiB of each file instead of the pixels.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for split in [&self.train, &self.test] {
            match &split.images {
                Images::Memory(pixels) => hash.update(&pixels.bytes),
                Images::Files(files) => files.describe(&split.labels, &mut hash),
            }
            // This also separates the parts.
            hash.update((split.len() as u64).to_le_bytes());
            for label in &split.labels {
                hash.update(label.to_le_bytes());
            }
        }
        hex(&hash.finalize())
    }

    /// Bytes that decoding the largest image takes; 0 for images in memory.
    #[must_use]
    pub fn decoding_bytes(&self) -> u64 {
        folder::decoding_bytes(self)
    }

    /// Which files beside the images of a folder are not read, as text; `None` if there are none.
    #[must_use]
    pub fn left_out(&self) -> Option<String> {
        folder::left_out(self)
    }

    /// The training images among `indices` whose class is one of `n`, which the seed draws.
    #[must_use]
    pub fn of_classes(&self, indices: &[usize], seed: Seed, n: usize) -> Vec<usize> {
        let mut wanted = vec![false; self.classes.len()];
        let order = seed.stream("data/classes", 0).permutation(wanted.len());
        order.into_iter().take(n).for_each(|class| wanted[class] = true);
        let shows = |&index: &usize| wanted[self.train.labels[index] as usize];
        indices.iter().copied().filter(shows).collect()
    }
}

/// `n` of these indices, drawn by (seed, label), in random order, so that any prefix of
/// the result is a random sample.
///
/// # Errors
/// When there are fewer.
pub fn draw(indices: &[usize], n: usize, seed: Seed, label: &str) -> Result<Vec<usize>, DataError> {
    if n > indices.len() {
        return Err(DataError::TooFewImages { asked: n, available: indices.len() });
    }
    let order = seed.stream(label, 0).permutation(indices.len());
    Ok(order[..n].iter().map(|&i| indices[i]).collect())
}

/// Runs an ignored test in a process of its own, where nothing else allocates.
#[cfg(test)]
fn run_alone(test: &str) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--ignored"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice() -> Dataset {
        load(&DatasetName::FashionMnistSlice.into(), std::path::Path::new("/nowhere")).unwrap()
    }

    #[test]
    fn a_partition_holds_every_training_image_once_and_repeats_itself() {
        let data = slice();
        let (train, validation) = data.partition(Seed(3), 150).unwrap();
        assert_eq!((train.len(), validation.len()), (850, 150));
        let mut all = [train.clone(), validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(data.partition(Seed(3), 150).unwrap().0, train);
        assert_ne!(data.partition(Seed(4), 150).unwrap().0, train);
    }

    #[test]
    fn images_of_some_classes_are_all_of_theirs_in_the_same_order() {
        let data = slice();
        let some: Vec<usize> = (0..1000).rev().step_by(3).collect();
        let of = |seed| data.of_classes(&some, Seed(seed), 4);
        let classes = |indices: &[usize]| {
            indices.iter().map(|&i| data.train.labels[i]).collect::<std::collections::BTreeSet<_>>()
        };
        let (one, two) = (of(1), of(2));
        assert_eq!((classes(&one).len(), &one), (4, &of(1)));
        assert_ne!(classes(&one), classes(&two));
        let kept = classes(&one);
        let expected = some.iter().copied().filter(|&i| kept.contains(&data.train.labels[i]));
        assert_eq!(one, expected.collect::<Vec<_>>());
    }

    #[test]
    fn more_images_than_there_are_cannot_be_drawn() {
        let data = slice();
        assert!(matches!(data.partition(Seed(0), 1000), Err(DataError::TooFewImages { .. })));
        let all: Vec<usize> = (0..1000).collect();
        let drawn = |n| draw(&all, n, Seed(0), "some");
        let error = drawn(1001).unwrap_err();
        assert!(error.to_string().contains("only 1000 can be drawn"), "{error}");
        assert_eq!(drawn(1000).unwrap().len(), 1000);
    }
}
