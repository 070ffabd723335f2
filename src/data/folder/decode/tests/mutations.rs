//! Mutated image files.

use super::super::*;
use super::gif;
use crate::data::folder::picture::Picture;
use crate::fuzz::{Outcome, Reader, files, leave};
use std::path::Path;

/// Larger images are not decoded here: the test would take long, and they take the same per pixel.
const MAX_DECODED: usize = 1 << 20;

/// What decoding takes besides its pixels: tables, a few rows, texts, and copies of the file.
fn fixed(kind: Option<Kind>) -> u64 {
    match kind {
        // A colour profile that the file claims to have is read up to 20 MiB.
        Some(Kind::Bmp) => 22 << 20,
        // A part of the image has 24 bits for its length.
        Some(Kind::WebP) => 18 << 20,
        _ => 2 << 20,
    }
}

const PER_BYTE: u64 = 64;

fn read(bytes: &[u8]) -> Outcome {
    let kind = Kind::of(bytes);
    let size = kind.and_then(|kind| kind.size(bytes).ok());
    let pixels = size.map(|(height, width)| height.saturating_mul(width));
    // A JPEG that has no valid size is still read to its end, to say why.
    let claimed =
        pixels.unwrap_or_else(|| if kind == Some(Kind::Jpeg) { largest_frame(bytes) } else { 0 });
    let of_pixels = kind.map_or(0, |kind| kind.bytes_per_pixel().saturating_mul(claimed as u64));
    let allowed = of_pixels.saturating_add(fixed(kind) + PER_BYTE * bytes.len() as u64);
    if pixels.is_some_and(|pixels| pixels > MAX_DECODED) {
        return Outcome { error: Some("large".to_owned()), allowed };
    }
    Outcome::of(Picture::decode(Path::new("image"), bytes), allowed)
}

/// Pixels of the largest frame that a JPEG claims to have and that is not refused at once.
fn largest_frame(bytes: &[u8]) -> usize {
    let frames = bytes.windows(9).filter(|it| matches!(it, [0xff, 0xc0..=0xc2, ..]));
    let side = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
    let pixels = frames.map(|it| side(it[5], it[6]) * side(it[7], it[8]));
    pixels.filter(|&pixels| pixels <= MAX_PIXELS).max().unwrap_or(0)
}

fn check(test: &str, name: &str, inputs: Vec<Vec<u8>>, words: &[&[u8]], cases: u64) {
    let (test, mend) = (format!("data::folder::decode::tests::mutations::{test}"), leave);
    Reader { test: &test, name, inputs, words, cases, mend, read: &read }.check();
}

fn images(endings: &[&str]) -> Vec<Vec<u8>> {
    files("tests/it/fixtures/images", endings)
}

#[test]
fn mutated_jpegs() {
    let words: [&[u8]; 14] = [
        b"\xff\xd8\xff",
        b"\xff\xc0\0\x11\x08",
        b"\xff\xc2\0\x11\x08",
        b"\xff\xc4\0\x1f\0",
        b"\xff\xda\0\x0c\x03",
        b"\xff\xdd\0\x04\0\x01",
        b"\xff\xd0",
        b"\xff\xd9",
        b"\xff\xdb\0\x43\0",
        b"\xff\xe1\0\x08Exif\0\0",
        b"\xff\xe2\0\x10ICC_PROFILE\0\x01\xff",
        b"\xff\xee\0\x0eAdobe",
        b"\x14\x11",
        b"\xff\0",
    ];
    check("mutated_jpegs", "jpeg", files("tests/it/fixtures/jpeg", &["jpg"]), &words, 12_000);
}

/// The checksums of all chunks.
fn mend_png(_: usize, file: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = file.get(at..at + 4) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(chunk) = file.get(at + 4..at + 8 + length) else { return };
        let mut crc = flate2::Crc::new();
        crc.update(chunk);
        let end = at + 8 + length;
        let Some(sum) = file.get_mut(end..end + 4) else { return };
        sum.copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

#[test]
fn mutated_pngs() {
    let mut inputs = files("tests/it/fixtures/jpeg", &["png"]);
    for colour in
        [ColorType::Grayscale, ColorType::Indexed, ColorType::GrayscaleAlpha, ColorType::Rgba]
    {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 5, 3);
        encoder.set_color(colour);
        if colour == ColorType::Indexed {
            encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
            encoder.set_trns(vec![9]);
        }
        encoder.add_ztxt_chunk("Title".to_owned(), "zeros ".repeat(50)).unwrap();
        encoder.add_text_chunk("Title".to_owned(), "text".to_owned()).unwrap();
        let pixels = vec![1; 15 * colour.samples()];
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        inputs.push(file);
    }
    let words: [&[u8]; 13] = [
        b"IHDR",
        b"IDAT",
        b"PLTE",
        b"tRNS",
        b"IEND",
        b"iCCP",
        b"zTXt",
        b"iTXt",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"eXIf",
        b"\x89PNG\r\n\x1a\n",
    ];
    let (test, words) = ("data::folder::decode::tests::mutations::mutated_pngs", &words);
    Reader { test, name: "png", inputs, words, cases: 15_000, mend: mend_png, read: &read }.check();
}

#[test]
fn mutated_webps() {
    let mut inputs = images(&["webp"]);
    let mut file = Vec::new();
    let pixels: Vec<u8> = (0..20 * 10 * 4).map(|at| (at * at / 7) as u8).collect();
    let mut encoder = image_webp::WebPEncoder::new(&mut file);
    encoder.set_icc_profile(vec![3; 40]);
    encoder.encode(&pixels, 20, 10, image_webp::ColorType::Rgba8).unwrap();
    inputs.push(file);
    let words: [&[u8]; 11] = [
        b"RIFF",
        b"WEBP",
        b"VP8 ",
        b"VP8L",
        b"VP8X",
        b"ANIM",
        b"ANMF",
        b"ALPH",
        b"ICCP",
        b"EXIF",
        b"\x9d\x01\x2a",
    ];
    check("mutated_webps", "webp", inputs, &words, 12_000);
}

#[test]
fn mutated_bmps() {
    let words: [&[u8]; 8] = [
        b"BM",
        b"\x28\0\0\0",
        b"\x7c\0\0\0",
        b"\x0c\0\0\0",
        b"\x01\0\x08\0\x01\0\0\0",
        b"\x01\0\x04\0\x02\0\0\0",
        b"\x01\0\x10\0\x03\0\0\0",
        b"\xff\xff\xff\x7f",
    ];
    check("mutated_bmps", "bmp", images(&["bmp"]), &words, 15_000);
}

#[test]
fn mutated_gifs() {
    let mut inputs = images(&["gif"]);
    inputs.extend([gif(7, 5, false), gif(9, 9, true)]);
    let words: [&[u8]; 7] = [
        b"GIF89a",
        b"GIF87a",
        b",\0\0\0\0\x07\0\x07\0",
        b"!\xf9\x04",
        b"!\xff\x0bNETSCAPE2.0",
        b";",
        b"\xff\xff\xff\xff",
    ];
    check("mutated_gifs", "gif", inputs, &words, 15_000);
}

#[test]
fn mutated_tiffs() {
    let words: [&[u8]; 16] = [
        b"II*\0",
        b"MM\0*",
        b"\0\x01\x04\0",
        b"\x01\x01\x04\0",
        b"\x02\x01\x03\0",
        b"\x03\x01\x03\0",
        b"\x11\x01\x04\0",
        b"\x15\x01\x03\0",
        b"\x16\x01\x04\0",
        b"\x17\x01\x04\0",
        b"\x1c\x01\x03\0",
        b"\x3d\x01\x03\0",
        b"\x42\x01\x04\0",
        b"\x44\x01\x04\0",
        b"\x53\x01\x03\0",
        b"\x08\0\0\0\x05\0\0\0",
    ];
    check("mutated_tiffs", "tiff", images(&["tif", "tiff"]), &words, 15_000);
}

#[test]
fn mutated_pnms() {
    let words: [&[u8]; 9] = [
        b"P5",
        b"P6",
        b"65535",
        b"255",
        b"0",
        b"#\n",
        b"18446744073709551615",
        b"4294967296",
        b" ",
    ];
    check("mutated_pnms", "pnm", images(&["ppm", "pgm"]), &words, 15_000);
}
