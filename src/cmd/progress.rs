//! How far something is, on standard error: a bar on a terminal, else a line now and then.

use super::{say, text};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use repro::data::FetchProgress;
use repro::monitor::Progress;
use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Shows fetches and the loops of a run.
pub enum Display {
    /// A bar that is redrawn.
    Bar(RefCell<Option<ProgressBar>>),
    /// Plain lines, for logs.
    Lines(RefCell<Option<Task>>),
}

/// What the lines are about.
pub struct Task {
    total: Option<u64>,
    start: Instant,
    last_line: Instant,
}

const INTERVAL: Duration = Duration::from_secs(5);

impl Display {
    /// What fits standard error.
    pub fn new() -> Self {
        if io::stderr().is_terminal() { Self::Bar(None.into()) } else { Self::Lines(None.into()) }
    }

    fn start(&self, what: &str, total: Option<u64>, template: &str) {
        match self {
            Self::Bar(bar) => {
                let new = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
                if let Ok(style) = ProgressStyle::with_template(template) {
                    new.set_style(style.progress_chars("=> "));
                }
                new.set_prefix(what.to_owned());
                new.enable_steady_tick(Duration::from_millis(120));
                bar.replace(Some(new));
            }
            Self::Lines(task) => {
                let now = Instant::now();
                task.replace(Some(Task { total, start: now, last_line: now }));
            }
        }
    }

    fn advance(&self, at: u64, note: &str, amounts: impl Fn(&Task) -> String) {
        match self {
            Self::Bar(bar) => {
                if let Some(bar) = bar.borrow().as_ref() {
                    bar.set_position(at);
                    bar.set_message(note.to_owned());
                }
            }
            Self::Lines(task) => {
                let mut task = task.borrow_mut();
                let due = task.as_mut().filter(|task| task.last_line.elapsed() >= INTERVAL);
                if let Some(task) = due {
                    task.last_line = Instant::now();
                    let left = task.left(at).map(|s| format!(", about {} left", text::seconds(s)));
                    let comma = if note.is_empty() { "" } else { ", " };
                    let amounts = amounts(task);
                    say(format_args!("  {amounts}{}{comma}{note}", left.unwrap_or_default()));
                }
            }
        }
    }

    /// Takes down whatever is shown, also after a loop that ended early.
    pub fn clear(&self) {
        match self {
            Self::Bar(bar) => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
            Self::Lines(task) => {
                task.take();
            }
        }
    }
}

impl Task {
    /// Seconds to go, at the speed so far.
    fn left(&self, at: u64) -> Option<f64> {
        let to_go = self.total?.saturating_sub(at) as f64;
        let left = self.start.elapsed().as_secs_f64() * to_go / at as f64;
        left.is_finite().then_some(left)
    }
}

impl Progress for Display {
    fn started(&self, what: &str, steps: u64) {
        if matches!(self, Self::Lines(_)) {
            say(format_args!("{what}: {steps} steps"));
        }
        let template = "{prefix}  {msg}\n[{bar:40}] {pos} of {len}, {elapsed} so far, {eta} left";
        self.start(what, Some(steps), template);
    }

    fn advanced(&self, step: u64, note: &str) {
        self.advance(step, note, |task| {
            let share = step as f64 / task.total.unwrap_or(step).max(1) as f64;
            format!("{:.0} %", 100.0 * share)
        });
    }

    fn finished(&self) {
        self.clear();
    }
}

impl FetchProgress for Display {
    fn started(&self, what: &str, total_bytes: Option<u64>) {
        if matches!(self, Self::Lines(_)) {
            let size = total_bytes.map(|total| format!(": {}", HumanBytes(total)));
            say(format_args!("{what}{}", size.unwrap_or_default()));
        }
        let template = match total_bytes {
            Some(_) => "{prefix}\n[{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {prefix} ({elapsed})",
        };
        self.start(what, total_bytes, template);
    }

    fn advanced(&self, bytes: u64) {
        self.advance(bytes, "", |task| {
            let per_second = bytes as f64 / task.start.elapsed().as_secs_f64();
            format!("{}, {}/s", HumanBytes(bytes), HumanBytes(per_second as u64))
        });
    }

    fn finished(&self) {
        self.clear();
    }
}
