//! Manifest files: TOML → [`Manifest`].

use super::dataset::read_data;
use super::keys::{PRECISIONS, file_of, optional_name, read_scale};
use super::network::{INIT_SHA256, InitialWeights, NetworkSources, RunNetworks, read_network};
use super::rank::read_rank;
use super::search::{Search, read_search};
use super::table::{self, read_table};
use super::table_lookup::{self, LoadTable, Searched, read_lookup};
use super::train::read_train;
use super::{
    Assessment, Diagnostic, Diagnostics, Manifest, NetworkInput, Overrides, SearchTask, Task,
};
use crate::document::{self, Document, Entry, Key, Section};
use crate::recipe::MethodName;
use crate::space::{ArchFile, SearchSpace, parse_space};
use std::path::Path;

/// Reads a manifest of runs with the space or network that it names.
///
/// # Errors
/// All problems of both, or that the manifest is a memory study, has several settings, or names a network by the
/// number of a run.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Manifest, Diagnostics> {
    load_of_runs(path, overrides, &no_runs)
}

/// The same with networks of these runs.
///
/// # Errors
/// As [`load`].
pub fn load_of_runs(
    path: &Path,
    overrides: &Overrides,
    runs: RunNetworks<'_>,
) -> Result<Manifest, Diagnostics> {
    let document = load_document(path, overrides)?;
    for (section, what) in [
        ("scaling", "is a memory study"),
        ("sweep", "has several settings"),
        (table::SECTION, "trains every network of a space"),
    ] {
        if document.has(section) {
            let problem = format!("{what}: it has a section [{section}]");
            let expected = "`repro run` and `repro check` take those; give one without it here";
            return Err(Diagnostic::of_file(path, problem, expected).into());
        }
    }
    manifest_of(document, &NetworkSources { stored: None, runs })
}

/// Reads a manifest of runs as if it had no such section.
pub(super) fn load_without(
    path: &Path,
    overrides: &Overrides,
    section: &str,
    runs: RunNetworks<'_>,
) -> Result<Manifest, Diagnostics> {
    let document = load_document(path, overrides)?.without(section);
    manifest_of(document, &NetworkSources { stored: None, runs })
}

/// Reads a manifest of runs, whatever its sections.
pub(super) fn load_point(
    path: &Path,
    overrides: &Overrides,
    runs: RunNetworks<'_>,
) -> Result<Manifest, Diagnostics> {
    let sources = NetworkSources { stored: None, runs };
    manifest_of(load_document(path, overrides)?, &sources)
}

/// Reads a manifest of runs that is in memory with its space or network; `path` is for messages.
///
/// # Errors
/// All problems of both.
pub fn parse(
    path: &Path,
    (text, stored): (&str, &str),
    overrides: &Overrides,
) -> Result<Manifest, Diagnostics> {
    let sources = NetworkSources { stored: Some(stored), runs: &no_runs };
    manifest_of(Document::new(path, text).with(overrides)?, &sources)
}

fn no_runs(_: i64) -> Result<ArchFile, String> {
    Err("there is no database to look up a run in".to_owned())
}

fn manifest_of(document: Document, sources: &NetworkSources<'_>) -> Result<Manifest, Diagnostics> {
    let path = document.path().to_owned();
    let manifest = document.read(|s| read(s, &path, sources))?;
    let document = match (&manifest.task, &manifest.assessment) {
        (Task::Network(task), _) => pinned(document, task.init.as_ref())?,
        (Task::Search(_), Assessment::Table(experiment)) => {
            let (section, key) = (table_lookup::SECTION, table_lookup::EXPERIMENT);
            let sets = vec![format!("search.{section}.{key}=\"{experiment}\"")];
            document.with(&Overrides { sets, seeds: Vec::new() })?
        }
        (Task::Search(_), Assessment::Training(_)) => document,
    };
    Ok(Manifest { text: document.full_text()?, ..manifest })
}

/// The document with the place of its initial weights, from wherever it is read, and their hash.
fn pinned(document: Document, init: Option<&InitialWeights>) -> Result<Document, Diagnostics> {
    let Some(InitialWeights { path, sha256 }) = init else { return Ok(document) };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let path = toml::Value::String(path.display().to_string());
    let sets = vec![format!("init={path}"), format!("{INIT_SHA256}=\"{sha256}\"")];
    document.with(&Overrides { sets, seeds: Vec::new() })
}

/// Reads the manifest of a table; `None` where it has no such section.
fn load_table(path: &Path) -> Result<Option<Manifest>, Diagnostics> {
    let document = Document::load(path)?;
    let sources = NetworkSources { stored: None, runs: &no_runs };
    document.has(table::SECTION).then(|| manifest_of(document, &sources)).transpose()
}

/// Every key of a manifest of runs, as its reader asks for them.
#[must_use]
pub fn keys() -> Vec<Key> {
    let sources = NetworkSources { stored: None, runs: &no_runs };
    document::keys(|s| read(s, Path::new("manifest.toml"), &sources))
}

pub(crate) fn load_document(path: &Path, overrides: &Overrides) -> Result<Document, Diagnostics> {
    let document = Document::load(path)?;
    if document.has("stage") && !document.has("search") && !document.has("scaling") {
        let expected = "give a manifest that names it; `repro space FILE` describes a space";
        return Err(Diagnostic::of_file(path, "is a search space, not a manifest", expected).into());
    }
    document.with(overrides)
}

fn read(s: &Section<'_>, path: &Path, sources: &NetworkSources<'_>) -> Option<Manifest> {
    let name = s.identifier("name");
    let description = s.optional("description", |value| value.text("text in quotes"));
    let seeds = s.require("seeds", SEEDS).and_then(|value| read_seeds(&value));
    let given = read_network(s, path, sources);
    // Where `arch` is wrong, it is still known that there is no space.
    let has_arch = s.get("arch").is_some();
    let space = if has_arch { None } else { read_named_space(s, path, sources.stored) };
    let table =
        s.optional(table::SECTION, |value| value.section(|s| read_table(s, value, space.as_ref())));
    let is_search = !has_arch && s.get(table::SECTION).is_none();
    if !is_search {
        forbid_search(s, has_arch);
    }
    let input = match (&space, &given) {
        (Some((_, space)), _) => Some(NetworkInput::of_space(space)),
        (None, Some(Some(given))) => Some(NetworkInput::of_network(&given.network)),
        _ => None,
    };
    let mut dataset = None;
    let data = s.section("data", |s| read_data(s, &mut dataset, input.as_ref()));
    let available = match (&data, dataset) {
        (Some(data), Some(dataset)) => {
            dataset.known.map(|known| known.train_images - data.validation_images)
        }
        _ => None,
    };
    let dataset = dataset.map(|dataset| dataset.name);
    let searched = space.as_ref().map(|(_, space)| space);
    let scale = read_scale(s);
    let precision = optional_name(s, "precision", PRECISIONS);
    let mut has_lookup = false;
    let mut lookup = None;
    let search = is_search.then(|| {
        let search = s.section("search", |s| {
            let names = MethodName::ALL.map(|method| (method.as_str(), method));
            let methods = s.names("method", &names).unwrap_or_default();
            has_lookup = s.get(table_lookup::SECTION).is_some();
            lookup = s.optional(table_lookup::SECTION, |value| {
                let searched = Searched { path, data: data.as_ref(), space: searched };
                let load: Option<LoadTable<'_>> =
                    if sources.stored.is_none() { Some(&load_table) } else { None };
                value.section(|s| read_lookup(s, &searched, load))
            });
            read_search(s, &methods, (available, dataset), searched, scale)
        });
        if has_lookup {
            forbid_training(s);
            return (search, Some(None));
        }
        let rank_correlation = s.optional("rank_correlation", |value| {
            value.section(|s| read_rank(s, value, data.as_ref(), search.as_ref(), searched))
        });
        (search, rank_correlation)
    });
    let assessment = if has_lookup {
        lookup.flatten().map(Assessment::Table)
    } else {
        let read = |s: &Section<'_>| read_train(s, available, dataset, input.as_ref(), scale);
        s.section("train", read).map(|train| Assessment::Training(Box::new(train)))
    };
    let task = match (given?, table?, search) {
        (Some(network), ..) | (None, Some(network), _) => Task::Network(Box::new(network)),
        (None, None, search) => {
            let (search, rank_correlation) = search?;
            let Search { config, methods, .. } = search?;
            let ((space_text, space), rank_correlation) = (space?, rank_correlation?);
            let search = SearchTask { space_text, space, methods, config, rank_correlation };
            Task::Search(Box::new(search))
        }
    };
    Some(Manifest {
        path: path.to_path_buf(),
        text: String::new(),
        name: name?,
        description: description?.unwrap_or_default().to_owned(),
        seeds: seeds?,
        precision: precision?,
        data: data?,
        task,
        assessment: assessment?,
        point: Vec::new(),
    })
}

/// The space and its text, which is `stored` if it need not be read.
fn read_named_space(
    s: &Section<'_>,
    path: &Path,
    stored: Option<&str>,
) -> Option<(String, SearchSpace)> {
    let value =
        s.require("space", "the path of a space file, relative to the manifest's folder")?;
    match stored {
        Some(text) => s.adopt(parse_space(text, path)).map(|space| (text.to_owned(), space)),
        None => read_space(s, &value, path),
    }
}

/// Refuses the sections of a search where networks are given.
fn forbid_search(s: &Section<'_>, has_arch: bool) {
    let (problem, expected): (_, &[&'static str]) = if has_arch {
        ("does not apply to a given network", &["space", "search", "rank_correlation"])
    } else {
        ("does not apply to a table, which trains every network", &["search", "rank_correlation"])
    };
    for key in expected {
        s.forbid(key, problem, "remove it");
    }
    if has_arch {
        s.forbid(table::SECTION, problem, "remove it");
    }
}

/// Refuses the sections that train networks where they are looked up.
fn forbid_training(s: &Section<'_>) {
    for key in ["train", "rank_correlation"] {
        let problem = "trains networks, and [search.table] looks them up";
        s.forbid(key, problem, "remove this section, or [search.table]");
    }
}

pub(crate) const SEEDS: &str = "a list of 1 to 1000 seeds, all different";

/// A seed is at most what an `SQLite` integer holds.
pub(crate) fn read_seeds(value: &Entry<'_>) -> Option<Vec<u64>> {
    let mut seen = Vec::new();
    value.list(1..=1000, SEEDS, |member| {
        let seed = member.whole_u64(0..=i64::MAX as u64)?;
        if seen.contains(&seed) {
            return member.fail(format!("seed {seed} is given twice"), "give each seed once");
        }
        seen.push(seed);
        Some(seed)
    })
}

/// The space and its text.
pub(crate) fn read_space(
    s: &Section<'_>,
    value: &Entry<'_>,
    manifest: &Path,
) -> Option<(String, SearchSpace)> {
    let expected = "the path of a space file, relative to the manifest's folder";
    let path = file_of(value, manifest, expected)?;
    let document = s.adopt(Document::load(&path))?;
    let space = s.adopt(parse_space(document.text(), &path))?;
    Some((document.text().to_owned(), space))
}
