//! Manifest files: TOML → [`Manifest`].

use super::dataset::read_data;
use super::keys::{PRECISIONS, optional_name, read_scale};
use super::rank::read_rank;
use super::search::{Search, read_search};
use super::train::read_train;
use super::{Diagnostic, Diagnostics, Manifest, Overrides};
use crate::document::{self, Document, Entry, Key, Section, nearest_file};
use crate::recipe::MethodName;
use crate::space::{SearchSpace, parse_space};
use std::path::Path;

/// Reads a manifest of runs and the space that it names.
///
/// # Errors
/// All problems of both, or that the manifest is a memory study.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Manifest, Diagnostics> {
    let document = load_document(path, overrides)?;
    if document.has("scaling") {
        let problem = "is a memory study: it has a section [scaling]";
        let expected = "`repro run` and `repro check` take those; give a manifest of runs here";
        return Err(Diagnostic::of_file(path, problem, expected).into());
    }
    if document.has("sweep") {
        let problem = "has several settings: it has a section [sweep]";
        let expected = "`repro run` and `repro check` take those; give a manifest without it here";
        return Err(Diagnostic::of_file(path, problem, expected).into());
    }
    manifest_of(&document, None)
}

/// Reads a manifest of runs as if it had no such section.
pub(super) fn load_without(
    path: &Path,
    overrides: &Overrides,
    section: &str,
) -> Result<Manifest, Diagnostics> {
    manifest_of(&load_document(path, overrides)?.without(section), None)
}

/// Reads a manifest of runs that is in memory with its space; `path` is for messages.
///
/// # Errors
/// All problems of both.
pub fn parse(
    path: &Path,
    (text, space): (&str, &str),
    overrides: &Overrides,
) -> Result<Manifest, Diagnostics> {
    manifest_of(&Document::new(path, text).with(overrides)?, Some(space))
}

fn manifest_of(document: &Document, space: Option<&str>) -> Result<Manifest, Diagnostics> {
    let manifest = document.read(|s| read(s, document.path(), space))?;
    Ok(Manifest { text: document.full_text()?, ..manifest })
}

/// Every key of a manifest of runs, as its reader asks for them.
#[must_use]
pub fn keys() -> Vec<Key> {
    document::keys(|s| read(s, Path::new("manifest.toml"), None))
}

pub(crate) fn load_document(path: &Path, overrides: &Overrides) -> Result<Document, Diagnostics> {
    let document = Document::load(path)?;
    if document.has("stage") && !document.has("search") && !document.has("scaling") {
        let expected = "give a manifest that names it; `repro space FILE` describes a space";
        return Err(Diagnostic::of_file(path, "is a search space, not a manifest", expected).into());
    }
    document.with(overrides)
}

/// `space` is the text of the space file, if it need not be read.
fn read(s: &Section<'_>, path: &Path, space: Option<&str>) -> Option<Manifest> {
    let name = s.identifier("name");
    let description = s.optional("description", |value| value.text("text in quotes"));
    let seeds = s.require("seeds", SEEDS).and_then(|value| read_seeds(&value));
    let space = s
        .require("space", "the path of a space file, relative to the manifest's folder")
        .and_then(|value| match space {
            Some(text) => s.adopt(parse_space(text, path)).map(|space| (text.to_owned(), space)),
            None => read_space(s, &value, path),
        });
    let mut dataset = None;
    let data = s.section("data", |s| read_data(s, &mut dataset, space.as_ref().map(|(_, s)| s)));
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
    let search = s.section("search", |s| {
        let names = MethodName::ALL.map(|method| (method.as_str(), method));
        let methods = s.names("method", &names).unwrap_or_default();
        read_search(s, &methods, (available, dataset), searched, scale)
    });
    let train = s.section("train", |s| read_train(s, available, dataset, searched, scale));
    let rank_correlation = s.optional("rank_correlation", |value| {
        value.section(|s| read_rank(s, value, data.as_ref(), search.as_ref(), searched))
    });
    let (space_text, space) = space?;
    let Search { config, methods, .. } = search?;
    Some(Manifest {
        path: path.to_path_buf(),
        text: String::new(),
        name: name?,
        description: description?.unwrap_or_default().to_owned(),
        seeds: seeds?,
        precision: precision?,
        space_text,
        space,
        data: data?,
        methods,
        search: config,
        train: train?,
        rank_correlation: rank_correlation?,
        point: Vec::new(),
    })
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
    let given = value.text("the path of a space file, relative to the manifest's folder")?;
    let path = manifest.parent().unwrap_or(Path::new("")).join(given);
    if given.is_empty() || !path.is_file() {
        let expected = "give the path of a space file, relative to the manifest's folder";
        if given.is_empty() || path.exists() {
            return value.fail(format!("{} is not a regular file", value.given()), expected);
        }
        let problem = format!("there is no file {}", path.display());
        // As seen from the manifest again.
        let hint = nearest_file(&path)
            .and_then(|near| Some(Path::new(&near).file_name()?.to_owned()))
            .map(|name| Path::new(given).with_file_name(name).display().to_string());
        return value.fail_with_hint(problem, expected, hint);
    }
    let document = s.adopt(Document::load(&path))?;
    let space = s.adopt(parse_space(document.text(), &path))?;
    Some((document.text().to_owned(), space))
}
