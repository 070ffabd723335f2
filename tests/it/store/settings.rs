//! The settings that the database stores agree with the reader of manifests.

use repro::manifest::{self, Manifest, Overrides};
use repro::store::{DEFAULTS, Settings};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use toml::{Table, Value};

/// The table that holds a dotted key, and the key's last part.
fn parent<'a, 'k>(table: &'a mut Table, key: &'k str) -> (&'a mut Table, &'k str) {
    match key.split_once('.') {
        None => (table, key),
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            parent(inner.as_table_mut().unwrap(), rest)
        }
    }
}

fn load(folder: &TempDir, table: &Table) -> Manifest {
    let path = folder.path().join("manifest.toml");
    fs::write(&path, table.to_string()).unwrap();
    manifest::load(&path, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_default_is_the_same_setting_as_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let text = fs::read_to_string(experiments.join("smoke_compare.toml")).unwrap();
    let mut table: Table = text.parse().unwrap();
    let space = experiments.join(table["space"].as_str().unwrap());
    table.insert("space".to_owned(), Value::from(space.to_str().unwrap()));
    for (key, default) in DEFAULTS {
        let mut without = table.clone();
        let (section, name) = parent(&mut without, key);
        section.remove(name);
        let mut with = without.clone();
        let value = format!("x = {default}").parse::<Table>().unwrap()["x"].clone();
        let (section, name) = parent(&mut with, key);
        section.insert(name.to_owned(), value);
        let [with, without] = [&with, &without].map(|table| load(&folder, table));
        assert_ne!(with.text, without.text, "{key}");
        let of = |manifest: &Manifest| Settings::of(&manifest.text, &manifest.space_text);
        assert_eq!(of(&with), of(&without), "{key}");
        assert_eq!(
            Manifest { text: String::new(), ..with },
            Manifest { text: String::new(), ..without },
            "{key}"
        );
    }
}

#[test]
fn the_stored_budget_is_the_validated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke_compare.toml");
    let manifest = manifest::load(&path, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    let budget = manifest.search.budget.unwrap();
    let stored = Settings::of(&manifest.text, &manifest.space_text).budget.unwrap();
    assert_eq!(stored.objective, budget.objective.name());
    assert_eq!(
        (stored.bound, stored.tolerance, stored.above),
        (budget.bound, budget.tolerance, budget.above)
    );
}
