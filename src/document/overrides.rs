//! Overrides from the command line: `--set KEY=VALUE` and `--seed N`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Values of the command line that replace those of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `key=value`: the key is a dotted path, the value is TOML or a bare word.
    pub sets: Vec<String>,
    /// Replaces the manifest's seeds where it is not empty.
    pub seeds: Vec<u64>,
}

/// `key=value` as TOML. A value that is not TOML is taken for a bare word and quoted.
pub(super) fn complete(set: &str) -> Option<String> {
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

/// Merges `from` into `into`: tables are merged, everything else is replaced.
pub(super) fn merge<'a>(into: &mut DeTable<'a>, from: DeTable<'a>) {
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

/// [`merge`] for tables without spans.
pub(super) fn merge_plain(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge_plain(old, new),
            (_, new) => {
                into.insert(key, new);
            }
        }
    }
}
