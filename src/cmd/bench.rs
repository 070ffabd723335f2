//! `repro bench`: how fast and how large a step is.

use super::progress::Display;
use super::run::{fetch_if_absent, set_threads};
use super::{Usage, existing, text};
use anyhow::{Result, bail};
use repro::bench::{self, Measured, What};
use repro::data::{self, Silent};
use repro::manifest::{self, Manifest, Overrides};
use repro::memory;
use repro::recipe::Recompute;
use repro::runner;
use repro::space::{ArchSpec, SearchSpace};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Time steps of a manifest's supernet, of a network, or of its evaluation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro bench experiments/fbnetv2_f.toml
  repro bench experiments/fbnetv2_f.toml --set search.recompute=block
  repro bench experiments/smoke.toml --set search.method=dnas
  repro bench experiments/fbnetv2_f.toml --what network --run 3
  repro bench experiments/fbnetv2_f.toml --what eval --arch network.json --json

Times are medians; the batch is made outside of the step. Compare only what ran in turns on one
quiet machine: benches/compare does that with PyTorch.

Keys of --json:
  what                      supernet, network or eval
  method                    whose supernet it is, or null
  batch                     images in a step
  threads                   that computed
  steps                     that were timed, after three to warm up
  step_ms                   median
  step_ms_min               fastest
  step_ms_max               slowest
  forward_ms                median, up to the loss
  backward_ms               median, 0 for eval
  optimizer_ms              median, 0 for eval
  data_ms                   median of making the batch, which is no part of the step
  images_per_second         batch / median step
  macs                      multiply-accumulates of the layers in a step, thrice where it trains
  macs_per_second           macs / median step
  share_of_peak             macs_per_second / machine.macs_per_second
  share_of_bandwidth        the same of machine.bytes_per_second, every byte of the peak being read
                            and written once in a step
  peak_bytes                most bytes allocated at once in a timed step, without those of before
                            the network was built and the data set; the sum of the next five
  memory.weights            parameters and running statistics; for eval also as its kernels read
                            them
  memory.optimizer          velocities
  memory.activations        the batch, the maps that are there, and odds and ends
  memory.gradients          of activations and weights
  memory.scratch            of the operator at work, and tiles that threads keep
  predicted.weights         what the memory model says of memory.weights; predicted is null where
                            it has no model of such a step
  predicted.optimizer       the same of memory.optimizer
  predicted.activations     of memory.activations
  predicted.gradients       of memory.gradients
  predicted.scratch         of memory.scratch
  resident_bytes            most that the resident size grew from before the network was built, or
                            null where the operating system does not tell
  machine.macs_per_second   most that all threads multiply and add, all in registers
  machine.bytes_per_second  most that all threads read and write in place, in peak_bytes bytes")]
pub struct Args {
    /// The experiment file.
    manifest: PathBuf,
    /// What to time: supernet (a step of its weights; of the manifest's first method that has one),
    /// network (a training step), eval.
    #[arg(long, value_name = "WHAT", default_value = "supernet", value_parser = parse_what)]
    what: What,
    /// The network to time, as JSON: what `repro show RUN --json` has under `architecture`.
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    arch: Option<PathBuf>,
    /// The network to time: what this run of the database arrived at.
    #[arg(long, value_name = "ID")]
    run: Option<i64>,
    /// How many steps to time.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    /// Images in a step [default: the manifest's batch_size of the search or the training].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Let this value take the place of the manifest's; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Threads to compute with [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Begin even where the step is thought to need more memory than is free; that is not known of
    /// eval, rs_ws and evolution.
    #[arg(long)]
    force: bool,
    /// Print one object of JSON.
    #[arg(long)]
    json: bool,
}

fn parse_what(given: &str) -> Result<What, String> {
    match given {
        "supernet" => Ok(What::Supernet),
        "network" => Ok(What::Network),
        "eval" => Ok(What::Eval),
        _ => Err("give supernet, network or eval".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// When the manifest is not right, the data set or the network cannot be had, or an operator fails.
pub fn run(args: &Args, database: &Path, data_root: &Path) -> Result<()> {
    let overrides = Overrides { sets: args.sets.clone(), seeds: Vec::new() };
    let mut manifest = manifest::load(&args.manifest, &overrides)?;
    if let Some(method) = manifest.methods.iter().copied().find(|method| method.has_supernet()) {
        manifest.search.method = method;
    }
    let arch = architecture(args, database)?;
    if let Some(arch) = &arch {
        refuse_unfitting(arch, &manifest.space).map_err(|problem| wrong(args, &problem))?;
    }
    set_threads(args.threads)?;
    let batch = args.batch.map_or_else(|| usual_batch(&manifest, args.what), |n| n as usize);
    preflight(args, &manifest, arch.as_ref(), batch)?;
    fetch_if_absent(manifest.data.dataset, data_root, &Display::new())?;
    runner::check_images(&manifest, data_root)?;
    let dataset = data::load(&manifest.data, data_root, &Silent)?;
    let size = (batch, args.steps as usize);
    let measured = bench::measure(&manifest, &dataset, args.what, arch.as_ref(), size)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&measured)?)?;
    } else {
        write!(out, "{}", table(&measured))?;
    }
    Ok(())
}

/// Whether there is room for the step, where the memory model knows it.
fn preflight(
    args: &Args,
    manifest: &Manifest,
    arch: Option<&ArchSpec>,
    batch: usize,
) -> Result<()> {
    let side = manifest.space.max_resolution();
    let step = bench::predicted(manifest, args.what, arch, (batch, side));
    let (Some(step), Some(free)) = (step, memory::available_bytes()) else { return Ok(()) };
    let images = data::describe(manifest.data.dataset).bytes;
    let taken = runner::estimated_resident(step.total() + images);
    if args.force || taken <= free {
        return Ok(());
    }
    let (section, recompute) = match args.what {
        What::Supernet => ("search", manifest.search.recompute),
        What::Network | What::Eval => ("train", manifest.train.recompute),
    };
    let less = match recompute {
        Recompute::None => {
            format!("a smaller --batch or --set {section}.recompute=block needs less")
        }
        Recompute::Block => "a smaller --batch needs less".to_owned(),
    };
    bail!(
        "a step needs about {} of memory at a batch of {batch}, and {} are free; {less}, and --force \
         tries it nevertheless",
        text::bytes(taken),
        text::bytes(free)
    )
}

/// A network of other images than those of the manifest.
fn refuse_unfitting(arch: &ArchSpec, space: &SearchSpace) -> Result<(), String> {
    let refuse = |key: &str, given: usize, data: String| {
        let advice = "time it with a manifest of its own data set";
        Err(format!("{key} is {given}, the manifest's data set has {data}; {advice}"))
    };
    let side = space.max_resolution();
    if arch.resolution > side {
        return refuse("resolution", arch.resolution, format!("images of side {side}"));
    }
    if arch.image_channels != space.image_channels {
        let channels = format!("{} channels", space.image_channels);
        return refuse("image_channels", arch.image_channels, channels);
    }
    if arch.classes != space.classes {
        return refuse("classes", arch.classes, format!("{} classes", space.classes));
    }
    Ok(())
}

/// What is wrong with the network that the command line names.
fn wrong(args: &Args, problem: &str) -> Usage {
    let place = match (&args.arch, args.run) {
        (Some(file), _) => format!("--arch {}", file.display()),
        (None, run) => format!("--run {}", run.unwrap_or_default()),
    };
    Usage(format!("{place}: {problem}"))
}

fn usual_batch(manifest: &Manifest, what: What) -> usize {
    match what {
        What::Supernet => manifest.search.batch_size,
        What::Network | What::Eval => manifest.train.batch_size,
    }
}

fn architecture(args: &Args, database: &Path) -> Result<Option<ArchSpec>> {
    if args.what == What::Supernet {
        if args.arch.is_some() || args.run.is_some() {
            let problem = "--what supernet times the manifest's space; leave --arch and --run out";
            bail!(Usage(problem.to_owned()));
        }
        return Ok(None);
    }
    if let Some(file) = &args.arch {
        let text = std::fs::read_to_string(file)
            .map_err(|error| wrong(args, &format!("cannot be read: {error}")))?;
        return Ok(Some(ArchSpec::from_json(&text).map_err(|problem| wrong(args, &problem))?));
    }
    let Some(id) = args.run else {
        let problem = "say which network: --run ID of the database, or --arch FILE";
        bail!(Usage(problem.to_owned()));
    };
    match existing(database)?.run(id)?.architecture {
        Some(found) => Ok(Some(found.arch)),
        None => bail!("run {id} arrived at no network"),
    }
}

fn table(m: &Measured) -> String {
    let (range, memory) = ((m.step_ms_min, m.step_ms_max), &m.memory);
    let mut lines = vec![
        format!(
            "step       {:.1} ms ({:.1} to {:.1}, {} steps)",
            m.step_ms, range.0, range.1, m.steps
        ),
        format!(
            "of which   forward {:.1}, backward {:.1}, optimizer {:.1} ms; the batch {:.1} ms beside it",
            m.forward_ms, m.backward_ms, m.optimizer_ms, m.data_ms
        ),
        format!(
            "images     {:.0} a second, {} in a batch, {} threads",
            m.images_per_second, m.batch, m.threads
        ),
        format!(
            "rates      {} MACs a second, {:.0} % of the processor's peak; at least {:.0} % of its \
             bandwidth",
            text::count(m.macs_per_second as u64),
            100.0 * m.share_of_peak,
            100.0 * m.share_of_bandwidth
        ),
        format!("peak       {} above the idle process", text::bytes(m.peak_bytes)),
    ];
    let owners = [
        ("weights", memory.weights),
        ("optimizer", memory.optimizer),
        ("activations", memory.activations),
        ("gradients", memory.gradients),
        ("scratch", memory.scratch),
    ];
    let owners: Vec<String> =
        owners.iter().map(|(name, bytes)| format!("{name} {}", text::bytes(*bytes))).collect();
    lines.push(format!("of which   {}", owners.join(", ")));
    if let Some(bytes) = m.resident_bytes {
        lines.push(format!("resident   {} more than the idle process", text::bytes(bytes)));
    }
    lines.extend(m.method.map(|method| format!("method     {method}")));
    lines.push(String::new());
    lines.join("\n")
}
