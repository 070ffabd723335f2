//! `repro claims`: the ledger of the paper's claims.

use anyhow::Result;
use repro::claim::{Claim, PublishedNumber};
use repro::ledger::{self, Entry};
use repro::store::Store;
use repro::text;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Judge the paper's claims by all runs of the database.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro claims
  repro claims --json

Each claim has one verdict over all runs:
  reproduced       the measurement reaches the published number within the tolerance
  not reproduced   it does not
  inconclusive     it varies too much to decide
  not comparable   what was measured is not what the claim is about
  not measured     no run of this database bears on the claim

`repro show RUN` shows a run that a verdict is based on. The files in claims/ have the source of each
published number, and the reason for each tolerance.")]
pub struct Args {
    /// Print one JSON array, with an object per claim.
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When the database cannot be read.
pub fn run(args: &Args, store: &Store) -> Result<()> {
    let runs = store.runs()?.rows;
    let points_of = |id| Ok(store.scaling_points(id)?);
    let entries = ledger::entries(&runs, &points_of)?;
    let mut out = io::stdout().lock();
    if args.json {
        let all: Vec<Value> = entries.iter().map(as_json).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    for entry in &entries {
        writeln!(out, "{}", text::printable(&as_text(entry)))?;
    }
    Ok(())
}

fn as_text(entry: &Entry) -> String {
    let Claim { id, statement, source, estimand, manifests, .. } = entry.claim;
    let mut lines = vec![format!("{id}  {statement}"), format!("    verdict    {}", entry.verdict)];
    lines.push(format!("    estimand   {estimand}"));
    if !entry.measured.is_empty() {
        let ids = text::run_ids(entry.runs.iter().copied());
        lines.push(format!("    measured   {} ({ids})", entry.measured));
    }
    if !entry.claim.published.is_empty() {
        lines.push(format!("    published  {}", entry.claim.published_numbers()));
    }
    lines.push(format!("    evidence   {}", manifests.join(", ")));
    lines.push(format!("    source     {source}\n"));
    lines.join("\n")
}

fn as_json(entry: &Entry) -> Value {
    let claim = entry.claim;
    let number = |number: &PublishedNumber| {
        json!({
            "value": number.value,
            "of": number.of,
            "mark": number.mark.to_string(),
            "source": number.source,
        })
    };
    json!({
        "id": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "estimand": claim.estimand,
        "manifests": claim.manifests,
        "verdict": entry.verdict.name(),
        "reason": entry.verdict.reason(),
        "measured": entry.measured,
        "run_ids": entry.runs,
        "published": claim.published.iter().map(number).collect::<Vec<_>>(),
        "tolerance": claim.tolerance.as_ref().map(|t| t.value),
    })
}
