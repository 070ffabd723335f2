//! The text of a document and of its overrides, and where a byte offset lies in them.

use super::diagnostic::{Diagnostic, Diagnostics, SourceSpan, nearest};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The text of a file, and the overrides of the command line.
#[derive(Clone, Debug)]
pub(super) struct SourceText {
    path: PathBuf,
    text: String,
    /// Each override is a small TOML document. It begins with as many blanks as the file and the
    /// overrides before it are long, so that an offset means one place in all of them.
    overrides: Vec<String>,
}

/// No file that somebody wrote by hand is longer.
const MAX_BYTES: u64 = 1 << 20;

impl SourceText {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_path_buf(), text: text.to_owned(), overrides: Vec::new() }
    }

    /// See [`super::Document::load`].
    pub(super) fn load(path: &Path) -> Result<Self, Diagnostics> {
        let unreadable = |error| Diagnostic::of_file(path, format!("cannot be read: {error}"), "");
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                let problem = "there is no such file";
                let diagnostic = Diagnostic::of_file(path, problem, "give the path of a TOML file");
                Diagnostic { hint: nearest_file(path), ..diagnostic }
            }
            _ => unreadable(error),
        })?;
        if !metadata.is_file() {
            // A pipe or a device may block for ever or never end.
            let problem =
                if metadata.is_dir() { "is a directory" } else { "is not a regular file" };
            return Err(Diagnostic::of_file(path, problem, "give the path of a TOML file").into());
        }
        let bytes = read_bounded(path).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            let problem = format!("has {} bytes", metadata.len().max(bytes.len() as u64));
            let expected = "give a TOML file of at most 1 MiB";
            return Err(Diagnostic::of_file(path, problem, expected).into());
        }
        String::from_utf8(bytes).map(|text| Self::new(path, &text)).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let problem = format!("is not UTF-8 (byte {})", good + 1);
            let diagnostic = Diagnostic::of_file(path, problem, "save the file as text in UTF-8");
            Diagnostic { place: Some(SourceSpan::of(&text, good, good)), ..diagnostic }.into()
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's text, without overrides.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The overrides, in the order in which they apply.
    pub(super) fn overrides(&self) -> &[String] {
        &self.overrides
    }

    pub(super) fn push_override(&mut self, toml: &str) {
        let base = self.overrides.last().map_or(self.text.len(), String::len) + 1;
        self.overrides.push(format!("{}{toml}", " ".repeat(base)));
    }

    /// The text that holds the offset, and whether it is an override.
    fn origin(&self, offset: usize) -> (&str, bool) {
        let set = self.overrides.iter().find(|set| offset <= set.len());
        match set {
            Some(set) if offset > self.text.len() => (set, true),
            _ => (&self.text, false),
        }
    }

    /// Where the bytes `span` lie.
    pub(super) fn place(&self, span: Range<usize>) -> SourceSpan {
        let (text, is_override) = self.origin(span.start);
        if !is_override {
            return SourceSpan::of(text, span.start, span.end);
        }
        let content = text.trim_start();
        let base = text.len() - content.len();
        let place = SourceSpan::of(content, span.start - base, span.end.saturating_sub(base));
        SourceSpan { line: None, ..place }
    }

    /// The text at `span`, on one line and not too long.
    pub(super) fn excerpt(&self, span: Range<usize>) -> String {
        let text = self.origin(span.start).0.get(span).unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let line = words.join(" ");
        if line.chars().count() <= 48 {
            return line;
        }
        line.chars().take(45).chain("...".chars()).collect()
    }
}

/// The text of a regular file of at most 1 MiB.
///
/// # Errors
/// When there is none, it is longer, or it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let invalid = |problem: &str| io::Error::new(ErrorKind::InvalidInput, problem);
    if !std::fs::metadata(path)?.is_file() {
        // A pipe or a device may block for ever or never end.
        return Err(invalid("it is not a regular file"));
    }
    let bytes = read_bounded(path)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(invalid("it has more than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))
}

/// Reads at most one byte more than is allowed, whatever the file system says of the length.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The path of the file in the same folder whose name is nearest.
pub(crate) fn nearest_file(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten();
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    // The order of a folder is arbitrary.
    names.sort();
    let name = nearest(&path.file_name()?.to_string_lossy(), names.iter().map(String::as_str))?;
    Some(path.with_file_name(name).display().to_string())
}
