//! The bits of a JPEG's scans and their Huffman codes (ITU T.81, annexes C and F).

/// Why a JPEG is not used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Damaged(&'static str),
    /// It may be a sound file of a rare kind.
    Unsupported(&'static str),
}

const CUT: Fault = Fault::Damaged("the image ends before its last block");
const WRONG_CODE: Fault = Fault::Damaged("has a wrong Huffman code");
pub(super) const HEADER: Fault = Fault::Damaged("has a damaged header");

/// The bits of a scan, up to the next marker.
pub(super) struct Bits<'a> {
    file: &'a [u8],
    pub at: usize,
    /// The next `count` bits, from the highest.
    buffer: u64,
    count: usize,
}

impl<'a> Bits<'a> {
    /// From this byte of the file on.
    pub(super) fn new(file: &'a [u8], at: usize) -> Self {
        Self { file, at, buffer: 0, count: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let Some(&byte) = self.file.get(self.at) else { return };
            if byte == 0xff {
                if self.file.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next n bits, at most 16.
    pub(super) fn take(&mut self, n: usize) -> Result<usize, Fault> {
        if n == 0 {
            return Ok(0);
        }
        if self.count < n {
            self.fill();
            if self.count < n {
                return Err(CUT);
            }
        }
        let value = self.buffer >> (64 - n);
        self.buffer <<= n;
        self.count -= n;
        Ok(value as usize)
    }

    pub(super) fn symbol(&mut self, table: &Huffman) -> Result<u8, Fault> {
        if self.count < 16 {
            self.fill();
        }
        let next = (self.buffer >> 48) as u16;
        let (symbol, length) =
            table.find(next).ok_or(if self.count < 16 { CUT } else { WRONG_CODE })?;
        self.take(length)?;
        Ok(symbol)
    }

    /// Passes over a restart marker.
    pub(super) fn restart(&mut self) -> Result<(), Fault> {
        (self.buffer, self.count) = (0, 0);
        while self.file.get(self.at..self.at + 2) == Some(&[0xff, 0xff]) {
            self.at += 1;
        }
        match self.file.get(self.at..self.at + 2) {
            Some([0xff, 0xd0..=0xd7]) => {
                self.at += 2;
                Ok(())
            }
            _ => Err(CUT),
        }
    }
}

/// A Huffman table: short codes are looked up, longer ones compared length by length.
pub(super) struct Huffman {
    /// Symbol and length by the next eight bits; length zero for longer codes.
    short: [(u8, u8); 256],
    /// The first code beyond each length, aligned to 16 bits, and what to add to a code for the
    /// position of its symbol.
    ends: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Huffman {
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Fault> {
        let (mut code, mut position) = (0u32, 0usize);
        let mut table =
            Self { short: [(0, 0); 256], ends: [(0, 0); 17], symbols: symbols.to_vec() };
        for length in 1..=16 {
            let count = usize::from(counts[length - 1]);
            table.ends[length].1 = position as i32 - code as i32;
            for &symbol in &symbols[position..position + count] {
                if length <= 8 {
                    let first = (code as usize) << (8 - length);
                    let all = table.short.get_mut(first..first + (1 << (8 - length)));
                    all.ok_or(HEADER)?.fill((symbol, length as u8));
                }
                code += 1;
            }
            position += count;
            if code > 1 << length {
                return Err(HEADER);
            }
            table.ends[length].0 = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }

    /// The symbol of the code that these bits start with, and the code's length.
    fn find(&self, next: u16) -> Option<(u8, usize)> {
        let (symbol, length) = self.short[usize::from(next >> 8)];
        if length > 0 {
            return Some((symbol, usize::from(length)));
        }
        let length = (9..=16).find(|&length| u32::from(next) < self.ends[length].0)?;
        let code = i32::from(next >> (16 - length));
        let position = usize::try_from(code + self.ends[length].1).ok()?;
        Some((*self.symbols.get(position)?, length))
    }
}
