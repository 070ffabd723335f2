//! One table of a document, read key by key. Each read checks type and range and keeps the problem.

use super::diagnostic::{Diagnostic, Diagnostics, SourceSpan, nearest};
use super::expected;
use super::findings::Findings;
use super::source::SourceText;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeBounds, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table. A read returns `None` where it found a problem, so that the caller can go on and find
/// the others.
pub struct Section<'a> {
    source: &'a SourceText,
    findings: &'a RefCell<Findings>,
    path: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
    /// Required keys that are missing, with what they should hold. They are reported last, because a
    /// misspelt key is a better explanation.
    missing: RefCell<Vec<(&'static str, String)>>,
}

/// A value with its key.
pub struct Entry<'a> {
    source: &'a SourceText,
    findings: &'a RefCell<Findings>,
    path: String,
    node: &'a Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    pub(super) fn root(
        source: &'a SourceText,
        table: &'a DeTable<'a>,
        findings: &'a RefCell<Findings>,
    ) -> Self {
        Self::new(source, findings, String::new(), 0..0, table)
    }

    fn new(
        source: &'a SourceText,
        findings: &'a RefCell<Findings>,
        path: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
    ) -> Self {
        let (known, missing) = (RefCell::default(), RefCell::default());
        Self { source, findings, path, span, table, known, missing }
    }

    /// The value of an optional key.
    pub fn get(&self, key: &'static str) -> Option<Entry<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let node = self.table.get(key)?;
        let (source, findings) = (self.source, self.findings);
        Some(Entry { source, findings, path: self.path_of(key), node })
    }

    /// The value of a required key; `expected` says what it should hold.
    pub fn require(&self, key: &'static str, expected: impl Display) -> Option<Entry<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.missing.borrow_mut().push((key, expected.to_string()));
        }
        value
    }

    /// Reads an optional key: `Some(None)` if it is absent, `None` if it is wrong.
    pub fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Entry<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.get(key).map_or(Some(None), |value| read(&value).map(Some))
    }

    /// A whole number.
    pub fn whole(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<usize> {
        self.require(key, expected::whole_number(&range))?.whole(range)
    }

    /// A finite number.
    pub fn real(&self, key: &'static str, range: impl RangeBounds<f64>) -> Option<f64> {
        self.require(key, expected::real_number(&range))?.real(range)
    }

    /// One of several names.
    pub fn name<T: Copy>(&self, key: &'static str, names: &[(&str, T)]) -> Option<T> {
        self.require(key, expected::one_of(names))?.name(names)
    }

    /// One of several names, or a list of different ones.
    pub fn names<T: Copy + PartialEq>(
        &self,
        key: &'static str,
        names: &[(&str, T)],
    ) -> Option<Vec<T>> {
        self.require(key, expected::one_of(names))?.names(names)
    }

    /// A short name that can be a file name and fits a table.
    pub fn identifier(&self, key: &'static str) -> Option<String> {
        const EXPECTED: &str =
            "1 to 64 letters, digits, \"_\", \"-\" and \".\", the first a letter or digit";
        let value = self.require(key, EXPECTED)?;
        let text = value.text(EXPECTED)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        // Files get this name: with a dot in front they would be hidden, or in another folder.
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && text.len() <= 64 && text.chars().all(plain) {
            return Some(text.to_owned());
        }
        value.refuse(EXPECTED)
    }

    /// A table within this one; keys that `read` does not ask for are refused.
    pub fn section<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Section<'a>) -> Option<T>,
    ) -> Option<T> {
        self.require(key, format!("a section [{}]", self.path_of(key)))?.section(read)
    }

    /// Refuses a key that makes no sense here, if it is present.
    pub fn forbid(&self, key: &'static str, problem: &str, expected: &str) {
        if let Some(value) = self.get(key) {
            value.fail::<()>(problem, expected);
        }
    }

    /// Adds the problems of another file.
    pub fn adopt<T>(&self, result: Result<T, Diagnostics>) -> Option<T> {
        result.map_err(|other| self.findings.borrow_mut().diagnostics.extend(other.0)).ok()
    }

    /// Refuses keys that no reader asked for, then reports required keys that are missing.
    pub(super) fn finish(self) {
        let known = self.known.take();
        let mut missing = self.missing.take();
        let absent: Vec<&str> =
            known.iter().copied().filter(|key| !self.table.contains_key(*key)).collect();
        for (key, _) in self.table {
            if known.contains(&key.get_ref().as_ref()) {
                continue;
            }
            // A key that is still absent is the more likely meaning.
            let hint = nearest(key.get_ref(), absent.iter().copied())
                .or_else(|| nearest(key.get_ref(), known.iter().copied()));
            missing.retain(|(name, _)| Some(*name) != hint.as_deref());
            let keys = if hint.is_some() {
                String::new()
            } else {
                format!("the keys here are {}", known.join(", "))
            };
            if hint.is_none() {
                let mut findings = self.findings.borrow_mut();
                let index = findings.diagnostics.len();
                findings.strays.push((index, key.get_ref().to_string()));
            }
            let place = self.source.place(key.span());
            let path = self.path_of(key.get_ref());
            self.fail_at(place, path, "there is no such key", keys, hint);
        }
        let mut header = self.source.place(self.span.clone());
        if self.path.is_empty() {
            // A missing key of the top level belongs at the top, but no line there is wrong.
            header.source.clear();
        }
        for (key, expected) in missing {
            let (place, expected) = (header.clone(), format!("give {expected}"));
            self.fail_at(place, self.path_of(key), "is missing", expected, None);
        }
        self.findings.borrow_mut().sections.push((self.path, known));
    }

    fn fail_at(
        &self,
        place: SourceSpan,
        key: String,
        problem: &str,
        expected: String,
        hint: Option<String>,
    ) {
        let place = Some(place);
        let file = self.source.path().to_path_buf();
        let problem = problem.to_owned();
        let diagnostic = Diagnostic { file, place, key, problem, expected, hint };
        self.findings.borrow_mut().diagnostics.push(diagnostic);
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'a> Entry<'a> {
    /// The value as it is written in the file.
    #[must_use]
    pub fn given(&self) -> String {
        match self.node.get_ref() {
            // The span of a section is only its header.
            DeValue::Table(_) => "a section".to_owned(),
            _ => self.source.excerpt(self.node.span()),
        }
    }

    /// The value itself.
    #[must_use]
    pub fn node(&self) -> &'a DeValue<'a> {
        self.node.get_ref()
    }

    /// Reports a problem of this value; returns `None` for the caller to return.
    pub fn fail<T>(&self, problem: impl Into<String>, expected: impl Into<String>) -> Option<T> {
        self.fail_with_hint(problem, expected, None)
    }

    /// Reports that the value is not allowed.
    pub fn refuse<T>(&self, expected: impl Display) -> Option<T> {
        self.fail(format!("{} is not allowed", self.given()), format!("give {expected}"))
    }

    /// [`Entry::fail`] with the name that was probably meant.
    pub fn fail_with_hint<T>(
        &self,
        problem: impl Into<String>,
        expected: impl Into<String>,
        hint: Option<String>,
    ) -> Option<T> {
        let (problem, expected) = (problem.into(), expected.into());
        let file = self.source.path().to_path_buf();
        let place = Some(self.source.place(self.node.span()));
        let key = self.path.clone();
        let diagnostic = Diagnostic { file, place, key, problem, expected, hint };
        self.findings.borrow_mut().diagnostics.push(diagnostic);
        None
    }

    fn wrong_type<T>(&self, expected: impl Display) -> Option<T> {
        let article =
            if matches!(self.node(), DeValue::Array(_) | DeValue::Integer(_)) { "an" } else { "a" };
        let problem = match self.node() {
            DeValue::Table(_) => "is a section".to_owned(),
            DeValue::Array(_) if self.given().starts_with("[[") => {
                format!("{} is a list", self.given())
            }
            other => format!("{} is {article} {}", self.given(), other.type_str()),
        };
        self.fail(problem, format!("give {expected}"))
    }

    /// A whole number as `usize`.
    #[must_use]
    pub fn whole(&self, range: RangeInclusive<u64>) -> Option<usize> {
        self.whole_u64(range).and_then(|number| usize::try_from(number).ok())
    }

    /// A whole number.
    #[must_use]
    pub fn whole_u64(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = self.node() else {
            return self.wrong_type(expected::whole_number(&range));
        };
        // More digits than an i128 holds are out of every range.
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.refuse(expected::whole_number(&range)),
        }
    }

    /// A finite number.
    pub fn real(&self, range: impl RangeBounds<f64>) -> Option<f64> {
        let number = match self.node() {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => {
                i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|i| i as f64)
            }
            _ => return self.wrong_type(expected::real_number(&range)),
        };
        match number {
            Some(number) if number.is_finite() && range.contains(&number) => Some(number),
            _ => self.refuse(expected::real_number(&range)),
        }
    }

    /// `true` or `false`.
    #[must_use]
    pub fn flag(&self) -> Option<bool> {
        match self.node() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.wrong_type("true or false"),
        }
    }

    /// Any text.
    pub fn text(&self, expected: impl Display) -> Option<&'a str> {
        match self.node() {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type(expected),
        }
    }

    /// One of several names.
    pub fn name<T: Copy>(&self, names: &[(&str, T)]) -> Option<T> {
        let expected = expected::one_of(names);
        let given = self.text(&expected)?;
        let found = names.iter().find(|(name, _)| *name == given).map(|(_, value)| *value);
        found.or_else(|| {
            let hint = nearest(given, names.iter().map(|(name, _)| *name));
            let problem = format!("{} is not known", self.given());
            self.fail_with_hint(problem, format!("give {expected}"), hint)
        })
    }

    /// One of several names, or a list of different ones.
    pub fn names<T: Copy + PartialEq>(&self, names: &[(&str, T)]) -> Option<Vec<T>> {
        if !matches!(self.node(), DeValue::Array(_)) {
            return self.name(names).map(|one| vec![one]);
        }
        let mut seen = Vec::new();
        let expected = format!("a list of different names, each {}", expected::one_of(names));
        self.list(1..=names.len(), &expected, |member| {
            let one = member.name(names)?;
            if seen.contains(&one) {
                let problem = format!("{} is given twice", member.given());
                return member.fail(problem, "give each name once");
            }
            seen.push(one);
            Some(one)
        })
    }

    /// The members of a list; `None` if any of them is wrong.
    pub fn list<T>(
        &self,
        length: RangeInclusive<usize>,
        expected: &str,
        read: impl FnMut(&Entry<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(array) = self.node() else {
            return self.wrong_type(expected);
        };
        if !length.contains(&array.len()) {
            let problem = match array.len() {
                0 => "is empty".to_owned(),
                members => format!("has {members} members, more than {}", length.end()),
            };
            return self.fail(problem, format!("give {expected}"));
        }
        let members = array.iter().enumerate().map(|(i, node)| Entry {
            path: format!("{}[{}]", self.path, i + 1),
            node,
            ..*self
        });
        // All members are read before the first `None` counts.
        let mut read = read;
        let read: Vec<Option<T>> = members.map(|member| read(&member)).collect();
        read.into_iter().collect()
    }

    /// A table; keys that `read` does not ask for are refused.
    pub fn section<T>(&self, read: impl FnOnce(&Section<'a>) -> Option<T>) -> Option<T> {
        let DeValue::Table(table) = self.node() else {
            return self.wrong_type(format!("a section [{}]", self.path));
        };
        let (path, span) = (self.path.clone(), self.node.span());
        let section = Section::new(self.source, self.findings, path, span, table);
        let result = read(&section);
        section.finish();
        result
    }
}
