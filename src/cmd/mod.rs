//! The command line: one file per command, each with its `Args` and its `run`.

mod bench;
mod check;
mod data;
mod estimate;
mod list;
mod progress;
mod report;
mod run;
mod scaling;
mod show;
mod signals;
mod space;
mod summary;
mod text;

use anyhow::{Error, Result, bail};
use clap::{Parser, Subcommand};
use repro::data::data_root;
use repro::document::Complaints;
use repro::store::Store;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Reproduces FBNetV2's DMaskingNAS and keeps every result in a database.
///
/// A manifest (experiments/*.toml) says what to do. `repro run` carries it out - search, derive,
/// train from scratch, test once - and stores every number as it appears; the other commands look
/// at what there is.
#[derive(Debug, Parser)]
#[command(name = "repro", version = env!("REPRO_VERSION"), max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    /// The results database; it is made when there is none [env: REPRO_DB] [default: results.db]
    #[arg(long, global = true, value_name = "PATH", help_heading = PLACES)]
    db: Option<PathBuf>,
    /// The folder with the data sets, one sub-folder each [env: REPRO_DATA] [default: repro/data in
    /// the user's cache folder]
    #[arg(long, global = true, value_name = "FOLDER", help_heading = PLACES)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const PLACES: &str = "Where things are";

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    failed: a run, the database, the data, the disk
  2    the command line, a manifest or a space is not right; nothing was done
  130  interrupted; what had been measured is in the database

Start with:
  repro run experiments/smoke.toml
  repro list";

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
    ScalingPoint(scaling::PointArgs),
}

/// The command line is not right in a way that its parser cannot tell.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Done,
    /// Some runs failed; that was said already.
    Failed,
    Interrupted,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let result = execute(&Cli::parse()).and_then(|ending| {
        io::stdout().flush()?;
        Ok(ending)
    });
    match result {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Failed) => ExitCode::from(1),
        Ok(Ending::Interrupted) => ExitCode::from(130),
        // As `repro list | head -1` does.
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
        Command::ScalingPoint(args) => scaling::point(args, &data_root(cli.data.clone())?)?,
    }
    Ok(Ending::Done)
}

/// The database's path: the flag, else `REPRO_DB`, else `results.db`.
fn database(flag: Option<PathBuf>) -> PathBuf {
    let variable = || std::env::var_os("REPRO_DB").filter(|path| !path.is_empty());
    flag.or_else(|| variable().map(PathBuf::from)).unwrap_or_else(|| PathBuf::from("results.db"))
}

/// Opens the database of earlier runs; looking must not make one.
fn existing(path: &Path) -> Result<Store> {
    if !path.exists() {
        bail!(
            "there is no database at {}; `repro run MANIFEST` makes one, --db PATH names another",
            path.display()
        );
    }
    Ok(Store::open(path)?)
}

/// An error with its causes, each said once: many messages hold their cause already.
fn message(error: &Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| {
        match (said.is_empty(), said.contains(&cause)) {
            (true, _) => cause,
            (_, true) => said,
            _ => format!("{said}: {cause}"),
        }
    })
}

fn is_broken_pipe(error: &Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// The command line as a shell would take it again.
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

/// Says it on standard error; that nobody listens is no reason to stop.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_cause_that_the_message_holds_already_is_not_repeated() {
        let error = anyhow!("disk full").context("cannot write x.db: disk full").context("run 3");
        assert_eq!(message(&error), "run 3: cannot write x.db: disk full");
    }

    #[test]
    fn a_broken_pipe_is_found_below_its_context() {
        let error = Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("writing");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow!("broken pipe")));
    }
}
