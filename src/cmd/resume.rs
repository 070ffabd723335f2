//! `repro resume`: continues earlier runs.

use super::dataset::DataFolder;
use super::ending::{Ending, Usage};
use super::output::{message, say};
use super::run::{ExecutionArgs, Executor, Which};
use super::stored::stored_manifest;
use anyhow::{Result, bail};
use repro::env::Environment;
use repro::evaluation;
use repro::store::{RunRow, RunStatus, Store};
use std::collections::BTreeSet;
use std::path::Path;

/// Continue interrupted or failed runs from their last checkpoints.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro resume 12
  repro resume --all

The manifest is the one that is stored with the run, so the file is not needed. The result is the
one that the run would have had without the interruption, provided that the program has the same
revision and the processor is of the same kind; otherwise there is a warning. `repro run MANIFEST`
continues the runs of a manifest.

Exit codes: 0 all runs finished, 1 a run failed, 2 the command line is invalid, 130 interrupted.")]
pub struct Args {
    /// The numbers of the runs, as `repro list` shows them.
    #[arg(value_name = "RUN", required_unless_present = "all")]
    runs: Vec<i64>,
    /// Continue all runs that are interrupted or failed.
    #[arg(long, conflicts_with = "runs")]
    all: bool,
    #[command(flatten)]
    execution: ExecutionArgs,
}

/// Continues the runs one after the other.
///
/// # Errors
/// When there is no such run, or it cannot be continued.
pub fn run(args: &Args, store: &Store, database: &Path, data: &DataFolder) -> Result<Ending> {
    let runs = if args.all {
        let is_left = |run: &RunRow| {
            matches!(run.status, RunStatus::Failed | RunStatus::Interrupted)
                && run.method != evaluation::METHOD
        };
        store.runs()?.rows.into_iter().filter(is_left).collect()
    } else {
        let ids: BTreeSet<i64> = args.runs.iter().copied().collect();
        ids.into_iter().map(|id| Ok(store.run(id)?)).collect::<Result<Vec<_>>>()?
    };
    if runs.is_empty() {
        say("no run is interrupted or failed");
    }
    let executor = Executor::new(&args.execution, database, data)?;
    let mut ending = Ending::Done;
    for run in runs {
        if run.status == RunStatus::Finished {
            say(format_args!("run {} is finished already", run.id));
            continue;
        }
        let ended = stored_manifest(&run).and_then(|(manifest, method)| {
            check_differences(&run, &args.execution.environment())?;
            executor.execute(&[manifest], &|_| Ok(Which::Begun(run.id, method)))
        });
        let ended = match ended {
            Ok(ending) => ending,
            // One that cannot be continued does not keep the others from it.
            Err(error) if args.all => {
                say(format_args!("run {} cannot be continued: {}", run.id, message(&error)));
                Ending::Failed
            }
            Err(error) => return Err(error),
        };
        match ended {
            Ending::Interrupted => return Ok(Ending::Interrupted),
            Ending::Failed => {
                ending = Ending::Failed;
                if args.execution.fail_fast {
                    break;
                }
            }
            Ending::Done => {}
        }
    }
    Ok(ending)
}

/// Warns of another program or processor, which may compute other bits.
///
/// # Errors
/// When the run was started on another device: reports never mix them.
fn check_differences(run: &RunRow, now: &Environment) -> Result<()> {
    let before = &run.environment;
    let is_cpu = |e: &Environment| e.device == "cpu";
    if is_cpu(before) != is_cpu(now) || before.gpu != now.gpu {
        bail!(Usage(format!(
            "run {} was started on {}; give --device {}",
            run.id,
            before.device_with_model(),
            before.device
        )));
    }
    let revision = |e: &Environment| (e.version.clone(), e.git_revision.clone(), e.git_dirty);
    let mut differences = Vec::new();
    if revision(before) != revision(now) {
        let name = before.git_revision.as_deref().unwrap_or(&before.version);
        differences.push(format!("by another revision of the program ({name})"));
    }
    if before.instructions != now.instructions {
        differences
            .push(format!("on a processor with other instructions ({})", before.instructions));
    }
    if !differences.is_empty() {
        say(format_args!(
            "warning: run {} was started {}, so its result may differ from that of an uninterrupted run",
            run.id,
            differences.join(" and ")
        ));
    }
    Ok(())
}
