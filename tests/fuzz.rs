//! Mutation fuzzing of the readers of outside data, from their unit tests: reading any bytes ends with a value
//! or an error, never with a panic, and never takes more memory than the reader says.
//!
//! A reader starts from valid inputs: files of the repository and what its test generates.
//! `tests/it/fixtures/fuzz/READER/` keeps inputs that once failed. A mutation is a function of (seed, reader,
//! number), so every run of the tests reads the same ones. Inputs with a new outcome are mutated in turn.
//!
//! `REPRO_FUZZ_SECONDS=600 cargo test --release --lib mutated` reads mutations for ten minutes per reader, with
//! other ones for another `REPRO_FUZZ_SEED`. Each reader has a process of its own, where nothing else allocates.

use crate::memory;
use crate::rng::{Seed, Stream};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SECONDS: &str = "REPRO_FUZZ_SECONDS";
const SEED: &str = "REPRO_FUZZ_SEED";
/// Set in the process that reads.
const CHILD: &str = "REPRO_FUZZ_CHILD";

/// No input of this size takes longer, also on a busy machine.
const SLOW: Duration = Duration::from_secs(20);
/// Inputs that are mutated, and the bytes of each, at most.
const MAX_INPUTS: usize = 400;
const MAX_GROWTH: usize = 1 << 12;

/// A reader of outside data.
pub struct Reader<'a> {
    /// The full name of its test.
    pub test: &'a str,
    /// The name of the folder with inputs that once failed.
    pub name: &'a str,
    /// Valid inputs.
    pub inputs: Vec<Vec<u8>>,
    /// Words of the format.
    pub words: &'a [&'a [u8]],
    /// Mutations that the ordinary test reads.
    pub cases: u64,
    /// Makes checksums and lengths fit, given the length before the mutation. Half of the mutations are mended.
    pub mend: fn(usize, &mut [u8]),
    pub read: &'a dyn Fn(&[u8]) -> Outcome,
}

/// What a reader made of an input.
pub struct Outcome {
    /// The message, or nothing if the input was accepted.
    pub error: Option<String>,
    /// The bytes that it may have allocated at once.
    pub allowed: u64,
}

impl Outcome {
    pub fn of<T, E: ToString>(result: Result<T, E>, allowed: u64) -> Self {
        Self { error: result.err().map(|error| error.to_string()), allowed }
    }
}

/// For formats without checksums and lengths.
pub fn leave(_: usize, _: &mut [u8]) {}

/// The files of a folder of the repository with one of these endings, or all; none where there is no folder.
pub fn files(folder: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let fits = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        endings.is_empty() || endings.contains(&ending)
    };
    let mut paths: Vec<PathBuf> = entries.filter(fits).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Counts what was read.
#[derive(Default)]
struct Counts {
    inputs: u64,
    accepted: u64,
    /// Of the input that took most, and the bytes that were allowed then.
    most: (u64, u64),
    slowest: Duration,
}

impl Reader<'_> {
    /// Reads the inputs, those that once failed, and mutations of both.
    ///
    /// # Panics
    /// When one fails. It is then in a file that the message names.
    pub fn check(mut self) {
        if std::env::var_os(CHILD).is_none() {
            return self.check_in_a_process();
        }
        let kept = files(&format!("tests/it/fixtures/fuzz/{}", self.name), &[]);
        self.inputs.extend(kept);
        let (mut counts, mut seen) = (Counts::default(), BTreeSet::new());
        for (at, input) in self.inputs.iter().enumerate() {
            seen.insert(signature(&self.read_one(input, &format!("input{at}"), &mut counts)));
        }
        assert!(counts.accepted > 0, "no input of {} is valid", self.name);
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
        let deadline = number(SECONDS).map(|s| Instant::now() + Duration::from_secs(s));
        let seed = Seed(number(SEED).unwrap_or(0));
        let longest = self.inputs.iter().map(Vec::len).max().unwrap_or(0) + MAX_GROWTH;
        for case in 0.. {
            if deadline.map_or(case >= self.cases, |deadline| Instant::now() >= deadline) {
                break;
            }
            let random = &mut seed.stream(self.name, case);
            let mut input = self.mutated(random);
            input.truncate(longest);
            let outcome = self.read_one(&input, &format!("{case}"), &mut counts);
            if seen.insert(signature(&outcome)) && self.inputs.len() < MAX_INPUTS {
                self.inputs.push(input);
            }
        }
        self.report(&counts, seen.len());
    }

    #[allow(clippy::print_stderr)]
    fn check_in_a_process(&self) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", self.test, "--nocapture"]).env(CHILD, "1");
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", self.name);
        let summary = said.lines().find(|line| line.starts_with(self.name)).unwrap_or("");
        eprintln!("{summary}");
    }

    #[allow(clippy::print_stderr)]
    fn report(&self, counts: &Counts, outcomes: usize) {
        let Counts { inputs, accepted, most: (most, allowed), slowest } = counts;
        let (name, slowest) = (self.name, slowest.as_secs_f32());
        eprintln!(
            "{name}: {inputs} inputs, {accepted} accepted, {outcomes} outcomes; at most {most} of {allowed} \
             bytes and {slowest:.2} s"
        );
    }

    fn read_one(&self, input: &[u8], case: &str, counts: &mut Counts) -> Outcome {
        let start = Instant::now();
        memory::reset_peak();
        let before = memory::live_bytes();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.read)(input)));
        let (taken, time) = (memory::peak_bytes().saturating_sub(before), start.elapsed());
        let Ok(outcome) = outcome else { self.fail(input, case, "panics") };
        if taken > outcome.allowed {
            self.fail(input, case, &format!("takes {taken} bytes of {}", outcome.allowed));
        }
        if time > SLOW {
            self.fail(input, case, &format!("takes {time:?}"));
        }
        counts.inputs += 1;
        counts.accepted += u64::from(outcome.error.is_none());
        let share = |(taken, allowed): (u64, u64)| taken as f64 / allowed.max(1) as f64;
        if share((taken, outcome.allowed)) > share(counts.most) {
            counts.most = (taken, outcome.allowed);
        }
        counts.slowest = counts.slowest.max(time);
        outcome
    }

    fn fail(&self, input: &[u8], case: &str, problem: &str) -> ! {
        let name = self.name;
        let path = std::env::temp_dir().join(format!("repro-fuzz-{name}-{case}"));
        fs::write(&path, input).unwrap();
        let path = path.display();
        panic!(
            "{name} {problem}; the input is {path}: mend the reader and keep the input in \
             tests/it/fixtures/fuzz/{name}/"
        );
    }

    /// One of the inputs with one to four changes.
    fn mutated(&self, random: &mut Stream) -> Vec<u8> {
        let mut bytes = self.one(random).to_vec();
        let before = bytes.len();
        let changes = if random.below(2) == 0 { 1 } else { 1 + random.below(4) };
        for _ in 0..changes {
            self.change(&mut bytes, random);
        }
        if random.below(2) == 0 {
            (self.mend)(before, &mut bytes);
        }
        bytes
    }

    fn one(&self, random: &mut Stream) -> &[u8] {
        &self.inputs[random.below(self.inputs.len())]
    }

    fn change(&self, bytes: &mut Vec<u8>, random: &mut Stream) {
        let at = place(bytes.len(), random);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(12) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].repeat(1 + random.below(8));
                let to = place(bytes.len(), random);
                bytes.splice(to..to, copy);
            }
            3 => {
                // The start of this input and the end of another.
                let other = self.one(random);
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            4 => {
                let other = self.one(random);
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            5 | 6 => set_number(bytes, at, random),
            7 | 8 if !self.words.is_empty() => {
                let word = self.words[random.below(self.words.len())];
                let end =
                    if random.below(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..end, word.iter().copied());
            }
            9 => {
                let more: Vec<u8> = (0..=random.below(8)).map(|_| random.bits() as u8).collect();
                bytes.splice(at..at, more);
            }
            kind => {
                if let Some(byte) = bytes.get_mut(at) {
                    let bit = 1 << random.below(8);
                    *byte = if kind == 10 { random.bits() as u8 } else { *byte ^ bit };
                }
            }
        }
    }
}

/// A place in so many bytes or behind them; every other one in the first 64, where headers are.
fn place(len: usize, random: &mut Stream) -> usize {
    let near = if random.below(2) == 0 { len.min(64) } else { len };
    random.below(near + 1)
}

/// Writes an extreme number over 1, 2, 4 or 8 bytes.
fn set_number(bytes: &mut [u8], at: usize, random: &mut Stream) {
    let len = bytes.len() as u64;
    let numbers = [
        0,
        1,
        u64::MAX,
        u64::MAX - 1,
        u64::MAX >> 1,
        1 << 63,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x7fff,
        0x8000,
        0xffff,
        0x7f,
        0x80,
        len,
        len + 1,
        len.wrapping_sub(1),
        len / 2,
        1 << random.below(64),
    ];
    let number = numbers[random.below(numbers.len())];
    let width = 1 << random.below(4);
    let little = number.to_le_bytes();
    let mut word = little[..width].to_vec();
    if random.below(2) == 0 {
        word.reverse();
    }
    let end = (at + width).min(bytes.len());
    bytes[at..end].copy_from_slice(&word[..end - at]);
}

/// The letters at the start of a message: outcomes that differ in numbers only are one.
fn signature(outcome: &Outcome) -> String {
    let error = outcome.error.as_deref().unwrap_or("accepted");
    error.chars().filter(char::is_ascii_alphabetic).take(80).collect()
}
