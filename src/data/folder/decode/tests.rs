//! Files that a decoder could stumble over, and the memory that decoders take.

mod mutations;

use super::*;
use crate::memory;
use jpeg_encoder::{ColorType as JpegColour, Encoder};

/// A GIF with one frame of one colour in the middle of nothing.
fn gif(canvas: u16, frame: u16, interlaced: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = gif::Encoder::new(&mut file, canvas, canvas, &[0, 0, 0, 9, 8, 7]).unwrap();
    let pixels = vec![1; usize::from(frame).pow(2)];
    let mut image = gif::Frame::from_indexed_pixels(frame, frame, pixels, None);
    image.interlaced = interlaced;
    encoder.write_frame(&image).unwrap();
    drop(encoder);
    file
}

fn decoded(file: &[u8]) -> Result<Vec<u8>, String> {
    let said = |failure| match failure {
        Failure::Damaged(reason) | Failure::Unsupported(reason) => reason,
    };
    let kind = Kind::of(file).unwrap();
    let size = kind.size(file).map_err(said)?;
    kind.decode(file, size).map_err(said)
}

#[test]
fn a_gif_frame_without_pixels_is_refused() {
    for interlaced in [false, true] {
        let mut file = gif(4, 1, interlaced);
        // Width and height follow the frame's separator and its place.
        let frame = file.iter().rposition(|&byte| byte == b',').unwrap();
        assert_eq!(file[frame + 5..frame + 9], [1, 0, 1, 0]);
        file[frame + 5..frame + 9].fill(0);
        let error = decoded(&file).unwrap_err();
        assert!(error.contains("without pixels"), "{error}");
    }
}

#[test]
fn a_small_gif_frame_lies_on_black() {
    let pixels = decoded(&gif(3, 2, true)).unwrap();
    let (on, off) = ([9, 8, 7], [0; 3]);
    assert_eq!(pixels, [on, on, off, on, on, off, off, off, off].concat());
}

#[test]
fn a_large_gif_is_read() {
    // Four bytes a pixel are more than the decoder takes by default.
    let pixels = decoded(&gif(4000, 4000, false)).unwrap();
    assert_eq!(pixels.len(), 48_000_000);
    assert_eq!(pixels[47_999_997..], [9, 8, 7]);
}

#[test]
fn decoders_take_no_more_memory_than_said() {
    crate::data::run_alone("data::folder::decode::tests::decoders_alone");
}

#[test]
#[ignore = "needs a process of its own: see decoders_take_no_more_memory_than_said"]
fn decoders_alone() {
    for (name, file) in large_images() {
        let kind = Kind::of(&file).unwrap();
        memory::reset_peak();
        let before = memory::live_bytes();
        assert_eq!(decoded(&file).unwrap().len(), 3 * SIDE * SIDE, "{name}");
        let taken = (memory::peak_bytes() - before) as f64 / (SIDE * SIDE) as f64;
        // Beside it a decoder takes a few rows and tables.
        assert!(taken < kind.bytes_per_pixel() as f64 + 0.3, "{name}: {taken} bytes a pixel");
    }
}

const SIDE: usize = 2000;

/// Images of 2000 x 2000 pixels, each of a kind that takes much memory.
fn large_images() -> Vec<(&'static str, Vec<u8>)> {
    use tiff::encoder::{TiffEncoder, colortype};
    let side = SIDE as u32;
    let bytes = |channels: usize| -> Vec<u8> {
        (0..SIDE * SIDE * channels).map(|at| (at / 97 % 256) as u8).collect()
    };
    let jpeg = |colour, channels, progressive| {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, 80);
        encoder.set_progressive(progressive);
        encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::R_4_4_4);
        encoder.encode(&bytes(channels), SIDE as u16, SIDE as u16, colour).unwrap();
        file
    };
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, side, side);
    encoder.set_color(ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Sixteen);
    encoder.write_header().unwrap().write_image_data(&bytes(8)).unwrap();
    let webp = |colour, channels| {
        let mut file = Vec::new();
        let encoder = image_webp::WebPEncoder::new(&mut file);
        encoder.encode(&bytes(channels), side, side, colour).unwrap();
        file
    };
    let mut tiff = Cursor::new(Vec::new());
    let values: Vec<u16> = bytes(4).into_iter().map(|byte| 257 * u16::from(byte)).collect();
    let mut encoder = TiffEncoder::new(&mut tiff).unwrap();
    encoder.write_image::<colortype::RGBA16>(side, side, &values).unwrap();
    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend([side.to_le_bytes(), side.to_le_bytes(), [1, 0, 32, 0]].concat());
    bmp.extend([0; 24]);
    bmp.extend(bytes(4));
    let ppm = |magic, channels| {
        [format!("{magic} {SIDE} {SIDE} 255\n").into_bytes(), bytes(channels)].concat()
    };
    vec![
        ("baseline JPEG", jpeg(JpegColour::Rgb, 3, false)),
        ("progressive JPEG", jpeg(JpegColour::Rgb, 3, true)),
        ("progressive CMYK JPEG", jpeg(JpegColour::Cmyk, 4, true)),
        ("PNG", png),
        ("WebP", webp(image_webp::ColorType::Rgb8, 3)),
        ("WebP with alpha", webp(image_webp::ColorType::Rgba8, 4)),
        ("BMP", bmp),
        ("GIF", gif(SIDE as u16, SIDE as u16, true)),
        ("TIFF", tiff.into_inner()),
        ("PPM", ppm("P6", 3)),
        ("PGM", ppm("P5", 1)),
    ]
}
