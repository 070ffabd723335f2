//! `repro check`: validates manifests and describes the runs they would start.

use super::arch;
use super::dataset::DataFolder;
use super::output::stdout;
use anyhow::Result;
use repro::cost;
use repro::data::{describe, label};
use repro::document::{Diagnostic, Diagnostics};
use repro::manifest::{
    self, Assessment, Manifest, NetworkTask, Overrides, RunNetworks, SearchTask, Task,
};
use repro::recipe::{Precision, SearchConfig, TrainConfig, for_weights, scaled};
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
pub fn run(args: &Args, database: &Path, data: &DataFolder) -> Result<()> {
    let overrides = Overrides { sets: args.sets.clone(), seeds: Vec::new() };
    let mut diagnostics = Diagnostics::default();
    let mut out = stdout();
    for path in &args.manifests {
        let checked = if is_study(path) {
            study::load(path, &overrides).map(|study| super::study::summary(&study))
        } else {
            check_runs(path, &overrides, (data, &|run| arch::of_run(run, database)))
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
    (data, runs): (&DataFolder, RunNetworks<'_>),
) -> Result<String, Diagnostics> {
    let manifests = manifest::load_points(path, overrides, runs)?;
    let mut notes = Vec::new();
    for manifest in &manifests {
        let weights = runner::check_initial_weights(manifest);
        match (runner::check_budget(manifest).and(weights), check_folder(manifest, data)) {
            (Ok(()), Ok(note)) => notes.push(note),
            (other, folder) => {
                let found = other.err().into_iter().chain(folder.err());
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
        let points = manifests.len();
        let is_table = first.point.iter().any(|set| set.starts_with("table.network="));
        let what = if is_table {
            format!("\n  table   {points} networks")
        } else {
            format!("\n  sweep   {points} settings")
        };
        format!("{what}, {runs} runs in all; the first is shown")
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
fn overview(manifest: &Manifest) -> String {
    let Manifest { data, seeds, .. } = manifest;
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let mut methods: Vec<&str> = Vec::new();
    for plan in runner::plans(manifest) {
        if !methods.contains(&plan.method()) {
            methods.push(plan.method());
        }
    }
    let runs = text::plural(seeds.len() * methods.len(), "run");
    let set = describe(data.dataset());
    let title = match manifest.description.as_str() {
        "" => manifest.name.clone(),
        description => format!("{}: {description}", manifest.name),
    };
    let mut lines = vec![
        format!("  {title}"),
        format!("  runs    {runs}: {}, seed {}", methods.join(", "), seeds.join(", ")),
        format!(
            "  data    {} ({}), {} for validation",
            label(data),
            set.images,
            data.validation_images
        ),
    ];
    match &manifest.task {
        Task::Search(task) => lines.extend(search_lines(task)),
        Task::Network(task) => lines.extend(network_lines(task)),
    }
    lines.push(match &manifest.assessment {
        Assessment::Training(train) => train_line(train),
        Assessment::Table(experiment) => {
            format!("  lookup  of the derived network in the table {experiment}, no training")
        }
    });
    let scale = manifest.search().map(|task| task.config.scale);
    let scale = manifest.train().map(|train| train.scale).or(scale).unwrap_or(1.0);
    if scale < 1.0 {
        let search = manifest.search().map(|task| &task.config);
        let batches = search.and_then(|config| Some(scaled_search(config, config.images?)));
        let batches = batches.unwrap_or_default();
        lines.push(format!("  scale   {scale} of the batches of every epoch{batches}"));
    }
    if let Some(budget) = manifest.search().and_then(|task| task.config.budget) {
        let (band, of) = (budget.band(), budget.objective.name());
        let (least, most) = (text::count(*band.start()), text::count(*band.end()));
        lines.push(format!("  budget  {least} to {most} {of}"));
    }
    if manifest.precision == Precision::Tf32 {
        lines.push("  tf32    for matrix products on a GPU".to_owned());
    }
    lines.join("\n")
}

fn train_line(train: &TrainConfig) -> String {
    let repeats = match train.repeats {
        1 => String::new(),
        repeats => format!(", {repeats} training runs with different seeds"),
    };
    let epochs = text::plural(train.epochs, "epoch");
    format!("  train   {epochs}, batch size {}{repeats}", train.batch_size)
}

fn search_lines(task: &SearchTask) -> [String; 2] {
    let SearchTask { space, config, .. } = task;
    let size = space.size();
    let images = config.images.map_or("all".to_owned(), |images| images.to_string());
    let classes = config.classes.map_or(String::new(), |n| format!(" of {n} classes"));
    [
        format!(
            "  space   {}: {}, {} times as many as with block types alone",
            space.name,
            text::plural(text::ways(&size.total.grouped(), size.total.log10()), "network"),
            text::ways(&size.over_block_types.grouped(), size.over_block_types.log10())
        ),
        format!(
            "  search  {}, {images} images{classes}, batch size {}",
            text::plural(config.epochs, "epoch"),
            config.batch_size
        ),
    ]
}

fn network_lines(task: &NetworkTask) -> Vec<String> {
    let NetworkTask { network, init, .. } = task;
    let cost = cost::count(&network.arch);
    let (macs, params) = (text::count(cost.macs), text::count(cost.params));
    let mut lines = vec![format!(
        "  network {}: {macs} MACs, {params} params, input {side}x{side}",
        network.name,
        side = network.arch.resolution
    )];
    lines.extend(init.as_ref().map(|init| format!("  init    {}", init.path.display())));
    lines
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
