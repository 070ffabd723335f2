//! A manifest with `[table]` as one manifest per network.

use super::network::RunNetworks;
use super::table::{MAX_NETWORKS, NETWORK, SECTION, task_of};
use super::wire::{load_document, load_point};
use super::{Diagnostic, Diagnostics, Manifest, Overrides, Task};
use crate::space::parse_space;
use std::path::Path;
use toml::Table;

/// Reads a manifest with a table: one per network of its space, in the order of [`SearchSpace::networks`], or only
/// that of the network that it chooses.
///
/// # Errors
/// All problems of the manifest, or that the space is too large.
pub(super) fn load_networks(
    path: &Path,
    overrides: &Overrides,
    runs: RunNetworks<'_>,
) -> Result<Vec<Manifest>, Diagnostics> {
    let document = load_document(path, overrides)?;
    if document.has("sweep") {
        let problem = "has both [table] and [sweep]";
        return Err(Diagnostic::of_file(path, problem, "remove one of them").into());
    }
    let first = load_point(path, overrides, runs)?;
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
