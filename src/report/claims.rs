//! The paper's claims that runs bear on, beside what was measured.

use super::finished::finished;
use super::table::{Columns, ReportTable};
use crate::claim::{self, Claim, SpaceGrowth, Verdict};
use crate::recipe::MethodName;
use crate::space::{Dimension, parse_space};
use crate::store::RunRow;
use crate::text::{power_of_ten, run_ids};
use std::collections::BTreeMap;
use std::path::Path;

/// A claim, and what the runs of one space say about it.
pub(crate) struct JudgedSpace<'a> {
    pub claim: &'static Claim,
    pub growth: SpaceGrowth,
    pub verdict: Verdict,
    runs: Vec<&'a RunRow>,
}

impl JudgedSpace<'_> {
    pub(crate) fn ids(&self) -> Vec<i64> {
        self.runs.iter().map(|run| run.id).collect()
    }
}

/// One per claim and space that has a verdict. The claims are about the method's own runs, not about those
/// that it is compared with.
pub(crate) fn judged_spaces(runs: &[RunRow]) -> Vec<JudgedSpace<'_>> {
    // Runs share manifests: each space is read once.
    let mut spaces: BTreeMap<&str, Vec<&RunRow>> = BTreeMap::new();
    let own = |run: &&RunRow| run.method == MethodName::Dmasking.as_str();
    for run in finished(runs).filter(own) {
        spaces.entry(&run.manifest.space_text).or_default().push(run);
    }
    let mut judged = Vec::new();
    for runs in spaces.values() {
        let Some(growth) = growth(runs[0]) else { continue };
        judged.extend(claim::all().iter().filter_map(|claim| {
            let verdict = claim.judge_space(growth)?;
            Some(JudgedSpace { claim, growth, verdict, runs: runs.clone() })
        }));
    }
    judged
}

/// One row per claim and space that has a verdict.
pub fn table(runs: &[RunRow]) -> ReportTable {
    let judged = judged_spaces(runs);
    Columns::of("claims", &judged)
        .text("claim", "claim", |row| format!("{}: {}", row.claim.id, row.claim.statement))
        .text("published", "published", |row| row.claim.published_numbers())
        .text("measured", "measured", |row| {
            let size = power_of_ten(row.growth.by_widths);
            format!("{size} combinations of widths ({})", run_ids(row.ids()))
        })
        .text("verdict", "verdict", |row| row.verdict.to_string())
        .of_runs(JudgedSpace::ids)
        .table()
}

/// `None` where the space cannot be read.
fn growth(run: &RunRow) -> Option<SpaceGrowth> {
    let name = Path::new(&run.manifest.space_name);
    let space = parse_space(&run.manifest.space_text, name).ok()?;
    let by_widths = space.size().along(Dimension::Width).log10();
    Some(SpaceGrowth { by_widths, classes: space.classes })
}
