//! The framing of TFRecord files: the length of a record, its checksum, the record, its checksum.

use std::io::{self, Write};

/// CRC-32C (Castagnoli), reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The remainders of all bytes.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = remainder & 1 == 1;
            remainder >>= 1;
            if carry {
                remainder ^= POLYNOMIAL;
            }
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
};

/// CRC-32C of the bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let remainder = bytes.iter().fold(u32::MAX, |remainder, &byte| {
        (remainder >> 8) ^ TABLE[usize::from(remainder as u8 ^ byte)]
    });
    !remainder
}

/// The checksum as it is stored, so that a checksum of data with checksums stays useful.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Writes one record.
///
/// # Errors
/// When the writer refuses.
pub fn write(out: &mut dyn Write, record: &[u8]) -> io::Result<()> {
    let length = (record.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked(crc32c(&length)).to_le_bytes())?;
    out.write_all(record)?;
    out.write_all(&masked(crc32c(record)).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4, and the usual check value.
    #[test]
    fn known_checksums_are_computed() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        let cases: [(&[u8], u32); 6] = [
            (b"", 0),
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
        ];
        for (bytes, expected) in cases {
            assert_eq!(crc32c(bytes), expected, "{bytes:?}");
        }
    }

    /// As the writer of the package `tensorboard` frames the same event.
    #[test]
    fn a_record_has_length_and_checksums() {
        let event = b"\x09\0\0\0\0\0\0\xf8\x3f\x1a\x0dbrain.Event:2";
        let mut out = Vec::new();
        write(&mut out, event).unwrap();
        let frame = [&b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22"[..], event, b"\x2a\x28\x64\x6c"];
        assert_eq!(out, frame.concat());
    }
}
