//! The command line: one file per command, each with its `Args` and its `run`.

mod arch;
mod bench;
mod check;
mod claims;
mod command_line;
mod conclude;
mod data;
mod database;
mod dataset;
mod db;
mod device;
mod diff;
mod doctor;
mod ending;
mod eval;
mod export;
mod export_logs;
mod inference;
mod list;
mod output;
mod output_file;
mod panics;
mod predict;
mod program;
mod progress;
mod report;
mod resume;
mod rm;
mod rules;
mod run;
mod selftest;
mod serve;
mod show;
mod signals;
mod space;
mod stored;
mod study;
mod summary;
mod threads;
mod verify_resume;
mod watch;
mod weights;
mod worker;

use anyhow::{Error, Result};
use clap::{Arg, Parser, Subcommand};
use dataset::DataFolder;
use ending::{Ending, Usage};
use output::{is_broken_pipe, message, say, stdout};
use panics::catch_panic;
use repro::data::DataError;
use repro::document::Diagnostics;
use repro::store::StoreError;
use std::io::Write;
use std::path::PathBuf;
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

/// Global options of a command that does not use them: accepted as everywhere, but not in its help.
fn unused<const N: usize>(options: [&'static str; N]) -> [Arg; N] {
    options.map(|name| {
        let parser = clap::value_parser!(PathBuf);
        Arg::new(name).long(name).value_name("PATH").hide(true).value_parser(parser)
    })
}

const AFTER_HELP: &str = "\
Exit codes:
  0    success
  1    a run failed, or the database, the data or the disk cannot be used
  2    the command line is invalid, or a manifest, a space, a run or a database that it names;
       nothing was done
  130  interrupted; measurements made so far are in the database

First steps:
  repro run experiments/smoke.toml
  repro list
  repro report";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Resume(resume::Args),
    #[command(args = unused(["db"]))]
    VerifyResume(verify_resume::Args),
    Check(check::Args),
    #[command(args = unused(["data"]))]
    List(list::Args),
    #[command(args = unused(["data"]))]
    Show(show::Args),
    #[command(args = unused(["data"]))]
    Diff(diff::Args),
    #[command(args = unused(["data"]))]
    Report(report::Args),
    #[command(args = unused(["data"]))]
    Watch(watch::Args),
    #[command(args = unused(["data"]))]
    Serve(serve::Args),
    #[command(args = unused(["data"]))]
    Claims(claims::Args),
    #[command(args = unused(["data"]))]
    Rm(rm::Args),
    #[command(args = unused(["data"]))]
    Db(db::Args),
    #[command(args = unused(["db", "data"]))]
    Space(space::Args),
    #[command(args = unused(["data"]))]
    Arch(arch::Args),
    #[command(args = unused(["data"]))]
    Predict(predict::Args),
    Eval(eval::Args),
    #[command(args = unused(["data"]))]
    Export(export::Args),
    #[command(args = unused(["data"]))]
    ExportLogs(export_logs::Args),
    #[command(args = unused(["db"]))]
    Data(data::Args),
    Bench(bench::Args),
    #[command(args = unused(["db", "data"]))]
    Doctor(doctor::Args),
    #[command(args = unused(["db", "data"]))]
    Selftest(selftest::Args),
    /// Measures one point of a memory study.
    #[command(hide = true)]
    ScalingPoint(worker::Args),
}

/// Parses the command line and executes the command.
pub fn main() -> ExitCode {
    panics::install_hook();
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
        Err(error)
            if matches!(error.downcast_ref(), Some(DataError::Stopped))
                || matches!(error.downcast_ref(), Some(StoreError::Stopped(_))) =>
        {
            say(message(&error));
            ExitCode::from(130)
        }
        Err(error) => {
            say(format_args!("error: {}", message(&error)));
            ExitCode::from(if is_invalid(&error) { 2 } else { 1 })
        }
    }
}

/// Whether the command line or a file that it names is invalid.
fn is_invalid(error: &Error) -> bool {
    let names_no_run = matches!(error.downcast_ref(), Some(StoreError::NoSuchRun { .. }));
    error.is::<Diagnostics>() || error.is::<Usage>() || names_no_run
}

fn execute(cli: &Cli) -> Result<Ending> {
    let database = database::path(cli.db.clone());
    let data = DataFolder::new(cli.data.clone());
    match &cli.command {
        Command::Run(args) => return run::run(args, &database, &data),
        Command::Resume(args) => {
            let store = database::open_existing(&database)?;
            return resume::run(args, &store, &database, &data);
        }
        Command::Check(args) => check::run(args, &database, &data)?,
        Command::List(args) => list::run(args, &database::existing(&database)?)?,
        Command::Show(args) => show::run(args, &database::existing(&database)?)?,
        Command::Diff(args) => diff::run(args, &database::existing(&database)?)?,
        Command::Rm(args) => {
            return rm::run(args, &database::open_existing(&database)?);
        }
        Command::Db(args) => return db::run(args, &database),
        Command::Report(args) => report::run(args, &database::existing(&database)?)?,
        Command::Watch(args) => watch::run(args, &database::existing(&database)?)?,
        Command::Serve(args) => serve::run(args, &database::existing(&database)?)?,
        Command::Claims(args) => claims::run(args, &database::existing(&database)?)?,
        Command::Space(args) => space::run(args)?,
        Command::Arch(args) => arch::run(args, &database)?,
        Command::Predict(args) => return predict::run(args, &database),
        Command::Eval(args) => return eval::run(args, &database),
        Command::Export(args) => export::run(args, &database)?,
        Command::ExportLogs(args) => export_logs::run(args, &database::existing(&database)?)?,
        Command::Data(args) => data::run(args, &data.root()?)?,
        Command::Bench(args) => bench::run(args, &database, &data)?,
        Command::Doctor(args) => doctor::run(args)?,
        Command::Selftest(args) => return selftest::run(args),
        Command::VerifyResume(args) => return verify_resume::run(args, &data),
        Command::ScalingPoint(args) => worker::run(args, &data)?,
    }
    Ok(Ending::Done)
}
