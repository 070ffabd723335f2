//! `repro list`: all runs, one line each.

use super::say;
use super::summary::Summary;
use anyhow::Result;
use repro::env;
use repro::store::{RunRow, Store, StoredRuns};
use repro::text::{self, Table, or_dash};
use serde::Serialize;
use std::io::{self, Write};

/// List all runs, the oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro list
  repro list --json | grep '\"finished\"'")]
pub struct Args {
    /// Print one JSON object per run and line: the keys of `repro run --json`, then attempt,
    /// started_at and last_seen_at (seconds since 1970, UTC).
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ListedRun<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    attempt: u32,
    started_at: f64,
    last_seen_at: f64,
}

/// # Errors
/// When the database cannot be read, or nothing can be written.
pub fn run(args: &Args, store: &Store) -> Result<()> {
    let StoredRuns { rows: runs, damaged } = store.runs()?;
    for run in &damaged {
        say(run);
    }
    let mut out = io::stdout().lock();
    if args.json {
        for run in &runs {
            writeln!(out, "{}", serde_json::to_string(&listed(run))?)?;
        }
    } else if runs.is_empty() {
        writeln!(out, "no runs yet; start one with `repro run MANIFEST`")?;
    } else {
        writeln!(out, "{}", table(&runs))?;
    }
    Ok(())
}

fn listed(run: &RunRow) -> ListedRun<'_> {
    ListedRun {
        summary: Summary::of(run),
        attempt: run.attempt,
        started_at: run.started_at,
        last_seen_at: run.last_seen_at,
    }
}

fn table(runs: &[RunRow]) -> Table {
    let mut table = Table::new([
        ">run",
        "experiment",
        "method",
        ">seed",
        "status",
        "device",
        ">top-1",
        ">MACs",
        "started (UTC)",
        ">duration",
    ]);
    for run in runs {
        table.row([
            run.id.to_string(),
            run.experiment.clone(),
            run.method.clone(),
            run.seed.to_string(),
            run.status.name().to_owned(),
            run.environment.device.clone(),
            or_dash(run.result.as_ref().map(|result| text::percent(result.test_top1))),
            or_dash(run.architecture.as_ref().map(|found| text::count(found.macs))),
            env::utc(run.started_at),
            text::duration(run.last_seen_at - run.started_at),
        ]);
    }
    table
}
