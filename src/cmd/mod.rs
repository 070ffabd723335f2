//! The command line: one file per command, each with its `Args` and its `run`.

mod bench;
mod check;
mod data;
mod estimate;
mod execution;
mod list;
mod output;
mod progress;
mod report;
mod run;
mod show;
mod signals;
mod space;
mod study;
mod summary;
mod worker;

use anyhow::{Result, anyhow, bail};
use clap::{Parser, Subcommand};
use output::{is_broken_pipe, message, say, stdout};
use repro::data::data_root;
use repro::document::Complaints;
use repro::store::{Store, StoreError};
use repro::text;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Reproduces FBNetV2's DMaskingNAS: searches architectures, trains them, stores every result.
///
/// An experiment is a manifest (experiments/*.toml). `repro run` executes it once per seed and
/// method: it searches an architecture, trains the derived network from scratch and tests it. All
/// measurements go into an SQLite database, which the other commands read.
#[derive(Debug, Parser)]
#[command(name = "repro", version = env!("REPRO_VERSION"), max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    /// The results database, created if it does not exist [env: REPRO_DB] [default: results.db]
    #[arg(long, global = true, value_name = "PATH", help_heading = PLACES)]
    db: Option<PathBuf>,
    /// The folder with one subfolder per data set [env: REPRO_DATA] [default: repro/data in the
    /// user's cache folder]
    #[arg(long, global = true, value_name = "FOLDER", help_heading = PLACES)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const PLACES: &str = "Database and data";

const AFTER_HELP: &str = "\
Exit codes:
  0    success
  1    a run failed, or the database, the data or the disk cannot be used
  2    the command line, a manifest or a space is wrong; nothing was done
  130  interrupted; measurements made so far are in the database

First steps:
  repro run experiments/smoke.toml
  repro list
  repro report";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    List(list::Args),
    Show(show::Args),
    Report(report::Args),
    Space(space::Args),
    Data(data::Args),
    Bench(bench::Args),
    /// The part of a memory scaling study that measures one point.
    #[command(hide = true)]
    ScalingPoint(worker::Args),
}

/// A mistake on the command line that its parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// How a command ended that returned no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Done,
    /// Something failed that was reported already.
    Failed,
    Interrupted,
}

/// Parses the command line and executes the command.
pub fn main() -> ExitCode {
    let result = catch_panic(|| {
        signals::report_file_size_limit()?;
        let ending = execute(&Cli::parse())?;
        if ending == Ending::Done {
            stdout().flush()?;
        }
        Ok(ending)
    });
    match result {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Failed) => ExitCode::from(1),
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("error: {}", message(&error)));
            ExitCode::from(if error.is::<Complaints>() || error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn execute(cli: &Cli) -> Result<Ending> {
    let database = database(cli.db.clone());
    match &cli.command {
        Command::Run(args) => return run::run(args, &database, &data_root(cli.data.clone())?),
        Command::Check(args) => check::run(args, data_root(cli.data.clone()).ok().as_deref())?,
        Command::List(args) => list::run(args, &existing(&database)?)?,
        Command::Show(args) => show::run(args, &existing(&database)?)?,
        Command::Report(args) => report::run(args, &existing(&database)?)?,
        Command::Space(args) => space::run(args)?,
        Command::Data(args) => data::run(args, &data_root(cli.data.clone())?)?,
        Command::Bench(args) => bench::run(args, &database, &data_root(cli.data.clone())?)?,
        Command::ScalingPoint(args) => worker::run(args, &data_root(cli.data.clone())?)?,
    }
    Ok(Ending::Done)
}

/// The database's path: the flag, else `REPRO_DB`, else `results.db`.
fn database(flag: Option<PathBuf>) -> PathBuf {
    let variable = || std::env::var_os("REPRO_DB").filter(|path| !path.is_empty());
    flag.or_else(|| variable().map(PathBuf::from)).unwrap_or_else(|| PathBuf::from("results.db"))
}

/// Opens the database, or creates it.
///
/// # Errors
/// [`Usage`] where the path cannot name a database of this program, otherwise why it cannot be used.
fn open(path: &Path) -> Result<Store> {
    Store::open(path).map_err(|error| match error {
        StoreError::NoFolder { .. }
        | StoreError::IsFolder(_)
        | StoreError::NotADatabase(_)
        | StoreError::Foreign(_)
        | StoreError::NotWritable { .. } => Usage(error.to_string()).into(),
        _ => error.into(),
    })
}

/// Opens a database to read it, which must not create one.
fn existing(path: &Path) -> Result<Store> {
    if !path.exists() {
        bail!(
            "there is no database at {}; `repro run MANIFEST` creates one, --db PATH names another",
            path.display()
        );
    }
    open(path)
}

/// Turns a panic into an error, so that it is stored and reported like any other failure.
fn catch_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(anyhow!("the program panicked, which is a bug in it: {text}"))
    })
}

/// The command line, quoted for a shell.
fn command_line() -> String {
    let arguments = std::env::args_os().skip(1);
    let words = arguments.map(|word| quoted(&word.to_string_lossy()));
    std::iter::once("repro".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
