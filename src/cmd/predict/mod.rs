//! `repro predict`: classifies images by a network with trained weights.

use super::arch;
use super::ending::Usage;
use super::output::stdout;
use super::output_file;
use super::threads::start_threads;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor, safetensors};
use repro::checkpoint::tensors;
use repro::data;
use repro::net::FrozenNetwork;
use repro::text::{Table, printable};
use repro::trained::TrainedNetwork;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Classify images by a network with trained weights.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro predict --arch 12 --input cat.jpg dog.png
  repro predict --arch FBNetV2_F1 --weights fbnetv2_f1.pth --input *.jpg
  repro predict --arch eff_0 --weights eff_0.safetensors --input batch.safetensors \\
      --output logits.safetensors

--arch takes the name of a published network, a network file, or the number of a run, like
`repro arch`. For a run, the weights of its first training run, its classes and its normalisation
are used.

--weights is a state dict with the names of the published networks
(facebookresearch/mobile-vision), as safetensors or as PyTorch's .pth, of which only tensors are
read.

--input is image files, or one safetensors file with a tensor `input` [n, channels, height, width]
that is normalised already. Images of a published network or a network file are resized, cropped
and normalised as usual for ImageNet. For a run, images are resized to those of its data set; where
that is an image folder, the centre is taken as in its test.

Prints the five most probable classes of each input. --output writes a safetensors file with the
tensor `logits` [n, classes] instead.

Exit codes: 0 success, 1 a file cannot be read or written, 2 the command line is invalid, or the
weights are those of another network.")]
pub struct Args {
    /// A name, a file, or the number of a run.
    #[arg(long, value_name = "NETWORK")]
    arch: String,
    /// The trained weights; needed unless the network is a run.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Images, or one safetensors file.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Write the logits to this safetensors file.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Number of threads, which does not change the results [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one JSON object per input.
    #[arg(long)]
    json: bool,
}

/// Images of a pass.
const BATCH: usize = 32;
/// Classes that are printed.
const SHOWN: usize = 5;

/// # Errors
/// When there is no such network, its weights do not fit, or an input cannot be read.
pub fn run(args: &Args, database: &Path) -> Result<()> {
    start_threads(args.threads)?;
    let read = args.input.iter().chain(&args.weights).map(PathBuf::as_path);
    let read: Vec<&Path> = read.chain([Path::new(&args.arch)]).collect();
    let target = |output: &PathBuf| output_file::target(output, &read, database);
    let output = args.output.as_ref().map(target).transpose()?;
    let mut trained =
        arch::load_trained(&args.arch, args.weights.as_deref(), database, &Device::Cpu)?;
    let (names, images) = read_inputs(args, &mut trained)?;
    let logits = logits(&trained.net.freeze(&trained.params)?, &images)?;
    check_finite(&names, &logits)?;
    if let Some(output) = &output {
        tensors::write(output, &[], &[("logits".to_owned(), &logits)], |_| Ok(()))?;
        return Ok(());
    }
    print(args, &names, &logits, &trained)
}

/// Names of the inputs, and normalised images `[n, h, w, channels]`. A network that no run has trained takes
/// tensors of any size.
fn read_inputs(args: &Args, trained: &mut TrainedNetwork) -> Result<(Vec<String>, Tensor)> {
    let is_tensor = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors");
    if let [path] = &args.input[..]
        && is_tensor(path)
    {
        let wrong = |problem: String| format!("{}: {problem}", path.display());
        ensure!(!path.exists() || path.is_file(), wrong("is not a regular file".to_owned()));
        let mut all = safetensors::load(path, &Device::Cpu)
            .map_err(|e| anyhow::anyhow!(wrong(e.to_string())))?;
        let input =
            all.remove("input").with_context(|| wrong("has no tensor `input`".to_owned()))?;
        let (n, channels, h, w) = input.dims4().with_context(|| wrong("`input`".to_owned()))?;
        ensure!(
            channels == trained.file.arch.image_channels && h == w && n > 0,
            wrong(format!(
                "`input` is {:?}, not [n, {}, side, side]",
                input.dims(),
                trained.file.arch.image_channels
            ))
        );
        if trained.images.is_none() {
            trained.set_resolution(h);
        }
        let images =
            input.to_dtype(candle_core::DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?;
        return Ok(((1..=n).map(|i| format!("input {i}")).collect(), images));
    }
    if args.input.iter().any(is_tensor) {
        bail!(Usage("--input takes images, or one safetensors file".to_owned()));
    }
    let (side, channels) = (trained.side(), trained.file.arch.image_channels);
    let (share, normalisation) = (trained.seen_share(), trained.normalisation());
    let mut values = Vec::new();
    for path in &args.input {
        if path.is_dir() {
            bail!(Usage(format!("--input: {} is a folder; give its images", path.display())));
        }
        values.extend(data::read_image(path, (side, channels), share, &normalisation)?);
    }
    let names = args.input.iter().map(|path| path.display().to_string()).collect();
    let shape = (args.input.len(), side, side, channels);
    Ok((names, Tensor::from_vec(values, shape, &Device::Cpu)?))
}

fn logits(network: &FrozenNetwork, images: &Tensor) -> Result<Tensor> {
    let n = images.dim(0)?;
    let batches = (0..n).step_by(BATCH).map(|from| {
        let batch = images.narrow(0, from, BATCH.min(n - from))?.contiguous()?;
        Ok(network.forward(&batch)?)
    });
    let batches: Vec<Tensor> = batches.collect::<Result<_>>()?;
    Ok(Tensor::cat(&batches, 0)?)
}

/// Refuses outputs that are no numbers: the input has such values, or the weights have.
fn check_finite(names: &[String], logits: &Tensor) -> Result<()> {
    for (name, row) in names.iter().zip(logits.to_vec2::<f32>()?) {
        ensure!(
            row.iter().all(|logit| logit.is_finite()),
            "{name}: the network's output is not finite; check the input and the weights"
        );
    }
    Ok(())
}

fn print(args: &Args, names: &[String], logits: &Tensor, trained: &TrainedNetwork) -> Result<()> {
    let mut out = stdout();
    let mut table = Table::new(["input", "class", ">probability %"]);
    for (name, row) in names.iter().zip(logits.to_vec2::<f32>()?) {
        let best = most_probable(&row);
        if args.json {
            let top: Vec<_> = best
                .iter()
                .map(|(i, p)| json!({ "class": i, "name": trained.class_name(*i), "probability": p }))
                .collect();
            writeln!(out, "{}", json!({ "input": name, "top": top }))?;
        }
        for (at, (i, p)) in best.into_iter().enumerate() {
            let name = if at == 0 { name.clone() } else { String::new() };
            table.row([name, trained.class_name(i), format!("{:.2}", 100.0 * p)]);
        }
    }
    if !args.json {
        write!(out, "{}", printable(&table.text()))?;
    }
    Ok(())
}

/// Classes with their probabilities, the most probable first.
fn most_probable(logits: &[f32]) -> Vec<(usize, f64)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = |logit: &f32| f64::from(logit - largest).exp();
    let sum: f64 = logits.iter().map(exp).sum();
    let mut all: Vec<(usize, f64)> =
        logits.iter().enumerate().map(|(i, logit)| (i, exp(logit) / sum)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(SHOWN);
    all
}
