//! One image file: JPEG, PNG, WebP, BMP, GIF, TIFF or PPM. The first bytes decide, not the name, since
//! ImageNet has a PNG among its JPEGs.
//!
//! Everything becomes red, green and blue of 8 bits: grey is repeated, alpha dropped, CMYK
//! converted, the lower half of 16 bits cut off (values of a PPM are scaled by their maximum); of an
//! animation the first frame is taken. The orientation that a camera noted (EXIF) is ignored, which
//! is how ImageNet is commonly read. JPEGs are decoded strictly: a file cut short is an error, and
//! never an image that ends in grey.

use super::View;
use super::decode::Kind;
use super::failure::{Failure, MAX_PIXELS, Size};
use crate::data::scale::{self, Axis};
use crate::data::{DataError, Normalisation};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

const CHANNELS: usize = 3;
/// A file with more bytes is not an image of `MAX_PIXELS`.
const MAX_BYTES: u64 = 1 << 30;
/// The bytes that usually contain an image's size.
const HEAD: u64 = 64 << 10;

/// A decoded image.
#[derive(Debug)]
pub(in crate::data) struct Picture {
    pub height: usize,
    pub width: usize,
    /// height · width · 3: red, green and blue, rows from the top.
    pixels: Vec<u8>,
}

impl Picture {
    /// # Errors
    /// When the file cannot be read, is damaged, too large, or no image of a known kind.
    pub(in crate::data) fn read(path: &Path) -> Result<Self, DataError> {
        Self::decode(path, &read_start(path, MAX_BYTES)?)
    }

    /// The image in these bytes; `path` is for messages.
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, DataError> {
        let kind = kind(path, bytes)?;
        let size = kind.size(bytes).map_err(|failure| failure.at(path))?;
        let (height, width) = bounded(path, size)?;
        let pixels = kind.decode(bytes, size).map_err(|failure| failure.at(path))?;
        let picture = Self { height, width, pixels }.whole();
        picture.map_err(|reason| DataError::Damaged { path: path.to_owned(), reason })
    }

    /// What [`Picture::read`] takes in memory, the file included: from the start of the file where
    /// possible.
    ///
    /// # Errors
    /// As [`Picture::read`].
    pub(in crate::data) fn decoding_bytes(path: &Path) -> Result<u64, DataError> {
        let head = read_start(path, HEAD)?;
        let kind = kind(path, &head)?;
        let size = match kind.size(&head) {
            Ok(size) => size,
            Err(_) if head.len() as u64 == HEAD => {
                kind.size(&read_start(path, MAX_BYTES)?).map_err(|failure| failure.at(path))?
            }
            Err(failure) => return Err(failure.at(path)),
        };
        let (height, width) = bounded(path, size)?;
        let file = fs::metadata(path).map_err(DataError::reading(path))?.len().min(MAX_BYTES);
        Ok(kind.bytes_per_pixel() * (height * width) as u64 + file)
    }

    /// Checks that the number of pixels is right and not zero.
    fn whole(self) -> Result<Self, String> {
        let Self { height, width, ref pixels } = self;
        if pixels.is_empty() || pixels.len() != height * width * CHANNELS {
            return Err(format!("{} bytes of {height}x{width} pixels", pixels.len()));
        }
        Ok(self)
    }

    /// Writes the view, scaled to `side` x `side` pixels and normalised, into `output`, which must be zero. With one
    /// channel instead of three, the mean of red, green and blue. `change` gets the pixels before they are normalised and
    /// mirrored.
    pub(in crate::data) fn write(
        &self,
        view: View,
        (side, channels): (usize, usize),
        normalisation: &Normalisation,
        output: &mut [f32],
        change: impl FnOnce(&mut [f32]),
    ) {
        let rows = Axis::new(self.height, (view.top, view.height), side);
        let columns = Axis::new(self.width, (view.left, view.width), side);
        let scale = |output: &mut [f32]| {
            scale::scale(&self.pixels, (self.width, CHANNELS), (&rows, &columns), output);
        };
        if channels == CHANNELS {
            scale(output);
        } else {
            let mut colours = vec![0.0; side * side * CHANNELS];
            scale(&mut colours);
            for (output, rgb) in output.iter_mut().zip(colours.as_chunks::<CHANNELS>().0) {
                *output = rgb.iter().sum::<f32>() / CHANNELS as f32;
            }
        }
        change(output);
        let Normalisation { mean, sd } = normalisation;
        for pixel in output.chunks_exact_mut(channels) {
            for (value, (mean, sd)) in pixel.iter_mut().zip(mean.iter().zip(sd)) {
                *value = (*value / 255.0 - mean) / sd;
            }
        }
        if view.flip {
            output.chunks_exact_mut(side * channels).for_each(|row| mirror(row, channels));
        }
    }
}

/// Reverses the pixels of a row.
fn mirror(row: &mut [f32], channels: usize) {
    let width = row.len() / channels;
    for (left, right) in (0..width / 2).map(|x| (x, width - 1 - x)) {
        for channel in 0..channels {
            row.swap(left * channels + channel, right * channels + channel);
        }
    }
}

/// The first bytes of a regular file. Reading another kind of file may never end.
fn read_start(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    if !fs::metadata(path).map_err(DataError::reading(path))?.is_file() {
        let reason = "is not a regular file".to_owned();
        return Err(DataError::NotTheData { path: path.to_owned(), reason });
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(DataError::reading(path))?;
    file.take(limit).read_to_end(&mut bytes).map_err(DataError::reading(path))?;
    Ok(bytes)
}

fn kind(path: &Path, bytes: &[u8]) -> Result<Kind, DataError> {
    Kind::of(bytes).ok_or_else(|| {
        let reason = "is not a JPEG, PNG, WebP, BMP, GIF, TIFF or PPM file; convert or remove it";
        DataError::NotTheData { path: path.to_owned(), reason: reason.to_owned() }
    })
}

fn bounded(path: &Path, (height, width): Size) -> Result<Size, DataError> {
    match height.checked_mul(width) {
        Some(0..=MAX_PIXELS) => Ok((height, width)),
        _ => Err(DataError::TooLarge { path: path.to_owned(), height, width, limit: MAX_PIXELS }),
    }
}

impl Failure {
    fn at(self, path: &Path) -> DataError {
        let path = path.to_owned();
        match self {
            Self::Damaged(reason) => DataError::Damaged { path, reason },
            Self::Unsupported(reason) => DataError::NotTheData {
                path,
                reason: format!("{reason}, which is not supported; convert it or remove it"),
            },
        }
    }
}
