//! `repro bench`: time and memory of a step.

use super::arch;
use super::dataset::DataFolder;
use super::device::{DeviceChoice, free_memory};
use super::ending::Usage;
use super::output::stdout;
use super::progress::Display;
use super::threads::start_threads;
use anyhow::{Context, Result, bail};
use candle_core::Device;
use repro::bench::{self, Measured, StepTraffic, Subject, What};
use repro::cost::{Backend, Footprint};
use repro::data;
use repro::manifest::{self, Manifest, NetworkInput, Overrides, Task};
use repro::ops::gpu;
use repro::recipe::Recompute;
use repro::runner;
use repro::space::ArchSpec;
use repro::study::is_study;
use repro::text;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Time the training steps of a supernet or a network, or its evaluation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro bench experiments/fbnetv2_f.toml
  repro bench experiments/fbnetv2_f.toml --set search.recompute=block
  repro bench experiments/smoke.toml --set search.method=dnas
  repro bench experiments/fbnetv2_f.toml --what network --arch 3
  repro bench experiments/fbnetv2_f.toml --what eval --arch network.toml --json

Prints times, rates and peak memory of a step. Times are medians over the timed steps; loading the
batch is not part of a step. With --device cuda:N it prints what a step moves between the host and
the GPU instead of rates, and no parts: the host queues the work and waits once. To compare two
programs, alternate between them on an idle machine, as benches/compare does with PyTorch.

Exit codes: 0 success, 1 a step failed or needs too much memory, 2 the command line, the manifest
or the network is invalid.

Keys of --json:
  what                      supernet, network or eval
  method                    the method whose supernet was timed, or null
  batch                     images per step
  threads                   threads used
  steps                     timed steps, after three warm-up steps
  step_ms                   median
  step_ms_min               fastest step
  step_ms_max               slowest step
  forward_ms                median, up to the loss; null with a GPU, like the next two keys
  backward_ms               median; 0 for eval
  optimizer_ms              median; 0 for eval
  data_ms                   median of loading the batch, which is not part of the step
  images_per_second         batch / median step
  traffic.launches          kernels and matrix products in a step and its batch; 0 on the CPU,
                            like all of traffic
  traffic.uploads           copies to the GPU
  traffic.uploaded_bytes    their bytes
  traffic.downloads         copies from the GPU, for which the host waits
  traffic.downloaded_bytes  their bytes
  macs                      multiply-accumulates of the layers in a step; three times the forward
                            pass where the step trains
  macs_per_second           macs / median step
  share_of_peak             macs_per_second / machine.macs_per_second
  share_of_bandwidth        bytes per second / machine.bytes_per_second, if a step reads and writes
                            every byte of peak_bytes once
  peak_bytes                most bytes allocated at once in a timed step, without the data set and
                            what was allocated before the network; the sum of the next five keys;
                            with a GPU, bytes of its memory pool, and memory is null
  memory.weights            parameters and running statistics; for eval also the kernels' copies
  memory.optimizer          momentum buffers
  memory.activations        the batch, the stored feature maps, and small objects
  memory.gradients          gradients of activations and weights
  memory.scratch            buffers of the current operator, and the threads' tiles
  predicted.weights         memory model of memory.weights; predicted is null where there is no
                            model of this step
  predicted.optimizer       memory model of memory.optimizer
  predicted.activations     memory model of memory.activations
  predicted.gradients       memory model of memory.gradients
  predicted.scratch         memory model of memory.scratch
  resident_bytes            growth of the resident size since before the network was built; null
                            with a GPU, and where the operating system does not report it
  machine.macs_per_second   measured peak of all threads, operands in registers; 0 with a GPU, like
                            the shares
  machine.bytes_per_second  measured peak of all threads, reading and writing peak_bytes in place")]
pub struct Args {
    /// The experiment file.
    manifest: PathBuf,
    /// What to time: supernet (a weight step of the first method that has a supernet), network (a
    /// training step of a network), or eval.
    #[arg(long, value_name = "WHAT", default_value = "supernet", value_parser = parse_what)]
    what: What,
    /// The network to time: a name, a file, or the number of a run, as in `repro arch`.
    #[arg(long, value_name = "NETWORK")]
    arch: Option<String>,
    /// Number of steps to time.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    /// Images per step [default: batch_size of the manifest's search or training].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Override a manifest key, as in search.epochs=3; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where to compute: cpu, or cuda:N for NVIDIA GPU number N, counted from 0.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = DeviceChoice::parse)]
    device: DeviceChoice,
    /// Number of threads [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Skip the memory check (which does not cover eval, rs_ws and evolution).
    #[arg(long)]
    force: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn parse_what(given: &str) -> Result<What, String> {
    match given {
        "supernet" => Ok(What::Supernet),
        "network" => Ok(What::Network),
        "eval" => Ok(What::Eval),
        _ => Err("expected supernet, network or eval".to_owned()),
    }
}

/// Times the steps and prints the results.
///
/// # Errors
/// When the manifest or the network is invalid, the data set is missing, or an operator fails.
pub fn run(args: &Args, database: &Path, data: &DataFolder) -> Result<()> {
    let overrides = Overrides { sets: args.sets.clone(), seeds: Vec::new() };
    if is_study(&args.manifest) {
        let file = args.manifest.display();
        bail!(Usage(format!(
            "{file} is a memory study; `repro run {file}` measures its supernets, and `repro bench` \
             takes the manifest of a search"
        )));
    }
    let runs = |run| arch::of_run(run, database);
    let manifest = manifest::load_of_runs(&args.manifest, &overrides, &runs)?;
    let arch = architecture(args, &manifest, database)?;
    if let Some(arch) = &arch {
        let name = args.arch.as_deref().unwrap_or("arch");
        refuse_unfitting(arch, manifest.image_side(), &manifest.input())
            .map_err(|problem| Usage(format!("{name}: {problem}")))?;
    }
    let target = target(args.what, &manifest, arch.as_ref())?;
    start_threads(args.threads)?;
    let device = args.device.open()?;
    let batch = args.batch.map_or_else(|| default_batch(&manifest, target), |n| n as usize);
    preflight(args, &manifest, target, (batch, &device))?;
    // Never set, since signals end this command as usual.
    let stop = AtomicBool::new(false);
    let data_root = &data.fetch_if_absent(&manifest.data, &Display::new(), &stop)?;
    runner::check_images(&manifest, data_root)?;
    let dataset = data::load(&manifest.data, data_root)?;
    let size = (batch, args.steps as usize);
    let measured = bench::measure(&manifest, &dataset, target, size, &device)?;
    let mut out = stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&measured)?)?;
    } else {
        write!(out, "{}", table(&measured, args.device))?;
    }
    Ok(())
}

/// What to time: the network, or the supernet of the manifest's first method that has one.
fn target<'a>(
    what: What,
    manifest: &'a Manifest,
    arch: Option<&'a ArchSpec>,
) -> Result<Subject<'a>> {
    let arch = || arch.context("no network to time");
    let method = manifest.search().and_then(|task| {
        let method = task.methods.iter().find(|method| method.name().has_supernet());
        method.map(|method| Subject::Supernet(task, method))
    });
    match what {
        What::Supernet => method
            .context("there is no supernet to time: give --what network, or another search.method"),
        What::Network => Ok(Subject::Network(arch()?)),
        What::Eval => Ok(Subject::Eval(arch()?)),
    }
}

/// Checks that the step fits into free memory, where the memory model covers it.
fn preflight(
    args: &Args,
    manifest: &Manifest,
    target: Subject<'_>,
    (batch, device): (usize, &Device),
) -> Result<()> {
    let side = manifest.image_side();
    let step = bench::predicted(manifest, target, (batch, side), device);
    let (free, of) = free_memory(device)?;
    let (Some(step), Some(free)) = (step, free) else { return Ok(()) };
    let backend = gpu::backend(device)?;
    // A GPU holds only batches of the data set.
    let images = match backend {
        Backend::Cpu => data::describe(manifest.data.dataset()).bytes,
        Backend::EmulatedGpu | Backend::Gpu => 0,
    };
    let taken = runner::estimated_taken(backend, step.total() + images);
    if args.force || taken <= free {
        return Ok(());
    }
    let (section, recompute) = match target {
        Subject::Supernet(task, _) => ("search", task.config.recompute),
        Subject::Network(_) | Subject::Eval(_) => {
            ("train", manifest.train().map(|train| train.recompute).unwrap_or_default())
        }
    };
    let advice = match recompute {
        Recompute::None => format!("a smaller --batch or --set {section}.recompute=block"),
        Recompute::Block => "a smaller --batch".to_owned(),
    };
    bail!(
        "a step needs about {} of {of} at batch size {batch}, but only {} are free; use {advice}, or \
         --force to skip this check",
        text::bytes(taken),
        text::bytes(free)
    )
}

/// Refuses a network that does not fit the images or classes of the manifest.
fn refuse_unfitting(arch: &ArchSpec, side: usize, input: &NetworkInput) -> Result<(), String> {
    let refuse = |key: &str, given: usize, data: String| {
        let advice = "use a manifest with the data set of the network";
        Err(format!("{key} is {given}, but the manifest's data set has {data}; {advice}"))
    };
    if arch.resolution > side {
        return refuse("resolution", arch.resolution, format!("images of side {side}"));
    }
    if arch.image_channels != input.channels {
        let channels = text::plural(input.channels, "channel");
        return refuse("image_channels", arch.image_channels, channels);
    }
    if arch.classes != input.classes {
        return refuse("classes", arch.classes, format!("{} classes", input.classes));
    }
    Ok(())
}

/// Images per step of a manifest that trains no network.
const DEFAULT_BATCH: usize = 64;

fn default_batch(manifest: &Manifest, target: Subject<'_>) -> usize {
    match target {
        Subject::Supernet(task, _) => task.config.batch_size,
        Subject::Network(_) | Subject::Eval(_) => {
            manifest.train().map_or(DEFAULT_BATCH, |train| train.batch_size)
        }
    }
}

/// The network to time: that of the command line, or the manifest's.
fn architecture(args: &Args, manifest: &Manifest, database: &Path) -> Result<Option<ArchSpec>> {
    match (&args.arch, args.what, &manifest.task) {
        (Some(_), What::Supernet, _) => {
            let problem = "--what supernet times the manifest's supernet; remove --arch";
            bail!(Usage(problem.to_owned()));
        }
        (None, What::Supernet, _) => Ok(None),
        (Some(network), ..) => Ok(Some(arch::load(network, database)?.arch)),
        (None, _, Task::Network(task)) => Ok(Some(task.network.arch.clone())),
        (None, _, Task::Search(_)) => {
            bail!(Usage("no network is given; use --arch NETWORK".to_owned()))
        }
    }
}

fn traffic(t: &StepTraffic) -> [String; 2] {
    let moved = format!(
        "moved      {} in {}, {} in {}",
        text::bytes(t.uploaded_bytes),
        text::plural(t.uploads, "upload"),
        text::bytes(t.downloaded_bytes),
        text::plural(t.downloads, "download")
    );
    [format!("launches   {} per step", t.launches), moved]
}

fn table(m: &Measured, device: DeviceChoice) -> String {
    let mut lines = vec![format!(
        "step       {:.1} ms ({:.1} to {:.1}, {})",
        m.step_ms,
        m.step_ms_min,
        m.step_ms_max,
        text::plural(m.steps, "step")
    )];
    if let (Some(forward), Some(backward), Some(optimizer)) =
        (m.forward_ms, m.backward_ms, m.optimizer_ms)
    {
        lines.push(format!(
            "parts      forward {forward:.1}, backward {backward:.1}, optimizer {optimizer:.1} ms; \
             loading the batch takes {:.1} ms",
            m.data_ms
        ));
    }
    lines.push(format!(
        "images     {:.0} per second, batch size {}, {}",
        m.images_per_second,
        m.batch,
        text::plural(m.threads, "thread")
    ));
    if device == DeviceChoice::Cpu {
        lines.push(format!(
            "rates      {} MACs per second, {:.0} % of the measured peak; at least {:.0} % of the \
             memory bandwidth",
            text::count(m.macs_per_second as u64),
            100.0 * m.share_of_peak,
            100.0 * m.share_of_bandwidth
        ));
        lines.push(format!("peak       {} more than the idle process", text::bytes(m.peak_bytes)));
        lines.extend(m.memory.as_ref().map(owners));
    } else {
        lines.extend(traffic(&m.traffic));
        lines.push(format!("peak       {} of the GPU's memory", text::bytes(m.peak_bytes)));
    }
    if let Some(bytes) = m.resident_bytes {
        lines.push(format!("resident   {} more than the idle process", text::bytes(bytes)));
    }
    lines.extend(m.method.map(|method| format!("method     {method}")));
    lines.push(String::new());
    lines.join("\n")
}

/// Whose bytes the peak consists of.
fn owners(memory: &Footprint) -> String {
    let owners = [
        ("weights", memory.weights),
        ("optimizer", memory.optimizer),
        ("activations", memory.activations),
        ("gradients", memory.gradients),
        ("scratch", memory.scratch),
    ];
    let owners = owners.map(|(name, bytes)| format!("{name} {}", text::bytes(bytes)));
    format!("parts      {}", owners.join(", "))
}
