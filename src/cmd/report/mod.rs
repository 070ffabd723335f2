//! `repro report`: tables, pages and figures from the results database.

mod sources;

pub use sources::Sources;

use super::command_line::command_line;
use super::say;
use anyhow::{Context, Result, ensure};
use repro::env::program_version;
use repro::report::render::{self, ReportFile, ReportFormat};
use repro::report::splice::splice;
use repro::report::{self, Page, Writer, files, index};
use repro::store::{RunStatus, Store};
use repro::study::report::studies_table;
use repro::text;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Write reports from the results database.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro report
  repro report --experiment fbnetv2_f --out elsewhere
  repro report --format html                      one page for a browser, in reports/report.html
  repro report --format latex --format parquet
  repro report --run 3 --run 4 --print
  repro report --splice README.md --index

Runs are averaged and compared only if they have the same settings, precision included, the same
images, and the same device: the CPU, or GPUs of one model. The report says where they differ.

--splice replaces the lines between these two in a Markdown file; without headings the table has all
columns, without `where` all rows:
  <!-- repro: EXPERIMENT/TABLE | HEADING | HEADING | where HEADING = VALUE -->
  <!-- repro: end -->")]
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
    #[arg(long, conflicts_with_all = ["check", "format", "splice", "index"])]
    print: bool,
    /// Also update the tables of the report within this Markdown file; may be repeated.
    #[arg(long, value_name = "FILE")]
    splice: Vec<PathBuf>,
    /// Also write DIR/README.md, a list of all reports in the folder with their verdicts.
    #[arg(long)]
    index: bool,
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
    let sources = Sources::read(store, &args.experiment, &args.run)?;
    let mut out = io::stdout().lock();
    if sources.runs.is_empty() {
        ensure!(
            !args.check,
            "the database has no runs, so there is nothing to compare the reports with"
        );
        writeln!(out, "The database has no runs yet; start one with `repro run MANIFEST`.")?;
        return Ok(());
    }
    if args.print {
        return print(&sources, &mut out);
    }
    let command = command_line();
    let pages = sources.pages(Writer { command_line: &command, program: program_version() })?;
    let formats: BTreeSet<Format> = args.format.iter().copied().collect();
    let mut files = Vec::new();
    for format in formats {
        let details = match format {
            Format::Html => sources.details()?,
            _ => Vec::new(),
        };
        files.extend(render::files(&pages, &details, format.into())?);
    }
    let spliced = args.splice.iter().map(|path| spliced(path, &pages));
    let spliced = spliced.collect::<Result<Vec<_>>>()?;
    if args.check {
        return check(&files, &spliced, args, &mut out);
    }
    let mut written = render::write(&files, &args.out)?;
    for OtherFile { path, text, .. } in spliced {
        written.push(replace(&path, &text)?);
    }
    if args.index {
        let path = args.out.join(index::FILE);
        written.push(replace(&path, &index::index(&args.out)?)?);
    }
    for path in written {
        writeln!(out, "wrote {}", text::printable(&path.display().to_string()))?;
    }
    if !sources.runs.iter().any(|run| run.status == RunStatus::Finished) {
        let what = match sources.runs.len() {
            1 => "The run has not finished; the report lists it.".to_owned(),
            several => format!("None of the {several} runs has finished; the report lists them."),
        };
        writeln!(out, "{what}")?;
    }
    Ok(())
}

/// The results for a terminal.
fn print(sources: &Sources<'_>, out: &mut impl Write) -> Result<()> {
    let (studies, others) = studies_table(&sources.runs, &|id| sources.points(id))?;
    let results = if others.is_empty() { String::new() } else { report::results_table(&others) };
    let mut warnings = String::new();
    for run in &others {
        for warning in report::warnings(run, &sources.measurements(run.id)?) {
            let _ = writeln!(warnings, "warning: {warning}");
        }
    }
    let shown = [results, warnings, studies].into_iter().filter(|part| !part.is_empty());
    write!(out, "{}", text::printable(&shown.collect::<Vec<_>>().join("\n")))?;
    Ok(())
}

/// A file that is not part of the report, but has something of it.
struct OtherFile {
    path: PathBuf,
    text: String,
    is_as_written: bool,
}

fn spliced(path: &Path, pages: &[Page]) -> Result<OtherFile> {
    let place = || path.display().to_string();
    let old = fs::read_to_string(path).with_context(place)?;
    let new = splice(&old, pages).with_context(place)?;
    ensure!(
        new.tables > 0,
        "{}: no table of this report; `repro report --help` shows how to mark a place for one",
        path.display()
    );
    Ok(OtherFile { path: path.to_owned(), is_as_written: new.text == old, text: new.text })
}

fn replace(path: &Path, text: &str) -> Result<PathBuf> {
    let name = path.file_name().context("not a file")?.to_string_lossy();
    files::replace(path.parent().unwrap_or(Path::new("")), &name, text.as_bytes())
}

/// Compares the files with those in the folder.
fn check(
    files: &[ReportFile],
    spliced: &[OtherFile],
    args: &Args,
    out: &mut impl Write,
) -> Result<()> {
    let mut differences = render::differences(files, &args.out)?;
    let differing = spliced.iter().filter(|file| !file.is_as_written);
    differences.extend(
        differing.map(|file| format!("{}: a table differs from the database", file.path.display())),
    );
    if args.index {
        let path = args.out.join(index::FILE);
        if fs::read_to_string(&path).ok() != Some(index::index(&args.out)?) {
            differences.push(format!("{}: differs from the reports", path.display()));
        }
    }
    for difference in &differences {
        say(difference);
    }
    let all = files.len() + spliced.len() + usize::from(args.index);
    ensure!(
        differences.is_empty(),
        "{} of {} differ from the database; run the same command without --check to update them",
        differences.len(),
        text::plural(all, "file")
    );
    writeln!(out, "{} checked: no differences", text::plural(all, "file"))?;
    Ok(())
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
