//! `repro run`: executes an experiment and stores its results.

mod estimate;
mod jobs;
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
use super::rules::acquire_rules;
use super::signals::StopFlag;
use super::threads::start_threads;
use super::{arch, check, signals, study};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use preflight::Machine;
use repro::env::Environment;
use repro::manifest::{self, Manifest, Overrides};
use repro::recipe::Precision;
use repro::report;
use repro::runner;
use repro::store::{AcquireRules, RunRow, Store};
use repro::study::is_study;
use repro::text;
pub use session::Which;
use session::{Rules, Session};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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

A measurement is in the database within a second, and a checkpoint is written every two minutes
and when the program is stopped. Repeating the command skips finished runs and continues the others
from their last checkpoints, with the results that they would have had without the interruption.
This applies to runs of the same revision of the program. Several processes may execute one manifest
on one database: each run is executed once.

A failed run is stored with its error, and the remaining runs continue. Ctrl-C stops the current
run; a second Ctrl-C ends the program at once.

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
  choices               choices whose probabilities the search learned, or null
  undecided_choices     those whose p is below 2 / options, or 0.75 of two options
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
    /// Repeat runs that are finished.
    #[arg(long)]
    again: bool,
    /// Start unfinished runs over instead of continuing them.
    #[arg(long)]
    fresh: bool,
    /// Number of processes that share the runs and the threads.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
    #[arg(long, hide = true, default_value = "0")]
    again_up_to: i64,
    #[arg(long, hide = true, default_value = "0")]
    fresh_up_to: i64,
    #[arg(long, hide = true)]
    failed_before: Option<f64>,
    #[command(flatten)]
    execution: ExecutionArgs,
}

/// How runs are executed.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct ExecutionArgs {
    /// Number of threads, which does not change the results [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where to compute: cpu, or cuda:N for NVIDIA GPU number N, counted from 0.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = DeviceChoice::parse)]
    device: DeviceChoice,
    /// Minutes between two checkpoints of a run; 0 writes one after every step.
    #[arg(long, value_name = "MINUTES", default_value = "2", value_parser = minutes)]
    checkpoint_minutes: Duration,
    /// Stop after the first run that fails.
    #[arg(long)]
    pub fail_fast: bool,
    /// Do not keep the trained weights, only their hash.
    #[arg(long)]
    discard_weights: bool,
    /// Skip the memory check.
    #[arg(long)]
    force: bool,
    /// Print one JSON object per run on standard output, and all text on standard error.
    #[arg(long)]
    json: bool,
}

/// A number of minutes.
fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "give a number, as in 2 or 0.5".to_owned())?;
    if (0.0..=100_000.0).contains(&minutes) {
        Ok(Duration::from_secs_f64(60.0 * minutes))
    } else {
        Err("give 0 to 100000".to_owned())
    }
}

impl ExecutionArgs {
    /// Where runs would be executed.
    pub fn environment(&self) -> Environment {
        self.device.environment(self.threads.map_or_else(repro::env::cores, usize::from))
    }

    /// Gives another process the same, without the number of threads and the form of the output.
    fn pass_to(&self, command: &mut Command) {
        let Self { device, checkpoint_minutes, fail_fast, discard_weights, force, .. } = self;
        let minutes = checkpoint_minutes.as_secs_f64() / 60.0;
        command.args(["--device", &device.name(), "--checkpoint-minutes", &minutes.to_string()]);
        let flags = [
            (fail_fast, "--fail-fast"),
            (discard_weights, "--discard-weights"),
            (force, "--force"),
        ];
        command.args(flags.iter().filter(|(is_set, _)| **is_set).map(|(_, flag)| flag));
    }
}

impl Args {
    /// The arguments of a memory study.
    ///
    /// # Errors
    /// When options are given that a study does not have.
    fn for_study(&self) -> Result<study::StudyArgs<'_>> {
        let Self { manifest, sets, seeds, again, fresh, jobs, execution, .. } = self;
        if execution.device != DeviceChoice::Cpu {
            bail!(Usage("a memory study runs on the CPU; remove --device".to_owned()));
        }
        if *jobs > 1 {
            let problem = "a memory study measures one point at a time; remove --jobs";
            bail!(Usage(problem.to_owned()));
        }
        if execution.force {
            let problem = "a memory study predicts what does not fit into memory; remove --force";
            bail!(Usage(problem.to_owned()));
        }
        let ExecutionArgs { threads, json, .. } = *execution;
        let (again, fresh) = (*again, *fresh);
        Ok(study::StudyArgs { manifest, sets, seeds, again, fresh, threads, json })
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
    let runs = |run| arch::of_run(run, database);
    let manifests = manifest::load_points(&args.manifest, &overrides, &runs)?;
    if args.jobs > 1 {
        return run_jobs(args, &manifests, database, data);
    }
    let which = |store: &Store| {
        let own = acquire_rules(store, args.again, args.fresh)?;
        Ok(Which::Planned(AcquireRules {
            again_up_to: own.again_up_to.max(args.again_up_to),
            fresh_up_to: own.fresh_up_to.max(args.fresh_up_to),
            failed_before: args.failed_before.unwrap_or(own.failed_before),
            ..own
        }))
    };
    let executor = Executor::new(&args.execution, database, data)?;
    executor.worker(args.failed_before.is_some()).execute(&manifests, &which)
}

/// Executes all runs in several processes.
fn run_jobs(
    args: &Args,
    manifests: &[Manifest],
    database: &Path,
    data: &DataFolder,
) -> Result<Ending> {
    let runs = manifests.iter().flat_map(runner::plans).count();
    let jobs = usize::from(args.jobs).min(runs);
    let threads = args.execution.threads.map_or_else(repro::env::cores, usize::from);
    let each = (threads / jobs).max(1);
    let device = args.execution.device.open()?;
    let memory = check_memory(manifests, &args.execution, data, &device, (each, jobs))?;
    let store = open(database)?;
    let output = Output::new(args.execution.json);
    output.text(check::overviews(manifests));
    output.text(format_args!("  jobs    {jobs}, with {} each", text::plural(each, "thread")));
    output.text(format_args!("  memory  {memory}"));
    output.text(format_args!("  into    {}\n", database.display()));
    let stop = signals::stop_flag().context("cannot handle signals")?;
    let images = manifests.iter().map(|manifest| &manifest.data);
    let data_root = data.fetch_all(images, &Display::new(), &stop)?;
    let (rows, ending) =
        jobs::execute(args, (jobs, each, runs), (&store, database), &data_root, &stop)?;
    print_results(&rows, &store, &output, database);
    Ok(ending)
}

/// Executes manifests, one after the other.
pub struct Executor<'a> {
    args: &'a ExecutionArgs,
    database: &'a Path,
    data: &'a DataFolder,
    threads: usize,
    device: Device,
    /// Set once runs are about to start: before that, a signal ends the program as usual.
    stop: OnceCell<StopFlag>,
    /// Whether another process prints the results.
    is_worker: bool,
}

impl<'a> Executor<'a> {
    /// Starts the threads and opens the device.
    ///
    /// # Errors
    /// When this machine does not have them.
    pub fn new(args: &'a ExecutionArgs, database: &'a Path, data: &'a DataFolder) -> Result<Self> {
        let threads = start_threads(args.threads)?;
        let device = args.device.open()?;
        let (stop, is_worker) = (OnceCell::new(), false);
        Ok(Self { args, database, data, threads, device, stop, is_worker })
    }

    /// For one of several processes.
    fn worker(self, is_worker: bool) -> Self {
        Self { is_worker, ..self }
    }

    fn stop(&self) -> Result<&StopFlag> {
        if let Some(stop) = self.stop.get() {
            return Ok(stop);
        }
        let stop = signals::stop_flag().context("cannot handle signals")?;
        Ok(self.stop.get_or_init(|| stop))
    }

    /// Executes the runs of the manifests that `which` chooses.
    ///
    /// # Errors
    /// When the data set is missing, memory is too small, or the database cannot be used.
    pub fn execute(
        &self,
        manifests: &[Manifest],
        which: &dyn Fn(&Store) -> Result<Which>,
    ) -> Result<Ending> {
        let machine = (self.threads, 1);
        let memory = check_memory(manifests, self.args, self.data, &self.device, machine)?;
        let store = open(self.database)?;
        let output = Output::new(self.args.json);
        self.describe(manifests, &memory, &output);
        let (display, stop) = (Display::new(), self.stop()?);
        let store = store.stopped_by(stop.shared());
        let images = manifests.iter().map(|manifest| &manifest.data);
        let data_root = self.data.fetch_all(images, &display, stop)?;
        for manifest in manifests {
            if let Some(left_out) = runner::check_images(manifest, &data_root)? {
                output.text(format_args!("  images  {left_out}\n"));
            }
        }
        let session = Session {
            store: &store,
            output: &output,
            data_root: &data_root,
            device: &self.device,
            command: command_line(),
            environment: self.args.device.environment(self.threads),
            stop,
            display,
            rules: Rules {
                which: which(&store)?,
                checkpoint_interval: self.args.checkpoint_minutes,
                fail_fast: self.args.fail_fast,
                discard_weights: self.args.discard_weights,
            },
        };
        let runs = session.execute(manifests)?;
        if !self.is_worker {
            print_results(&runs.rows, &store, &output, self.database);
        }
        let ending = runs.ending;
        Ok(if ending == Ending::Done && output.failed() { Ending::Failed } else { ending })
    }

    fn describe(&self, manifests: &[Manifest], memory: &str, output: &Output) {
        let Some(manifest) = manifests.first() else { return };
        output.text(check::overviews(manifests));
        let rounding = match (self.args.device, manifest.precision) {
            (DeviceChoice::Cpu, Precision::F32) => "",
            (DeviceChoice::Cpu, Precision::Tf32) => ", where precision = \"tf32\" has no effect",
            (_, Precision::F32) => ", precision f32",
            (_, Precision::Tf32) => ", precision tf32",
        };
        let device = self.args.device.environment(self.threads).device_with_model();
        let threads = text::plural(self.threads, "thread");
        output.text(format_args!("  device  {device}, {threads}{rounding}"));
        output.text(format_args!("  memory  {memory}"));
        let largest = manifests.iter().map(runner::largest_checkpoint).max().unwrap_or(0);
        let largest = text::bytes(largest);
        output
            .text(format_args!("  resume  checkpoints of up to {largest}, the last two are kept"));
        output.text(format_args!("  into    {}\n", self.database.display()));
    }
}

/// Checks what shows only together with the space, weights and memory, and describes the memory that the largest runs
/// need in so many processes, each with so many threads.
fn check_memory(
    manifests: &[Manifest],
    args: &ExecutionArgs,
    data: &DataFolder,
    device: &Device,
    (threads, processes): (usize, usize),
) -> Result<String> {
    let of_one = |manifest: &Manifest| {
        runner::check_budget(manifest)?;
        let decoding = match data.root_for(&manifest.data) {
            Ok(root) => repro::data::decoding_bytes(&manifest.data, &root, threads),
            Err(_) => 0,
        };
        let (force, processes) = (args.force, processes as u64);
        let machine = Machine { threads, device, force, decoding, processes };
        let memory = preflight::check(manifest, machine)?;
        // Only now, since it takes the memory of the network.
        runner::check_initial_weights(manifest)?;
        Ok(memory)
    };
    let all: Vec<(u64, String)> = manifests.iter().map(of_one).collect::<Result<_>>()?;
    Ok(all.into_iter().max_by_key(|(bytes, _)| *bytes).unwrap_or_default().1)
}

/// The table of results, with warnings and the next commands.
fn print_results(runs: &[RunRow], store: &Store, output: &Output, database: &Path) {
    let Some(last) = runs.last() else { return };
    output.text(report::results_table(runs));
    for run in runs {
        // An error while reading a summary does not make the runs fail.
        let measurements = store.measurements(run.id).unwrap_or_default();
        for warning in report::warnings(run, &measurements) {
            output.text(format_args!("warning: {warning}"));
        }
    }
    output.text(next_steps(last, database));
}
