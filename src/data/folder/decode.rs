//! Decoders of the kinds of images that are read, each to red, green and blue of 8 bits. What a
//! decoder makes of a file is checked by the caller; here bounds keep a small file from taking much
//! memory.

use super::failure::{Failure, MAX_PIXELS, Size};
use super::huffman::Fault;
use super::{pnm, scan, tags};
use png::{ColorType, Transformations};
use std::io::Cursor;
use std::num::NonZeroU64;
use zune_bmp::BmpDecoder;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

const CHANNELS: usize = 3;

/// What a GIF's decoder takes for so many pixels: red, green, blue and alpha.
const GIF_BYTES: NonZeroU64 = NonZeroU64::new(4 * MAX_PIXELS as u64).expect("is above zero");
/// What a TIFF's decoder takes for so many pixels: four values of 16 bits.
const TIFF_BYTES: usize = 8 * MAX_PIXELS;
/// The side that no image exceeds, for decoders that want one.
const MAX_SIDE: usize = 65_535;

/// The names of the kinds of files, as endings in lower case.
pub(super) const ENDINGS: [&str; 10] =
    ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm"];

/// A kind of image file, told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Gif,
    Tiff,
    Pnm,
}

impl Kind {
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let starts = |start: &[u8]| bytes.starts_with(start);
        if starts(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if starts(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::WebP)
        } else if starts(b"BM") {
            Some(Self::Bmp)
        } else if starts(b"GIF8") {
            Some(Self::Gif)
        } else if starts(b"II*\0") || starts(b"MM\0*") {
            Some(Self::Tiff)
        } else if starts(b"P5") || starts(b"P6") {
            Some(Self::Pnm)
        } else {
            None
        }
    }

    /// What decoding takes for each pixel, at most: the decoder's own buffers and the pixels that it
    /// returns. A test compares them with what is allocated.
    pub(super) fn bytes_per_pixel(self) -> u64 {
        match self {
            // Progressive CMYK: four coefficients of 16 bits.
            Self::Jpeg => 12,
            // Four values of 8 bits, then three.
            Self::Png | Self::Bmp | Self::Gif => 7,
            // The planes, alpha with its own image of four values, and both results.
            Self::WebP => 14,
            // Four values of 16 bits, then of 8 bits, then three.
            Self::Tiff => 15,
            // One value, then three.
            Self::Pnm => 4,
        }
    }

    /// What the header says, without decoding.
    pub(super) fn size(self, bytes: &[u8]) -> Result<Size, Failure> {
        let of_u32 = |(width, height): (u32, u32)| (height as usize, width as usize);
        let swapped = |(width, height): (usize, usize)| (height, width);
        match self {
            Self::Jpeg => {
                let mut decoder = jpeg(bytes);
                // The decoder calls damaged what it does not support.
                decoder.decode_headers().map_err(|error| match check_scans(bytes) {
                    Err(unsupported @ Failure::Unsupported(_)) => unsupported,
                    _ => error.into(),
                })?;
                decoder.dimensions().map(swapped).ok_or_else(no_size)
            }
            Self::Png => {
                let reader = png::Decoder::new(Cursor::new(bytes)).read_info()?;
                Ok(of_u32((reader.info().width, reader.info().height)))
            }
            Self::WebP => {
                Ok(of_u32(image_webp::WebPDecoder::new(Cursor::new(bytes))?.dimensions()))
            }
            Self::Bmp => {
                let mut decoder = BmpDecoder::new_with_options(ZCursor::new(bytes), options());
                decoder.decode_headers().map_err(told)?;
                decoder.dimensions().map(swapped).ok_or_else(no_size)
            }
            Self::Gif => {
                let decoder = gif::Decoder::new(bytes)?;
                Ok((usize::from(decoder.height()), usize::from(decoder.width())))
            }
            Self::Tiff => {
                tags::check(bytes)?;
                Ok(of_u32(tiff::decoder::Decoder::new(Cursor::new(bytes))?.dimensions()?))
            }
            Self::Pnm => Ok(pnm::Header::read(bytes)?.size),
        }
    }

    /// Red, green and blue of all pixels of an image of this size, rows from the top.
    pub(super) fn decode(self, bytes: &[u8], size: Size) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Jpeg => decode_jpeg(bytes),
            Self::Png => decode_png(bytes),
            Self::WebP => decode_webp(bytes),
            Self::Bmp => decode_bmp(bytes),
            Self::Gif => decode_gif(bytes, size),
            Self::Tiff => decode_tiff(bytes),
            Self::Pnm => pnm::decode(bytes),
        }
    }
}

/// For errors whose only text is that for programmers.
fn told(error: impl std::fmt::Debug) -> Failure {
    Failure::Damaged(format!("{error:?}").trim().to_owned())
}

fn no_size() -> Failure {
    Failure::Damaged("has no size".to_owned())
}

fn options() -> DecoderOptions {
    DecoderOptions::default().set_strict_mode(true).set_max_width(MAX_SIDE).set_max_height(MAX_SIDE)
}

fn jpeg(bytes: &[u8]) -> JpegDecoder<ZCursor<&[u8]>> {
    let options = options().jpeg_set_out_colorspace(ColorSpace::RGB);
    JpegDecoder::new_with_options(ZCursor::new(bytes), options)
}

fn decode_jpeg(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    check_scans(bytes)?;
    Ok(jpeg(bytes).decode()?)
}

fn check_scans(bytes: &[u8]) -> Result<(), Failure> {
    scan::check(bytes).map_err(|fault| match fault {
        Fault::Damaged(reason) => Failure::Damaged(reason.to_owned()),
        Fault::Unsupported(reason) => Failure::Unsupported(reason.to_owned()),
    })
}

fn decode_png(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("is too large")?];
    let frame = reader.next_frame(&mut pixels)?;
    pixels.truncate(frame.buffer_size());
    Ok(match frame.color_type {
        ColorType::Grayscale => colours(&pixels, 1),
        ColorType::GrayscaleAlpha => colours(&pixels, 2),
        ColorType::Rgba => colours(&pixels, 4),
        ColorType::Rgb | ColorType::Indexed => pixels,
    })
}

fn decode_webp(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes))?;
    let mut pixels = vec![0; decoder.output_buffer_size().ok_or("is too large")?];
    decoder.read_image(&mut pixels)?;
    Ok(if decoder.has_alpha() { colours(&pixels, 4) } else { pixels })
}

fn decode_bmp(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut decoder = BmpDecoder::new_with_options(ZCursor::new(bytes), options());
    let pixels = decoder.decode().map_err(told)?;
    let channels = decoder.colorspace().map_or(CHANNELS, |space| space.num_components());
    Ok(colours(&pixels, channels))
}

/// The first frame, on black.
fn decode_gif(bytes: &[u8], (height, width): Size) -> Result<Vec<u8>, Failure> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    options.check_frame_consistency(true);
    options.set_memory_limit(gif::MemoryLimit::Bytes(GIF_BYTES));
    let mut decoder = options.read_info(bytes)?;
    let frame = decoder.next_frame_info()?.ok_or("has no image")?;
    let [top, left, wide] = [frame.top, frame.left, frame.width].map(usize::from);
    if wide == 0 || frame.height == 0 {
        return Err(Failure::Damaged("has a frame without pixels".to_owned()));
    }
    let mut frame = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut frame)?;
    let mut pixels = vec![0; height * width * CHANNELS];
    for (row, line) in frame.chunks_exact(4 * wide).enumerate() {
        let start = ((top + row) * width + left) * CHANNELS;
        let target = pixels.get_mut(start..start + wide * CHANNELS);
        let target = target.ok_or("has a frame beyond its edges")?;
        for (pixel, colour) in target.chunks_exact_mut(CHANNELS).zip(line.chunks_exact(4)) {
            pixel.copy_from_slice(&colour[..CHANNELS]);
        }
    }
    Ok(pixels)
}

fn decode_tiff(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    use tiff::ColorType as Colour;
    use tiff::decoder::{Decoder, DecodingResult, Limits};
    let mut limits = Limits::default();
    limits.decoding_buffer_size = TIFF_BYTES;
    let mut decoder = Decoder::new(Cursor::new(bytes))?.with_limits(limits);
    let colour = decoder.colortype()?;
    let channels = match colour {
        Colour::Gray(8 | 16) => 1,
        Colour::GrayA(8 | 16) => 2,
        Colour::RGB(8 | 16) => 3,
        Colour::RGBA(8 | 16) => 4,
        other => return Err(Failure::Unsupported(format!("has the colours {other:?}"))),
    };
    match decoder.read_image()? {
        DecodingResult::U8(pixels) => Ok(colours(&pixels, channels)),
        DecodingResult::U16(pixels) => Ok(colours(&upper_halves(&pixels), channels)),
        _ => Err(Failure::Unsupported(format!("has the colours {colour:?}"))),
    }
}

fn upper_halves(values: &[u16]) -> Vec<u8> {
    values.iter().map(|value| (value >> 8) as u8).collect()
}

/// Grey is repeated, alpha dropped.
fn colours(pixels: &[u8], channels: usize) -> Vec<u8> {
    match channels {
        1 | 2 => pixels.chunks_exact(channels).flat_map(|pixel| [pixel[0]; CHANNELS]).collect(),
        4 => pixels.chunks_exact(4).flat_map(|it| [it[0], it[1], it[2]]).collect(),
        _ => pixels.to_vec(),
    }
}

#[cfg(test)]
mod tests;
