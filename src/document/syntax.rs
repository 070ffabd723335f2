//! Messages of the TOML parser, reworded for the person who edits the file.

use super::diagnostic::{Diagnostic, SourceSpan};
use std::ops::Range;
use std::path::Path;

/// The message about `text`, which is not TOML; `place` is where the parser stopped.
pub(super) fn diagnostic(
    file: &Path,
    text: &str,
    error: &toml::de::Error,
    place: Option<SourceSpan>,
) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let (problem, expected) = explain(text, error.message(), span.clone());
    let key = key_at(text, span.start);
    Diagnostic { place, key, ..Diagnostic::of_file(file, problem, expected) }
}

/// The problem and what to do about it. Messages that are not listed here are kept.
fn explain(text: &str, message: &str, span: Range<usize>) -> (String, String) {
    let given = text.get(span.clone()).unwrap_or_default().trim();
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    if what == "duplicate key" {
        let first = first_line_of(text, span.start);
        let first = first.map_or_else(String::new, |line| format!(", first in line {line}"));
        return (format!("is given twice{first}"), "keep one of them".to_owned());
    }
    let (what, advice) = match what {
        "string values must be quoted" if given.is_empty() => {
            ("there is no value".to_owned(), "give one, text in quotes")
        }
        "string values must be quoted" => (
            format!("{given} is not a value"),
            "give a number, true, false, or text in straight quotes",
        ),
        "invalid boolean" => (format!("{given} is not a value"), "give true or false"),
        "key with no value" => {
            ("there is no =".to_owned(), "write KEY = VALUE, and # before a comment")
        }
        "invalid basic string" if expected == "`\"`" => {
            ("a string is not closed".to_owned(), "write \" at its end, on the same line")
        }
        "invalid basic string" => {
            ("a string contains a control character".to_owned(), "remove that character")
        }
        "missing escaped value" => (
            "a backslash starts an escape sequence".to_owned(),
            "write \\\\ for a backslash, or / between folders",
        ),
        "missing comma between array elements" => (
            "a list lacks a comma or ] here".to_owned(),
            "write commas between members, ] at the end",
        ),
        "missing key for inline table element" => (
            "an inline section lacks a comma or } here".to_owned(),
            "write commas between keys, } at the end",
        ),
        "unclosed table" => ("a section header is not closed".to_owned(), "write ] at its end"),
        "unexpected leading zero" => {
            ("a number begins with 0".to_owned(), "write it without the leading 0")
        }
        "unexpected key or value" => {
            ("something follows the value".to_owned(), "give one value, with a point for decimals")
        }
        _ => (message.to_owned(), ""),
    };
    (format!("is not TOML: {what}"), advice.to_owned())
}

/// The line in which the section or key at `offset` was first given. A guess by lines: keys of
/// inline sections are not found.
fn first_line_of(text: &str, offset: usize) -> Option<usize> {
    let key = key_at(text, offset);
    let mut start = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let end = start + line.len();
        if end > offset {
            return None;
        }
        if !line.trim().is_empty() && key_at(text, start) == key {
            return Some(index + 1);
        }
        start = end;
    }
    None
}

/// The dotted path of the key in the line of `offset`: the last section header before it, and what
/// is left of the equals sign.
fn key_at(text: &str, offset: usize) -> String {
    let before = &text[..text.floor_char_boundary(offset)];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let own = header(line);
    let above = text[..start].lines().rev().find_map(header);
    let section = own.or(above).map(|(name, is_list)| {
        let seen = text[..start].lines().chain(own.map(|_| line));
        let number = seen.filter(|line| header(line) == Some((name, true))).count();
        if is_list { format!("{name}[{number}]") } else { name.to_owned() }
    });
    let key = line.split(['=', ':']).next().unwrap_or_default().split_whitespace().next();
    let key = key.filter(|key| own.is_none() && is_plain(key)).unwrap_or_default();
    [section.as_deref().unwrap_or_default(), key]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(".")
}

/// The name in `[name]` or `[[name]]`, and whether it is `[[name]]`. The brackets need not close.
fn header(line: &str) -> Option<(&str, bool)> {
    let inside = line.trim().strip_prefix('[')?;
    let (inside, is_list) = inside.strip_prefix('[').map_or((inside, false), |name| (name, true));
    let name = inside.split([']', '#']).next().unwrap_or_default().trim();
    is_plain(name).then_some((name, is_list))
}

/// Whether this may be a key, dotted or not, without quotes around it.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n[b] # first\nc = 2\n[[d.e]]\nf = 3\n[[d.e]]\nf = 4\n[g\n";

    #[test]
    fn a_key_is_found_from_its_line() {
        let key = |piece: &str| key_at(TEXT, TEXT.find(piece).unwrap() + piece.len() - 1);
        assert_eq!(key("a ="), "a");
        assert_eq!(key("[b]"), "b");
        assert_eq!(key("c = 2"), "b.c");
        assert_eq!(key("f = 3"), "d.e[1].f");
        assert_eq!(key("f = 4"), "d.e[2].f");
        assert_eq!(key("[g"), "g");
        assert_eq!(key_at("", 0), "");
    }

    #[test]
    fn the_first_of_two_equal_keys_is_found() {
        let text = "[a]\nx = 1\n[b]\nx = 2\nx = 3\n[a]\n";
        assert_eq!(first_line_of(text, text.find("x = 3").unwrap()), Some(4));
        assert_eq!(first_line_of(text, text.rfind("[a]").unwrap()), Some(1));
        assert_eq!(first_line_of(text, 0), None);
    }
}
