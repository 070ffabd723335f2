//! `repro rm`: removes runs.

use super::ending::{Ending, Usage};
use super::output::{say, stdout};
use anyhow::{Context, Result, bail};
use repro::store::{Store, StoreError};
use repro::text;
use std::collections::BTreeSet;
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
    let runs: BTreeSet<i64> = args.runs.iter().copied().collect();
    for id in &runs {
        match store.run(*id) {
            Ok(run) => {
                let (status, experiment) = (run.status.name(), &run.experiment);
                say(format_args!(
                    "run {id}: {experiment}, {}, seed {}, {status}",
                    run.method, run.seed
                ));
            }
            Err(damaged @ StoreError::DamagedRun { .. }) => say(damaged),
            Err(error) => return Err(error.into()),
        }
    }
    let runs: Vec<i64> = runs.into_iter().collect();
    let what = text::plural(runs.len(), "run");
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
    store.remove(&runs)?;
    let removed = runs
        .into_iter()
        .map(|id| store.files_of(id).remove().with_context(|| format!("the files of run {id}")));
    // An error does not keep the files of the others.
    removed.collect::<Vec<_>>().into_iter().collect::<Result<()>>()?;
    writeln!(stdout(), "removed {what}")?;
    Ok(Ending::Done)
}
