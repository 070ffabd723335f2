//! Strict reading of TOML files: manifests and search spaces.
//!
//! A [`Document`] is the text of a file together with the overrides of the command line. A
//! [`Section`] is one of its tables, an [`Entry`] one value with its key. A reader asks a section
//! for each key that it knows; keys that no reader asked for are refused. All problems of a file are
//! reported, not only the first. Each has a line, a key, what was given and what is allowed.
//!
//! Why not serde's derive, with the spans of the `toml` crate? It was tried on the section `[train]`:
//! derive stops at the first problem (one of three was reported), knows no dotted key, and checks
//! types before ranges (for -3 it expects "u64", not "a whole number from 1 to 100000"). Fields
//! that are optional and lenient would go on, but they need this reader behind them, and
//! `#[serde(flatten)]`, which would collect the unknown keys, loses all spans. A span also names a
//! place in one text, while a document merges the file with its overrides.

mod diagnostic;
mod expected;
mod findings;
mod keys;
mod overrides;
mod section;
mod source;
mod syntax;

pub(crate) use source::nearest_file;

pub use diagnostic::{Diagnostic, Diagnostics, SourceSpan, nearest};
pub use keys::{Key, keys};
pub use overrides::Overrides;
pub use section::{Entry, Section};
pub use source::read_text;

use findings::Findings;
use source::SourceText;
use std::cell::RefCell;
use std::path::Path;
use toml::Spanned;
use toml::de::DeTable;

/// A TOML file with overrides from the command line.
#[derive(Clone, Debug)]
pub struct Document {
    source: SourceText,
    /// A key of the top level that is taken for absent.
    left_out: Option<String>,
}

impl Document {
    /// Text that is already in memory; `path` is for the messages.
    #[must_use]
    pub fn new(path: &Path, text: &str) -> Self {
        Self { source: SourceText::new(path, text), left_out: None }
    }

    /// Reads a regular file of at most 1 MiB.
    ///
    /// # Errors
    /// If there is no such file, it is longer, or it is not UTF-8 text.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        Ok(Self { source: SourceText::load(path)?, left_out: None })
    }

    /// Overrides values of the file with those of the command line.
    ///
    /// # Errors
    /// If an override is not of the form `key=value`.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self, Diagnostics> {
        for set in &overrides.sets {
            let complete = overrides::complete(set).ok_or_else(|| {
                let problem = format!("--set {set:?} is not allowed");
                let expected =
                    "give KEY=VALUE with a dotted key and a TOML value, as in search.epochs=3";
                Diagnostic::of_file(self.path(), problem, expected)
            })?;
            self.source.push_override(&complete);
        }
        if !overrides.seeds.is_empty() {
            self.source.push_override(&format!("seeds={:?}", overrides.seeds));
        }
        Ok(self)
    }

    /// The same without a key of the top level.
    #[must_use]
    pub fn without(self, key: &str) -> Self {
        Self { left_out: Some(key.to_owned()), ..self }
    }

    /// The file's text, without overrides.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.text()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Whether the top level has this key; `false` where the file is not TOML.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.parse().is_ok_and(|table| table.contains_key(key))
    }

    /// A text that says everything: the file as it is, or, with overrides, the merged values
    /// with the overrides as comments at its head.
    ///
    /// # Errors
    /// If the file is not TOML.
    pub fn full_text(&self) -> Result<String, Diagnostics> {
        let sets = self.source.overrides();
        if sets.is_empty() && self.left_out.is_none() {
            return Ok(self.text().to_owned());
        }
        let refuse =
            |error: &dyn std::fmt::Display| Diagnostic::of_file(self.path(), error.to_string(), "");
        let mut table: toml::Table = self.text().parse().map_err(|e| refuse(&e))?;
        let mut head = String::new();
        for set in sets {
            overrides::merge_plain(&mut table, set.parse().map_err(|e| refuse(&e))?);
            for line in set.trim().lines() {
                head += "# --set ";
                head += line;
                head += "\n";
            }
        }
        if let Some(key) = &self.left_out {
            table.remove(key);
        }
        let body = toml::to_string(&table).map_err(|e| refuse(&e))?;
        Ok(format!("{head}{body}"))
    }

    /// Hands the top-level table to `read` and collects all problems.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn read<T>(&self, read: impl FnOnce(&Section<'_>) -> Option<T>) -> Result<T, Diagnostics> {
        let (findings, result) = self.findings(read)?;
        let mut diagnostics = findings.into_diagnostics();
        match result {
            Some(result) if diagnostics.is_empty() => Ok(result),
            _ => {
                if diagnostics.is_empty() {
                    diagnostics.push(Diagnostic::of_file(self.path(), "is not complete", ""));
                }
                Err(Diagnostics(diagnostics))
            }
        }
    }

    /// What `read` found and returned.
    fn findings<T>(
        &self,
        read: impl FnOnce(&Section<'_>) -> Option<T>,
    ) -> Result<(Findings, Option<T>), Diagnostics> {
        let table = self.parse()?;
        let findings = RefCell::default();
        let root = Section::root(&self.source, &table, &findings);
        let result = read(&root);
        root.finish();
        Ok((findings.into_inner(), result))
    }

    /// The file's table with the overrides merged into it.
    fn parse(&self) -> Result<DeTable<'_>, Diagnostics> {
        let mut table = self.parse_one(self.text())?;
        for set in self.source.overrides() {
            overrides::merge(&mut table, self.parse_one(set)?);
        }
        if let Some(key) = &self.left_out {
            table.remove(key.as_str());
        }
        Ok(table)
    }

    fn parse_one<'a>(&self, text: &'a str) -> Result<DeTable<'a>, Diagnostics> {
        DeTable::parse(text).map(Spanned::into_inner).map_err(|error| {
            let place = error.span().map(|span| self.source.place(span));
            syntax::diagnostic(self.path(), text, &error, place).into()
        })
    }
}
