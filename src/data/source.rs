//! The images of a loader: from memory or from files to the normalised values that a network sees.

use super::augment::{self, Change, Shape};
use super::folder::picture::Picture;
use super::folder::{CENTRE, View};
use super::scale::{self, Axis};
use super::{DataError, Dataset, Files, Images, Normalisation, Split};
use crate::recipe::Augment;
use crate::rng::Stream;

pub(super) enum Source<'a> {
    Memory(Memory<'a>),
    Files(FileSource<'a>),
}

/// Images in files, of any size.
pub(super) struct FileSource<'a> {
    files: &'a Files,
    labels: &'a [u32],
    normalisation: &'a Normalisation,
    /// Side and channels, as a network sees them.
    shape: (usize, usize),
    /// The share of the shorter side that is seen without augmentation.
    pub centre: f64,
}

/// Images in memory, all of one size.
pub(super) struct Memory<'a> {
    bytes: &'a [u8],
    stored: Shape,
    /// The normalised value of each byte, per channel.
    tables: Vec<[f32; 256]>,
    /// Rows and columns, where a network sees the images in another size.
    scaling: Option<(Axis, Axis)>,
}

impl<'a> Source<'a> {
    pub(super) fn new(dataset: &'a Dataset, split: &'a Split) -> Self {
        let Dataset { height, width, channels, normalisation, .. } = dataset;
        let pixels = match &split.images {
            Images::Memory(pixels) => pixels,
            Images::Files(files) => {
                return Self::Files(FileSource {
                    files,
                    labels: &split.labels,
                    normalisation,
                    shape: (*width, *channels),
                    centre: CENTRE,
                });
            }
        };
        let stored = Shape { height: pixels.height, width: pixels.width, channels: *channels };
        let axis = |len: usize, side| Axis::new(len, (0.0, len as f64), side);
        let fits = (stored.height, stored.width) == (*height, *width);
        let scaling = (!fits).then(|| (axis(stored.height, *height), axis(stored.width, *width)));
        Self::Memory(Memory {
            bytes: &pixels.bytes,
            stored,
            tables: tables(normalisation),
            scaling,
        })
    }

    /// Writes image `index` into `output`, which must be zero. With `random`, the image is augmented.
    pub(super) fn write(
        &self,
        index: usize,
        random: Option<(Augment, Stream)>,
        output: &mut [f32],
    ) -> Result<(), DataError> {
        match self {
            Self::Memory(memory) => {
                let change = random.map(|(augment, mut stream)| Change::draw(augment, &mut stream));
                memory.write(index, change.unwrap_or_default(), output);
            }
            Self::Files(source) => {
                let picture = Picture::read(&source.files.path(index, source.labels[index]))?;
                let size = (picture.height, picture.width);
                let view = match random {
                    Some((augment, mut stream)) => View::draw(augment, size, &mut stream),
                    None => View::square(size, source.centre),
                };
                picture.write(view, source.shape, source.normalisation, output);
            }
        }
        Ok(())
    }
}

impl Memory<'_> {
    /// Augments the image, then scales it. So a crop of 4 pixels moves the same part of the image at
    /// every scale.
    fn write(&self, index: usize, change: Change, output: &mut [f32]) {
        let Self { stored, tables, .. } = self;
        let len = stored.height * stored.width * stored.channels;
        let image = &self.bytes[index * len..][..len];
        let Some((rows, columns)) = &self.scaling else {
            return augment::write(image, output, *stored, tables, change);
        };
        let mut changed = vec![0f32; len];
        augment::write(image, &mut changed, *stored, tables, change);
        scale::scale(&changed, (stored.width, stored.channels), (rows, columns), output);
    }
}

fn tables(normalisation: &Normalisation) -> Vec<[f32; 256]> {
    let of_channels = normalisation.mean.iter().zip(&normalisation.sd);
    let table =
        |(mean, sd): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / sd);
    of_channels.map(table).collect()
}
