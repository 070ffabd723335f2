//! Reading any text ends with a value or with diagnostics, never with a panic.

use super::{MANIFEST, SPACE, Sandbox};
use repro::cost;
use repro::manifest::{self, Diagnostics, Overrides};
use repro::rng::{Seed, Stream};
use repro::space::parse_space;
use std::fs;
use std::path::Path;

/// Tokens that break readers: bounds of number types, other notations, open delimiters, multi-byte
/// characters.
const EXTREMES: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "64",
    "65",
    "256",
    "4096",
    "4097",
    "65536",
    "2147483648",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e308",
    "1e309",
    "-1e309",
    "5e-324",
    "1e-9",
    "0.1",
    "0.30000000000000004",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "0xffffffff",
    "0o17",
    "0b1",
    "1_0",
    "1__0",
    "08",
    "+1",
    ".5",
    "5.",
    "true",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "[]",
    "{}",
    "[[]]",
    "{ low = 1, high = 1, step = 1 }",
    "{ low = 1, high = 4096, step = 1 }",
    "{ low = 1e-9, high = 16, step = 1e-300 }",
    "\"\"",
    "\"all\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\"\"",
    "'''",
    "\"\u{1F980}\"",
    "\u{e9}",
    "\u{feff}",
    "\r",
    "\r\n",
    "\0",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "#",
    "\"",
    "'",
    "\\",
];

/// `text` with one to four random changes.
fn mutate(text: &str, random: &mut Stream) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let pieces = match random.below(3) {
            0 => bytes.chunks(1).map(<[u8]>::to_vec).collect(),
            1 => bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(),
            _ => tokens(&bytes),
        };
        bytes = change(pieces, random).concat();
    }
    bytes
}

/// Words, numbers, blanks and single characters.
fn tokens(bytes: &[u8]) -> Vec<Vec<u8>> {
    let kind = |byte: u8| match byte {
        b'_' | b'.' | b'-' => 1,
        _ if byte.is_ascii_alphanumeric() => 1,
        b' ' => 2,
        _ => 3,
    };
    bytes.chunk_by(|a, b| kind(*a) == kind(*b) && kind(*a) != 3).map(<[u8]>::to_vec).collect()
}

/// Deletes, doubles, swaps or replaces one piece.
fn change(mut pieces: Vec<Vec<u8>>, random: &mut Stream) -> Vec<Vec<u8>> {
    if pieces.is_empty() {
        return pieces;
    }
    let (at, other) = (random.below(pieces.len()), random.below(pieces.len()));
    match random.below(6) {
        0 => drop(pieces.remove(at)),
        1 => pieces.insert(other, pieces[at].clone()),
        2 => pieces.swap(at, other),
        3 => pieces[at] = vec![random.bits() as u8],
        4 => pieces.truncate(at),
        // Twice as often as the others.
        _ => pieces[at] = EXTREMES[random.below(EXTREMES.len())].as_bytes().to_vec(),
    }
    pieces
}

/// Counts values and diagnostics; a diagnostic must be printable, with a caret that fits its line.
#[derive(Default)]
struct Outcomes {
    accepted: usize,
    refused: usize,
}

impl Outcomes {
    fn add<T>(&mut self, result: Result<T, Diagnostics>) {
        let Err(diagnostics) = result else {
            self.accepted += 1;
            return;
        };
        self.refused += 1;
        assert!(!diagnostics.0.is_empty());
        for diagnostic in &diagnostics.0 {
            assert!(!diagnostic.to_string().is_empty());
            if let Some(place) = &diagnostic.place {
                let length = place.source.chars().count();
                assert!(place.column >= 1 && place.column <= length + 1, "{diagnostic}");
            }
        }
    }

    /// Fails if all mutations are refused or all accepted, because that would test nothing.
    fn assert_both(&self) {
        let Self { accepted, refused } = self;
        assert!(*accepted > 20 && *refused > 1000, "{accepted} accepted, {refused} refused");
    }
}

#[test]
fn mutated_spaces_never_panic() {
    let mut outcomes = Outcomes::default();
    for case in 0..20_000 {
        let bytes = mutate(SPACE, &mut Seed(1).stream("mutated space", case));
        let text = String::from_utf8_lossy(&bytes);
        let space = parse_space(&text, Path::new("space.toml"));
        if let Ok(space) = &space {
            // An accepted space can be used.
            let (least, most) = cost::cost_range(space).macs;
            assert!(0 < least && least <= most, "{text}");
        }
        outcomes.add(space);
    }
    outcomes.assert_both();
}

#[test]
fn mutated_manifests_never_panic() {
    let sandbox = Sandbox::new();
    let mut outcomes = Outcomes::default();
    for case in 0..10_000 {
        let bytes = mutate(MANIFEST, &mut Seed(2).stream("mutated manifest", case));
        // A new name each time, because some file systems wait for the disk when a file is replaced.
        let path = sandbox.path(&format!("mutated-{case}.toml"));
        fs::write(&path, bytes).unwrap();
        outcomes.add(manifest::load(&path, &Overrides::default()));
        fs::remove_file(&path).unwrap();
    }
    outcomes.assert_both();
}

#[test]
fn mutated_overrides_never_panic() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("manifest.toml");
    let sets = [
        "search.epochs=3",
        "name=other",
        "seeds=[3, 4]",
        "search.augment={ flip = false, crop_padding = 0 }",
        "data.dataset=cifar10",
        "train.optimizer.momentum=0.5",
    ];
    let mut outcomes = Outcomes::default();
    for case in 0..5_000 {
        let random = &mut Seed(3).stream("mutated override", case);
        let sets = (0..=random.below(3)).map(|_| {
            let set = sets[random.below(sets.len())];
            // A mutated key is mostly refused at once, so half of the mutations change only the value.
            let value = if random.below(2) == 0 { 0 } else { set.find('=').unwrap() + 1 };
            let changed = mutate(&set[value..], random);
            format!("{}{}", &set[..value], String::from_utf8_lossy(&changed))
        });
        let sets = sets.collect();
        outcomes.add(manifest::load(&path, &Overrides { sets, seeds: Vec::new() }));
    }
    outcomes.assert_both();
}
