//! The images of a loader: from memory or from files to the normalised values that a network sees.

use super::augment::{self, Change, Random, Shape};
use super::folder::picture::Picture;
use super::folder::{CENTRE, View};
use super::scale::{self, Axis};
use super::{DataError, Dataset, Files, Images, Normalisation, Split, colour, erase};
use std::borrow::Cow;

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
        random: Option<&Random<'_>>,
        output: &mut [f32],
    ) -> Result<(), DataError> {
        match self {
            Self::Memory(memory) => memory.write(index, random, output),
            Self::Files(source) => {
                let picture = Picture::read(&source.files.path(index, source.labels[index]))?;
                let size = (picture.height, picture.width);
                let view = match random {
                    Some(random) => View::draw(random.augment, size, &mut random.stream("augment")),
                    None => View::square(size, source.centre),
                };
                let (side, channels) = source.shape;
                let shape = Shape { height: side, width: side, channels };
                picture.write(view, source.shape, source.normalisation, output, |pixels| {
                    if let Some((random, config)) =
                        random.and_then(|random| Some((random, random.augment.colour?)))
                    {
                        let stream = &mut random.stream("colour");
                        colour::change_scaled(pixels, shape, config, stream);
                    }
                });
                erase_part(output, shape, random);
            }
        }
        Ok(())
    }
}

impl Memory<'_> {
    /// Augments the image, then scales it. So a crop of 4 pixels moves the same part of the image at
    /// every scale.
    fn write(&self, index: usize, random: Option<&Random<'_>>, output: &mut [f32]) {
        let Self { stored, tables, .. } = self;
        let len = stored.height * stored.width * stored.channels;
        let mut image = Cow::Borrowed(&self.bytes[index * len..][..len]);
        let mut change = Change::default();
        if let Some(random) = random {
            if let Some(config) = random.augment.colour {
                colour::change(image.to_mut(), *stored, config, &mut random.stream("colour"));
            }
            change = Change::draw(random.augment, &mut random.stream("augment"));
        }
        let Some((rows, columns)) = &self.scaling else {
            augment::write(&image, output, *stored, tables, change);
            return erase_part(output, *stored, random);
        };
        let mut changed = vec![0f32; len];
        augment::write(&image, &mut changed, *stored, tables, change);
        erase_part(&mut changed, *stored, random);
        scale::scale(&changed, (stored.width, stored.channels), (rows, columns), output);
    }
}

fn erase_part(image: &mut [f32], shape: Shape, random: Option<&Random<'_>>) {
    if let Some((random, config)) = random.and_then(|random| Some((random, random.augment.erase?)))
    {
        erase::erase(image, shape, config, &mut random.stream("erase"));
    }
}

fn tables(normalisation: &Normalisation) -> Vec<[f32; 256]> {
    let of_channels = normalisation.mean.iter().zip(&normalisation.sd);
    let table =
        |(mean, sd): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / sd);
    of_channels.map(table).collect()
}
