//! What two TOML texts differ in, for people.

use std::collections::{BTreeMap, BTreeSet};

/// A key whose value differs between two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDifference {
    /// A dotted path.
    pub key: String,
    /// The values as TOML; `None` where the key is absent.
    pub values: [Option<String>; 2],
}

/// The keys in which two texts differ, except `ignored` ones, by name. Empty also where a text is not
/// TOML.
#[must_use]
pub fn differences(texts: [&str; 2], ignored: &[&str]) -> Vec<KeyDifference> {
    let tables = texts.map(|text| toml::from_str::<toml::Table>(text).ok());
    let [Some(a), Some(b)] = tables else { return Vec::new() };
    let [a, b] = [flat(&a), flat(&b)];
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let wanted = |key: &&String| a.get(*key) != b.get(*key) && !ignored.contains(&key.as_str());
    let difference = |key: &String| KeyDifference {
        key: key.clone(),
        values: [a.get(key).cloned(), b.get(key).cloned()],
    };
    keys.into_iter().filter(wanted).map(difference).collect()
}

/// Every value by its dotted path.
fn flat(table: &toml::Table) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    flatten("", table, &mut values);
    values
}

fn flatten(prefix: &str, table: &toml::Table, values: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            toml::Value::Table(table) => flatten(&format!("{key}."), table, values),
            value => {
                values.insert(key, value.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_are_named_with_both_values() {
        let a = "name = \"a\"\nseeds = [1]\n[search]\nepochs = 2\nimages = 5\n";
        let b = "name = \"a\"\nseeds = [2]\n[search]\nepochs = 3\n";
        let differing = differences([a, b], &["seeds"]);
        let value = |text: &str| Some(text.to_owned());
        let expected =
            [("search.epochs", [value("2"), value("3")]), ("search.images", [value("5"), None])];
        let expected = expected.map(|(key, values)| KeyDifference { key: key.to_owned(), values });
        assert_eq!(differing, expected);
        assert_eq!(differences([a, "not TOML"], &[]), []);
    }
}
