//! The paper's claims that runs bear on, beside what was measured.

use super::finished::finished;
use crate::claim::{self, SpaceGrowth};
use crate::recipe::MethodName;
use crate::space::{Dimension, parse_space};
use crate::store::RunRow;
use crate::text::{Table, power_of_ten, run_ids};
use std::collections::BTreeMap;
use std::path::Path;

/// One row per claim and space that has a verdict. The claims are about the method's own runs, not
/// about those that it is compared with.
pub fn table(runs: &[RunRow]) -> Table {
    let mut table = Table::new(["claim", "published", "measured", "verdict"]);
    // Runs share manifests: each space is read once.
    let mut spaces: BTreeMap<&str, Vec<&RunRow>> = BTreeMap::new();
    let own = |run: &&RunRow| run.method == MethodName::Dmasking.as_str();
    for run in finished(runs).filter(own) {
        spaces.entry(&run.manifest.space_text).or_default().push(run);
    }
    for runs in spaces.values() {
        let Some(growth) = growth(runs[0]) else { continue };
        for claim in claim::all() {
            let Some(verdict) = claim.judge_space(growth) else { continue };
            let tolerance = claim.tolerance.as_ref().map(|t| format!("tolerance {}", t.value));
            let numbers = claim.published.iter().map(ToString::to_string).chain(tolerance);
            let size = power_of_ten(growth.by_widths);
            let ids = run_ids(runs.iter().map(|run| run.id));
            table.row([
                format!("{}: {}", claim.id, claim.statement),
                numbers.collect::<Vec<_>>().join("; "),
                format!("{size} combinations of widths ({ids})"),
                verdict.to_string(),
            ]);
        }
    }
    table
}

/// `None` where the space cannot be read.
fn growth(run: &RunRow) -> Option<SpaceGrowth> {
    let name = Path::new(&run.manifest.space_name);
    let space = parse_space(&run.manifest.space_text, name).ok()?;
    let by_widths = space.size().along(Dimension::Width).log10();
    Some(SpaceGrowth { by_widths, classes: space.classes })
}
