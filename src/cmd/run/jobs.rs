//! `--jobs`: several processes of this program execute one manifest on one database.

use super::Args;
use crate::cmd::command_line::{OF_USER, command_line};
use crate::cmd::ending::Ending;
use crate::cmd::output::{Output, say};
use crate::cmd::program::this_program;
use crate::cmd::rules::acquire_rules;
use crate::cmd::signals::StopFlag;
use anyhow::{Context, Result};
use repro::child::ChildGuard;
use repro::store::{RunRow, RunStatus, Store};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

/// How often the workers are polled.
const INTERVAL: Duration = Duration::from_millis(50);

/// A line of a worker.
enum Line {
    /// Of standard output: a run as JSON.
    Run(String),
    /// Of standard error, with the worker's number.
    Message(usize, String),
}

/// Executes the manifest in `jobs` processes, each with so many threads, which have so many runs planned. Their messages have the number of the worker in front.
/// Returns the runs and how all ended.
///
/// # Errors
/// When a process cannot be started, or the database cannot be used.
pub fn execute(
    args: &Args,
    (jobs, threads, planned): (usize, usize, usize),
    (store, database): (&Store, &Path),
    data_root: &Path,
    stop: &StopFlag,
) -> Result<(Vec<RunRow>, Ending)> {
    let rules = acquire_rules(store, args.again, args.fresh)?;
    let (sender, lines) = mpsc::channel();
    let threads = threads.to_string();
    let mut workers = Vec::new();
    for number in 1..=jobs {
        let mut command = Command::new(this_program()?);
        command.arg("run").arg(&args.manifest).arg("--db").arg(database).arg("--json");
        args.execution.pass_to(&mut command);
        command.args(["--threads", &threads]);
        if !data_root.as_os_str().is_empty() {
            command.arg("--data").arg(data_root);
        }
        for set in &args.sets {
            command.args(["--set", set]);
        }
        for seed in &args.seeds {
            command.args(["--seed", &seed.to_string()]);
        }
        let (again, fresh) = (rules.again_up_to, rules.fresh_up_to);
        command.args(["--again-up-to", &again.to_string(), "--fresh-up-to", &fresh.to_string()]);
        command.args(["--failed-before", &rules.failed_before.to_string()]);
        // The runs keep the command that the user typed, which makes all of them again.
        command.env(OF_USER, command_line());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut worker = ChildGuard::spawn(&mut command).context("cannot start a worker")?;
        forward(worker.stdout.take(), sender.clone(), Line::Run);
        forward(worker.stderr.take(), sender.clone(), move |line| Line::Message(number, line));
        workers.push(worker);
    }
    drop(sender);
    let output = Output::new(args.execution.json);
    let mut seen = BTreeSet::new();
    let (mut has_failed, mut is_ending) = (false, false);
    loop {
        let ends_early = stop.load(Ordering::Relaxed) || has_failed && args.execution.fail_fast;
        if ends_early && !is_ending {
            // A terminal has sent them the signal already; a second one would end them at once.
            is_ending = true;
            workers.iter_mut().for_each(ChildGuard::terminate);
        }
        match lines.recv_timeout(INTERVAL) {
            Ok(Line::Message(number, line)) => say(format_args!("[{number}] {line}")),
            Ok(Line::Run(line)) => {
                let run: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(id) = run["run_id"].as_i64()
                    && seen.insert(id)
                {
                    output.json(&run)?;
                }
                has_failed |= run["status"] == "failed";
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let mut ending = Ending::Done;
    for worker in &mut workers {
        let status = worker.wait().context("cannot wait for a worker")?;
        ending = match status.code() {
            Some(0) => ending,
            // The others have continued its run, if there were any.
            None => {
                say(format_args!("warning: a worker ended with {status}"));
                ending
            }
            Some(130) => Ending::Interrupted,
            _ if ending == Ending::Interrupted => ending,
            _ => Ending::Failed,
        };
    }
    let runs = rows(&seen, store)?;
    if ending == Ending::Done
        && (runs.len() < planned || runs.iter().any(|run| run.status != RunStatus::Finished))
    {
        ending = Ending::Failed;
    }
    if has_failed && !stop.load(Ordering::Relaxed) {
        ending = Ending::Failed;
    }
    Ok((runs, ending))
}

fn rows(ids: &BTreeSet<i64>, store: &Store) -> Result<Vec<RunRow>> {
    ids.iter().map(|id| Ok(store.run(*id)?)).collect()
}

/// Sends the lines of a pipe, until it is closed.
fn forward(
    pipe: Option<impl Read + Send + 'static>,
    sender: Sender<Line>,
    line: impl Fn(String) -> Line + Send + 'static,
) {
    let Some(pipe) = pipe else { return };
    thread::spawn(move || {
        for text in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Without a receiver nobody reads on.
            if sender.send(line(text)).is_err() {
                return;
            }
        }
    });
}
