//! `repro list`: runs, one line each.

use super::say;
use super::summary::Summary;
use anyhow::Result;
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use repro::env;
use repro::evaluation;
use repro::recipe::MethodName;
use repro::runner;
use repro::store::{ArchitectureRow, RunRow, RunStatus, Store, StoredRuns};
use repro::text::{self, Table, or_dash};
use serde::Serialize;
use std::io::{self, Write};

/// List runs, the oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro list
  repro list --method dmasking --status finished --sort top1
  repro list --json | grep '\"finished\"'")]
pub struct Args {
    /// Only runs of this experiment.
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// Only runs of this method.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(methods()))]
    method: Option<String>,
    /// Only runs with this status.
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Option<Status>,
    /// What to sort by; top-1 the best first, the rest the smallest first.
    #[arg(long, value_enum, value_name = "KEY", default_value = "run")]
    sort: Sort,
    /// Print one JSON object per run and line: the keys of `repro run --json`, then attempt,
    /// started_at and last_seen_at (seconds since 1970, UTC).
    #[arg(long)]
    json: bool,
}

/// Those of searches, of given networks and of evaluations.
fn methods() -> impl Iterator<Item = &'static str> {
    let searches = MethodName::ALL.into_iter().map(MethodName::as_str);
    searches.chain([runner::GIVEN, evaluation::METHOD])
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Running,
    Finished,
    Failed,
    Interrupted,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    Run,
    Experiment,
    Method,
    Seed,
    Top1,
    Macs,
    Params,
}

impl Args {
    fn wants(&self, run: &RunRow) -> bool {
        let status = self.status.map(|status| match status {
            Status::Running => RunStatus::Running,
            Status::Finished => RunStatus::Finished,
            Status::Failed => RunStatus::Failed,
            Status::Interrupted => RunStatus::Interrupted,
        });
        self.experiment.as_ref().is_none_or(|name| *name == run.experiment)
            && self.method.as_ref().is_none_or(|name| *name == run.method)
            && status.is_none_or(|status| status == run.status)
    }

    /// Equal runs stay in the order of their numbers. Those without the value come last.
    fn sort(&self, runs: &mut [RunRow]) {
        let found = |run: &RunRow, of: fn(&ArchitectureRow) -> u64| {
            run.architecture.as_ref().map_or(u64::MAX, of)
        };
        match self.sort {
            Sort::Run => {}
            Sort::Experiment => runs.sort_by(|a, b| a.experiment.cmp(&b.experiment)),
            Sort::Method => runs.sort_by(|a, b| a.method.cmp(&b.method)),
            Sort::Seed => runs.sort_by_key(|run| run.seed),
            Sort::Top1 => {
                let top1 = |run: &RunRow| run.result.as_ref().map_or(-1.0, |r| r.test_top1);
                runs.sort_by(|a, b| top1(b).total_cmp(&top1(a)));
            }
            Sort::Macs => runs.sort_by_key(|run| found(run, |arch| arch.macs)),
            Sort::Params => runs.sort_by_key(|run| found(run, |arch| arch.params)),
        }
    }
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
    let stored = if args.json { store.runs() } else { store.brief_runs() };
    let StoredRuns { rows: mut runs, damaged } = stored?;
    let is_empty = runs.is_empty();
    runs.retain(|run| args.wants(run));
    args.sort(&mut runs);
    for run in &damaged {
        say(run);
    }
    let mut out = io::stdout().lock();
    if args.json {
        for run in &runs {
            writeln!(out, "{}", serde_json::to_string(&listed(run))?)?;
        }
    } else if runs.is_empty() && !is_empty {
        writeln!(out, "no such runs")?;
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
