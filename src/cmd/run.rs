//! `repro run`: carries out a manifest and stores what comes of it.

use super::estimate::Estimate;
use super::execution::{Output, fetch_if_absent, next_steps, set_threads, settle};
use super::progress::Display;
use super::summary::Summary;
use super::{Ending, Usage, catch_panic, check, command_line, say, signals, study, text};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use repro::env::Environment;
use repro::manifest::{self, Manifest, Overrides};
use repro::memory;
use repro::monitor::Monitor;
use repro::ops::instruction_set;
use repro::report;
use repro::runner::{self, MemoryNeed, RunPlan, SpaceBottleneck};
use repro::store::{RunRow, Store};
use repro::study::is_study;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Carry out a manifest: search, derive, train from scratch, test, once per seed and method.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro run experiments/smoke.toml
  repro run experiments/fbnetv2_f.toml --seed 1 --seed 2 --seed 3
  repro run experiments/fbnetv2_f.toml --set search.epochs=20 --set train.epochs=30
  repro run experiments/smoke.toml --json 2>/dev/null

Every number is in the database as soon as it is measured. A run that fails is kept with its error
and the others still run. Ctrl-C ends the run and keeps what it had measured; a second Ctrl-C
ends the program at once. A memory scaling study that was ended is begun anew.")]
pub struct Args {
    /// The experiment file.
    manifest: PathBuf,
    /// Let this value take the place of the manifest's, as in search.epochs=3; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Run with this seed instead of the manifest's; may be repeated.
    #[arg(long = "seed", value_name = "N")]
    seeds: Vec<u64>,
    /// Threads to compute with [default: all cores]; the results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where to compute: cpu, or cuda:N for the GPU of that number.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = parse_device)]
    device: DeviceChoice,
    /// Begin even where the runs are thought to need more memory than is free.
    #[arg(long)]
    force: bool,
    /// Print one line of JSON per run on standard output, and everything else on standard error.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
enum DeviceChoice {
    Cpu,
    Cuda(usize),
}

fn parse_device(given: &str) -> Result<DeviceChoice, String> {
    let cuda = given.strip_prefix("cuda:").and_then(|number| number.parse().ok());
    match (given, cuda) {
        ("cpu", _) => Ok(DeviceChoice::Cpu),
        (_, Some(_)) if !cfg!(feature = "cuda") => {
            Err("this program cannot use GPUs; build with --features cuda".to_owned())
        }
        (_, Some(number)) => Ok(DeviceChoice::Cuda(number)),
        _ => Err("give cpu or cuda:N, as in cuda:0".to_owned()),
    }
}

impl DeviceChoice {
    fn name(self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(number) => format!("cuda:{number}"),
        }
    }

    fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => Device::new_cuda(number)
                .with_context(|| format!("--device cuda:{number}: the GPU cannot be used")),
        }
    }
}

impl Args {
    /// # Errors
    /// When a memory scaling study cannot do what is asked for.
    fn of_study(&self) -> Result<study::Order<'_>> {
        if !matches!(self.device, DeviceChoice::Cpu) {
            bail!(Usage("a memory scaling study runs on the CPU; leave --device out".to_owned()));
        }
        if self.force {
            let problem = "a memory scaling study predicts what does not fit; leave --force out";
            bail!(Usage(problem.to_owned()));
        }
        let Self { manifest, sets, seeds, threads, json, .. } = self;
        Ok(study::Order { manifest, sets, seeds, threads: *threads, json: *json })
    }
}

/// What all runs of one call have in common.
struct Session<'a> {
    store: &'a Store,
    data_root: &'a Path,
    device: Device,
    command: String,
    environment: Environment,
    stop: &'a AtomicBool,
    display: Display,
}

/// Runs the command with the database at `database` and the data sets in `data_root`.
///
/// # Errors
/// When the manifest is not right, the data set cannot be had, or the database cannot be used.
pub fn run(args: &Args, database: &Path, data_root: &Path) -> Result<Ending> {
    if is_study(&args.manifest) {
        return study::run(&args.of_study()?, database, data_root);
    }
    let overrides = Overrides { sets: args.sets.clone(), seeds: args.seeds.clone() };
    let manifest = manifest::load(&args.manifest, &overrides)?;
    runner::check_budget(&manifest)?;
    let threads = set_threads(args.threads)?;
    let device = args.device.open()?;
    let need = preflight(&manifest, threads, args)?;
    let store = Store::open(database)?;
    let output = Output { json: args.json };
    let device_name = args.device.name();
    output.tell(check::summary(&manifest));
    output.tell(format_args!("  device  {device_name}, {threads} threads"));
    output.tell(format_args!("  memory  {need}"));
    output.tell(format_args!("  into    {}\n", database.display()));

    let display = Display::new();
    fetch_if_absent(manifest.data.dataset(), data_root, &display)?;
    runner::check_images(&manifest, data_root)?;
    // Only now: before the runs, a signal ends the program as usual.
    let stop = signals::stop_flag().context("cannot listen for signals")?;
    let session = Session {
        store: &store,
        data_root,
        device,
        command: command_line(),
        environment: Environment::detect(&device_name, threads, instruction_set()),
        stop: &stop,
        display,
    };
    let runs = session.execute(&manifest, output)?;
    if let Some(last) = runs.rows.last() {
        output.tell(report::results_table(&runs.rows));
        output.tell(next_steps(last, database));
    }
    Ok(match (stop.load(Ordering::Relaxed) && !runs.complete, runs.failed) {
        (true, _) => Ending::Interrupted,
        (false, true) => Ending::Failed,
        (false, false) => Ending::Done,
    })
}

/// What the runs need in memory, in words.
///
/// # Errors
/// When less is free, unless the runs are forced.
fn preflight(manifest: &Manifest, threads: usize, args: &Args) -> Result<String> {
    let Some(need) = runner::memory_need(manifest, threads) else {
        return Ok("nothing".to_owned());
    };
    // On a GPU it is another memory.
    let free = memory::available_bytes().filter(|_| matches!(args.device, DeviceChoice::Cpu));
    let Some(free) = free else {
        return Ok(format!("about {} for {}", text::bytes(need.bytes), need.subject()));
    };
    let fits = runner::estimated_resident(need.bytes) <= free;
    if !fits && !args.force {
        bail!("{}: {}", args.manifest.display(), refusal(&need, &manifest.space.name, free));
    }
    let doubt = if fits { "" } else { ": this may fail" };
    let (about, free) = (taken(need.bytes), text::bytes(free));
    Ok(format!("needs about {about} for {}, {free} are free{doubt}", need.subject()))
}

/// What a process takes that has allocated so many bytes.
fn taken(allocated: u64) -> String {
    text::bytes(runner::estimated_resident(allocated))
}

/// Why the runs do not begin, and what would help.
fn refusal(need: &MemoryNeed<'_>, space: &str, free: u64) -> String {
    let mut lines = vec![format!(
        "{} needs about {} of memory at a batch of {}, and {} are free. What needs less:",
        need.subject(),
        taken(need.bytes),
        need.batch(),
        text::bytes(free)
    )];
    lines.extend(need.smaller_settings(free).into_iter().map(|setting| {
        let doubt = if setting.fits { "" } else { ", still too much" };
        format!("  {}: {}{doubt}", setting.options, taken(setting.bytes))
    }));
    match need.bottleneck() {
        SpaceBottleneck::Options => lines.push(format!("  fewer options in {space}")),
        SpaceBottleneck::TypesOrResolutions => {
            lines.push(format!("  fewer block types or resolutions in {space}"));
        }
        SpaceBottleneck::None => {}
    }
    lines.push("or begin nevertheless with --force".to_owned());
    lines.join("\n")
}

/// How the runs of a manifest ended.
#[derive(Default)]
struct Runs {
    rows: Vec<RunRow>,
    failed: bool,
    /// Whether every run came to its own end.
    complete: bool,
}

impl Session<'_> {
    fn execute(&self, manifest: &Manifest, output: Output) -> Result<Runs> {
        let mut runs = Runs::default();
        let mut estimate = Estimate::default();
        let plans: Vec<_> = runner::plans(manifest).collect();
        for (i, plan) in plans.iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(runs);
            }
            let start = Instant::now();
            let to_go = plans[i..].iter().map(|plan| plan.method.name().as_str());
            let left = estimate.left(to_go);
            let (id, ending) = self.carry_out_one(*plan, (i + 1, plans.len()), left)?;
            let row = self.store.run(id)?;
            output.json(&Summary::of(&row))?;
            runs.rows.push(row);
            match ending {
                Ending::Done => {
                    let seconds = start.elapsed().as_secs_f64();
                    estimate.done(plan.method.name().as_str(), seconds);
                }
                Ending::Failed => runs.failed = true,
                Ending::Interrupted => return Ok(runs),
            }
        }
        Ok(Runs { complete: true, ..runs })
    }

    /// The run's id, and how it ended; `left` are the seconds to the end of the last run.
    fn carry_out_one(
        &self,
        plan: RunPlan<'_>,
        (number, of): (usize, usize),
        left: Option<f64>,
    ) -> Result<(i64, Ending)> {
        let mut recorder = self.store.begin(&plan.record(&self.command, &self.environment))?;
        let id = recorder.run_id();
        let method = plan.method.name();
        let left = left.map(|left| format!("; about {} left in all", text::duration(left)));
        let left = left.unwrap_or_default();
        say(format_args!("run {id} ({number} of {of}): {method}, seed {}{left}", plan.seed));
        let monitor =
            &mut Monitor { recorder: &mut recorder, progress: &self.display, stop: self.stop };
        let result = catch_panic(|| plan.execute(self.data_root, &self.device, monitor));
        self.display.clear();
        Ok((id, settle(id, recorder, result, |recorder, result| recorder.finish(&result))?))
    }
}
