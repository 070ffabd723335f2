//! `repro run`: carries out a manifest and stores what comes of it.

use super::estimate::Estimate;
use super::progress::Display;
use super::summary::Summary;
use super::{Ending, Usage, check, command_line, message, say, scaling, signals, text};
use anyhow::{Context, Error, Result, anyhow, bail};
use candle_core::Device;
use repro::data::{self, Presence};
use repro::env::{self, Environment};
use repro::manifest::{self, Experiment, Manifest, Overrides, Scaling};
use repro::memory;
use repro::monitor::{Interrupted, Monitor};
use repro::ops::instruction_set;
use repro::recipe::DatasetName;
use repro::report;
use repro::runner::{self, MemoryNeed, RunPlan, SpaceBottleneck};
use repro::store::{RunRecorder, RunRow, Store, StoreError};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    let overrides = Overrides { sets: args.sets.clone(), seeds: args.seeds.clone() };
    let manifest = match manifest::load_experiment(&args.manifest, &overrides)? {
        Experiment::Runs(manifest) => *manifest,
        Experiment::Scaling(study) => return run_study(&study, args, database, data_root),
    };
    runner::check_budget(&manifest)?;
    let threads = set_threads(args.threads)?;
    let device = args.device.open()?;
    let need = preflight(&manifest, threads, args)?;
    let store = Store::open(database)?;
    let voice = Voice { json: args.json };
    let device_name = args.device.name();
    voice.tell(check::summary(&manifest));
    voice.tell(format_args!("  device  {device_name}, {threads} threads"));
    voice.tell(format_args!("  memory  {need}"));
    voice.tell(format_args!("  into    {}\n", database.display()));

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
    let runs = session.execute(&manifest, voice)?;
    if let Some(last) = runs.rows.last() {
        voice.tell(report::results_table(&runs.rows));
        voice.tell(next_steps(last, database));
    }
    Ok(match (stop.load(Ordering::Relaxed) && !runs.complete, runs.failed) {
        (true, _) => Ending::Interrupted,
        (false, true) => Ending::Failed,
        (false, false) => Ending::Done,
    })
}

/// Carries out a memory scaling study.
fn run_study(study: &Scaling, args: &Args, database: &Path, data_root: &Path) -> Result<Ending> {
    if !matches!(args.device, DeviceChoice::Cpu) {
        bail!(Usage("a memory scaling study runs on the CPU; leave --device out".to_owned()));
    }
    if args.force {
        let problem = "a memory scaling study predicts what does not fit; leave --force out";
        bail!(Usage(problem.to_owned()));
    }
    let threads = set_threads(args.threads)?;
    let store = &Store::open(database)?;
    let voice = Voice { json: args.json };
    voice.tell(scaling::summary(study));
    voice.tell(format_args!("  device  cpu, {threads} threads"));
    voice.tell(format_args!("  into    {}\n", database.display()));
    fetch_if_absent(study.data.dataset(), data_root, &Display::new())?;
    // Every process reads them again: what is wrong with them is said once, before any run.
    drop(data::load(&study.data, data_root)?);
    memory::release_freed_memory();
    let stop = &signals::stop_flag().context("cannot listen for signals")?;
    let (sets, seeds) = (&args.sets[..], &args.seeds[..]);
    let course = scaling::Course { store, data_root, sets, seeds, threads, stop };
    let mut last = None;
    let ending = scaling::study(study, &course, &mut |id| {
        let row = store.run(id)?;
        voice.json(&Summary::of(&row))?;
        last = Some(row);
        Ok(())
    })?;
    if let (Ending::Done, Some(last)) = (ending, &last) {
        voice.tell(next_steps(last, database));
    }
    Ok(ending)
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
    fn execute(&self, manifest: &Manifest, voice: Voice) -> Result<Runs> {
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
            voice.json(&Summary::of(&row))?;
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
        let left = left.map(|left| format!("; about {} left in all", text::seconds(left)));
        let left = left.unwrap_or_default();
        say(format_args!("run {id} ({number} of {of}): {method}, seed {}{left}", plan.seed));
        let monitor =
            &mut Monitor { recorder: &mut recorder, progress: &self.display, stop: self.stop };
        let result = catch(|| plan.execute(self.data_root, &self.device, monitor));
        self.display.clear();
        Ok((id, settle(id, recorder, result, |recorder, result| recorder.finish(&result))?))
    }
}

/// Records and says how a run ended.
pub(super) fn settle<T>(
    id: i64,
    recorder: RunRecorder,
    result: Result<T>,
    finish: impl FnOnce(RunRecorder, T) -> Result<(), StoreError>,
) -> Result<Ending> {
    Ok(match result {
        Ok(result) => {
            finish(recorder, result)?;
            Ending::Done
        }
        Err(error) if error.is::<Interrupted>() => {
            recorder.interrupt()?;
            say(format_args!("run {id}: {error}"));
            Ending::Interrupted
        }
        Err(error) => {
            let message = message(&error);
            say(format_args!("run {id} failed: {message}"));
            recorder.fail(&message)?;
            Ending::Failed
        }
    })
}

/// A panic is a run's failure like any other: it is recorded, and the others still run.
pub(super) fn catch<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(anyhow!("the program panicked, which is a mistake in it: {text}"))
    })
}

/// Where text for people and lines for programs go. A listener who went away does not end a run.
#[derive(Clone, Copy)]
struct Voice {
    json: bool,
}

impl Voice {
    fn tell(self, text: impl std::fmt::Display) {
        if self.json {
            say(text);
        } else {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    fn json(self, summary: &Summary<'_>) -> Result<()> {
        if self.json {
            let line = serde_json::to_string(summary)?;
            if let Err(error) = writeln!(io::stdout(), "{line}")
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                return Err(Error::from(error).context("standard output"));
            }
        }
        Ok(())
    }
}

/// The number of threads that the operators now run on. More than there are cores would only wait
/// for each other, and the results do not depend on it.
pub(super) fn set_threads(threads: Option<u16>) -> Result<usize> {
    if let Some(threads) = threads {
        let (asked, cores) = (usize::from(threads), env::cores());
        if asked > cores {
            say(format_args!("--threads {asked}: there are {cores} cores, so {cores} it is"));
        }
        rayon::ThreadPoolBuilder::new().num_threads(asked.min(cores)).build_global()?;
    }
    Ok(rayon::current_num_threads())
}

/// Fetching is no part of a run: it happens once, and its time says nothing about the method.
pub(super) fn fetch_if_absent(dataset: DatasetName, root: &Path, display: &Display) -> Result<()> {
    if data::presence(dataset, root) == Presence::Absent {
        data::fetch(dataset, root, None, display)?;
    }
    Ok(())
}

fn next_steps(last: &RunRow, database: &Path) -> String {
    let db = match database.to_str() {
        Some("results.db") => String::new(),
        _ => format!(" --db {}", database.display()),
    };
    format!(
        "\nnext: `repro show {}{db}` for this run, `repro list{db}` for all, `repro report{db}` for \
         pages and tables",
        last.id
    )
}
