//! `repro check`: whether manifests and their spaces are right, and what they would do.

use super::text;
use anyhow::Result;
use repro::data::{describe, label};
use repro::document::{Complaint, Complaints};
use repro::manifest::{self, Manifest, Overrides};
use repro::recipe::{SearchConfig, for_weights, scaled};
use repro::runner;
use repro::study::{self, is_study};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Check manifests with their spaces and say what they would do, without doing it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro check experiments/*.toml
  repro check experiments/fbnetv2_f.toml --set search.epochs=20")]
pub struct Args {
    /// Experiment files.
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
    /// Let this value take the place of the manifests', as in search.epochs=3.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// Every manifest is looked at, also after one that is not right.
///
/// # Errors
/// All complaints of all manifests.
pub fn run(args: &Args, data_root: Option<&Path>) -> Result<()> {
    let overrides = Overrides { sets: args.sets.clone(), seeds: Vec::new() };
    let mut complaints = Complaints::default();
    let mut out = io::stdout().lock();
    for path in &args.manifests {
        let checked = if is_study(path) {
            study::load(path, &overrides).map(|study| super::study::summary(&study))
        } else {
            check_runs(path, &overrides, data_root)
        };
        match checked {
            Ok(summary) => writeln!(out, "{}: ok\n{summary}", path.display())?,
            Err(found) => complaints.0.extend(found.0),
        }
    }
    if complaints.0.is_empty() { Ok(()) } else { Err(complaints.into()) }
}

/// The summary of a manifest of runs.
fn check_runs(
    path: &Path,
    overrides: &Overrides,
    data_root: Option<&Path>,
) -> Result<String, Complaints> {
    let manifest = manifest::load(path, overrides)?;
    match (runner::check_budget(&manifest), check_folder(&manifest, data_root)) {
        (Ok(()), Ok(note)) => Ok(summary(&manifest) + &note),
        (budget, folder) => {
            let found = budget.err().into_iter().chain(folder.err());
            Err(Complaints(found.flat_map(|found| found.0).collect()))
        }
    }
}

/// Compares an image folder with the manifest if it is there; says so if it is not, since a manifest
/// can be right without it.
fn check_folder(manifest: &Manifest, data_root: Option<&Path>) -> Result<String, Complaints> {
    let (Some(folder), Some(root)) = (manifest.data.folder(), data_root) else {
        return Ok(String::new());
    };
    let place = root.join(&folder.path);
    if !place.is_dir() {
        return Ok(format!("\n  not here: {}", place.display()));
    }
    runner::check_images(manifest, root).map(|()| String::new()).map_err(|error| {
        error.downcast::<Complaints>().unwrap_or_else(|error| {
            Complaint::of_file(&manifest.path, format!("{error:#}"), "").into()
        })
    })
}

/// What the manifest does, in a few lines.
pub fn summary(manifest: &Manifest) -> String {
    let Manifest { space, data, search, train, seeds, methods, .. } = manifest;
    let size = space.size();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let methods: Vec<&str> = methods.iter().map(|method| method.name().as_str()).collect();
    let runs = match seeds.len() * methods.len() {
        1 => "1 run".to_owned(),
        runs => format!("{runs} runs"),
    };
    let repeats = match train.repeats {
        1 => String::new(),
        repeats => format!(", {repeats} times from different seeds"),
    };
    let set = describe(data.dataset());
    let images = search.images.map_or("all".to_owned(), |images| images.to_string());
    let classes = search.classes.map_or(String::new(), |n| format!(" of {n} classes"));
    let budget = search.budget.map(|budget| {
        let (band, of) = (budget.band(), budget.objective.name());
        format!("\n  budget  {} to {} {of}", text::count(*band.start()), text::count(*band.end()))
    });
    let lines = [
        format!("  {}: {}", manifest.name, manifest.description),
        format!("  runs    {runs}: {}, seed {}", methods.join(", "), seeds.join(", ")),
        format!("  data    {} ({}), {} held out", label(data), set.images, data.validation_images),
        format!(
            "  space   {}: {} networks, {} times the block types alone",
            space.name,
            text::ways(&size.total.grouped(), size.total.log10()),
            text::ways(&size.over_block_types.grouped(), size.over_block_types.log10())
        ),
        format!(
            "  search  {} of {images} images{classes}, {} a batch",
            epochs(search.epochs),
            search.batch_size
        ),
        format!("  train   {}, {} a batch{repeats}", epochs(train.epochs), train.batch_size),
    ];
    let scale = (train.scale < 1.0).then(|| {
        let batches = search.images.map_or(String::new(), |images| scaled_search(search, images));
        format!("\n  scale   {} of the batches of every epoch{batches}", train.scale)
    });
    lines.join("\n") + &scale.unwrap_or_default() + &budget.unwrap_or_default()
}

/// What a scale leaves of the search's batches; a small one may leave one of each kind, and so change
/// their ratio.
fn scaled_search(search: &SearchConfig, images: usize) -> String {
    let for_weights = for_weights(images, search.weight_share);
    let left = |images: usize| {
        let batches = images / search.batch_size;
        format!("{} of {batches}", scaled(batches, search.scale))
    };
    let (weights, held_out) = (left(for_weights), left(images - for_weights));
    format!("; in the search {weights} that train weights, {held_out} held out")
}

fn epochs(n: usize) -> String {
    if n == 1 { "1 epoch".to_owned() } else { format!("{n} epochs") }
}
