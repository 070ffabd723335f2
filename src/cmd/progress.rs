//! Progress on standard error: a bar on a terminal, otherwise a line every few seconds.

use super::output::say;
use indicatif::{ProgressBar, ProgressStyle};
use repro::progress::{Amount, Progress};
use repro::text;
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
    amount: Amount,
    start: Instant,
    last_line: Instant,
}

const INTERVAL: Duration = Duration::from_secs(5);

impl Display {
    /// A bar if standard error is a terminal, otherwise lines.
    pub fn new() -> Self {
        if io::stderr().is_terminal() { Self::Bar(None.into()) } else { Self::Lines(None.into()) }
    }

    /// Removes whatever is shown, also after a loop that ended early.
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

fn bar(what: &str, amount: Amount) -> ProgressBar {
    let (bar, template) = match amount {
        Amount::Steps(steps) => (
            ProgressBar::new(steps),
            "{prefix}  {msg}\n[{bar:40}] {pos} of {len}, {elapsed} so far, {eta} left",
        ),
        Amount::Bytes(bytes) => (
            ProgressBar::new(bytes),
            "{prefix}\n[{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        ),
        Amount::Unknown => (ProgressBar::new_spinner(), "{spinner} {prefix} ({elapsed})"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn opening_line(what: &str, amount: Amount) -> String {
    match amount {
        Amount::Steps(steps) => format!("{what}: {}", text::plural(steps, "step")),
        Amount::Bytes(bytes) => format!("{what}: {}", text::bytes(bytes)),
        Amount::Unknown => what.to_owned(),
    }
}

impl Task {
    /// Share or amount done, and the time left at the speed so far.
    fn state(&self, done: u64) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        let (done_so_far, total) = match self.amount {
            Amount::Steps(steps) => {
                let share = done as f64 / steps.max(1) as f64;
                (format!("{:.0} %", 100.0 * share), steps)
            }
            Amount::Bytes(_) | Amount::Unknown => {
                let per_second = (done as f64 / seconds) as u64;
                let total = if let Amount::Bytes(total) = self.amount { total } else { 0 };
                (format!("{}, {}/s", text::bytes(done), text::bytes(per_second)), total)
            }
        };
        let left = seconds * total.saturating_sub(done) as f64 / done as f64;
        if total > 0 && left.is_finite() {
            format!("{done_so_far}, about {} left", text::duration(left))
        } else {
            done_so_far
        }
    }
}

impl Progress for Display {
    fn started(&self, what: &str, amount: Amount) {
        match self {
            Self::Bar(shown) => {
                shown.replace(Some(bar(what, amount)));
            }
            Self::Lines(task) => {
                say(opening_line(what, amount));
                let now = Instant::now();
                task.replace(Some(Task { amount, start: now, last_line: now }));
            }
        }
    }

    fn advanced(&self, done: u64, note: &str) {
        match self {
            Self::Bar(bar) => {
                if let Some(bar) = bar.borrow().as_ref() {
                    bar.set_position(done);
                    bar.set_message(note.to_owned());
                }
            }
            Self::Lines(task) => {
                let mut task = task.borrow_mut();
                let due = task.as_mut().filter(|task| task.last_line.elapsed() >= INTERVAL);
                if let Some(task) = due {
                    task.last_line = Instant::now();
                    let comma = if note.is_empty() { "" } else { ", " };
                    say(format_args!("  {}{comma}{note}", task.state(done)));
                }
            }
        }
    }

    fn finished(&self) {
        self.clear();
    }

    fn remark(&self, text: &str) {
        self.clear();
        say(text);
    }
}
