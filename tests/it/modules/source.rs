//! Reads the paths that a Rust file names, from its tokens: comments, texts and tests are left out.

use std::collections::{BTreeMap, BTreeSet};

/// A name, a number or a single sign.
pub struct Token {
    pub line: usize,
    pub text: String,
}

/// A path such as `crate::space::Dimension`, in segments, with its line.
pub type PathAt = (Vec<String>, usize);

/// What a file says about other files.
#[derive(Default)]
pub struct Names {
    /// Modules that it declares by `mod name;`.
    pub children: BTreeSet<String>,
    /// What it passes on by `pub use`, under the name that it gives it.
    pub reexports: BTreeMap<String, Vec<String>>,
    /// What it imports for itself, under the name that it gives it.
    pub imports: BTreeMap<String, PathAt>,
    /// Every path with `::` outside of `use`.
    pub paths: Vec<PathAt>,
}

/// The tokens of a file without comments, texts, characters and tests.
pub fn read(code: &str) -> Vec<Token> {
    without_tests(tokens(code))
}

fn tokens(code: &str) -> Vec<Token> {
    let chars: Vec<char> = code.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\n');
    let until = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        let found = (from..chars.len()).find(|&i| chars[i..].starts_with(&end));
        found.map_or(chars.len(), |i| i + end.len())
    };
    let (mut tokens, mut line, mut i) = (Vec::new(), 1, 0);
    while i < chars.len() {
        let start = i;
        i = match (at(i), at(i + 1)) {
            ('/', '/') => until(i, "\n") - 1,
            ('/', '*') => until(i, "*/"),
            ('r', '"') => until(i + 2, "\""),
            ('r', '#') if at(i + 2) == '"' => until(i + 3, "\"#"),
            ('"', _) => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i + 1
            }
            // A character; a lifetime has no second quote.
            ('\'', '\\') => until(i + 3, "'"),
            ('\'', _) if at(i + 2) == '\'' => i + 3,
            (c, _) if c.is_alphanumeric() || c == '_' => {
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
                tokens.push(Token { line, text: chars[start..i].iter().collect() });
                i
            }
            (c, _) => {
                if !c.is_whitespace() {
                    tokens.push(Token { line, text: c.to_string() });
                }
                i + 1
            }
        };
        i = i.min(chars.len()).max(start + 1);
        line += chars[start..i].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Leaves out every item behind `#[cfg(test)]`.
fn without_tests(mut tokens: Vec<Token>) -> Vec<Token> {
    const HEAD: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let is_head = |window: &[Token]| window.iter().map(|token| token.text.as_str()).eq(HEAD);
    while let Some(start) = tokens.windows(HEAD.len()).position(is_head) {
        let mut depth = 0;
        let end = tokens[start..].iter().position(|token| {
            depth += i32::from(token.text == "{") - i32::from(token.text == "}");
            depth == 0 && matches!(token.text.as_str(), "}" | ";")
        });
        tokens.drain(start..end.map_or(tokens.len(), |end| start + end + 1));
    }
    tokens
}

/// What the tokens of a file say about other files.
pub fn names(tokens: &[Token]) -> Names {
    let reader = Reader(tokens);
    let (mut names, mut i) = (Names::default(), 0);
    while i < tokens.len() {
        i = match reader.text(i) {
            "mod" if reader.text(i + 2) == ";" => {
                names.children.insert(reader.text(i + 1).to_owned());
                i + 3
            }
            "use" if reader.is_name(i + 1) => {
                let public = i > 0 && matches!(reader.text(i - 1), "pub" | ")");
                let mut found = Vec::new();
                let end = reader.tree(i + 1, Vec::new(), &mut found);
                for (name, path, line) in found {
                    if public {
                        names.reexports.insert(name, path);
                    } else {
                        names.imports.insert(name, (path, line));
                    }
                }
                end
            }
            _ => reader.path(i, &mut names.paths),
        }
    }
    names
}

struct Reader<'a>(&'a [Token]);

impl Reader<'_> {
    fn text(&self, i: usize) -> &str {
        self.0.get(i).map_or("", |token| token.text.as_str())
    }

    fn is_name(&self, i: usize) -> bool {
        self.text(i).starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    fn is_separator(&self, i: usize) -> bool {
        self.text(i) == ":" && self.text(i + 1) == ":"
    }

    /// Reads the tree of a `use` from token `i`, and returns where it ends.
    fn tree(
        &self,
        mut i: usize,
        mut path: Vec<String>,
        found: &mut Vec<(String, Vec<String>, usize)>,
    ) -> usize {
        let line = self.0.get(i).map_or(0, |token| token.line);
        loop {
            if self.text(i) == "{" {
                i += 1;
                while !matches!(self.text(i), "}" | "") {
                    i = self.tree(i, path.clone(), found);
                    i += usize::from(self.text(i) == ",");
                }
                return i + 1;
            }
            // `{cost::{self, count}}` names `cost`.
            if self.text(i) != "self" || path.is_empty() {
                path.push(self.text(i).to_owned());
            }
            i += 1;
            if !self.is_separator(i) {
                break;
            }
            i += 2;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if self.text(i) == "as" {
            self.text(i + 1).clone_into(&mut name);
            i += 2;
        }
        found.push((name, path, line));
        i
    }

    /// Reads a path that begins at token `i`, if one does, and returns where to go on.
    fn path(&self, i: usize, found: &mut Vec<PathAt>) -> usize {
        let continues = i > 0 && matches!(self.text(i - 1), ":" | ".");
        let begins = self.is_name(i) && self.is_separator(i + 1);
        // `x: crate::Y` has one colon in front.
        if !begins || continues && (self.text(i - 1) == "." || i > 1 && self.is_separator(i - 2)) {
            return i + 1;
        }
        let (mut path, mut next) = (vec![self.text(i).to_owned()], i + 1);
        while self.is_separator(next) && self.is_name(next + 2) {
            path.push(self.text(next + 2).to_owned());
            next += 3;
        }
        found.push((path, self.0[i].line));
        next
    }
}
