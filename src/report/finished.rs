//! The runs that tables and claims are about.

use crate::store::{RunRow, RunStatus};

/// The runs that have finished.
pub fn finished(runs: &[RunRow]) -> impl Iterator<Item = &RunRow> {
    runs.iter().filter(|run| run.status == RunStatus::Finished)
}
