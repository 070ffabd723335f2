//! `repro export-logs`: runs for TensorBoard and MLflow.

use super::ending::Usage;
use super::output::{say, stdout};
use anyhow::{Error, Result, bail};
use clap::ValueEnum;
use repro::export::logs::{self, LogError, LogFormat};
use repro::report;
use repro::store::{ExperimentKind, Store, StoredRuns};
use repro::text::{plural, printable_name};
use std::io::Write;
use std::path::PathBuf;

/// Write runs for experiment trackers: TensorBoard, MLflow.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro export-logs --format tensorboard logs
  tensorboard --logdir logs

  repro export-logs --format mlflow --experiment fbnetv2_f logs-mlflow
  python logs-mlflow/import.py --tracking-uri sqlite:///mlflow.db
  mlflow ui --backend-store-uri sqlite:///mlflow.db

  tensorboard  one event file per run, in DIR/EXPERIMENT/METHOD-seedN-runID: every measurement as a
               scalar, the settings for the HParams tab, the manifest and the environment as text.
               TensorBoard stores numbers with 7 digits
  mlflow       runs.jsonl, and import.py, which imports it into a tracking store by MLflow's client
               (Python with the package mlflow). A run that was imported before is left as it is.
               If it has been continued since, it is deleted and imported again

A dot in the name of a metric becomes a slash: `train.loss` is `train/loss`. The database has the
times of phases, but not of single measurements. Their times are estimates: those of a metric are
spread evenly over its phase. Memory studies are left out; `repro report` shows them.

A second export to the same folder replaces the first. Files that `repro export-logs` has not
written stay as they are. Equal databases give equal files.

Exit codes: 0 success, 1 the database cannot be read, has no such run, or a file cannot be written,
2 the command line is invalid, there are no runs, or the folder has other files of these names.")]
pub struct Args {
    /// The folder, which is created.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What to write.
    #[arg(long, value_enum)]
    format: Format,
    /// Export only this experiment; may be repeated.
    #[arg(long, value_name = "NAME")]
    experiment: Vec<String>,
    /// Export only this run; may be repeated.
    #[arg(long, value_name = "ID")]
    run: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Tensorboard,
    Mlflow,
}

/// # Errors
/// When the database cannot be read, has no such run, or a file cannot be written.
pub fn run(args: &Args, store: &Store) -> Result<()> {
    let StoredRuns { rows, damaged } = store.runs()?;
    for run in &damaged {
        say(run);
    }
    let mut runs = report::select(rows, &args.experiment, &args.run)?;
    let selected = runs.len();
    runs.retain(|run| run.settings.kind != ExperimentKind::MemoryStudy);
    if runs.len() < selected {
        say(format_args!("memory studies are left out: {}", plural(selected - runs.len(), "run")));
    }
    if runs.is_empty() {
        bail!(Usage("there are no runs to export".to_owned()));
    }
    let format = match args.format {
        Format::Tensorboard => LogFormat::Tensorboard,
        Format::Mlflow => LogFormat::Mlflow,
    };
    logs::write(store, &runs, format, &args.folder).map_err(explained)?;
    let folder = printable_name(&args.folder.display().to_string());
    let runs = plural(runs.len(), "run");
    let next = match format {
        LogFormat::Tensorboard => format!("tensorboard --logdir {folder}"),
        LogFormat::Mlflow => {
            format!("python {folder}/import.py --tracking-uri sqlite:///mlflow.db")
        }
    };
    writeln!(stdout(), "{runs} written to {folder}; next: {next}")?;
    Ok(())
}

fn explained(error: LogError) -> Error {
    if error.is_refusal() { Usage(error.to_string()).into() } else { error.into() }
}
