//! `repro run` of a memory scaling study.

use super::command_line::command_line;
use super::conclude::{Ends, next_steps};
use super::database::open;
use super::dataset::DataFolder;
use super::ending::{Ending, catch_panic};
use super::output::{Output, message, say};
use super::progress::Display;
use super::signals;
use super::threads::start_threads;
use anyhow::{Context, Result};
use repro::data::describe;
use repro::env::Environment;
use repro::manifest::Overrides;
use repro::memory;
use repro::monitor::Interrupted;
use repro::ops::instruction_set;
use repro::record::StepUsage;
use repro::store::{RunRow, Store};
use repro::study::sweep::{self, News, Point};
use repro::study::{self, Scaling};
use repro::text;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What a command line asks of a study.
pub struct Order<'a> {
    pub manifest: &'a Path,
    pub sets: &'a [String],
    pub seeds: &'a [u64],
    pub threads: Option<u16>,
    pub json: bool,
}

/// Carries out a memory scaling study with the database at `database` and the data sets in
/// `data_root`.
///
/// # Errors
/// When the manifest is not right, the data set cannot be had, or the database cannot be used.
pub fn run(order: &Order<'_>, database: &Path, data: &DataFolder) -> Result<Ending> {
    let Order { sets, seeds, .. } = *order;
    let overrides = Overrides { sets: sets.to_vec(), seeds: seeds.to_vec() };
    let study = &study::load(order.manifest, &overrides)?;
    let threads = start_threads(order.threads)?;
    let store = &open(database)?;
    let output = &Output::new(order.json);
    output.text(summary(study));
    output.text(format_args!("  device  cpu, {threads} threads"));
    output.text(format_args!("  into    {}\n", database.display()));
    let stop = &signals::stop_flag().context("cannot listen for signals")?;
    let data_root = &data.fetch_if_absent(&study.data, &Display::new(), stop)?;
    // Every process reads them again: what is wrong with them is said once, before any run.
    drop(repro::data::load(&study.data, data_root)?);
    memory::release_freed_memory();
    let course = Course { store, output, data_root, sets, seeds, threads, stop };
    let (last, ending) = execute(study, &course)?;
    if let (Ending::Done, Some(last)) = (ending, &last) {
        output.text(next_steps(last, database));
    }
    Ok(if ending == Ending::Done && output.failed() { Ending::Failed } else { ending })
}

/// Where and how a study is carried out.
struct Course<'a> {
    store: &'a Store,
    output: &'a Output,
    data_root: &'a Path,
    sets: &'a [String],
    seeds: &'a [u64],
    threads: usize,
    stop: &'a AtomicBool,
}

/// Measures the points of all methods. Returns the last run and how all of them ended.
///
/// # Errors
/// When the database cannot be used.
fn execute(study: &Scaling, course: &Course<'_>) -> Result<(Option<RunRow>, Ending)> {
    let (mut last, mut ending) = (None, Ending::Done);
    let environment = Environment::detect("cpu", course.threads, instruction_set());
    for (i, &method) in study.sweep.methods.iter().enumerate() {
        if course.stop.load(Ordering::Relaxed) {
            return Ok((last, Ending::Interrupted));
        }
        let run = sweep::record(study, method, &command_line(), &environment);
        let mut recorder = course.store.begin(&run)?;
        let id = recorder.run_id();
        let (number, of) = (i + 1, study.sweep.methods.len());
        say(format_args!("run {id} ({number} of {of}): steps of {}", run.method));
        let start = Instant::now();
        let swept = catch_panic(|| {
            sweep::sweep(
                study,
                method,
                course.threads,
                &mut |news| tell(&news, start),
                &mut |point| in_a_process(study, point, course),
                &mut |point| Ok(recorder.scaling_point(point)?),
            )
        });
        let ends = Ends { store: course.store, output: course.output };
        let (row, ended) =
            ends.conclude(&run, recorder, swept, |recorder, ()| recorder.finish_study())?;
        last = Some(row);
        match ended {
            Ending::Done => {}
            Ending::Failed => ending = Ending::Failed,
            Ending::Interrupted => return Ok((last, Ending::Interrupted)),
        }
    }
    Ok((last, ending))
}

/// Says how a study goes on that began its run at `start`.
fn tell(news: &News<'_>, start: Instant) {
    match *news {
        News::Begun { at: (at, of), point, predicted } => {
            let what =
                predicted.map(|bytes| format!(", predicted: {} are too many", text::bytes(bytes)));
            let left = (at > 1).then(|| {
                let each = start.elapsed().as_secs_f64() / (at - 1) as f64;
                format!(", about {} left", text::duration(each * (of - at + 1) as f64))
            });
            let (what, left) = (what.unwrap_or_default(), left.unwrap_or_default());
            say(format_args!("  {at} of {of}: {point}{what}{left}"));
        }
        News::Failed { point, error } => {
            say(format_args!("  {point} failed: {}", message(error)));
        }
    }
}

/// This program once more, for one point.
fn in_a_process(study: &Scaling, point: &Point, course: &Course<'_>) -> Result<StepUsage> {
    let mut command = Command::new(this_program()?);
    command.arg("scaling-point").arg(&study.path);
    if !course.data_root.as_os_str().is_empty() {
        command.arg("--data").arg(course.data_root);
    }
    for set in course.sets {
        command.args(["--set", set]);
    }
    command.args(["--method", point.method.as_str(), "--recompute", point.recompute.name()]);
    command.args(["--growth", point.growth.name(), "--options", &point.options.to_string()]);
    command.args(["--threads", &course.threads.to_string()]);
    for seed in course.seeds {
        command.args(["--seed", &seed.to_string()]);
    }
    command.args(["--fingerprint", &sweep::fingerprint(study)]);
    sweep::understand(&Measuring::begin(command)?.output(course.stop)?)
}

/// The program that runs, also where its file has been replaced meanwhile: on Linux the link leads
/// to it.
fn this_program() -> Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe().context("cannot find the program itself")
}

/// A process that measures. It ends with this one, however that ends: it reads from a pipe that only
/// this process holds.
struct Measuring(Child);

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

impl Measuring {
    fn begin(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self(command.spawn().context("cannot start the program itself")?))
    }

    /// Waits until it ends by itself, or is to stop.
    fn output(mut self, stop: &AtomicBool) -> Result<process::Output> {
        // Each in a thread of its own, so that no full pipe holds the process up.
        let (stdout, stderr) = (listen(self.0.stdout.take())?, listen(self.0.stderr.take())?);
        let status = loop {
            let ended = self.0.try_wait().context("cannot wait for the process that measures")?;
            if stop.load(Ordering::Relaxed) {
                return Err(Interrupted.into());
            }
            match ended {
                Some(status) => break status,
                None => thread::sleep(INTERVAL),
            }
        };
        let said = |listener: JoinHandle<Vec<u8>>| listener.join().unwrap_or_default();
        Ok(process::Output { status, stdout: said(stdout), stderr: said(stderr) })
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        // Where it has ended already, both do nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that comes out of a pipe.
fn listen(pipe: Option<impl Read + Send + 'static>) -> Result<JoinHandle<Vec<u8>>> {
    let read = move || {
        let mut heard = Vec::new();
        if let Some(mut pipe) = pipe {
            // What had come before an error is what there is.
            let _ = pipe.read_to_end(&mut heard);
        }
        heard
    };
    thread::Builder::new().spawn(read).context("cannot start a thread")
}

/// What a study does, in a few lines.
pub fn summary(study: &Scaling) -> String {
    let (sweep, size) = (&study.sweep, study.space.size());
    let methods: Vec<&str> = sweep.methods.iter().map(|method| method.as_str()).collect();
    let recompute: Vec<&str> = sweep.recompute.iter().map(|recompute| recompute.name()).collect();
    let growth: Vec<String> = sweep
        .growth
        .iter()
        .map(|(growth, list)| {
            let list: Vec<String> = list.iter().map(usize::to_string).collect();
            format!("{} {}", growth.name(), list.join(" "))
        })
        .collect();
    let points: usize = sweep.methods.iter().map(|m| sweep::points(study, *m).len()).sum();
    let lines = [
        format!("  {}: {}", study.name, study.description),
        format!("  methods {}, recompute {}", methods.join(", "), recompute.join(", ")),
        format!("  data    {}, {} a batch", describe(study.data.dataset()).name, sweep.batch_size),
        format!(
            "  space   {}: {} networks",
            study.space.name,
            text::ways(&size.total.grouped(), size.total.log10())
        ),
        format!("  options {}", growth.join("; ")),
        format!("  points  {points}, {} times {} steps or more each", sweep.repeats, sweep.steps),
    ];
    lines.join("\n")
}
