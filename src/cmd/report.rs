//! `repro report`: tables, pages and figures from the results database.

use super::command_line::command_line;
use super::say;
use anyhow::Result;
use repro::report;
use repro::store::{RunStatus, Store, StoredRuns};
use repro::study::report::{studies_table, write_studies};
use repro::text;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

/// Write reports from the results database.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro report
  repro report --experiment fbnetv2_f --out elsewhere
  repro report --run 3 --run 4 --print

Runs are averaged and compared only if they have the same settings, precision included, the same
images, and the same device: the CPU, or GPUs of one model. The report says where they differ.")]
pub struct Args {
    /// The folder to write to.
    #[arg(long, value_name = "DIR", default_value = "reports")]
    out: PathBuf,
    /// Report only this experiment; may be repeated.
    #[arg(long, value_name = "NAME")]
    experiment: Vec<String>,
    /// Report only this run; may be repeated.
    #[arg(long, value_name = "ID")]
    run: Vec<i64>,
    /// Print the results instead of writing files.
    #[arg(long)]
    print: bool,
}

/// # Errors
/// When the database cannot be read, has no such run, or a file cannot be written.
pub fn run(args: &Args, store: &Store) -> Result<()> {
    let StoredRuns { rows, damaged } = store.runs()?;
    for run in &damaged {
        say(run);
    }
    let tables = report::table_runs(&rows);
    let runs = report::select(rows, &args.experiment, &args.run)?;
    let mut out = io::stdout().lock();
    if runs.is_empty() {
        writeln!(out, "The database has no runs yet; start one with `repro run MANIFEST`.")?;
        return Ok(());
    }
    // One query for all runs is faster, but reads runs that are not selected.
    let everything = args.experiment.is_empty() && args.run.is_empty();
    let all = if everything { Some(store.measurements_of(&report::metrics())?) } else { None };
    let measurements_of = |id| match &all {
        Some(all) => Ok(all.get(&id).cloned().unwrap_or_default()),
        None => Ok(store.measurements(id)?),
    };
    let points_of = |id| Ok(store.scaling_points(id)?);
    if args.print {
        let (studies, others) = studies_table(&runs, &points_of)?;
        let results =
            if others.is_empty() { String::new() } else { report::results_table(&others) };
        let mut warnings = String::new();
        for run in &others {
            for warning in report::warnings(run, &measurements_of(run.id)?) {
                let _ = writeln!(warnings, "warning: {warning}");
            }
        }
        let shown = [results, warnings, studies].into_iter().filter(|part| !part.is_empty());
        write!(out, "{}", text::printable(&shown.collect::<Vec<_>>().join("\n")))?;
        return Ok(());
    }
    let command = command_line();
    let (mut written, others) = write_studies(&runs, &points_of, &args.out, &command)?;
    written.extend(report::write(&others, &tables, &measurements_of, &args.out, &command)?);
    for path in written {
        writeln!(out, "wrote {}", text::printable(&path.display().to_string()))?;
    }
    if !runs.iter().any(|run| run.status == RunStatus::Finished) {
        let what = match runs.len() {
            1 => "The run has not finished; the report lists it.".to_owned(),
            several => format!("None of the {several} runs has finished; the report lists them."),
        };
        writeln!(out, "{what}")?;
    }
    Ok(())
}
