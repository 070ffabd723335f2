//! `repro run` of a memory study.

use super::command_line::command_line;
use super::conclude::{Ends, next_steps};
use super::database::open;
use super::dataset::DataFolder;
use super::ending::Ending;
use super::output::{Output, message, say};
use super::panics::catch_panic;
use super::program::this_program;
use super::progress::Display;
use super::rules::acquire_rules;
use super::signals;
use super::summary::Summary;
use super::threads::start_threads;
use anyhow::{Context, Result};
use repro::child::ChildGuard;
use repro::data::describe;
use repro::env::Environment;
use repro::manifest::Overrides;
use repro::memory;
use repro::monitor::Interrupted;
use repro::ops::instruction_set;
use repro::record::{ScalingPoint, StepUsage};
use repro::store::{AcquireRules, Acquired, NewRun, RunRecorder, RunRow, Store, StoreError};
use repro::study::sweep::{self, Event, Point};
use repro::study::{self, Study};
use repro::text;
use std::io::Read;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The arguments of `repro run` that apply to a study.
pub struct StudyArgs<'a> {
    pub manifest: &'a Path,
    pub sets: &'a [String],
    pub seeds: &'a [u64],
    pub again: bool,
    pub fresh: bool,
    pub threads: Option<u16>,
    pub json: bool,
}

/// Runs a memory study.
///
/// # Errors
/// When the manifest is invalid, the data set is missing, or the database cannot be used.
pub fn run(args: &StudyArgs<'_>, database: &Path, data: &DataFolder) -> Result<Ending> {
    let StudyArgs { sets, seeds, .. } = *args;
    let overrides = Overrides { sets: sets.to_vec(), seeds: seeds.to_vec() };
    let study = &study::load(args.manifest, &overrides)?;
    let threads = start_threads(args.threads)?;
    let store = open(database)?;
    let output = &Output::new(args.json);
    output.text(summary(study));
    output.text(format_args!("  device  cpu, {}", text::plural(threads, "thread")));
    output.text(format_args!("  into    {}\n", database.display()));
    let stop = &signals::stop_flag().context("cannot handle signals")?;
    let store = &store.stopped_by(stop.shared());
    let data_root = &data.fetch_if_absent(&study.data, &Display::new(), stop)?;
    // Every process reads the images again. A problem with them is reported once, before any run.
    drop(repro::data::load(&study.data, data_root)?);
    memory::release_freed_memory();
    let rules = acquire_rules(store, args.again, args.fresh)?;
    let rules = AcquireRules { on_this_machine: true, ..rules };
    let session = Session { store, output, data_root, sets, seeds, threads, stop, rules };
    let (last, ending) = execute(study, &session)?;
    if let (Ending::Done, Some(last)) = (ending, &last) {
        output.text(next_steps(last, database));
    }
    Ok(if ending == Ending::Done && output.failed() { Ending::Failed } else { ending })
}

/// What all points of a study share.
struct Session<'a> {
    store: &'a Store,
    output: &'a Output,
    data_root: &'a Path,
    sets: &'a [String],
    seeds: &'a [u64],
    threads: usize,
    stop: &'a AtomicBool,
    rules: AcquireRules,
}

/// Measures the points of all methods. Returns the last run and how all of them ended.
///
/// # Errors
/// When the database cannot be used.
fn execute(study: &Study, session: &Session<'_>) -> Result<(Option<RunRow>, Ending)> {
    let (mut last, mut ending) = (None, Ending::Done);
    let environment = Environment::detect("cpu", session.threads, instruction_set());
    for (i, &method) in study.sweep.methods.iter().enumerate() {
        if session.stop.load(Ordering::Relaxed) {
            return Ok((last, Ending::Interrupted));
        }
        let run = sweep::record(study, method, &command_line(), &environment);
        let (number, of) = (i + 1, study.sweep.methods.len());
        let what = format!("({number} of {of}): steps of {}", run.method);
        let (mut recorder, done) = match acquired(&run, &what, session)? {
            Execution::Here(recorder, done) => (recorder, done),
            Execution::Ended(Ending::Done) => continue,
            Execution::Ended(Ending::Failed) => {
                ending = Ending::Failed;
                continue;
            }
            Execution::Ended(Ending::Interrupted) => return Ok((last, Ending::Interrupted)),
        };
        let start = Instant::now();
        let swept = catch_panic(|| {
            sweep::sweep(
                study,
                method,
                session.threads,
                &done,
                &mut |event| report(&event, start),
                &mut |point| measure_in_process(study, point, session),
                &mut |point| Ok(recorder.scaling_point(point)?),
            )
        });
        let ends = Ends { store: session.store, output: session.output };
        let concluded =
            ends.conclude(&run, recorder, swept, |recorder, ()| recorder.finish_untested())?;
        let Some((row, ended)) = concluded else { continue };
        last = Some(row);
        match ended {
            Ending::Done => {}
            Ending::Failed => ending = Ending::Failed,
            Ending::Interrupted => return Ok((last, Ending::Interrupted)),
        }
    }
    Ok((last, ending))
}

/// Where a run is executed.
enum Execution {
    /// In this process, with the points that earlier attempts have measured.
    Here(RunRecorder, Vec<ScalingPoint>),
    /// Nowhere: it has ended.
    Ended(Ending),
}

/// How often a run of another process is checked.
const CHECK_AGAIN: Duration = Duration::from_millis(500);

/// Acquires a run. One that another process executes is waited for: if that dies, it is continued here.
fn acquired(run: &NewRun, what: &str, session: &Session<'_>) -> Result<Execution> {
    let store = session.store;
    let mut is_known = false;
    let (key, recorder) = loop {
        match store.acquire(run, session.rules)? {
            Acquired::Ours(key) => match store.record(key, None) {
                Ok(recorder) => break (key, recorder),
                Err(replaced @ StoreError::Replaced { .. }) => say(replaced),
                Err(error) => return Err(error.into()),
            },
            Acquired::Failed(id) => {
                say(format_args!("run {id} {what} has just failed in another process"));
                return Ok(Execution::Ended(Ending::Failed));
            }
            Acquired::Finished(id) => {
                say(format_args!("run {id} {what} is finished already (--again repeats it)"));
                session.output.json(&Summary::of(&store.run(id)?))?;
                return Ok(Execution::Ended(Ending::Done));
            }
            Acquired::Running { run: id, pid } => {
                if !is_known {
                    is_known = true;
                    say(format_args!(
                        "run {id} {what} is executed by process {pid}; waiting for it"
                    ));
                }
                if session.stop.load(Ordering::Relaxed) {
                    return Ok(Execution::Ended(Ending::Interrupted));
                }
                thread::sleep(CHECK_AGAIN);
            }
        }
    };
    let done = store.scaling_points(key.run)?;
    let rest = match done.len() {
        0 => String::new(),
        1 => ", 1 point is done".to_owned(),
        several => format!(", {several} points are done"),
    };
    say(format_args!("run {} {what}{rest}", key.run));
    Ok(Execution::Here(recorder, done))
}

/// Prints the progress of a run that started at `start`.
fn report(event: &Event<'_>, start: Instant) {
    match *event {
        Event::Started { at: (at, of), point, predicted } => {
            let what = predicted
                .map(|bytes| format!(", only predicted: {} do not fit", text::bytes(bytes)));
            let left = (at > 1).then(|| {
                let each = start.elapsed().as_secs_f64() / (at - 1) as f64;
                format!(", about {} left", text::duration(each * (of - at + 1) as f64))
            });
            let (what, left) = (what.unwrap_or_default(), left.unwrap_or_default());
            say(format_args!("  {at} of {of}: {point}{what}{left}"));
        }
        Event::Failed { point, error } => {
            say(format_args!("  {point} failed: {}", message(error)));
        }
        Event::Disturbed { point, other_cores } => {
            say(format_args!(
                "  warning: other programs or virtual machines kept {other_cores:.1} cores busy during \
                 {point}; its seconds are not comparable"
            ));
        }
    }
}

/// Measures one point in a separate process.
fn measure_in_process(study: &Study, point: &Point, session: &Session<'_>) -> Result<StepUsage> {
    let mut command = Command::new(this_program()?);
    command.arg("scaling-point").arg(&study.path);
    if !session.data_root.as_os_str().is_empty() {
        command.arg("--data").arg(session.data_root);
    }
    for set in session.sets {
        command.args(["--set", set]);
    }
    command.args(["--method", point.method.as_str(), "--recompute", point.recompute.name()]);
    command.args(["--growth", point.growth.name(), "--options", &point.options.to_string()]);
    command.args(["--threads", &session.threads.to_string()]);
    for seed in session.seeds {
        command.args(["--seed", &seed.to_string()]);
    }
    command.args(["--fingerprint", &sweep::fingerprint(study)]);
    sweep::read_output(&output_of(command, session.stop)?)
}

/// How often the measuring process is polled.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until the process ends, or the study is asked to stop. The process also ends when this one
/// does, because its standard input is a pipe that only this process holds.
fn output_of(mut command: Command, stop: &AtomicBool) -> Result<process::Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ChildGuard::spawn(&mut command).context("cannot start the program itself")?;
    // A thread per pipe, so that no full pipe blocks the process.
    let (stdout, stderr) = (read_all(child.stdout.take())?, read_all(child.stderr.take())?);
    let status = loop {
        let ended = child.try_wait().context("cannot wait for the measuring process")?;
        if stop.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        match ended {
            Some(status) => break status,
            None => thread::sleep(INTERVAL),
        }
    };
    let read = |reader: JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
    Ok(process::Output { status, stdout: read(stdout), stderr: read(stderr) })
}

/// Reads a pipe to its end in a thread.
fn read_all(pipe: Option<impl Read + Send + 'static>) -> Result<JoinHandle<Vec<u8>>> {
    let read = move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // After an error, the bytes read so far are used.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    };
    thread::Builder::new().spawn(read).context("cannot start a thread")
}

/// A summary of what a study measures.
pub fn summary(study: &Study) -> String {
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
        format!(
            "  data    {}, batches of {}",
            describe(study.data.dataset()).name,
            sweep.batch_size
        ),
        format!(
            "  space   {}: {}",
            study.space.name,
            text::plural(text::ways(&size.total.grouped(), size.total.log10()), "network")
        ),
        format!("  options {}", growth.join("; ")),
        format!(
            "  points  {points}, each in {} processes of {} or more steps",
            sweep.repeats, sweep.steps
        ),
    ];
    lines.join("\n")
}
