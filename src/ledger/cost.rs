//! Judges claims on what a search costs compared with a published one.

use super::Entry;
use crate::claim::{Claim, CostEvidence};
use crate::recipe::MethodName;
use crate::record::Phase;
use crate::report::finished::finished;
use crate::store::RunRow;
use crate::text::{decimal, grouped};

/// The cheapest search decides, since the claim says "up to"; `None` without a search on a GPU.
pub fn entry(claim: &'static Claim, evidence: &CostEvidence, runs: &[RunRow]) -> Option<Entry> {
    let searches = finished(runs).filter_map(|run| Some((run, hours(run, evidence.classes)?)));
    let (run, hours) = searches.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let ratio = evidence.reference / hours;
    Some(Entry {
        claim,
        verdict: claim.compare(ratio),
        measured: format!(
            "{} times less: {} GPU-hours on {} instead of {}",
            decimal(ratio),
            decimal(hours),
            run.environment.device_model(),
            grouped(&format!("{:.0}", evidence.reference))
        ),
        runs: vec![run.id],
    })
}

/// What a search by DMaskingNAS on a GPU took.
fn hours(run: &RunRow, classes: usize) -> Option<f64> {
    let derived = run.architecture.as_ref()?;
    let counts = run.method == MethodName::Dmasking.as_str()
        && run.environment.gpu.is_some()
        && derived.arch.classes == classes;
    let seconds = run.usage(Phase::Search)?.seconds;
    (counts && seconds > 0.0).then(|| seconds / 3600.0)
}
