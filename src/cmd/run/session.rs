//! Executes the runs of a manifest, one after the other.

use super::estimate::Estimate;
use crate::cmd::conclude::Ends;
use crate::cmd::ending::Ending;
use crate::cmd::output::{Output, say};
use crate::cmd::panics::catch_panic;
use crate::cmd::progress::Display;
use anyhow::Result;
use candle_core::Device;
use repro::env::Environment;
use repro::manifest::Manifest;
use repro::monitor::Monitor;
use repro::runner::{self, RunPlan};
use repro::store::{RunRow, Store};
use repro::text;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What all runs of one command share.
pub struct Session<'a> {
    pub store: &'a Store,
    pub output: &'a Output,
    pub data_root: &'a Path,
    pub device: Device,
    pub command: String,
    pub environment: Environment,
    pub stop: &'a AtomicBool,
    pub display: Display,
}

/// The runs that were started, and how they ended together.
pub struct Runs {
    pub rows: Vec<RunRow>,
    pub ending: Ending,
}

/// A run's position among all runs, and the estimated seconds until the last one ends.
struct Position {
    number: usize,
    of: usize,
    remaining: Option<f64>,
}

impl Session<'_> {
    /// Executes all runs, even after a failed one.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub fn execute(&self, manifest: &Manifest) -> Result<Runs> {
        let mut runs = Runs { rows: Vec::new(), ending: Ending::Done };
        let mut estimate = Estimate::default();
        let plans: Vec<_> = runner::plans(manifest).collect();
        for (i, plan) in plans.iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                runs.ending = Ending::Interrupted;
                break;
            }
            let method = |plan: &RunPlan<'_>| plan.method.name().as_str();
            let remaining = estimate.remaining(plans[i..].iter().map(method));
            let position = Position { number: i + 1, of: plans.len(), remaining };
            let start = Instant::now();
            let (row, ending) = self.execute_one(*plan, &position)?;
            runs.rows.push(row);
            match ending {
                Ending::Done => estimate.add(method(plan), start.elapsed().as_secs_f64()),
                Ending::Failed => runs.ending = Ending::Failed,
                Ending::Interrupted => {
                    runs.ending = Ending::Interrupted;
                    break;
                }
            }
        }
        Ok(runs)
    }

    fn execute_one(&self, plan: RunPlan<'_>, position: &Position) -> Result<(RunRow, Ending)> {
        let run = plan.record(&self.command, &self.environment);
        let mut recorder = self.store.begin(&run)?;
        let Position { number, of, remaining } = *position;
        let remaining = remaining.map(|s| format!("; about {} remaining", text::duration(s)));
        say(format_args!(
            "run {} ({number} of {of}): {}, seed {}{}",
            recorder.run_id(),
            run.method,
            run.seed,
            remaining.unwrap_or_default()
        ));
        let monitor =
            &mut Monitor { recorder: &mut recorder, progress: &self.display, stop: self.stop };
        let result = catch_panic(|| plan.execute(self.data_root, &self.device, monitor))
            .map_err(|error| plan.explain(error, &self.device));
        self.display.clear();
        let ends = Ends { store: self.store, output: self.output };
        ends.conclude(&run, recorder, result, |recorder, result| recorder.finish(&result))
    }
}
