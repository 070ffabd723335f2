//! Messages about a file, for the person who edits it.

use std::fmt;
use std::path::{Path, PathBuf};

/// One problem: where it is, what was given and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: PathBuf,
    /// `None` where there is no text, as for a missing file.
    pub place: Option<SourceSpan>,
    /// Dotted path of the key, for example `search.weights.momentum`. Members of a list count from 1,
    /// as stages do (`stage[2].width`). Empty for the file as a whole.
    pub key: String,
    /// What was given, for example `-3 is not allowed`.
    pub problem: String,
    /// What is allowed, for example `give a whole number from 1 to 9`; may be empty.
    pub expected: String,
    /// The nearest valid name.
    pub hint: Option<String>,
}

/// A piece of one line of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpan {
    /// From 1; `None` for a value of the command line.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: usize,
    /// In characters, at least 1 and within the line.
    pub width: usize,
    /// The whole line; empty where nothing in it is wrong.
    pub source: String,
}

/// All problems that were found, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostic {
    /// A problem of the file as a whole.
    #[must_use]
    pub fn of_file(file: &Path, problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            file: file.to_path_buf(),
            place: None,
            key: String::new(),
            problem: problem.into(),
            expected: expected.into(),
            hint: None,
        }
    }
}

impl SourceSpan {
    /// The span of the bytes `start..end` of `text`. Any bounds are accepted, also at the end of the
    /// text or inside a character.
    #[must_use]
    pub fn of(text: &str, start: usize, end: usize) -> Self {
        let start = text.floor_char_boundary(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let source = text[line_start..].lines().next().unwrap_or_default();
        let line_end = line_start + source.len();
        // The end of the line is not shown.
        let start = start.min(line_end);
        let end = text.floor_char_boundary(end).clamp(start, line_end);
        Self {
            line: Some(text[..line_start].matches('\n').count() + 1),
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].chars().count().max(1),
            source: source.to_owned(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(SourceSpan { line: Some(line), column, .. }) = &self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.problem)?;
        if !self.expected.is_empty() {
            write!(f, "; {}", self.expected)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " (did you mean \"{hint}\"?)")?;
        }
        match &self.place {
            Some(place) if !place.source.is_empty() => place.fmt(f),
            _ => Ok(()),
        }
    }
}

/// Characters of a line that are shown.
const SHOWN: usize = 120;

/// Whether a terminal would interpret the character.
fn controls_terminal(c: char) -> bool {
    c.is_control() && c != '\t'
}

impl fmt::Display for SourceSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = self.line.map_or_else(|| "--set".to_owned(), |line| line.to_string());
        // Of a long line, only what is around the problem.
        let first = (self.column - 1).saturating_sub(SHOWN / 2);
        let shown = self.source.chars().skip(first).take(SHOWN);
        let shown: String =
            shown.map(|c| if controls_terminal(c) { '\u{fffd}' } else { c }).collect();
        // Tabs stay tabs, so that a terminal shows the caret below the problem.
        let before = shown.chars().take(self.column - 1 - first);
        let before: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(self.width.min(SHOWN - (self.column - 1 - first)));
        write!(f, "\n{label:>6} | {shown}\n{:>6} | {before}{carets}", "")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            write!(f, "{}{diagnostic}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

/// The name that was probably meant by `given`: the nearest by edit distance, if it is near enough.
#[must_use]
pub fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let given = given.to_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&given, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().max(given.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_owned())
}
