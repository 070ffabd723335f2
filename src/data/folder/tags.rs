//! Whether the tags of a TIFF fit into its file. The decoder makes room for as many values as a tag claims, so a
//! few bytes would take hundreds of megabytes.

use super::failure::Failure;

/// Bytes of a tag in the directory of an image.
const ENTRY: usize = 12;

/// Bytes of a value of each type, from type 1 on.
const SIZES: [usize; 18] = [1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 8, 0, 8, 8, 8];

/// Refuses a file whose first image has a tag with more values than the file has room for.
pub(super) fn check(file: &[u8]) -> Result<(), Failure> {
    let little = file.starts_with(b"II");
    let number = |bytes: &[u8]| {
        let add = |sum: usize, &byte: &u8| sum << 8 | usize::from(byte);
        if little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    };
    let cut = || Failure::Damaged("has tags beyond its end".to_owned());
    let start = number(file.get(4..8).ok_or_else(cut)?);
    let count = number(file.get(start..start + 2).ok_or_else(cut)?);
    let entries = file.get(start + 2..start + 2 + count * ENTRY).ok_or_else(cut)?;
    for entry in entries.as_chunks::<ENTRY>().0 {
        let (kind, values) = (number(&entry[2..4]), number(&entry[4..8]));
        // The decoder passes over other types.
        let size = kind.checked_sub(1).and_then(|at| SIZES.get(at)).copied().unwrap_or(0);
        if values.saturating_mul(size) > file.len() {
            return Err(cut());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_more_values_than_the_file_has_bytes_is_refused() {
        let file = |order: &[u8], count: [u8; 4]| {
            let tag = if order == b"II" { [0x11, 1, 4, 0] } else { [1, 0x11, 0, 4] };
            let (start, one) = if order == b"II" {
                ([42, 0, 8, 0, 0, 0], [1, 0])
            } else {
                ([0, 42, 0, 0, 0, 8], [0, 1])
            };
            [order, &start, &one, &tag, &count, &[0; 8]].concat()
        };
        for (order, small, large) in
            [(b"II", [6, 0, 0, 0], [0, 0, 0, 2]), (b"MM", [0, 0, 0, 6], [2, 0, 0, 0])]
        {
            assert!(check(&file(order, small)).is_ok());
            assert!(matches!(check(&file(order, large)), Err(Failure::Damaged(_))));
            // Its directory is cut.
            assert!(check(&file(order, small)[..15]).is_err());
            assert!(check(order).is_err());
        }
    }
}
