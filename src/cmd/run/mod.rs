//! `repro run`: executes an experiment and stores its results.

mod estimate;
mod preflight;
mod session;

use super::command_line::command_line;
use super::conclude::next_steps;
use super::database::open;
use super::dataset::DataFolder;
use super::device::DeviceChoice;
use super::ending::{Ending, Usage};
use super::output::Output;
use super::progress::Display;
use super::threads::start_threads;
use super::{check, signals, study};
use anyhow::{Context, Result, bail};
use preflight::Machine;
use repro::manifest::{self, Overrides};
use repro::recipe::Precision;
use repro::report;
use repro::runner;
use repro::study::is_study;
use repro::text;
use session::Session;
use std::path::{Path, PathBuf};

/// Run an experiment: search, derive, train from scratch and test, once per seed and method.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro run experiments/smoke.toml
  repro run experiments/fbnetv2_f.toml --seed 1 --seed 2 --seed 3
  repro run experiments/fbnetv2_f.toml --set search.epochs=20 --set train.epochs=30
  repro run experiments/smoke.toml --json 2>/dev/null

Prints the settings, then progress (on standard error), then a table of results. With --json,
standard output has one JSON object per run instead, also for failed and interrupted runs.

A measurement is in the database within a second. A failed run is stored with its error, and the
remaining runs continue. Ctrl-C stops the current run and keeps its measurements; a second Ctrl-C
ends the program at once. An interrupted memory study starts over.

Exit codes: 0 all runs finished, 1 a run failed, 2 the command line, the manifest or the database's
path is invalid, 130 interrupted.

Keys of --json, null where a run did not get that far:
  run_id                as in `repro show RUN`
  method                of the search
  seed                  of the run
  status                running, finished, failed or interrupted
  arch_id               the derived network
  test_top1             accuracy on the test images, 0 to 1, mean of the training runs
  macs                  multiply-accumulates of the derived network for one image
  params                its parameters
  search_seconds        duration of the search
  train_seconds         duration of the training runs
  peak_bytes            most bytes allocated at once in any phase
  weights_sha256        of the final weights
  experiment            the manifest's name
  dataset               the data set's name
  test_loss             cross-entropy on the test images, in nats
  error                 why the run did not finish, or null
  search_images         images that the search processed
  search_macs           multiply-accumulates that the search executed
  search_architectures  networks that the search evaluated individually
  device                cpu or cuda:N
  gpu                   the GPU's model, or null
  precision             of matrix products, f32 or tf32; always f32 on the CPU")]
pub struct Args {
    /// The experiment file.
    manifest: PathBuf,
    /// Override a manifest key, as in search.epochs=3; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Use this seed instead of the manifest's seeds; may be repeated.
    #[arg(long = "seed", value_name = "N")]
    seeds: Vec<u64>,
    /// Number of threads, which does not change the results [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where to compute: cpu, or cuda:N for NVIDIA GPU number N, counted from 0.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = DeviceChoice::parse)]
    device: DeviceChoice,
    /// Skip the memory check.
    #[arg(long)]
    force: bool,
    /// Print one JSON object per run on standard output, and all text on standard error.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The arguments of a memory study.
    ///
    /// # Errors
    /// When options are given that a study does not have.
    fn for_study(&self) -> Result<study::StudyArgs<'_>> {
        if self.device != DeviceChoice::Cpu {
            bail!(Usage("a memory study runs on the CPU; remove --device".to_owned()));
        }
        if self.force {
            let problem = "a memory study predicts what does not fit into memory; remove --force";
            bail!(Usage(problem.to_owned()));
        }
        let Self { manifest, sets, seeds, threads, json, .. } = self;
        Ok(study::StudyArgs { manifest, sets, seeds, threads: *threads, json: *json })
    }
}

/// Executes all runs, with the database at `database`.
///
/// # Errors
/// When the manifest is invalid, the data set is missing, memory is too small, or the database cannot
/// be used.
pub fn run(args: &Args, database: &Path, data: &DataFolder) -> Result<Ending> {
    if is_study(&args.manifest) {
        return study::run(&args.for_study()?, database, data);
    }
    let overrides = Overrides { sets: args.sets.clone(), seeds: args.seeds.clone() };
    let manifest = manifest::load(&args.manifest, &overrides)?;
    runner::check_budget(&manifest)?;
    let threads = start_threads(args.threads)?;
    let device = args.device.open()?;
    let decoding = match data.root_for(&manifest.data) {
        Ok(root) => repro::data::decoding_bytes(&manifest.data, &root, threads),
        Err(_) => 0,
    };
    let machine = Machine { threads, device: &device, force: args.force, decoding };
    let memory = preflight::check(&manifest, machine)?;
    let store = open(database)?;
    let output = Output::new(args.json);
    let environment = args.device.environment(threads);
    output.text(check::overview(&manifest));
    let rounding = match (args.device, manifest.precision) {
        (DeviceChoice::Cpu, Precision::F32) => "",
        (DeviceChoice::Cpu, Precision::Tf32) => ", where precision = \"tf32\" has no effect",
        (_, Precision::F32) => ", precision f32",
        (_, Precision::Tf32) => ", precision tf32",
    };
    let (name, threads) = (environment.device_with_model(), text::plural(threads, "thread"));
    output.text(format_args!("  device  {name}, {threads}{rounding}"));
    output.text(format_args!("  memory  {memory}"));
    output.text(format_args!("  into    {}\n", database.display()));

    let display = Display::new();
    // Before this line a signal ends the program as usual.
    let stop = signals::stop_flag().context("cannot handle signals")?;
    let store = store.stopped_by(stop.shared());
    let data_root = data.fetch_if_absent(&manifest.data, &display, &stop)?;
    if let Some(left_out) = runner::check_images(&manifest, &data_root)? {
        output.text(format_args!("  images  {left_out}\n"));
    }
    let session = Session {
        store: &store,
        output: &output,
        data_root: &data_root,
        device,
        command: command_line(),
        environment,
        stop: &stop,
        display,
    };
    let runs = session.execute(&manifest)?;
    if let Some(last) = runs.rows.last() {
        output.text(report::results_table(&runs.rows));
        for run in &runs.rows {
            // An error while reading a summary does not make the runs fail.
            let measurements = store.measurements(run.id).unwrap_or_default();
            for warning in report::warnings(run, &measurements) {
                output.text(format_args!("warning: {warning}"));
            }
        }
        output.text(next_steps(last, database));
    }
    Ok(if runs.ending == Ending::Done && output.failed() { Ending::Failed } else { runs.ending })
}
