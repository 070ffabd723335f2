//! `repro arch`: networks block by block, with their cost.

use super::database;
use super::ending::Usage;
use super::inference;
use super::output::{message, stdout};
use super::stored::stored_manifest;
use super::weights::{network_of, stored_weights};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use repro::cost::{self, Cost};
use repro::data;
use repro::document;
use repro::net::{read_state_file, state_dict_shapes};
use repro::report;
use repro::space::{ArchFile, ArchSpec, Published};
use repro::store::RunStatus;
use repro::text::{self, NOTHING, Table};
use repro::trained::{TrainedNetwork, WeightsError};
use repro::zoo;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Show a network: its blocks, multiply-accumulates and parameters.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro arch FBNetV2_F1
  repro arch --all
  repro arch 12 --toml > found.toml
  repro arch found.toml --input 160
  repro arch FBNetV2_F1 --tensors

A network is the name of a published one (`repro arch --all` lists them), a file as in
experiments/archs/, or the number of a run, whose searched architecture is shown.

Three totals are printed. Weights: those of convolutions and fully connected layers, without biases
and batch norm, as in the published totals. All trainable parameters. FLOPs by the published rule:
multiply-accumulates, plus one for each element that a pooling reads.

Keys of --json:
  name          of the network
  arch_id       as in `repro list`; equal networks have equal ones
  resolution    side of the input, in pixels
  macs          multiply-accumulates for one image
  flops         the same by the published rule
  params        weights of convolutions and fully connected layers
  trainable     all trainable parameters
  published     params, flops, the unit to which both are rounded, top1 and top5 in percent,
                source; null where nothing was published
  architecture  every layer")]
#[allow(clippy::struct_excessive_bools)]
pub struct Args {
    /// A name, a file, or the number of a run.
    #[arg(value_name = "NETWORK", required_unless_present = "all")]
    network: Option<String>,
    /// Compare all published networks with their published totals.
    #[arg(long, conflicts_with = "network")]
    all: bool,
    /// The side of the input, in pixels, instead of the network's own.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(8..=4096))]
    input: Option<u16>,
    /// Print JSON instead of text.
    #[arg(long, conflicts_with = "toml")]
    json: bool,
    /// Print the file of the network.
    #[arg(long, conflicts_with = "all")]
    toml: bool,
    /// Print the names and shapes of the tensors of its state dict.
    #[arg(long, conflicts_with_all = ["all", "json", "toml"])]
    tensors: bool,
}

/// # Errors
/// When there is no such network.
pub fn run(args: &Args, database: &Path) -> Result<()> {
    let mut files: Vec<ArchFile> = match &args.network {
        Some(network) => vec![load(network, database)?],
        None => zoo::names().filter_map(zoo::network).collect(),
    };
    if let Some(side) = args.input {
        for file in &mut files {
            file.arch.resolution = usize::from(side);
            // These are of the network's own resolution.
            (file.published, file.resize) = (None, None);
        }
    }
    let mut out = stdout();
    if args.json {
        let mut all = files.iter().map(as_json);
        let value =
            if args.all { Value::Array(all.collect()) } else { all.next().unwrap_or_default() };
        writeln!(out, "{value}")?;
    } else if args.all {
        write!(out, "{}", comparison(&files).text())?;
    } else if let [file] = &files[..] {
        let text = match (args.toml, args.tensors) {
            (true, _) => file.to_toml(),
            (_, true) => tensors(file)?,
            _ => as_text(file),
        };
        write!(out, "{}", text::printable(&text))?;
    }
    Ok(())
}

/// The network of this name, in this file, or of this run.
///
/// # Errors
/// When there is none.
pub fn load(network: &str, database: &Path) -> Result<ArchFile> {
    if let Some(file) = zoo::network(network) {
        return Ok(file);
    }
    let path = Path::new(network);
    if path.exists() {
        return load_file(path);
    }
    let Ok(run) = network.parse::<i64>() else {
        let hint = zoo::nearest_name(network);
        let hint = hint.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
        bail!(Usage(format!(
            "{network:?} is neither a published network nor a file nor the number of a run{hint}"
        )));
    };
    searched(run, database)
}

/// The network of this name, in this file, or of this run, with the weights in a file, or those of the run.
///
/// # Errors
/// When there is none, or the weights are those of another network.
pub fn load_trained(
    network: &str,
    weights: Option<&Path>,
    database: &Path,
    device: &Device,
) -> Result<TrainedNetwork> {
    let file = load(network, database)?;
    let run = run_number(network);
    let weights = match (weights, run) {
        (Some(weights), _) => weights.to_owned(),
        (None, Some(run)) => weights_of(run, database)?,
        (None, None) => bail!(Usage(format!(
            "--weights is needed: {network} comes without weights; give a state dict"
        ))),
    };
    inference::check_loading(&weights)?;
    let loaded = TrainedNetwork::load(file, &weights, device);
    let mut trained = loaded.map_err(|error| match error {
        WeightsError::Misfit(problem) => anyhow::Error::from(Usage(problem)),
        other => other.into(),
    })?;
    if let Some(run) = run
        && trained.images.is_none()
    {
        // These weights do not say what the run's own say of its images.
        let own = read_state_file(&weights_of(run, database)?).map_err(anyhow::Error::msg)?;
        let problem = || {
            format!(
                "{} does not say classes and normalisation of run {run}, and neither do its own weights",
                weights.display()
            )
        };
        let description = own.description.with_context(problem)?;
        trained.images = Some(serde_json::from_str(&description).with_context(problem)?);
    }
    if let (Some(run), Some(images)) = (run, &mut trained.images)
        && (images.side.is_none() || images.seen_share.is_none())
    {
        // Weights of earlier versions do not say it.
        let (manifest, _) = stored_manifest(&database::existing(database)?.run(run)?)?;
        images.side.get_or_insert(manifest.image_side());
        let is_folder = manifest.data.folder().is_some();
        images.seen_share.get_or_insert(if is_folder { data::CENTRE } else { 1.0 });
    }
    let (side, resolution) = (trained.side(), trained.file.arch.resolution);
    if side < resolution {
        bail!(Usage(format!(
            "{} takes images of {resolution}x{resolution} pixels, but {} was trained on {side}x{side}; give a \
             network with a resolution of {side} or less",
            trained.file.name,
            weights.display()
        )));
    }
    Ok(trained)
}

/// The number of the run, if this is one.
pub fn run_number(network: &str) -> Option<i64> {
    let is_other = zoo::network(network).is_some() || Path::new(network).exists();
    if is_other { None } else { network.parse().ok() }
}

/// The stored weights of a run.
fn weights_of(run: i64, database: &Path) -> Result<PathBuf> {
    let store = database::existing(database)?;
    stored_weights(&store, &store.run(run)?)
}

/// The searched architecture of a run, for manifests that train it.
///
/// # Errors
/// Why there is none.
pub fn of_run(run: i64, database: &Path) -> Result<ArchFile, String> {
    searched(run, database).map_err(|error| message(&error))
}

fn searched(run: i64, database: &Path) -> Result<ArchFile> {
    let run = database::existing(database)?.run(run)?;
    let Some(found) = &run.architecture else {
        let id = run.id;
        match run.status {
            RunStatus::Running | RunStatus::Finished => bail!("run {id} has no network yet"),
            RunStatus::Failed => {
                bail!("run {id} failed before it had a network; `repro resume {id}` tries again")
            }
            RunStatus::Interrupted => bail!(
                "run {id} was interrupted before it had a network; `repro resume {id}` continues it"
            ),
        }
    };
    Ok(network_of(&run, (*found.arch).clone()))
}

/// A network file, or the JSON of `repro show --json`.
fn load_file(path: &Path) -> Result<ArchFile> {
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    if !is_json {
        return Ok(ArchFile::load(path)?);
    }
    let wrong = |problem: String| Usage(format!("{}: {problem}", path.display()));
    let text = document::read_text(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let arch = ArchSpec::from_json(&text).map_err(wrong)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(ArchFile { name, description: String::new(), arch, resize: None, published: None })
}

/// The totals of a network.
struct Totals {
    cost: Cost<u64>,
    trainable: u64,
}

impl Totals {
    fn of(arch: &ArchSpec) -> Self {
        Self { cost: cost::count(arch), trainable: cost::trainable(arch) }
    }

    fn flops(&self) -> u64 {
        self.cost.macs + self.cost.pooled
    }
}

fn as_json(file: &ArchFile) -> Value {
    let totals = Totals::of(&file.arch);
    let published = file.published.as_ref().map(|published| {
        let Published { params, flops, rounded_to, top1, top5, source } = published;
        json!({
            "params": params,
            "flops": flops,
            "rounded_to": rounded_to,
            "top1": top1,
            "top5": top5,
            "source": source,
        })
    });
    json!({
        "name": file.name,
        "arch_id": file.arch.id(),
        "resolution": file.arch.resolution,
        "macs": totals.cost.macs,
        "flops": totals.flops(),
        "params": totals.cost.params,
        "trainable": totals.trainable,
        "published": published,
        "architecture": file.arch,
    })
}

/// The tensors that a file of its weights has.
fn tensors(file: &ArchFile) -> Result<String> {
    let mut table = Table::new(["tensor", "shape"]);
    for (name, dims) in state_dict_shapes(&file.arch)? {
        table.row([name, format!("{dims:?}")]);
    }
    Ok(table.text())
}

fn as_text(file: &ArchFile) -> String {
    let (arch, totals) = (&file.arch, Totals::of(&file.arch));
    let side = arch.resolution;
    let mut lines = vec![match file.description.as_str() {
        "" => file.name.clone(),
        description => format!("{}: {description}", file.name),
    }];
    lines.push(format!(
        "  input       {side}x{side}, {}; {} classes",
        text::plural(arch.image_channels, "channel"),
        arch.classes
    ));
    let number = |n: u64| text::grouped(&n);
    lines.push(format!("  weights     {}", number(totals.cost.params)));
    lines.push(format!("  parameters  {} trainable", number(totals.trainable)));
    lines.push(format!("  MACs        {}", number(totals.cost.macs)));
    lines.push(format!("  FLOPs       {} by the published rule", number(totals.flops())));
    if let Some(published) = &file.published {
        let unit = published.rounded_to;
        let rounded = if unit > 1 { format!(", rounded to {unit}") } else { String::new() };
        lines.push(format!(
            "  published   {} weights, {} FLOPs{rounded}; top-1 {} %, top-5 {} % ({})",
            number(published.params),
            number(published.flops),
            percent(published.top1),
            percent(published.top5),
            published.source
        ));
    }
    format!("{}\n\n{}", lines.join("\n"), report::architecture_table(arch))
}

/// Computed totals beside the published ones.
fn comparison(files: &[ArchFile]) -> Table {
    let mut table = Table::new([
        "network",
        ">input",
        ">weights",
        ">published",
        ">difference",
        ">FLOPs",
        ">published",
        ">difference",
        ">trainable",
        ">top-1 %",
        ">top-5 %",
    ]);
    for file in files {
        let totals = Totals::of(&file.arch);
        let published = file.published.as_ref();
        let beside = |computed: u64, of: fn(&Published) -> u64| {
            let cells = published.map(|published| {
                let (given, unit) = (of(published), published.rounded_to);
                let rounded = (computed + unit / 2) / unit * unit;
                [text::grouped(&given), difference(rounded, given)]
            });
            let cells = cells.unwrap_or_else(|| [NOTHING.to_owned(), NOTHING.to_owned()]);
            [text::grouped(&computed)].into_iter().chain(cells)
        };
        let mut row = vec![file.name.clone(), file.arch.resolution.to_string()];
        row.extend(beside(totals.cost.params, |published| published.params));
        row.extend(beside(totals.flops(), |published| published.flops));
        row.push(text::grouped(&totals.trainable));
        row.push(percent(published.and_then(|published| published.top1)));
        row.push(percent(published.and_then(|published| published.top5)));
        table.row(row);
    }
    table
}

/// The signed difference.
fn difference(computed: u64, published: u64) -> String {
    match computed.abs_diff(published) {
        0 => "0".to_owned(),
        by if computed > published => format!("+{}", text::grouped(&by)),
        by => format!("-{}", text::grouped(&by)),
    }
}

fn percent(value: Option<f64>) -> String {
    value.map_or(NOTHING.to_owned(), |value| format!("{value:.2}"))
}
