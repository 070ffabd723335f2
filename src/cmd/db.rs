//! `repro db`: care of the results database.

use super::database;
use super::ending::{Ending, Usage};
use super::output::stdout;
use super::weights::other_weights;
use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use repro::artifacts::{self, StoredRun};
use repro::report::{self, Format};
use repro::store::{Kept, Merged, RunStatus, Store};
use repro::text;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Check, copy, export and merge results databases.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro db check
  repro db backup results-2026.db
  repro db export --format parquet exported/
  repro db merge other/results.db

Exit codes: 0 success, 1 a check found problems or the database cannot be used, 2 the command
line is invalid.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the file, the references between its tables, and the files beside it.
    Check,
    /// Write a copy to a new file, also while runs are being recorded. It has all numbers; weights and
    /// checkpoints are not copied.
    Backup {
        /// The new file.
        file: PathBuf,
        /// Leave out what was measured at every step of an optimizer: most of the file, but no table
        /// and no figure of a report needs it.
        #[arg(long)]
        without_steps: bool,
    },
    /// Write every table to a file of its own.
    Export {
        /// The folder, which is created.
        folder: PathBuf,
        #[arg(long, value_enum, default_value = "csv")]
        format: ExportFormat,
    },
    /// Take over the runs of another database, with their weights and checkpoints. New runs get new
    /// numbers; runs that are here already are updated if they were continued there.
    Merge {
        /// The other database, which stays as it is.
        file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    Csv,
    Json,
    Parquet,
}

/// # Errors
/// When the database cannot be used.
pub fn run(args: &Args, path: &Path) -> Result<Ending> {
    match &args.command {
        Command::Check => check(&database::existing(path)?),
        Command::Backup { file, without_steps } => {
            let kept = if *without_steps { Kept::WithoutSteps } else { Kept::All };
            database::existing(path)?.backup(file, kept)?;
            writeln!(stdout(), "{}", file.display())?;
            Ok(Ending::Done)
        }
        Command::Export { folder, format } => {
            let format = match format {
                ExportFormat::Csv => Format::Csv,
                ExportFormat::Json => Format::Json,
                ExportFormat::Parquet => Format::Parquet,
            };
            let tables = database::existing(path)?.tables()?;
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            for file in report::export_tables(&tables, folder, format)? {
                writeln!(stdout(), "{}", file.display())?;
            }
            Ok(Ending::Done)
        }
        Command::Merge { file } => merge(path, file),
    }
}

/// Prints what is wrong.
fn check(store: &Store) -> Result<Ending> {
    let mut problems = store.problems()?;
    let runs = store.runs()?;
    problems.extend(runs.damaged.iter().map(ToString::to_string));
    let mut known: BTreeSet<i64> = runs.damaged.iter().map(|run| run.id).collect();
    known.extend(runs.rows.iter().map(|run| run.id));
    // The checkpoints of a running one change meanwhile.
    for run in runs.rows.iter().filter(|run| run.status != RunStatus::Running) {
        let folder = store.files_of(run.id).checkpoints();
        problems.extend(folder.problems());
        problems.extend(other_weights(store, run));
        if run.status == RunStatus::Finished && !folder.ids().is_empty() {
            let folder = folder.path().display();
            problems.push(format!("{folder}: checkpoints of a finished run; they can be removed"));
        }
    }
    let orphans = artifacts::orphans(store.file(), &known);
    problems.extend(orphans.iter().map(|path| format!("{}: of no run here", path.display())));
    let mut out = stdout();
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    let what = format!("{} in {}", text::plural(known.len(), "run"), store.file().display());
    match problems.len() {
        0 => writeln!(out, "{what}: no problems")?,
        n => writeln!(out, "{what}: {}", text::plural(n, "problem"))?,
    }
    Ok(if problems.is_empty() { Ending::Done } else { Ending::Failed })
}

/// Copies the files of a merged run. Those of a run that was here already are copied if an earlier merge could not.
fn copy_files(run: Merged, other: &Path, store: &Store) -> Result<()> {
    let (there, here) = match run {
        Merged::Added { there, here } | Merged::Updated { there, here } => (there, here),
        Merged::Known { there, here } if !store.files_of(here).exist() => (there, here),
        Merged::Known { .. } | Merged::Running { .. } => return Ok(()),
    };
    let files = StoredRun { database: other, id: there };
    if !files.exist() {
        return Ok(());
    }
    files.copy_to(store.files_of(here)).with_context(|| {
        format!(
            "run {there} is run {here} here, but its files cannot be copied; repeat the command"
        )
    })
}

fn merge(path: &Path, other: &Path) -> Result<Ending> {
    if !other.exists() {
        bail!(Usage(format!("there is no database at {}", other.display())));
    }
    let store = database::open(path)?;
    let mut folder = store.file().as_os_str().to_owned();
    folder.push(format!(".merge-{}", std::process::id()));
    let folder = PathBuf::from(folder);
    fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    let merged = store.merge(other, &folder.join("other.db"));
    // If it stays, the next process of this number says so.
    let _ = fs::remove_dir_all(&folder);
    let (merged, other) = merged?;
    let mut out = stdout();
    let (mut added, mut updated) = (0, 0);
    for run in merged {
        copy_files(run, &other, &store)?;
        match run {
            Merged::Added { there, here } => {
                added += 1;
                writeln!(out, "run {there} is run {here} here")?;
            }
            Merged::Updated { there, here } => {
                updated += 1;
                writeln!(out, "run {there} is run {here} here, and was continued there")?;
            }
            Merged::Known { there, here } => {
                writeln!(out, "run {there} is here already, as run {here}")?;
            }
            Merged::Running { there } => writeln!(out, "run {there} is running: left out")?,
        }
    }
    let (added, file) = (text::plural(added, "run"), store.file().display());
    match updated {
        0 => writeln!(out, "{added} added to {file}")?,
        updated => writeln!(out, "{added} added to {file}, {updated} updated")?,
    }
    Ok(Ending::Done)
}
