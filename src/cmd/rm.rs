//! `repro rm`: removes runs.

use super::ending::{Ending, Usage};
use super::output::{say, stdout};
use anyhow::{Result, bail};
use repro::runner;
use repro::store::Store;
use repro::text;
use std::io::{self, IsTerminal, Write};

/// Remove runs with their measurements, weights and checkpoints.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro rm 12 13
  repro rm 12 --yes

Asks before anything is removed; without a terminal, --yes is needed. The numbers are not given to
other runs.")]
pub struct Args {
    /// The numbers of the runs, as `repro list` shows them.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<i64>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// # Errors
/// When there is no such run, or one is running.
pub fn run(args: &Args, store: &Store) -> Result<Ending> {
    for id in &args.runs {
        let run = store.run(*id)?;
        let status = run.status.name();
        say(format_args!(
            "run {id}: {}, {}, seed {}, {status}",
            run.experiment, run.method, run.seed
        ));
    }
    let what = text::plural(args.runs.len(), "run");
    if !args.yes {
        if !io::stdin().is_terminal() {
            bail!(Usage(format!("--yes is needed to remove {what} without a terminal")));
        }
        say(format_args!("remove {what}? [y/N]"));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            say("nothing was removed");
            return Ok(Ending::Done);
        }
    }
    store.remove(&args.runs)?;
    for id in &args.runs {
        store.checkpoints(*id).remove()?;
        runner::remove_weights(store.file(), *id)?;
    }
    writeln!(stdout(), "removed {what}")?;
    Ok(Ending::Done)
}
