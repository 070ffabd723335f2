//! `[table]`: every network of a small space is trained, each by runs of its own.
//!
//! ```toml
//! space = "spaces/table_widths.toml"
//! [table]
//! ```

use super::network::NetworkTask;
use super::wire::load_document;
use super::{Diagnostic, Diagnostics, Manifest, Overrides, Task, wire};
use crate::document::{Entry, Section};
use crate::space::{ArchFile, SearchSpace};
use std::path::Path;

/// The name of the section.
pub(super) const SECTION: &str = "table";
/// The key that chooses the network of a run; set for each of them.
pub(super) const NETWORK: &str = "network";

/// More take too long to train.
const MAX_NETWORKS: usize = 10_000;

/// Reads a manifest with a table: one per network of its space, in the order of [`SearchSpace::networks`].
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
    let of_network = |number: usize| {
        let point = format!("{SECTION}.{NETWORK}={number}");
        let sets = overrides.sets.iter().chain([&point]).cloned().collect();
        let overrides = Overrides { sets, seeds: overrides.seeds.clone() };
        Ok(Manifest { point: vec![point], ..wire::load_point(path, &overrides)? })
    };
    let first: Result<Manifest, Diagnostics> = of_network(0);
    let first = first?;
    let networks = match &first.task {
        Task::Network(task) => task.of,
        Task::Search(_) => 1,
    };
    [Ok(first)].into_iter().chain((1..networks).map(of_network)).collect()
}

/// Reads the section: the network of this run.
pub(super) fn read_table(
    s: &Section<'_>,
    section: &Entry<'_>,
    space: Option<&(String, SearchSpace)>,
) -> Option<NetworkTask> {
    let number = s.get(NETWORK);
    let number = number.as_ref().map_or(Some(0), |value| value.whole(0..=MAX_NETWORKS as u64));
    let (text, space) = space?;
    let Some(networks) = space.networks(MAX_NETWORKS) else {
        let size = space.size().total;
        let problem = format!("the space \"{}\" has {} networks", space.name, size.grouped());
        return section.fail(problem, format!("give one of at most {MAX_NETWORKS}"));
    };
    let (number, of) = (number?, networks.len());
    let Some(arch) = networks.into_iter().nth(number) else {
        let problem = format!("there is no network {number} in \"{}\"", space.name);
        return section.fail(problem, format!("give a number from 0 to {}", of - 1));
    };
    let network = ArchFile {
        name: format!("{}_{number}", space.name),
        description: format!("network {number} of the {of} of the space {}", space.name),
        arch,
        resize: None,
        published: None,
    };
    Some(NetworkTask { network, of, text: text.clone(), init: None })
}
