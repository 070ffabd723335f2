//! `[sweep]`: a manifest for every combination of values.
//!
//! ```toml
//! [sweep.grid]                                # every combination
//! search.alpha.learning_rate = [0.1, 0.3]
//! train.batch_size = [32, 64]
//! [sweep.zip]                                 # the first of each, the second of each, ...
//! search.epochs = [4, 8]
//! train.epochs = [5, 10]
//! ```

use super::network::RunNetworks;
use super::table_runs::load_networks;
use super::wire::{load_document, load_of_runs, load_without};
use super::{Diagnostic, Diagnostics, Manifest, Overrides, table};
use std::path::Path;
use toml::{Table, Value};

/// The name of the section.
const SECTION: &str = "sweep";

/// More are probably a mistake.
const MAX_POINTS: usize = 10_000;

/// Bytes of all points' manifests, which are in memory together.
const MAX_BYTES: usize = 128 << 20;

/// Keys that have lists of their own.
const LISTS: [&str; 2] = ["seeds", "search.method"];

/// Reads a manifest of runs: one per point of its sweep, in the order of the lists with the last key changing
/// fastest, one per network of its table, or only itself if it has neither. `runs` has the networks of runs.
///
/// # Errors
/// All problems of the sweep, or of the first point that has any.
pub fn load_points(
    path: &Path,
    overrides: &Overrides,
    runs: RunNetworks<'_>,
) -> Result<Vec<Manifest>, Diagnostics> {
    let document = load_document(path, overrides)?;
    if document.has(table::SECTION) {
        return load_networks(path, overrides, runs);
    }
    if !document.has(SECTION) {
        return Ok(vec![load_of_runs(path, overrides, runs)?]);
    }
    let text = document.full_text()?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        Diagnostic::of_file(path, error.message().to_owned(), "")
    })?;
    let points = points(&table, path, text.len())?;
    points
        .into_iter()
        .map(|point| {
            let sets = overrides.sets.iter().chain(&point).cloned().collect();
            let overrides = Overrides { sets, seeds: overrides.seeds.clone() };
            Ok(Manifest { point, ..load_without(path, &overrides, SECTION, runs)? })
        })
        .collect()
}

/// The values of each point, as `key=value`; the manifest has so many bytes.
fn points(table: &Table, path: &Path, bytes: usize) -> Result<Vec<Vec<String>>, Diagnostics> {
    let refuse = |key: &str, problem: &str, expected: &str| -> Diagnostics {
        let diagnostic = Diagnostic::of_file(path, problem.to_owned(), expected);
        Diagnostic { key: key.to_owned(), ..diagnostic }.into()
    };
    let expected = "give [sweep.grid] or [sweep.zip] with a list of values for each key";
    let sweep = table.get(SECTION).and_then(Value::as_table);
    let sweep = sweep.ok_or_else(|| refuse(SECTION, "is not a section", expected))?;
    let mut lists = [Vec::new(), Vec::new()];
    for (name, value) in sweep {
        let kind = ["grid", "zip"].iter().position(|kind| kind == name);
        let (Some(kind), Some(table)) = (kind, value.as_table()) else {
            return Err(refuse(&format!("{SECTION}.{name}"), "is unknown here", expected));
        };
        flatten("", table, &mut lists[kind]);
    }
    for (key, value) in lists.iter().flatten() {
        let at = |problem: &str, expected: &str| Err(refuse(key, problem, expected));
        if LISTS.contains(&key.as_str()) {
            return at("cannot be swept", "it is a list already: give its values there");
        }
        if value.as_array().is_none_or(Vec::is_empty) {
            return at("is not a list of values", "give a list, as in [0.1, 0.3]");
        }
    }
    let [grid, zip] = lists.map(|lists| {
        let values = lists.into_iter().map(|(key, value)| match value {
            Value::Array(list) => (key, list),
            other => (key, vec![other]),
        });
        values.collect::<Vec<_>>()
    });
    let rows = zip.first().map_or(1, |(_, list)| list.len());
    if let Some((key, list)) = zip.iter().find(|(_, list)| list.len() != rows) {
        let problem = format!("has {} values, and {} has {rows}", list.len(), zip[0].0);
        return Err(refuse(key, &problem, "lists of [sweep.zip] have equal lengths"));
    }
    if grid.is_empty() && zip.is_empty() {
        return Err(refuse(SECTION, "has no keys", expected));
    }
    let count = grid.iter().try_fold(rows, |n, (_, list)| n.checked_mul(list.len()));
    let Some(count) = count.filter(|&count| count <= MAX_POINTS) else {
        return Err(refuse(SECTION, "has more than 10000 points", "give shorter lists"));
    };
    if count.saturating_mul(bytes) > MAX_BYTES {
        let problem = "makes manifests of more than 128 MiB together";
        return Err(refuse(SECTION, problem, "give shorter lists or a shorter file"));
    }
    let set = |key: &str, value: &Value| format!("{key}={value}");
    let mut points: Vec<Vec<String>> =
        (0..rows).map(|row| zip.iter().map(|(key, list)| set(key, &list[row])).collect()).collect();
    for (key, list) in &grid {
        let longer = points.iter().flat_map(|point| {
            list.iter().map(move |value| [&point[..], &[set(key, value)]].concat())
        });
        points = longer.collect();
    }
    Ok(points)
}

/// The lists by their dotted keys.
fn flatten(prefix: &str, table: &Table, into: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(&key, inner, into),
            value => into.push((key, value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(text: &str) -> Result<Vec<Vec<String>>, String> {
        let table = text.parse().unwrap();
        points(&table, Path::new("a.toml"), text.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_grid_has_every_combination_and_zipped_lists_go_together() {
        let text = "[sweep.grid]\na.b = [1, 2]\nc = ['x', 'y']\n[sweep.zip]\nd = [0.5, 1]\n\
                    e.f = [[1, 2], [3]]";
        let points = swept(text).unwrap();
        assert_eq!(points.len(), 8);
        assert_eq!(points[0], ["d=0.5", "e.f=[1, 2]", "a.b=1", "c=\"x\""]);
        assert_eq!(points[1], ["d=0.5", "e.f=[1, 2]", "a.b=1", "c=\"y\""]);
        assert_eq!(points[7], ["d=1", "e.f=[3]", "a.b=2", "c=\"y\""]);
    }

    #[test]
    fn mistakes_are_refused() {
        for (text, problem) in [
            ("[sweep]\nepochs = [1]", "sweep.epochs: is unknown here"),
            ("[sweep.grid]", "sweep: has no keys"),
            ("[sweep.grid]\ntrain.epochs = 3", "train.epochs: is not a list of values"),
            ("[sweep.grid]\nseeds = [1, 2]", "seeds: cannot be swept"),
            ("[sweep.zip]\na = [1, 2]\nb = [1]", "b: has 1 values, and a has 2"),
        ] {
            let error = swept(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn many_points_of_a_long_file_are_refused() {
        let numbers: Vec<String> = (0..9_000).map(|n| n.to_string()).collect();
        let text = format!("[sweep.grid]\na = [{}]\n", numbers.join(","));
        let error = swept(&format!("{text}b = ['{}']", "x".repeat(50_000))).unwrap_err();
        assert!(error.contains("sweep: makes manifests of more than 128 MiB"), "{error}");
    }

    #[test]
    fn points_are_manifests_without_the_section() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
        let sets = vec!["sweep.grid.train.epochs=[1, 2]".to_owned()];
        let overrides = Overrides { sets, seeds: vec![7] };
        let points = load_points(&path, &overrides, &|_| Err(String::new())).unwrap();
        let epochs: Vec<usize> = points.iter().map(|point| point.train().unwrap().epochs).collect();
        assert_eq!(epochs, [1, 2]);
        for point in &points {
            assert_eq!(point.seeds, [7]);
            let stored: Table = point.text.parse().unwrap();
            assert!(!stored.contains_key(SECTION));
        }
    }
}
