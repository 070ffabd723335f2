//! The keys that a reader accepts, found by running it on documents that try them. So no second list of
//! keys can differ from the reader.

use super::findings::Findings;
use super::{Document, Section};
use std::path::Path;

/// A key that a reader accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Dotted, as in `search.weights.momentum`.
    pub path: String,
    /// Whether the reader reports it as missing. In an optional section: once that section exists.
    pub is_required: bool,
    /// What the reader accepts, in the words of its messages: `a whole number from 1 to 100000`.
    /// `None` for a section.
    pub expected: Option<String>,
}

impl Key {
    #[must_use]
    pub fn is_section(&self) -> bool {
        self.expected.is_none()
    }

    /// For a key of the section `path` that takes one of several names: `key = name` for each name.
    fn assignments(&self, path: &str) -> Option<Vec<String>> {
        let key = match path {
            "" => &self.path,
            _ => self.path.strip_prefix(path)?.strip_prefix('.')?,
        };
        let names = self.expected.as_ref()?.strip_prefix("one of ")?;
        Some(names.split(", ").map(|name| format!("{key} = {name}")).collect())
    }
}

/// No reader accepts a date.
const WRONG: &str = "1979-05-27";

/// Every key that `read` asks for, section by section, in the order in which it asks.
///
/// A key is a section if the reader asks for keys below it once it is an empty table. Keys that
/// belong to one value of another key, like the coefficients of a loss, are found if the reader asks
/// for all of them while that value is unknown.
#[must_use]
pub fn keys<T>(read: impl Fn(&Section<'_>) -> Option<T>) -> Vec<Key> {
    let mut keys = Vec::new();
    explore(&read, "", "", &mut keys);
    keys
}

/// Adds the keys of the section `path`; `text` is a document that has it, empty.
fn explore<T>(
    read: &impl Fn(&Section<'_>) -> Option<T>,
    path: &str,
    text: &str,
    keys: &mut Vec<Key>,
) {
    let here = findings(read, text);
    for key in here.keys_of(path).unwrap_or_default() {
        let full = if path.is_empty() { (*key).to_owned() } else { format!("{path}.{key}") };
        let is_required = here.diagnostic(&full).is_some();
        // Headers go last, because the keys after a header belong to its section.
        let with_section = format!("{text}[{full}]\n");
        if findings(read, &with_section).keys_of(&full).is_some() {
            keys.push(Key { path: full.clone(), is_required, expected: None });
            explore(read, &full, &with_section, keys);
        } else {
            let siblings = keys.iter().filter_map(|other| other.assignments(path)).flatten();
            let with_sibling = siblings.map(|sibling| format!("{text}{sibling}\n"));
            let mut texts = [text.to_owned()].into_iter().chain(with_sibling);
            let expected = texts.find_map(|text| expected(read, &text, key, &full));
            keys.push(Key {
                path: full,
                is_required,
                expected: Some(expected.unwrap_or_default()),
            });
        }
    }
}

/// What the reader expects of a key whose value is wrong; `None` where it refuses the key itself. The key
/// is appended to `text`.
fn expected<T>(
    read: &impl Fn(&Section<'_>) -> Option<T>,
    text: &str,
    key: &str,
    full: &str,
) -> Option<String> {
    let found = findings(read, &format!("{text}{key} = {WRONG}\n"));
    Some(found.diagnostic(full)?.expected.strip_prefix("give ")?.to_owned())
}

fn findings<T>(read: &impl Fn(&Section<'_>) -> Option<T>, text: &str) -> Findings {
    let document = Document::new(Path::new("manifest.toml"), text);
    document.findings(read).map(|(findings, _)| findings).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_from_the_reader() {
        let found = keys(|s| {
            s.whole("epochs", 1..=9);
            s.section("loss", |s| {
                let form = s.name("form", &[("linear", 1), ("hinge", 2)]);
                match form {
                    Some(_) => drop(s.real("lambda", 0.0..1.0)),
                    None => drop(s.get("lambda")),
                }
                Some(())
            });
            s.optional("scale", |value| value.real(0.0..=1.0))
        });
        let key = |path: &str, is_required, expected: Option<&str>| Key {
            path: path.to_owned(),
            is_required,
            expected: expected.map(str::to_owned),
        };
        let expected = [
            key("epochs", true, Some("a whole number from 1 to 9")),
            key("loss", true, None),
            key("loss.form", true, Some("one of \"linear\", \"hinge\"")),
            key("loss.lambda", false, Some("a finite number of at least 0 and below 1")),
            key("scale", false, Some("a finite number of at least 0 and at most 1")),
        ];
        assert_eq!(found, expected);
    }
}
