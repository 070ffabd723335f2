//! The ledger of the paper's claims: one verdict per claim, over all runs of a database.

mod cost;
mod paired;

use crate::claim::{self, Claim, Judge, Verdict};
use crate::report::page::{Page, Part, Section};
use crate::report::table::{Columns, ReportTable};
use crate::report::{Writer, claims::judged_spaces};
use crate::store::RunRow;
use crate::study::report::{PointsOf, StudyVerdict, study_verdicts};
use crate::study::verdict::weakest;
use crate::text::{count, power_of_ten};
use anyhow::Result;
use std::collections::BTreeSet;

/// A claim, and what all runs together say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub claim: &'static Claim,
    pub verdict: Verdict,
    /// What was measured; empty where nothing was.
    pub measured: String,
    /// The runs that the verdict is based on, ascending.
    pub runs: Vec<i64>,
}

/// One entry per claim, in the order of their ids. Runs that have not finished are no evidence, except those
/// of memory studies, whose points count as soon as they are measured.
///
/// # Errors
/// When points of a memory study cannot be read.
pub fn entries(runs: &[RunRow], points_of: PointsOf<'_>) -> Result<Vec<Entry>> {
    let studies = study_verdicts(runs, points_of)?;
    let judge = |claim: &'static Claim| {
        let evidence = match &claim.judge {
            Judge::SpaceGrowth => space_growth(claim, runs),
            Judge::ConstantCost => constant_cost(claim, &studies),
            Judge::PairedSuperiority(evidence) => paired::entry(claim, evidence, runs),
            Judge::CostRatio(evidence) => cost::entry(claim, evidence, runs),
        };
        evidence.unwrap_or_else(|| Entry {
            claim,
            verdict: Verdict::NotMeasured { needs: claim.needs.clone() },
            measured: String::new(),
            runs: Vec::new(),
        })
    };
    Ok(claim::all().iter().map(judge).collect())
}

/// The claim is that spaces reach a size, so the largest space decides.
fn space_growth(claim: &'static Claim, runs: &[RunRow]) -> Option<Entry> {
    let spaces = judged_spaces(runs);
    let own = spaces.into_iter().filter(|space| space.claim.id == claim.id);
    let largest = own.max_by(|a, b| a.growth.by_widths.total_cmp(&b.growth.by_widths))?;
    let size = power_of_ten(largest.growth.by_widths);
    Some(Entry {
        claim,
        runs: largest.ids(),
        measured: format!("{size} combinations of widths"),
        verdict: largest.verdict,
    })
}

/// The claim is about every growing space, so the study with the weakest verdict decides.
fn constant_cost(claim: &'static Claim, studies: &[StudyVerdict]) -> Option<Entry> {
    let verdict = weakest(studies.iter().map(|study| study.verdict.clone()))?;
    let of_study = |study: &StudyVerdict| format!("{}: {}", study.experiment, study.parts);
    let runs: BTreeSet<i64> = studies.iter().flat_map(|study| study.runs.clone()).collect();
    Some(Entry {
        claim,
        verdict,
        measured: studies.iter().map(of_study).collect::<Vec<_>>().join("; "),
        runs: runs.into_iter().collect(),
    })
}

/// One row per claim.
#[must_use]
pub fn table(entries: &[Entry]) -> ReportTable {
    let measured = |entry: &Entry| (!entry.measured.is_empty()).then(|| entry.measured.clone());
    Columns::of("claims", entries)
        .text("id", "id", |entry| entry.claim.id.clone())
        .text("claim", "claim", |entry| entry.claim.statement.clone())
        .text("estimand", "estimand", |entry| entry.claim.estimand.clone())
        .text("verdict", "verdict", |entry| entry.verdict.to_string())
        .maybe_text("measured", "measured", measured)
        .text("published", "published", |entry| entry.claim.published_numbers())
        .runs("runs", |entry| entry.runs.clone())
        .table()
}

/// The page of the ledger.
///
/// # Errors
/// When its data cannot be written.
pub fn page(entries: &[Entry], writer: Writer<'_>) -> Result<Page> {
    let table = table(entries);
    let reproduced = entries.iter().filter(|entry| entry.verdict == Verdict::Reproduced).count();
    let about = format!(
        "{} of {} claims of FBNetV2 (arXiv 2004.05565) are reproduced. Each has one verdict over all runs of \
         the database. The files in `claims/` have the sources of the published numbers and the reasons \
         for the tolerances; a number in brackets is marked by how certain it is.",
        count(reproduced as u64),
        entries.len()
    );
    let runs: BTreeSet<i64> = entries.iter().flat_map(|entry| entry.runs.clone()).collect();
    writer.sign(Page {
        title: "Claims".to_owned(),
        stem: "claims".to_owned(),
        folder: Some("tables"),
        data: table.frame.clone(),
        verdicts: entries
            .iter()
            .map(|entry| format!("{}: {}", entry.claim.id, entry.verdict.name()))
            .collect(),
        sections: vec![Section::opening(vec![Part::marked(&about), Part::Table(table)])],
        runs: runs.into_iter().collect(),
    })
}
