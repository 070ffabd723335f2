//! Whether a JPEG holds all of its image. Decoders fill up a scan that ends early with grey, as long
//! as an end marker follows; here every scan is read to its last block (ITU T.81, annexes F and G).
//! Only lengths are followed, no coefficient is computed.

use super::failure::MAX_PIXELS;
use super::huffman::{Bits, Fault, HEADER, Huffman};

/// Colour components of an image or a scan, at most.
const MAX_COMPONENTS: usize = 4;
/// Scans of an image, at most; encoders write about ten.
const MAX_SCANS: usize = 100;
/// Blocks that all scans visit together, at most: a large image has 5 million, each in about six
/// scans. A run of empty blocks takes almost no bytes, so the file's size bounds no time.
const MAX_VISITS: usize = 200_000_000;
const TOO_MANY_SCANS: Fault = Fault::Damaged("has more scans than any image needs");

/// Reads all scans.
pub(super) fn check(file: &[u8]) -> Result<(), Fault> {
    let tables = Default::default();
    let mut jpeg = Jpeg { file, at: 2, frame: None, tables, restart: 0, scans: 0, visits: 0 };
    loop {
        match jpeg.marker() {
            None | Some(0xd9) => return jpeg.frame.map_or(Ok(()), |frame| frame.is_finished()),
            Some(0x01 | 0xd0..=0xd8) => {}
            Some(0xc4) => jpeg.huffman_tables()?,
            // Each frame takes memory, and an image has one.
            Some(0xc0..=0xc2) if jpeg.frame.is_some() => return Err(HEADER),
            Some(kind @ 0xc0..=0xc2) => {
                jpeg.frame = Some(Frame::read(jpeg.segment()?, kind == 0xc2)?);
            }
            // Lossless and arithmetic codes: the decoder refuses them.
            Some(0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf) => return Ok(()),
            Some(0xdd) => {
                let segment = jpeg.segment()?;
                let interval = segment.first_chunk::<2>().ok_or(HEADER)?;
                jpeg.restart = usize::from(u16::from_be_bytes(*interval));
            }
            Some(0xda) => jpeg.scan()?,
            Some(_) => drop(jpeg.segment()?),
        }
    }
}

struct Jpeg<'a> {
    file: &'a [u8],
    at: usize,
    frame: Option<Frame>,
    /// For direct currents, then for the others; four places each.
    tables: [[Option<Huffman>; 4]; 2],
    /// Units between restart markers; none when zero.
    restart: usize,
    /// Scans so far, and the blocks that they visited.
    scans: usize,
    visits: usize,
}

impl<'a> Jpeg<'a> {
    /// The next marker, after whatever lies in front of it.
    fn marker(&mut self) -> Option<u8> {
        loop {
            let rest = self.file.get(self.at..)?;
            self.at += rest.iter().position(|&byte| byte == 0xff)?;
            while self.file.get(self.at) == Some(&0xff) {
                self.at += 1;
            }
            let kind = *self.file.get(self.at)?;
            self.at += 1;
            if kind != 0 {
                return Some(kind);
            }
        }
    }

    /// What follows a marker, after its length.
    fn segment(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.file.get(self.at..self.at + 2).ok_or(HEADER)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let segment = self.file.get(self.at + 2..self.at + length).ok_or(HEADER)?;
        self.at += length;
        Ok(segment)
    }

    fn huffman_tables(&mut self) -> Result<(), Fault> {
        let mut segment = self.segment()?;
        while let Some((&place, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(HEADER)?;
            let n = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(n).ok_or(HEADER)?;
            let tables = self.tables.get_mut(usize::from(place >> 4)).ok_or(HEADER)?;
            let table = tables.get_mut(usize::from(place & 15)).ok_or(HEADER)?;
            *table = Some(Huffman::new(counts, symbols)?);
            segment = rest;
        }
        Ok(())
    }

    fn scan(&mut self) -> Result<(), Fault> {
        let header = self.segment()?;
        let frame = self.frame.as_mut().ok_or(HEADER)?;
        let (&n, rest) = header.split_first().ok_or(HEADER)?;
        let (components, last) = rest.split_at_checked(2 * usize::from(n)).ok_or(HEADER)?;
        let [first, end, precision, ..] = *last else { return Err(HEADER) };
        let mut parts = Vec::new();
        for component in components.as_chunks::<2>().0 {
            let [id, places] = *component;
            let at = frame.components.iter().position(|it| it.id == id).ok_or(HEADER)?;
            let table = |kind: usize, place: u8| {
                self.tables[kind].get(usize::from(place)).and_then(Option::as_ref)
            };
            parts.push(Part { at, dc: table(0, places >> 4), ac: table(1, places & 15) });
        }
        if parts.is_empty() || parts.len() > MAX_COMPONENTS || end > 63 || first > end {
            return Err(HEADER);
        }
        self.scans += 1;
        self.visits +=
            parts.iter().map(|part| frame.components[part.at].all_blocks()).sum::<usize>();
        if self.scans > MAX_SCANS || self.visits > MAX_VISITS {
            return Err(TOO_MANY_SCANS);
        }
        if parts.len() > 1 && parts.len() < frame.components.len() {
            return Err(Fault::Unsupported("has scans of some components only"));
        }
        let band = (u64::MAX << first) & (u64::MAX >> (63 - end));
        for part in &parts {
            let component = &mut frame.components[part.at];
            match (frame.progressive, precision & 15) {
                (false, _) => component.finished = u64::MAX,
                (true, 0) => component.finished |= band,
                (true, _) => {}
            }
        }
        let mut scan = Scan {
            bits: Bits::new(self.file, self.at),
            kind: match (frame.progressive, first, precision >> 4) {
                (false, ..) => Kind::Sequential,
                (true, 0, 0) => Kind::FirstDc,
                (true, 0, _) => Kind::RefineDc,
                (true, _, 0) => Kind::FirstAc,
                (true, _, _) => Kind::RefineAc,
            },
            first: usize::from(first),
            end: usize::from(end),
            band_end_run: 0,
        };
        scan.read(frame, &parts, self.restart)?;
        self.at = scan.bits.at;
        Ok(())
    }
}

struct Frame {
    progressive: bool,
    components: Vec<Component>,
    /// Units of interleaved scans: columns, rows.
    units: (usize, usize),
}

struct Component {
    id: u8,
    /// Blocks in a unit: columns, rows.
    sampling: (usize, usize),
    /// Blocks of the component by itself: columns, rows.
    blocks: (usize, usize),
    /// Blocks in a row, those beyond the image included.
    stride: usize,
    /// Rows of blocks, those beyond the image included.
    rows: usize,
    /// Which coefficients of each block are not zero, as far as progressive scans have told.
    nonzero: Vec<u64>,
    /// Which coefficients have had a scan down to their last bit.
    finished: u64,
}

impl Component {
    fn all_blocks(&self) -> usize {
        self.stride * self.rows
    }
}

impl Frame {
    fn read(segment: &[u8], progressive: bool) -> Result<Self, Fault> {
        let [_, high, low, wide, width, n, components @ ..] = segment else { return Err(HEADER) };
        let size = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
        let (height, width) = (size(*high, *low), size(*wide, *width));
        if height == 0 {
            return Err(Fault::Unsupported("gives its height after the image"));
        }
        // Before anything is allocated.
        if usize::from(*n) > MAX_COMPONENTS || height * width > MAX_PIXELS {
            return Err(HEADER);
        }
        let components = components.get(..3 * usize::from(*n)).ok_or(HEADER)?.as_chunks::<3>().0;
        let sampling = |it: &[u8; 3]| (usize::from(it[1] >> 4), usize::from(it[1] & 15));
        for factor in components.iter().map(sampling).flat_map(<[usize; 2]>::from) {
            match factor {
                1 | 2 | 4 => {}
                3 => {
                    return Err(Fault::Unsupported(
                        "has a subsampling by another factor than 2 or 4",
                    ));
                }
                // The format ends at 4.
                _ => return Err(HEADER),
            }
        }
        let most =
            |axis: fn((usize, usize)) -> usize| components.iter().map(sampling).map(axis).max();
        let (widest, highest) = (most(|s| s.0).ok_or(HEADER)?, most(|s| s.1).ok_or(HEADER)?);
        let units = (width.div_ceil(8 * widest), height.div_ceil(8 * highest));
        let components = components.iter().map(|it| {
            let sampling = sampling(it);
            let blocks = (
                (width * sampling.0).div_ceil(widest).div_ceil(8),
                (height * sampling.1).div_ceil(highest).div_ceil(8),
            );
            let (stride, rows) = (units.0 * sampling.0, units.1 * sampling.1);
            let nonzero = vec![0; if progressive { stride * rows } else { 0 }];
            Component { id: it[0], sampling, blocks, stride, rows, nonzero, finished: 0 }
        });
        Ok(Self { progressive, components: components.collect(), units })
    }
}

impl Frame {
    fn is_finished(&self) -> Result<(), Fault> {
        let finished = self.components.iter().all(|component| component.finished == u64::MAX);
        finished.then_some(()).ok_or(Fault::Damaged("the image ends before its last scan"))
    }
}

/// A component in a scan, with its tables.
struct Part<'a> {
    at: usize,
    dc: Option<&'a Huffman>,
    ac: Option<&'a Huffman>,
}

enum Kind {
    Sequential,
    FirstDc,
    RefineDc,
    FirstAc,
    RefineAc,
}

struct Scan<'a> {
    bits: Bits<'a>,
    kind: Kind,
    first: usize,
    end: usize,
    /// Blocks that still have no further coefficients.
    band_end_run: usize,
}

impl Scan<'_> {
    fn read(&mut self, frame: &mut Frame, parts: &[Part<'_>], restart: usize) -> Result<(), Fault> {
        let alone = parts.len() == 1;
        let (columns, rows) =
            if alone { frame.components[parts[0].at].blocks } else { frame.units };
        for unit in 0..columns * rows {
            if restart > 0 && unit > 0 && unit % restart == 0 {
                self.bits.restart()?;
                self.band_end_run = 0;
            }
            let (row, column) = (unit / columns, unit % columns);
            for part in parts {
                let component = &mut frame.components[part.at];
                let (wide, high) = if alone { (1, 1) } else { component.sampling };
                for block in 0..wide * high {
                    let at = (row * high + block / wide) * component.stride
                        + column * wide
                        + block % wide;
                    let nonzero = component.nonzero.get_mut(at);
                    self.block(part, nonzero.unwrap_or(&mut 0))?;
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, part: &Part<'_>, nonzero: &mut u64) -> Result<(), Fault> {
        match self.kind {
            Kind::Sequential => {
                self.direct(part)?;
                let ac = part.ac.ok_or(HEADER)?;
                let mut k = 1;
                while k < 64 {
                    let (run, size) = self.symbol(ac)?;
                    match (run, size) {
                        (15, 0) => k += 16,
                        (_, 0) => return Ok(()),
                        _ => {
                            self.bits.take(size)?;
                            k += run + 1;
                        }
                    }
                }
                Ok(())
            }
            Kind::FirstDc => self.direct(part),
            Kind::RefineDc => self.bits.take(1).map(drop),
            Kind::FirstAc => self.first_ac(part.ac.ok_or(HEADER)?, nonzero),
            Kind::RefineAc => self.refine_ac(part.ac.ok_or(HEADER)?, nonzero),
        }
    }

    fn direct(&mut self, part: &Part<'_>) -> Result<(), Fault> {
        let size = self.bits.symbol(part.dc.ok_or(HEADER)?)?;
        self.bits.take(usize::from(size)).map(drop)
    }

    fn symbol(&mut self, table: &Huffman) -> Result<(usize, usize), Fault> {
        let symbol = usize::from(self.bits.symbol(table)?);
        Ok((symbol >> 4, symbol & 15))
    }

    fn first_ac(&mut self, table: &Huffman, nonzero: &mut u64) -> Result<(), Fault> {
        if self.band_end_run > 0 {
            self.band_end_run -= 1;
            return Ok(());
        }
        let mut k = self.first;
        while k <= self.end {
            let (run, size) = self.symbol(table)?;
            match (run, size) {
                (15, 0) => k += 16,
                (_, 0) => {
                    self.band_end_run = (1 << run) - 1 + self.bits.take(run)?;
                    return Ok(());
                }
                _ => {
                    self.bits.take(size)?;
                    k += run;
                    *nonzero |= 1 << k.min(63);
                    k += 1;
                }
            }
        }
        Ok(())
    }

    fn refine_ac(&mut self, table: &Huffman, nonzero: &mut u64) -> Result<(), Fault> {
        let mut k = self.first;
        while self.band_end_run == 0 && k <= self.end {
            let (mut run, size) = self.symbol(table)?;
            if size == 0 && run < 15 {
                self.band_end_run = (1 << run) + self.bits.take(run)?;
                break;
            }
            self.bits.take(size.min(1))?;
            // To the coefficient after `run` zeros; those that are not zero on the way get a bit.
            while k <= self.end {
                if *nonzero >> k & 1 == 1 {
                    self.bits.take(1)?;
                } else if run == 0 {
                    *nonzero |= (size.min(1) as u64) << k;
                    k += 1;
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
        }
        if self.band_end_run > 0 {
            let rest = (k..=self.end).filter(|&k| *nonzero >> k & 1 == 1).count();
            for _ in 0..rest {
                self.bits.take(1)?;
            }
            self.band_end_run -= 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
