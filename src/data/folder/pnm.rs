//! Binary greymaps and pixmaps of Netpbm: PGM (P5) and PPM (P6), values of 8 or 16 bits.

use super::failure::{Failure, Size};

/// What precedes the values.
#[derive(Debug)]
pub(super) struct Header {
    pub size: Size,
    channels: usize,
    /// The value that stands for full brightness.
    maximum: usize,
    /// Where the values start.
    start: usize,
}

impl Header {
    pub(super) fn read(file: &[u8]) -> Result<Self, Failure> {
        let channels = match file.get(..2) {
            Some(b"P5") => 1,
            Some(b"P6") => 3,
            _ => return Err(Failure::Damaged("has no header of a PPM or PGM".to_owned())),
        };
        let mut tokens = Tokens { file, at: 2 };
        let (width, height, maximum) = (tokens.number()?, tokens.number()?, tokens.number()?);
        if !(1..=65_535).contains(&maximum) {
            return Err(Failure::Damaged(format!("has the largest value {maximum}")));
        }
        // Exactly one byte ends the header: the next one is a value, even if it looks like a space.
        let start = tokens.after_separator().ok_or_else(damaged_header)?;
        Ok(Self { size: (height, width), channels, maximum, start })
    }
}

/// Red, green and blue of 8 bits.
pub(super) fn decode(file: &[u8]) -> Result<Vec<u8>, Failure> {
    let Header { size: (height, width), channels, maximum, start } = Header::read(file)?;
    let wide = maximum > 255;
    let expected = height * width * channels * (1 + usize::from(wide));
    let raster = &file[start..];
    if raster.len() != expected {
        let found = raster.len();
        return Err(Failure::Damaged(format!(
            "holds {found} bytes of pixels, expected {expected}"
        )));
    }
    let values = if wide {
        let values = raster.as_chunks::<2>().0.iter().map(|&it| u16::from_be_bytes(it).into());
        scaled(values, maximum)?
    } else {
        scaled(raster.iter().map(|&value| value.into()), maximum)?
    };
    Ok(if channels == 1 { values.iter().flat_map(|&grey| [grey; 3]).collect() } else { values })
}

/// The nearest of 256 levels for each value.
fn scaled(values: impl Iterator<Item = usize> + Clone, maximum: usize) -> Result<Vec<u8>, Failure> {
    if values.clone().any(|value| value > maximum) {
        return Err(Failure::Damaged(format!("holds a value above {maximum}")));
    }
    Ok(values.map(|value| ((255 * value + maximum / 2) / maximum) as u8).collect())
}

fn damaged_header() -> Failure {
    Failure::Damaged("has a damaged header".to_owned())
}

/// The numbers of the header, between white space and comments.
struct Tokens<'a> {
    file: &'a [u8],
    at: usize,
}

impl Tokens<'_> {
    fn number(&mut self) -> Result<usize, Failure> {
        let before = self.at;
        while self.file.get(self.at).is_some_and(|&byte| is_space(byte) || byte == b'#') {
            self.at = self.after_separator().ok_or_else(damaged_header)?;
        }
        let digits = self.file[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let token = &self.file[self.at..self.at + digits];
        let number = std::str::from_utf8(token).ok().and_then(|token| token.parse().ok());
        // The side of no image has more digits.
        let number = number.filter(|_| self.at > before && digits <= 9);
        self.at += digits;
        number.ok_or_else(damaged_header)
    }

    /// The place behind one white space or one comment with the end of its line.
    fn after_separator(&self) -> Option<usize> {
        match self.file.get(self.at)? {
            b'#' => {
                let is_end = |&byte: &u8| byte == b'\n' || byte == b'\r';
                Some(self.at + self.file[self.at..].iter().position(is_end)? + 1)
            }
            &byte => is_space(byte).then_some(self.at + 1),
        }
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(head: &str, raster: &[u8]) -> Result<Vec<u8>, String> {
        decode(&[head.as_bytes(), raster].concat()).map_err(|failure| match failure {
            Failure::Damaged(reason) | Failure::Unsupported(reason) => reason,
        })
    }

    #[test]
    fn pixels_may_look_like_white_space_and_comments() {
        let pixels = [b'\n', b' ', b'#', b'\t', 9, 13];
        assert_eq!(decoded("P6\n2 1\n255\n", &pixels).unwrap(), pixels);
        assert_eq!(decoded("P5 1 1 255 ", b"#").unwrap(), [b'#'; 3]);
    }

    #[test]
    fn comments_stand_anywhere_in_the_header() {
        for head in
            ["P5\n# by hand\n2 1\n255\n", "P5 #a\n#b\n 2#c\n1 #d\n255 ", "P5\t2\r\n1 255#e\n"]
        {
            assert_eq!(decoded(head, &[7, 8]).unwrap(), [7, 7, 7, 8, 8, 8], "{head:?}");
        }
    }

    #[test]
    fn values_are_scaled_by_their_maximum() {
        assert_eq!(
            decoded("P5 3 1 15 ", &[0, 7, 15]).unwrap()[..],
            [0, 0, 0, 119, 119, 119, 255, 255, 255]
        );
        let twelve_bits = [0x0f, 0xff, 0x08, 0x00];
        assert_eq!(decoded("P5 2 1 4095 ", &twelve_bits).unwrap(), [255, 255, 255, 128, 128, 128]);
        assert_eq!(decoded("P6 1 1 65535 ", &[255, 255, 128, 128, 0, 0]).unwrap(), [255, 128, 0]);
        assert!(decoded("P5 1 1 15 ", &[16]).unwrap_err().contains("above 15"));
    }

    #[test]
    fn another_length_is_damaged() {
        for raster in [&[1, 2, 3][..], &[1, 2, 3, 4, 5]] {
            let error = decoded("P5 2 2 255\n", raster).unwrap_err();
            assert!(error.contains("expected 4"), "{error}");
        }
        for head in ["P5", "P5 ", "P5 2", "P5 2 2", "P5 2 2 255", "P5 2 2 0 ", "P5 2 2 65536 "] {
            assert!(decoded(head, b"").is_err(), "{head}");
        }
        for head in ["P52 2 255 ", "P5 a 2 255 ", "P5 -1 2 255 ", "P5 9999999999 2 255 "] {
            assert!(decoded(head, &[0; 4]).is_err(), "{head}");
        }
    }
}
