//! `repro check`: validates manifests and describes the runs they would start.

use super::dataset::DataFolder;
use super::output::stdout;
use anyhow::Result;
use repro::data::{describe, label};
use repro::document::{Diagnostic, Diagnostics};
use repro::manifest::{self, Manifest, Overrides};
use repro::recipe::{Precision, SearchConfig, for_weights, scaled};
use repro::runner;
use repro::study::{self, is_study};
use repro::text;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Validate manifests and their search spaces, and print what they would run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro check experiments/*.toml
  repro check experiments/fbnetv2_f.toml --set search.epochs=20

Prints the runs, data, space, search and training of every valid manifest. Of an invalid one it
prints every error with file, line and key. An image folder is compared with the manifest if it
exists; other data is not needed.

Exit codes: 0 all manifests are valid, 2 at least one is not.")]
pub struct Args {
    /// Experiment files.
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
    /// Override a key of every manifest, as in search.epochs=3; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// Checks every manifest, even after an invalid one.
///
/// # Errors
/// All diagnostics of all manifests.
pub fn run(args: &Args, data: &DataFolder) -> Result<()> {
    let overrides = Overrides { sets: args.sets.clone(), seeds: Vec::new() };
    let mut diagnostics = Diagnostics::default();
    let mut out = stdout();
    for path in &args.manifests {
        let checked = if is_study(path) {
            study::load(path, &overrides).map(|study| super::study::summary(&study))
        } else {
            check_runs(path, &overrides, data)
        };
        match checked {
            Ok(overview) => {
                let shown = format!("{}: ok\n{overview}", path.display());
                writeln!(out, "{}", text::printable(&shown))?;
            }
            Err(found) => diagnostics.0.extend(found.0),
        }
    }
    if diagnostics.0.is_empty() { Ok(()) } else { Err(diagnostics.into()) }
}

/// Describes the runs of a manifest that is not a study.
fn check_runs(
    path: &Path,
    overrides: &Overrides,
    data: &DataFolder,
) -> Result<String, Diagnostics> {
    let manifests = manifest::load_points(path, overrides)?;
    let mut notes = Vec::new();
    for manifest in &manifests {
        match (runner::check_budget(manifest), check_folder(manifest, data)) {
            (Ok(()), Ok(note)) => notes.push(note),
            (budget, folder) => {
                let found = budget.err().into_iter().chain(folder.err());
                return Err(Diagnostics(found.flat_map(|found| found.0).collect()));
            }
        }
    }
    notes.dedup();
    Ok(overviews(&manifests) + &notes.concat())
}

/// The experiment in a few lines; of a sweep the first of its settings.
pub fn overviews(manifests: &[Manifest]) -> String {
    let Some(first) = manifests.first() else { return String::new() };
    let sweep = (manifests.len() > 1).then(|| {
        let runs = manifests.iter().flat_map(runner::plans).count();
        let settings = manifests.len();
        format!(
            "
  sweep   {settings} settings, {runs} runs in all; the first is shown"
        )
    });
    overview(first) + &sweep.unwrap_or_default()
}

/// Compares an image folder with the manifest if it exists. A manifest can be valid without its
/// images, so a missing folder is only noted.
fn check_folder(manifest: &Manifest, data: &DataFolder) -> Result<String, Diagnostics> {
    let (Some(folder), Ok(root)) = (manifest.data.folder(), data.root_for(&manifest.data)) else {
        return Ok(String::new());
    };
    let place = root.join(&folder.path);
    if !place.is_dir() {
        return Ok(format!("\n  images  not checked: {} does not exist", place.display()));
    }
    let note = |note: Option<String>| note.map_or(String::new(), |it| format!("\n  images  {it}"));
    runner::check_images(manifest, &root).map(note).map_err(|error| {
        error.downcast::<Diagnostics>().unwrap_or_else(|error| {
            Diagnostic::of_file(&manifest.path, format!("{error:#}"), "").into()
        })
    })
}

/// The experiment in a few lines.
pub fn overview(manifest: &Manifest) -> String {
    let Manifest { space, data, search, train, seeds, methods, .. } = manifest;
    let size = space.size();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let methods: Vec<&str> = methods.iter().map(|method| method.name().as_str()).collect();
    let runs = text::plural(seeds.len() * methods.len(), "run");
    let repeats = match train.repeats {
        1 => String::new(),
        repeats => format!(", {repeats} training runs with different seeds"),
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
        format!(
            "  data    {} ({}), {} for validation",
            label(data),
            set.images,
            data.validation_images
        ),
        format!(
            "  space   {}: {}, {} times as many as with block types alone",
            space.name,
            text::plural(text::ways(&size.total.grouped(), size.total.log10()), "network"),
            text::ways(&size.over_block_types.grouped(), size.over_block_types.log10())
        ),
        format!(
            "  search  {}, {images} images{classes}, batch size {}",
            text::plural(search.epochs, "epoch"),
            search.batch_size
        ),
        format!(
            "  train   {}, batch size {}{repeats}",
            text::plural(train.epochs, "epoch"),
            train.batch_size
        ),
    ];
    let scale = (train.scale < 1.0).then(|| {
        let batches = search.images.map_or(String::new(), |images| scaled_search(search, images));
        format!("\n  scale   {} of the batches of every epoch{batches}", train.scale)
    });
    let tf32 = (manifest.precision == Precision::Tf32)
        .then_some("\n  tf32    for matrix products on a GPU");
    let optional = [scale, budget].map(Option::unwrap_or_default).concat();
    lines.join("\n") + &optional + tf32.unwrap_or_default()
}

/// The batches of a search epoch that remain with a scale. A small scale may leave one batch of each
/// split, which changes their ratio.
fn scaled_search(search: &SearchConfig, images: usize) -> String {
    let for_weights = for_weights(images, search.weight_share);
    let left = |images: usize| {
        let batches = images / search.batch_size;
        format!("{} of {batches}", scaled(batches, search.scale))
    };
    let (weights, validation) = (left(for_weights), left(images - for_weights));
    format!("; in the search {weights} for weights, {validation} for validation")
}
