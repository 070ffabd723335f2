//! The settings that the database stores agree with the reader of manifests.

use repro::manifest::{self, Manifest, Overrides};
use repro::recipe::ImageFolder;
use repro::store::{DEFAULTS, SPACE_DEFAULTS, Settings};
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
    // The keys of image folders and of memory studies do not fit this manifest.
    let fits = |key: &str| !key.starts_with("data.") && !key.starts_with("scaling.");
    let calibration = ("search.random.calibration_batches", "2");
    for (key, default) in DEFAULTS.iter().copied().filter(|(key, _)| fits(key)).chain([calibration])
    {
        let mut without = table.clone();
        if let Some(section) = key.strip_suffix(".last") {
            let schedule = format!("{section}.schedule");
            let (section, name) = parent(&mut without, &schedule);
            section.insert(name.to_owned(), Value::from("cosine"));
        }
        let (section, name) = parent(&mut without, key);
        section.remove(name);
        let mut with = without.clone();
        let value = format!("x = {default}").parse::<Table>().unwrap()["x"].clone();
        let (section, name) = parent(&mut with, key);
        section.insert(name.to_owned(), value);
        let [with, without] = [&with, &without].map(|table| load(&folder, table));
        assert_ne!(with.text, without.text, "{key}");
        let of = |manifest: &Manifest| {
            Settings::of(&manifest.text, &manifest.search().unwrap().space_text)
        };
        assert_eq!(of(&with), of(&without), "{key}");
        assert_eq!(
            Manifest { text: String::new(), ..with },
            Manifest { text: String::new(), ..without },
            "{key}"
        );
    }
}

/// Keys whose default the manual gives as a value, and that value in JSON.
fn documented_defaults() -> Vec<(String, String)> {
    let manual = include_str!("../../../docs/manifest.md");
    let rows = manual.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let key = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((key, *cells.get(3)?))
    });
    // Of image folders, of the images, or of another key.
    let computed = [
        "the images' own side",
        "all",
        "as `search.shared`, else 10",
        "the space's `types`",
        "the table's `name`",
    ];
    let has_none = |default: &str| {
        ["none", "empty", "one of the two is required"].contains(&default)
            || computed.contains(&default)
            || default.starts_with("required")
    };
    rows.filter(|(_, default)| !has_none(default))
        .map(|(key, default)| {
            let value = match (key, default) {
                ("data.mean", "ImageNet's") => format!("{:?}", ImageFolder::MEAN).replace(' ', ""),
                ("data.sd", "ImageNet's") => format!("{:?}", ImageFolder::SD).replace(' ', ""),
                _ => default.replace('`', "\""),
            };
            (key.to_owned(), value)
        })
        .collect()
}

#[test]
fn every_documented_default_is_known() {
    let mut known: Vec<(String, String)> = DEFAULTS
        .iter()
        .chain(SPACE_DEFAULTS)
        .map(|(key, default)| ((*key).to_owned(), (*default).to_owned()))
        .collect();
    let mut documented = documented_defaults();
    known.sort();
    documented.sort();
    assert_eq!(known, documented);
}

#[test]
fn a_written_default_of_a_space_or_study_changes_nothing() {
    let of = |manifest: &str, space: &str| Settings::of(manifest, space).sha256;
    let bare = of("seeds = [1]", "types = 'all'");
    let zero = "scaling.seconds = 0.0";
    assert_eq!(of("scaling.steps = 3", ""), of(&format!("scaling.steps = 3\n{zero}"), ""));
    assert_eq!(of("data.mean = [0.485, 0.456, 0.406]", "types = 'all'"), bare);
    assert_eq!(of("data.sd = [0.229, 0.224, 0.225]", "types = 'all'"), bare);
    assert_eq!(of("", "types = 'all'\nshare_types = false"), bare);
    assert_eq!(of("", "types = 'all'\nexpansion_of = 'largest_input'"), bare);
    assert_ne!(of("", "types = 'all'\nexpansion_of = 'input'"), bare);
    assert_ne!(of("", "types = 'all'\nshare_types = true"), bare);
    // Without shared weights, ten batches are usual.
    assert_eq!(of("search.random.calibration_batches = 10", "types = 'all'"), bare);
    assert_ne!(of("search.random.calibration_batches = 2", "types = 'all'"), bare);
}

#[test]
fn the_stored_budget_is_the_validated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke_compare.toml");
    let manifest = manifest::load(&path, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    let budget = manifest.search().unwrap().config.budget.unwrap();
    let stored =
        Settings::of(&manifest.text, &manifest.search().unwrap().space_text).budget.unwrap();
    assert_eq!(stored.objective, budget.objective.name());
    assert_eq!(
        (stored.bound, stored.tolerance, stored.above),
        (budget.bound, budget.tolerance, budget.above)
    );
}
