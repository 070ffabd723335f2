//! One table of a document, read key by key.

use super::{Complaint, Complaints, Document, Place, nearest};
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table. Readers return `None` where they have complained, so that the caller can go on and
/// find the other problems.
pub struct Section<'a> {
    document: &'a Document,
    findings: &'a RefCell<Findings>,
    path: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
    /// Required keys that are not there, with what they should hold. They are told at the end,
    /// because a misspelt key is a better explanation.
    missing: RefCell<Vec<(&'static str, String)>>,
}

/// What reading brought to light.
#[derive(Default)]
pub(super) struct Findings {
    complaints: Vec<Complaint>,
    /// Every section and the keys that it may have.
    sections: Vec<(String, Vec<&'static str>)>,
    /// Which complaints are of a key that its section does not have and whose name is near to
    /// none: it may belong elsewhere.
    strays: Vec<(usize, String)>,
}

impl Findings {
    /// The keys of a section; `None` where nothing was read as this section.
    pub(super) fn keys_of(&self, path: &str) -> Option<&[&'static str]> {
        self.sections.iter().find(|(section, _)| section == path).map(|(_, keys)| &keys[..])
    }

    /// The first complaint of a key.
    pub(super) fn complaint(&self, key: &str) -> Option<&Complaint> {
        self.complaints.iter().find(|complaint| complaint.key == key)
    }

    /// The complaints; those of stray keys say where such a key belongs, if anywhere.
    pub(super) fn into_complaints(mut self) -> Vec<Complaint> {
        for (index, key) in self.strays {
            let owners = self.sections.iter().filter(|(_, keys)| keys.contains(&key.as_str()));
            let mut homes: Vec<String> = owners
                .map(|(path, _)| match path.as_str() {
                    "" => "at the top, before the first section".to_owned(),
                    path => format!("in [{path}]"),
                })
                .collect();
            homes.dedup();
            if !homes.is_empty() && homes.len() <= MAX_HOMES {
                self.complaints[index].expected = format!("it belongs {}", homes.join(" or "));
            }
        }
        self.complaints
    }
}

/// A key of more sections than this belongs everywhere.
const MAX_HOMES: usize = 4;

/// A value and the key it stands under.
pub struct Value<'a> {
    document: &'a Document,
    findings: &'a RefCell<Findings>,
    path: String,
    node: &'a Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    pub(super) fn root(
        document: &'a Document,
        table: &'a DeTable<'a>,
        findings: &'a RefCell<Findings>,
    ) -> Self {
        Self::new(document, findings, String::new(), 0..0, table)
    }

    fn new(
        document: &'a Document,
        findings: &'a RefCell<Findings>,
        path: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
    ) -> Self {
        let (known, missing) = (RefCell::default(), RefCell::default());
        Self { document, findings, path, span, table, known, missing }
    }

    /// The value of a key that need not be there.
    pub fn get(&self, key: &'static str) -> Option<Value<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let node = self.table.get(key)?;
        let (document, findings) = (self.document, self.findings);
        Some(Value { document, findings, path: self.path_of(key), node })
    }

    /// The value of a key that must be there; `expected` says what it should hold.
    pub fn require(&self, key: &'static str, expected: impl Display) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.missing.borrow_mut().push((key, expected.to_string()));
        }
        value
    }

    /// A key that need not be there: `Some(None)` if it is not, `None` if it is wrong.
    pub fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.get(key).map_or(Some(None), |value| read(&value).map(Some))
    }

    /// A whole number.
    pub fn whole(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<usize> {
        self.require(key, describe_whole(&range))?.whole(range)
    }

    /// A finite number.
    pub fn real(&self, key: &'static str, range: impl RangeBounds<f64>) -> Option<f64> {
        self.require(key, describe_real(&range))?.real(range)
    }

    /// One of several names.
    pub fn name<T: Copy>(&self, key: &'static str, names: &[(&str, T)]) -> Option<T> {
        self.require(key, describe_names(names))?.name(names)
    }

    /// One of several names, or a list of different ones.
    pub fn names<T: Copy + PartialEq>(
        &self,
        key: &'static str,
        names: &[(&str, T)],
    ) -> Option<Vec<T>> {
        self.require(key, describe_names(names))?.names(names)
    }

    /// A short name, fit for a file name and a column of a table.
    pub fn identifier(&self, key: &'static str) -> Option<String> {
        const EXPECTED: &str =
            "1 to 64 letters, digits, \"_\", \"-\" and \".\", the first a letter or digit";
        let value = self.require(key, EXPECTED)?;
        let text = value.text(EXPECTED)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        // Files are named after it: one that begins with a dot would be hidden, or another folder.
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

    /// Complains of a key that makes no sense here, if it is there.
    pub fn forbid(&self, key: &'static str, problem: &str, expected: &str) {
        if let Some(value) = self.get(key) {
            value.complain::<()>(problem, expected);
        }
    }

    /// Adds problems of another file.
    pub fn adopt<T>(&self, result: Result<T, Complaints>) -> Option<T> {
        result.map_err(|other| self.findings.borrow_mut().complaints.extend(other.0)).ok()
    }

    /// Complains of keys that nobody asked for, and of required ones that are not there.
    pub(super) fn finish(self) {
        let known = self.known.take();
        let mut missing = self.missing.take();
        let absent: Vec<&str> =
            known.iter().copied().filter(|key| !self.table.contains_key(*key)).collect();
        for (key, _) in self.table {
            if known.contains(&key.get_ref().as_ref()) {
                continue;
            }
            // What is not there yet is what was probably meant.
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
                let index = findings.complaints.len();
                findings.strays.push((index, key.get_ref().to_string()));
            }
            let place = self.document.place(key.span());
            let path = self.path_of(key.get_ref());
            self.complain_at(place, path, "there is no such key", keys, hint);
        }
        let mut header = self.document.place(self.span.clone());
        if self.path.is_empty() {
            // A key of the top level would have to stand at the top, but no line there is wrong.
            header.source.clear();
        }
        for (key, expected) in missing {
            let (place, expected) = (header.clone(), format!("give {expected}"));
            self.complain_at(place, self.path_of(key), "is missing", expected, None);
        }
        self.findings.borrow_mut().sections.push((self.path, known));
    }

    fn complain_at(
        &self,
        place: Place,
        key: String,
        problem: &str,
        expected: String,
        hint: Option<String>,
    ) {
        let place = Some(place);
        let file = self.document.path().to_path_buf();
        let problem = problem.to_owned();
        let complaint = Complaint { file, place, key, problem, expected, hint };
        self.findings.borrow_mut().complaints.push(complaint);
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'a> Value<'a> {
    /// What stands in the file.
    #[must_use]
    pub fn given(&self) -> String {
        match self.node.get_ref() {
            // The span of a section is its header.
            DeValue::Table(_) => "a section".to_owned(),
            _ => self.document.excerpt(self.node.span()),
        }
    }

    /// The value itself.
    #[must_use]
    pub fn node(&self) -> &'a DeValue<'a> {
        self.node.get_ref()
    }

    /// Complains of this value; returns `None` for the caller to return.
    pub fn complain<T>(
        &self,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) -> Option<T> {
        self.complain_with(problem, expected, None)
    }

    /// Complains that the value is not allowed.
    pub fn refuse<T>(&self, expected: impl Display) -> Option<T> {
        self.complain(format!("{} is not allowed", self.given()), format!("give {expected}"))
    }

    /// Complains of this value and says what it was probably meant to be.
    pub fn complain_with<T>(
        &self,
        problem: impl Into<String>,
        expected: impl Into<String>,
        hint: Option<String>,
    ) -> Option<T> {
        let (problem, expected) = (problem.into(), expected.into());
        let file = self.document.path().to_path_buf();
        let place = Some(self.document.place(self.node.span()));
        let key = self.path.clone();
        let complaint = Complaint { file, place, key, problem, expected, hint };
        self.findings.borrow_mut().complaints.push(complaint);
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
        self.complain(problem, format!("give {expected}"))
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
            return self.wrong_type(describe_whole(&range));
        };
        // More digits than an i128 holds are out of every range.
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.refuse(describe_whole(&range)),
        }
    }

    /// A finite number.
    pub fn real(&self, range: impl RangeBounds<f64>) -> Option<f64> {
        let number = match self.node() {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => {
                i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|i| i as f64)
            }
            _ => return self.wrong_type(describe_real(&range)),
        };
        match number {
            Some(number) if number.is_finite() && range.contains(&number) => Some(number),
            _ => self.refuse(describe_real(&range)),
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
        let expected = describe_names(names);
        let given = self.text(&expected)?;
        let found = names.iter().find(|(name, _)| *name == given).map(|(_, value)| *value);
        found.or_else(|| {
            let hint = nearest(given, names.iter().map(|(name, _)| *name));
            let problem = format!("{} is not known", self.given());
            self.complain_with(problem, format!("give {expected}"), hint)
        })
    }

    /// One of several names, or a list of different ones.
    pub fn names<T: Copy + PartialEq>(&self, names: &[(&str, T)]) -> Option<Vec<T>> {
        if !matches!(self.node(), DeValue::Array(_)) {
            return self.name(names).map(|one| vec![one]);
        }
        let mut seen = Vec::new();
        let expected = format!("a list of different names, each {}", describe_names(names));
        self.list(1..=names.len(), &expected, |member| {
            let one = member.name(names)?;
            if seen.contains(&one) {
                let problem = format!("{} is there twice", member.given());
                return member.complain(problem, "give each name once");
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
        read: impl FnMut(&Value<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(array) = self.node() else {
            return self.wrong_type(expected);
        };
        if !length.contains(&array.len()) {
            let problem = match array.len() {
                0 => "is empty".to_owned(),
                members => format!("has {members} members, more than {}", length.end()),
            };
            return self.complain(problem, format!("give {expected}"));
        }
        let members = array.iter().enumerate().map(|(i, node)| Value {
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
        let section = Section::new(self.document, self.findings, path, span, table);
        let result = read(&section);
        section.finish();
        result
    }
}

fn describe_whole(range: &RangeInclusive<u64>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

fn describe_real(range: &impl RangeBounds<f64>) -> String {
    let low = match range.start_bound() {
        Bound::Included(low) => format!(" of at least {}", tidy(*low)),
        Bound::Excluded(low) => format!(" above {}", tidy(*low)),
        Bound::Unbounded => String::new(),
    };
    let high = match range.end_bound() {
        Bound::Included(high) => format!(" and at most {}", tidy(*high)),
        Bound::Excluded(high) => format!(" and below {}", tidy(*high)),
        Bound::Unbounded => String::new(),
    };
    format!("a finite number{low}{high}")
}

/// Long rows of zeros cannot be counted by eye.
fn tidy(number: f64) -> String {
    if number.abs() >= 1e5 { format!("{number:e}") } else { number.to_string() }
}

fn describe_names<T>(names: &[(&str, T)]) -> String {
    let names: Vec<String> = names.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    match names.as_slice() {
        [one] => one.clone(),
        _ => format!("one of {}", names.join(", ")),
    }
}
