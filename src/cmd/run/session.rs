//! Executes the runs of a manifest, one after the other.

use super::estimate::Estimate;
use crate::cmd::conclude::Ends;
use crate::cmd::ending::Ending;
use crate::cmd::output::{Output, message, say};
use crate::cmd::panics::catch_panic;
use crate::cmd::progress::Display;
use crate::cmd::summary::Summary;
use anyhow::{Context, Error, Result};
use candle_core::Device;
use repro::checkpoint::{Checkpoint, Folder, Loaded};
use repro::env::Environment;
use repro::manifest::Manifest;
use repro::monitor::{CheckpointWriter, Checkpoints, Monitor};
use repro::runner::{self, RunPlan};
use repro::store::{AcquireRules, Acquired, AttemptKey, RunRow, Store, StoreError};
use repro::text;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often runs of other processes are checked.
const CHECK_AGAIN: Duration = Duration::from_millis(500);

/// What all runs of one command share.
pub struct Session<'a> {
    pub store: &'a Store,
    pub output: &'a Output,
    pub data_root: &'a Path,
    pub device: &'a Device,
    pub command: String,
    pub environment: Environment,
    pub stop: &'a AtomicBool,
    pub display: Display,
    pub rules: Rules,
}

/// Which runs are executed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub which: Which,
    /// Between two checkpoints of a run.
    pub checkpoint_interval: Duration,
    /// Whether the first failed run is the last one.
    pub fail_fast: bool,
    /// Whether trained weights are not kept.
    pub discard_weights: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// All of the manifest that are not finished.
    Planned(AcquireRules),
    /// Only this run of a method, which was started before.
    Begun(i64, &'static str),
}

/// The runs of the manifests, and how those that were executed ended together.
pub struct Runs {
    pub rows: Vec<RunRow>,
    pub ending: Ending,
}

impl Runs {
    fn sorted(mut self) -> Self {
        self.rows.sort_by_key(|row| row.id);
        self
    }
}

impl Session<'_> {
    /// Executes all runs that are left, even after a failed one, and waits for those that other processes
    /// execute. If one of these dies, its runs are continued here.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub fn execute(&self, manifests: &[Manifest]) -> Result<Runs> {
        let mut runs = Runs { rows: Vec::new(), ending: Ending::Done };
        let mut estimate = Estimate::default();
        let mut plans: Vec<_> = manifests.iter().flat_map(runner::plans).collect();
        if let Which::Begun(_, method) = self.rules.which {
            plans.retain(|plan| plan.method() == method);
        }
        // Runs of other processes, with whether the user knows of them.
        let mut left: Vec<(usize, bool)> = (0..plans.len()).map(|i| (i, false)).collect();
        while !left.is_empty() {
            let mut elsewhere = Vec::new();
            for (at, &(i, is_known)) in left.iter().enumerate() {
                if self.stop.load(Ordering::Relaxed) {
                    runs.ending = Ending::Interrupted;
                    return Ok(runs.sorted());
                }
                let name = |i: usize| plans[i].method();
                let remaining = left[at..].iter().map(|(i, _)| name(*i));
                let remaining = estimate.remaining(remaining);
                let start = Instant::now();
                match self.execute_one(plans[i], (i + 1, plans.len()), remaining, is_known)? {
                    Executed::Here(row, ending) => {
                        runs.rows.push(*row);
                        match ending {
                            Ending::Done => {
                                estimate.add(name(i), start.elapsed().as_secs_f64());
                            }
                            Ending::Failed => {
                                runs.ending = Ending::Failed;
                                if self.rules.fail_fast {
                                    return Ok(runs.sorted());
                                }
                            }
                            Ending::Interrupted => {
                                runs.ending = Ending::Interrupted;
                                return Ok(runs.sorted());
                            }
                        }
                    }
                    Executed::Before(row) => runs.rows.push(*row),
                    Executed::Elsewhere => elsewhere.push((i, true)),
                }
            }
            if !elsewhere.is_empty() {
                thread::sleep(CHECK_AGAIN);
            }
            left = elsewhere;
        }
        Ok(runs.sorted())
    }

    /// Executes a run, unless it is finished or another process executes it. `remaining` are seconds for this
    /// and all later ones.
    fn execute_one(
        &self,
        plan: RunPlan<'_>,
        (number, of): (usize, usize),
        remaining: Option<f64>,
        is_known: bool,
    ) -> Result<Executed> {
        let run = plan.record(&self.command, &self.environment);
        let point = plan.manifest.point.iter().map(|set| format!(", {set}")).collect::<String>();
        let what = format!("({number} of {of}): {}, seed {}{point}", run.method, run.seed);
        let acquired = match self.rules.which {
            Which::Planned(rules) => self.store.acquire(&run, rules)?,
            Which::Begun(id, _) => self.store.acquire_run(id, &run)?,
        };
        let key = match acquired {
            Acquired::Ours(key) => key,
            Acquired::Finished(id) => {
                // Killed after its last transaction, it may have left some.
                let _ = self.store.files_of(id).checkpoints().remove();
                say(format_args!("run {id} {what} is finished already (--again repeats it)"));
                let row = self.store.run(id)?;
                self.output.json(&Summary::of(&row))?;
                return Ok(Executed::Before(Box::new(row)));
            }
            Acquired::Failed(id) => {
                let row = self.store.run(id)?;
                self.output.json(&Summary::of(&row))?;
                return Ok(Executed::Here(Box::new(row), Ending::Failed));
            }
            Acquired::Running { run: id, pid } => {
                if !is_known {
                    say(format_args!(
                        "run {id} {what} is executed by process {pid}; waiting for it"
                    ));
                }
                return Ok(Executed::Elsewhere);
            }
        };
        let (files, remaining) = (self.store.files_of(key.run), remaining.map(text::duration));
        let folder = files.checkpoints();
        let remaining = remaining.map(|s| format!("; about {s} remaining")).unwrap_or_default();
        let alive = self.store.keep_alive(key)?;
        let checkpoint = match self.continued(key, &folder, &format!("{what}{remaining}")) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return self.not_continued(key, &error),
        };
        drop(alive);
        let mut recorder = match self.store.record(key, checkpoint.as_ref()) {
            Ok(recorder) => recorder,
            Err(replaced @ StoreError::Replaced { .. }) => {
                say(replaced);
                return Ok(Executed::Elsewhere);
            }
            Err(error) => return Err(error.into()),
        };
        // From here on the run is this process's. Files that it does not continue are of another state.
        let removed = match &checkpoint {
            Some(checkpoint) => folder.remove_after(checkpoint.id).map_err(Error::from),
            None => files.remove().map_err(Error::from),
        };
        if let Err(error) = removed {
            say(format_args!("warning: old files of run {} stay: {}", key.run, message(&error)));
        }
        let writer =
            CheckpointWriter { folder: folder.clone(), interval: self.rules.checkpoint_interval };
        let checkpoints = &mut Checkpoints::new(Some(writer), checkpoint.unwrap_or_default());
        let result = {
            let (recorder, progress, stop) = (&mut recorder, &self.display, self.stop);
            let monitor = &mut Monitor { recorder, progress, stop, checkpoints };
            catch_panic(|| plan.execute(self.data_root, self.device, monitor))
                .map_err(|error| plan.explain(error, self.device))
        };
        self.display.clear();
        let result = result.and_then(|outcome| {
            if !self.rules.discard_weights {
                // A process that was replaced writes the same bytes as the one that replaced it.
                runner::save_weights(&outcome, files)?;
            }
            Ok(outcome.result)
        });
        let ends = Ends { store: self.store, output: self.output };
        let concluded = ends.conclude(&run, recorder, result, |recorder, result| match result {
            Some(result) => recorder.finish(&result),
            None => recorder.finish_untested(),
        })?;
        let Some((row, ending)) = concluded else { return Ok(Executed::Elsewhere) };
        if ending == Ending::Done
            && let Err(error) = folder.remove()
        {
            say(format_args!("warning: the checkpoints of run {} stay: {error}", row.id));
        }
        Ok(Executed::Here(Box::new(row), ending))
    }

    /// Ends an attempt that has changed nothing yet.
    fn not_continued(&self, key: AttemptKey, error: &Error) -> Result<Executed> {
        let error = message(error);
        match self.store.fail(key, &error) {
            Err(replaced @ StoreError::Replaced { .. }) => {
                say(replaced);
                return Ok(Executed::Elsewhere);
            }
            failed => failed?,
        }
        say(format_args!("run {} failed: {error}", key.run));
        let row = self.store.run(key.run)?;
        self.output.json(&Summary::of(&row))?;
        Ok(Executed::Here(Box::new(row), Ending::Failed))
    }

    /// The checkpoint from which a run continues, if there is one. Says which run starts, and from where.
    ///
    /// # Errors
    /// When there are checkpoints, but none can be read.
    fn continued(
        &self,
        key: AttemptKey,
        folder: &Folder,
        what: &str,
    ) -> Result<Option<Checkpoint>> {
        let id = key.run;
        if key.number == 1 {
            say(format_args!("run {id} {what}"));
            return Ok(None);
        }
        // After an error, which may pass, checkpoints and measurements stay as they are.
        let known = self.store.known_checkpoints(key)?;
        let Loaded { checkpoint, problems } =
            folder.load(self.device, |id| known.contains(id)).with_context(|| {
                format!("no checkpoint of run {id} can be read; `repro run MANIFEST --fresh` starts over")
            })?;
        for problem in problems {
            say(format_args!("warning: {problem}; it is not used"));
        }
        if let Some(Checkpoint { id: from, .. }) = &checkpoint {
            say(format_args!("run {id} {what}: continues from checkpoint {from}"));
        } else {
            say(format_args!("run {id} {what}: starts over, since it has no checkpoint"));
        }
        Ok(checkpoint)
    }
}

/// What became of a planned run.
enum Executed {
    Here(Box<RunRow>, Ending),
    /// It had been finished before.
    Before(Box<RunRow>),
    /// Another process executes it.
    Elsewhere,
}
