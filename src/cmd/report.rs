//! `repro report`: tables, pages and figures from the results database.

use super::command_line::command_line;
use super::say;
use anyhow::Result;
use repro::env::program_version;
use repro::ledger;
use repro::report::render::{self, ReportFile, ReportFormat, RunDetails};
use repro::report::{self, Writer};
use repro::store::{Measurement, RunRow, RunStatus, Store, StoredRuns};
use repro::study::report::{studies_table, study_pages};
use repro::text;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

/// Write reports from the results database.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro report
  repro report --experiment fbnetv2_f --out elsewhere
  repro report --format html                      one page for a browser, in reports/report.html
  repro report --format latex --format parquet
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
    /// Output format; may be repeated.
    #[arg(long, value_enum, value_name = "FORMAT", default_values_t = [Format::Md])]
    format: Vec<Format>,
    /// Print the results instead of writing files.
    #[arg(long, conflicts_with_all = ["check", "format"])]
    print: bool,
    /// Write nothing; fail if a file of the report is missing or differs from what the database gives.
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Format {
    /// A Markdown page with figures, and the runs as CSV.
    Md,
    /// One HTML file for all experiments; it works offline.
    Html,
    /// Tables in LaTeX (booktabs, siunitx), and a document that shows them.
    Latex,
    /// The runs and every table as CSV.
    Csv,
    /// The runs and every table as Parquet.
    Parquet,
    /// The page with all values as JSON.
    Json,
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
        anyhow::ensure!(
            !args.check,
            "the database has no runs, so there is nothing to compare the reports with"
        );
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
    let writer = Writer { command_line: &command, program: program_version() };
    let (studies, others) = study_pages(&runs, &points_of, writer)?;
    let mut pages = report::build(&others, &tables, &measurements_of, writer)?;
    pages.extend(studies);
    if everything {
        pages.push(report::networks_page(&runs, writer)?);
        pages.push(ledger::page(&ledger::entries(&runs, &points_of)?, writer)?);
    }
    let formats: BTreeSet<Format> = args.format.iter().copied().collect();
    let mut files = Vec::new();
    for format in formats {
        let details = match format {
            Format::Html => details(&runs, &measurements_of)?,
            _ => Vec::new(),
        };
        files.extend(render::files(&pages, &details, format.into())?);
    }
    if args.check {
        return check(&files, args, &mut out);
    }
    let written = render::write(&files, &args.out)?;
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

/// Compares the files with those in the folder.
fn check(files: &[ReportFile], args: &Args, out: &mut impl Write) -> Result<()> {
    let differences = render::differences(files, &args.out)?;
    for difference in &differences {
        say(difference);
    }
    anyhow::ensure!(
        differences.is_empty(),
        "{} of {} differ from the database; run the same command without --check to update them",
        differences.len(),
        text::plural(files.len(), "file")
    );
    writeln!(out, "{} checked: no differences", text::plural(files.len(), "file"))?;
    Ok(())
}

/// What the HTML page says about each run.
fn details(
    runs: &[RunRow],
    measurements_of: &dyn Fn(i64) -> Result<Vec<Measurement>>,
) -> Result<Vec<RunDetails>> {
    runs.iter().map(|run| Ok(RunDetails::of(run, &measurements_of(run.id)?))).collect()
}

impl From<Format> for ReportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Md => Self::Markdown,
            Format::Html => Self::Html,
            Format::Latex => Self::Latex,
            Format::Csv => Self::Csv,
            Format::Parquet => Self::Parquet,
            Format::Json => Self::Json,
        }
    }
}
