//! Strict reading of TOML files: manifests and search spaces.
//!
//! A [`Document`] is a file's text with the command line's overrides beside it; a [`Section`] is one
//! of its tables. Whoever reads asks a section for each key it knows; what is left over is
//! unknown and refused. Every problem of a file is reported, not only the first, each with line,
//! key, what was given and what is allowed. serde's derive stops at the first problem and knows no
//! ranges, hence this reader.

mod complaint;
mod keys;
mod section;
mod syntax;

pub use complaint::{Complaint, Complaints, Place, nearest};
pub use keys::{Key, keys};
pub use section::{Section, Value};

use std::cell::RefCell;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A TOML file with overrides from the command line.
#[derive(Clone, Debug)]
pub struct Document {
    path: PathBuf,
    text: String,
    /// Each is a small TOML document behind as many blanks as put it after the text and the
    /// overrides before it, so that an offset names one place among all of them.
    sets: Vec<String>,
}

/// Values of the command line that take the place of a manifest's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `key=value`, the key a dotted path, the value TOML or a bare word.
    pub sets: Vec<String>,
    /// The seeds, if any are given.
    pub seeds: Vec<u64>,
}

/// A file longer than this is not one that somebody wrote by hand.
const MAX_BYTES: u64 = 1 << 20;

impl Document {
    /// Text that is already in memory; `path` is for the messages.
    #[must_use]
    pub fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_path_buf(), text: text.to_owned(), sets: Vec::new() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If there is no such file, or it is not text.
    pub fn load(path: &Path) -> Result<Self, Complaints> {
        let refuse = |problem: &str, expected: &str| {
            Complaints::from(Complaint::of_file(path, problem, expected))
        };
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                let problem = "there is no such file";
                let complaint = Complaint::of_file(path, problem, "give the path of a TOML file");
                Complaint { hint: nearest_file(path), ..complaint }.into()
            }
            _ => refuse(&format!("cannot be read: {error}"), ""),
        })?;
        if metadata.is_dir() {
            return Err(refuse("is a directory", "give the path of a TOML file"));
        }
        if metadata.len() > MAX_BYTES {
            return Err(refuse(
                &format!("has {} bytes", metadata.len()),
                "give a TOML file of at most 1 MiB",
            ));
        }
        let bytes =
            std::fs::read(path).map_err(|error| refuse(&format!("cannot be read: {error}"), ""))?;
        String::from_utf8(bytes).map(|text| Self::new(path, &text)).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let problem = format!("is not UTF-8 (byte {})", good + 1);
            let complaint = Complaint::of_file(path, problem, "save the file as text in UTF-8");
            Complaint { place: Some(Place::of(&text, good, good)), ..complaint }.into()
        })
    }

    /// Lets the command line's values take the place of the file's.
    ///
    /// # Errors
    /// If an override is not of the form `key=value`.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self, Complaints> {
        for set in &overrides.sets {
            let complete = complete_override(set).ok_or_else(|| {
                let problem = format!("--set {set:?} is not allowed");
                let expected =
                    "give KEY=VALUE with a dotted key and a TOML value, as in search.epochs=3";
                Complaint::of_file(&self.path, problem, expected)
            })?;
            self.push(&complete);
        }
        if !overrides.seeds.is_empty() {
            self.push(&format!("seeds={:?}", overrides.seeds));
        }
        Ok(self)
    }

    fn push(&mut self, set: &str) {
        let base = self.sets.last().map_or(self.text.len(), String::len) + 1;
        self.sets.push(format!("{}{set}", " ".repeat(base)));
    }

    /// The file's text, without overrides.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is such a key at the top; `false` where the file is not TOML.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.parse().is_ok_and(|table| table.contains_key(key))
    }

    /// The text that says everything: the file as it is, or, with overrides, written anew.
    ///
    /// # Errors
    /// If the file is not TOML.
    pub fn full_text(&self) -> Result<String, Complaints> {
        if self.sets.is_empty() {
            return Ok(self.text.clone());
        }
        let refuse =
            |error: &dyn std::fmt::Display| Complaint::of_file(&self.path, error.to_string(), "");
        let mut table: toml::Table = self.text.parse().map_err(|e| refuse(&e))?;
        let mut head = String::new();
        for set in &self.sets {
            merge_plain(&mut table, set.parse().map_err(|e| refuse(&e))?);
            for line in set.trim().lines() {
                head += "# --set ";
                head += line;
                head += "\n";
            }
        }
        let body = toml::to_string(&table).map_err(|e| refuse(&e))?;
        Ok(format!("{head}{body}"))
    }

    /// Hands the top-level table to `read` and collects what there is to complain of.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn read<T>(&self, read: impl FnOnce(&Section<'_>) -> Option<T>) -> Result<T, Complaints> {
        let table = self.parse()?;
        let findings = RefCell::default();
        let root = Section::root(self, &table, &findings);
        let result = read(&root);
        root.finish();
        let mut complaints = findings.into_inner().into_complaints();
        match result {
            Some(result) if complaints.is_empty() => Ok(result),
            _ => {
                if complaints.is_empty() {
                    complaints.push(Complaint::of_file(&self.path, "is not complete", ""));
                }
                Err(Complaints(complaints))
            }
        }
    }

    fn parse(&self) -> Result<DeTable<'_>, Complaints> {
        let mut table = self.parse_one(&self.text)?;
        for set in &self.sets {
            merge(&mut table, self.parse_one(set)?);
        }
        Ok(table)
    }

    fn parse_one<'a>(&self, text: &'a str) -> Result<DeTable<'a>, Complaints> {
        DeTable::parse(text).map(Spanned::into_inner).map_err(|error| {
            let place = error.span().map(|span| self.place(span));
            syntax::complaint(&self.path, text, &error, place).into()
        })
    }

    /// The text that holds the offset, and whether it is an override.
    fn origin(&self, offset: usize) -> (&str, bool) {
        let set = self.sets.iter().find(|set| offset <= set.len());
        match set {
            Some(set) if offset > self.text.len() => (set, true),
            _ => (&self.text, false),
        }
    }

    fn place(&self, span: Range<usize>) -> Place {
        let (text, is_override) = self.origin(span.start);
        if !is_override {
            return Place::of(text, span.start, span.end);
        }
        let content = text.trim_start();
        let base = text.len() - content.len();
        let place = Place::of(content, span.start - base, span.end.saturating_sub(base));
        Place { line: None, ..place }
    }

    /// What stands in the text at `span`, on one line and not too long.
    fn excerpt(&self, span: Range<usize>) -> String {
        let text = self.origin(span.start).0.get(span).unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let line = words.join(" ");
        if line.chars().count() <= 48 {
            return line;
        }
        line.chars().take(45).chain("...".chars()).collect()
    }
}

/// The file in the same folder whose name is nearest, as a path.
pub(crate) fn nearest_file(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten();
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    // The folder's own order is arbitrary.
    names.sort();
    let name = nearest(&path.file_name()?.to_string_lossy(), names.iter().map(String::as_str))?;
    Some(path.with_file_name(name).display().to_string())
}

/// `key=value` as TOML; a value that is not TOML is a bare word and gets its quotes.
fn complete_override(set: &str) -> Option<String> {
    let (key, value) = set.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if value.contains(char::is_control) {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if key.is_empty() || !key.chars().all(plain) {
        return None;
    }
    let as_given = format!("{key}={value}");
    let quoted = || format!("{key}={}", toml::Value::String(value.to_owned()));
    [as_given, quoted()]
        .into_iter()
        .find(|text| DeTable::parse(text).is_ok_and(|table| table.get_ref().len() == 1))
}

/// Puts `from` into `into`: tables are merged, everything else is replaced.
fn merge<'a>(into: &mut DeTable<'a>, from: DeTable<'a>) {
    for (key, value) in from {
        let span = value.span();
        match (into.get_mut(&key).map(Spanned::get_mut), value.into_inner()) {
            (Some(DeValue::Table(old)), DeValue::Table(new)) => merge(old, new),
            (_, new) => {
                into.insert(key, Spanned::new(span, new));
            }
        }
    }
}

fn merge_plain(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge_plain(old, new),
            (_, new) => {
                into.insert(key, new);
            }
        }
    }
}
