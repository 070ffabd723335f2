//! `[table]`: every network of a small space is trained, each by runs of its own.
//!
//! ```toml
//! space = "spaces/table_widths.toml"
//! [table]
//! ```

use super::network::NetworkTask;
use crate::document::{Entry, Section};
use crate::space::{ArchFile, ArchSpec, SearchSpace};

/// The name of the section.
pub(super) const SECTION: &str = "table";
/// The key that chooses one network.
pub(super) const NETWORK: &str = "network";

/// More take too long to train.
pub(super) const MAX_NETWORKS: usize = 5_000;

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

/// The training of one network of a space, whose text is kept with the run.
pub(super) fn task_of(
    space: &SearchSpace,
    text: &str,
    number: usize,
    arch: ArchSpec,
) -> NetworkTask {
    let network = ArchFile {
        name: format!("{}_{number}", space.name),
        description: format!("network {number} of the space {}", space.name),
        arch,
        resize: None,
        published: None,
    };
    NetworkTask { network, text: text.to_owned(), init: None }
}
