//! One image file: JPEG or PNG, told apart by its first bytes whatever its name, since ImageNet has
//! a PNG among its JPEGs.
//!
//! Everything becomes red, green and blue of 8 bits: grey is repeated, alpha dropped, CMYK
//! converted, the lower half of 16 bits cut off. The orientation that a camera noted (EXIF) is not
//! regarded, which is how ImageNet is commonly read. JPEGs are decoded strictly: a file cut short is
//! an error, and never an image that ends in grey.

use super::View;
use crate::data::scale::{self, Axis};
use crate::data::{DataError, Normalisation};
use png::{ColorType, Transformations};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

const CHANNELS: usize = 3;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

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
    /// When the file cannot be read, is damaged, or is no image of a known kind.
    pub(in crate::data) fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(DataError::reading(path))?;
        let picture = if bytes.starts_with(JPEG) {
            decode_jpeg(&bytes)
        } else if bytes.starts_with(PNG) {
            decode_png(&bytes)
        } else {
            let reason = "is neither JPEG nor PNG; convert it, or take it out".to_owned();
            return Err(DataError::NotTheData { path: path.to_owned(), reason });
        };
        let picture = picture.and_then(Self::whole);
        picture.map_err(|reason| DataError::Damaged { path: path.to_owned(), reason })
    }

    /// There are pixels, as many as there should be.
    fn whole(self) -> Result<Self, String> {
        let Self { height, width, ref pixels } = self;
        if pixels.is_empty() || pixels.len() != height * width * CHANNELS {
            return Err(format!("{} bytes of {height}x{width} pixels", pixels.len()));
        }
        Ok(self)
    }

    /// Writes the view, normalised and scaled to `side` x `side` pixels, into `output`, which is
    /// zero before.
    pub(in crate::data) fn write(
        &self,
        view: View,
        side: usize,
        normalisation: &Normalisation,
        output: &mut [f32],
    ) {
        let rows = Axis::new(self.height, (view.top, view.height), side);
        let columns = Axis::new(self.width, (view.left, view.width), side);
        scale::scale(&self.pixels, (self.width, CHANNELS), (&rows, &columns), output);
        let Normalisation { mean, sd } = normalisation;
        for pixel in output.chunks_exact_mut(CHANNELS) {
            for (value, (mean, sd)) in pixel.iter_mut().zip(mean.iter().zip(sd)) {
                *value = (*value / 255.0 - mean) / sd;
            }
        }
        if view.flip {
            output.chunks_exact_mut(side * CHANNELS).for_each(mirror);
        }
    }
}

fn mirror(row: &mut [f32]) {
    let pixels = row.as_chunks_mut::<CHANNELS>().0;
    pixels.reverse();
}

fn decode_jpeg(bytes: &[u8]) -> Result<Picture, String> {
    let options =
        DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|error| error.to_string().trim().to_owned())?;
    let (width, height) = decoder.dimensions().ok_or("has no size")?;
    Ok(Picture { height, width, pixels })
}

fn decode_png(bytes: &[u8]) -> Result<Picture, String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("is too large")?];
    let frame = reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    pixels.truncate(frame.buffer_size());
    let grey = |pixel: &[u8]| [pixel[0]; CHANNELS];
    let colour = |pixel: &[u8]| [pixel[0], pixel[1], pixel[2]];
    let pixels = match frame.color_type {
        ColorType::Grayscale => pixels.chunks_exact(1).flat_map(grey).collect(),
        ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(grey).collect(),
        ColorType::Rgba => pixels.chunks_exact(4).flat_map(colour).collect(),
        ColorType::Rgb | ColorType::Indexed => pixels,
    };
    Ok(Picture { height: frame.height as usize, width: frame.width as usize, pixels })
}
