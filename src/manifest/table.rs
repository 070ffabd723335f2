//! `[table]`: every network of a small space is trained, each by runs of its own.
//!
//! ```toml
//! space = "spaces/table_widths.toml"
//! [table]
//! ```

use super::network::NetworkTask;
use super::wire::{load_document, load_point};
use super::{Diagnostic, Diagnostics, Manifest, Overrides, Task};
use crate::document::{Entry, Section};
use crate::space::{ArchFile, ArchSpec, SearchSpace, parse_space};
use std::path::Path;
use toml::Table;

/// The name of the section.
pub(super) const SECTION: &str = "table";
/// The key that chooses one network.
const NETWORK: &str = "network";

/// More take too long to train.
const MAX_NETWORKS: usize = 5_000;

/// Reads a manifest with a table: one per network of its space, in the order of [`SearchSpace::networks`], or only
/// that of the network that it chooses.
///
/// # Errors
/// All problems of the manifest, or that the space is too large.
pub(super) fn load_networks(
    path: &Path,
    overrides: &Overrides,
) -> Result<Vec<Manifest>, Diagnostics> {
    let document = load_document(path, overrides)?;
    if document.has("sweep") {
        let problem = "has both [table] and [sweep]";
        return Err(Diagnostic::of_file(path, problem, "remove one of them").into());
    }
    let first = load_point(path, overrides)?;
    let chooses = |text: &str| {
        let table: Option<Table> = text.parse().ok();
        table.is_some_and(|table| table[SECTION].get(NETWORK).is_some())
    };
    let text = match &first.task {
        Task::Network(task) if !chooses(&first.text) => task.text.clone(),
        _ => return Ok(vec![first]),
    };
    let space = parse_space(&text, path)?;
    let networks = space.networks(MAX_NETWORKS).unwrap_or_default();
    let manifests = networks.into_iter().enumerate().map(|(number, arch)| {
        let point = format!("{SECTION}.{NETWORK}={number}");
        let set = Overrides { sets: vec![point.clone()], seeds: Vec::new() };
        let full_text = document.clone().with(&set)?.full_text()?;
        let task = Task::Network(Box::new(task_of(&space, &text, number, arch)));
        Ok(Manifest { text: full_text, task, point: vec![point], ..first.clone() })
    });
    manifests.collect()
}

/// Reads the section: the chosen network, or the first.
pub(super) fn read_table(
    s: &Section<'_>,
    section: &Entry<'_>,
    space: Option<&(String, SearchSpace)>,
) -> Option<NetworkTask> {
    let number = s.optional(NETWORK, |value| value.whole(0..=MAX_NETWORKS as u64 - 1));
    let (text, space) = space?;
    let Some(networks) = space.networks(MAX_NETWORKS) else {
        let size = space.size().total;
        let problem = format!("the space \"{}\" has {} networks", space.name, size.grouped());
        return section.fail(problem, format!("give one of at most {MAX_NETWORKS}"));
    };
    let (number, of) = (number?.unwrap_or(0), networks.len());
    let Some(arch) = networks.into_iter().nth(number) else {
        let problem = format!("there is no network {number} in the space \"{}\"", space.name);
        return section.fail(problem, format!("give a number from 0 to {}", of - 1));
    };
    Some(task_of(space, text, number, arch))
}

fn task_of(space: &SearchSpace, text: &str, number: usize, arch: ArchSpec) -> NetworkTask {
    let network = ArchFile {
        name: format!("{}_{number}", space.name),
        description: format!("network {number} of the space {}", space.name),
        arch,
        resize: None,
        published: None,
    };
    NetworkTask { network, text: text.to_owned(), init: None }
}
