//! JPEGs whose markers ask for more memory or time than any image needs.

use super::*;
use jpeg_encoder::{ColorType, Encoder};

fn photo(progressive: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 90);
    encoder.set_progressive(progressive);
    encoder.encode(&[100; 32 * 32], 32, 32, ColorType::Luma).unwrap();
    file
}

/// Where a marker stands.
fn place(file: &[u8], marker: u8) -> usize {
    file.windows(2).position(|pair| pair == [0xff, marker]).unwrap()
}

/// The file with `bytes` inserted at `at`.
fn with(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&file[..at], bytes, &file[at..]].concat()
}

#[test]
fn a_second_frame_is_damaged() {
    for (progressive, marker) in [(false, 0xc0), (true, 0xc2)] {
        let file = photo(progressive);
        assert_eq!(check(&file), Ok(()));
        let start = place(&file, marker);
        let frame = &file[start..start + 2 + usize::from(file[start + 3])];
        assert_eq!(check(&with(&file, start, frame)), Err(HEADER));
    }
}

#[test]
fn more_than_four_components_are_damaged() {
    let mut frame = b"\xff\xc2\x00\x17\x08\x00\x08\x00\x08\x05".to_vec();
    (0..5).for_each(|id| frame.extend([id, 0x11, 0]));
    assert_eq!(check(&[b"\xff\xd8", &frame[..]].concat()), Err(HEADER));
}

#[test]
fn a_frame_of_too_many_pixels_is_damaged() {
    let frame = b"\xff\xd8\xff\xc2\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00";
    assert_eq!(check(frame), Err(HEADER));
}

#[test]
fn endless_scans_are_damaged() {
    let file = photo(false);
    let (scan, end) = (place(&file, 0xda), file.len() - 2);
    let repeated = |scans: usize| with(&file, end, &file[scan..end].repeat(scans - 1));
    assert_eq!(check(&repeated(MAX_SCANS)), Ok(()));
    assert_eq!(check(&repeated(MAX_SCANS + 1)), Err(TOO_MANY_SCANS));
}

/// A few kilobytes that ask for 50 scans of 100 million pixels: empty runs of 32,767 blocks.
#[test]
fn visits_of_blocks_are_bounded() {
    let mut file =
        b"\xff\xd8\xff\xc2\x00\x11\x08\x27\x10\x27\x10\x03\x01\x11\0\x02\x11\0\x03\x11\0".to_vec();
    // One code, "0": a run of 2^14 blocks and as many as 14 bits say.
    file.extend(b"\xff\xc4\x00\x14\x10\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xe0");
    for scan in 0..150 {
        file.extend([0xff, 0xda, 0, 8, 1, 1 + scan % 3, 0, 1, 63, 0]);
        // 1,562,500 blocks in runs of 32,767: 48 runs of 15 bits, ones after a zero.
        file.extend(runs(48));
    }
    assert_eq!(check(&file), Err(TOO_MANY_SCANS));
}

/// So many times a zero and fourteen ones, with a zero after each byte of ones.
fn runs(n: usize) -> Vec<u8> {
    let bits: Vec<u8> = (0..n * 15).map(|at| u8::from(at % 15 > 0)).collect();
    let bytes = bits
        .chunks(8)
        .map(|bits| bits.iter().fold(0, |byte, bit| 2 * byte + bit) << (8 - bits.len()));
    bytes.flat_map(|byte| if byte == 0xff { vec![0xff, 0] } else { vec![byte] }).collect()
}
