//! `repro predict`: classifies images by a network with trained weights.

use super::arch;
use super::database;
use super::ending::Usage;
use super::output::stdout;
use super::threads::start_threads;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor, safetensors};
use repro::checkpoint::tensors;
use repro::data::{self, Normalisation};
use repro::net::{FrozenNetwork, Network, StateFile, load_state_dict, read_state_file};
use repro::nn::Params;
use repro::space::{ArchFile, NetworkPlan};
use repro::text::{Table, printable};
use serde::Deserialize;
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
`repro arch`. Of a run, its own weights, classes and normalisation are used.

--weights is a state dict with the names of the published networks
(facebookresearch/mobile-vision), as safetensors or as PyTorch's .pth, of which only tensors are
read.

--input is image files, or one safetensors file with a tensor `input` [n, channels, height, width]
that is normalised already. Images of a published network or a network file are resized, cropped
and normalised as usual for ImageNet. Images of a run are resized to those of its data set.

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
/// Problems of a state dict that are printed.
const PROBLEMS: usize = 20;

/// # Errors
/// When there is no such network, its weights do not fit, or an input cannot be read.
pub fn run(args: &Args, database: &Path) -> Result<()> {
    start_threads(args.threads)?;
    if args.output.as_ref().is_some_and(|output| args.input.contains(output)) {
        bail!(Usage("--output would overwrite an input".to_owned()));
    }
    let mut file = arch::load(&args.arch, database)?;
    let weights = match (&args.weights, run_number(args)) {
        (Some(weights), _) => weights.clone(),
        (None, Some(run)) => weights_of(run, database)?,
        (None, None) => {
            bail!(Usage(format!(
                "--weights is needed: {} comes without weights; give a state dict",
                args.arch
            )))
        }
    };
    let state = read_state_file(&weights).map_err(anyhow::Error::msg)?;
    let about = About::of(&state)?;
    let (names, images) = read_inputs(args, &mut file, about.as_ref())?;
    let network = frozen(&file, &state, &weights)?;
    let logits = logits(&network, &images)?;
    check_finite(&names, &logits)?;
    if let Some(output) = &args.output {
        tensors::write(output, &[], &[("logits".to_owned(), &logits)], |_| Ok(()))?;
        return Ok(());
    }
    print(args, &names, &logits, about.as_ref())
}

/// The number of the run, if the network is one.
fn run_number(args: &Args) -> Option<i64> {
    let is_other = repro::zoo::network(&args.arch).is_some() || Path::new(&args.arch).is_file();
    if is_other { None } else { args.arch.parse().ok() }
}

/// The weights of the first training run.
fn weights_of(run: i64, database: &Path) -> Result<PathBuf> {
    let store = database::existing(database)?;
    let file = store.files_of(run).weights(1).remove(0);
    ensure!(
        file.is_file(),
        "there are no weights of run {run}: it is not finished, or they were discarded or removed"
    );
    Ok(file)
}

/// What the weights of a run say about its images.
#[derive(Deserialize)]
struct About {
    classes: Vec<String>,
    mean: Vec<f32>,
    sd: Vec<f32>,
}

impl About {
    fn of(state: &StateFile) -> Result<Option<Self>> {
        let read =
            |text: &String| serde_json::from_str(text).context("the description of the weights");
        state.description.as_ref().map(read).transpose()
    }
}

/// Names of the inputs, and normalised images `[n, h, w, channels]`. A network that is not of a run takes tensors of
/// any size.
fn read_inputs(
    args: &Args,
    file: &mut ArchFile,
    about: Option<&About>,
) -> Result<(Vec<String>, Tensor)> {
    let is_tensor = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors");
    if let [path] = &args.input[..]
        && is_tensor(path)
    {
        let wrong = |problem: String| format!("{}: {problem}", path.display());
        let mut all = safetensors::load(path, &Device::Cpu)
            .map_err(|e| anyhow::anyhow!(wrong(e.to_string())))?;
        let input =
            all.remove("input").with_context(|| wrong("has no tensor `input`".to_owned()))?;
        let (n, channels, h, w) = input.dims4().with_context(|| wrong("`input`".to_owned()))?;
        ensure!(
            channels == file.arch.image_channels && h == w && n > 0,
            wrong(format!(
                "`input` is {:?}, not [n, {}, side, side]",
                input.dims(),
                file.arch.image_channels
            ))
        );
        if run_number(args).is_none() {
            file.arch.resolution = h;
        }
        let images =
            input.to_dtype(candle_core::DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?;
        return Ok(((1..=n).map(|i| format!("input {i}")).collect(), images));
    }
    if args.input.iter().any(is_tensor) {
        bail!(Usage("--input takes images, or one safetensors file".to_owned()));
    }
    let (side, channels) = (file.arch.resolution, file.arch.image_channels);
    // The centre that a published network sees; images of a run are seen whole.
    let share = match (file.resize, about) {
        (Some(resize), _) => side as f64 / resize as f64,
        (None, Some(_)) => 1.0,
        (None, None) => data::CENTRE,
    };
    let normalisation = about.map_or_else(imagenet, |about| Normalisation {
        mean: about.mean.clone(),
        sd: about.sd.clone(),
    });
    let mut values = Vec::new();
    for path in &args.input {
        values.extend(data::read_image(path, (side, channels), share, &normalisation)?);
    }
    let names = args.input.iter().map(|path| path.display().to_string()).collect();
    let shape = (args.input.len(), side, side, channels);
    Ok((names, Tensor::from_vec(values, shape, &Device::Cpu)?))
}

/// The usual normalisation of ImageNet.
fn imagenet() -> Normalisation {
    Normalisation { mean: vec![0.485, 0.456, 0.406], sd: vec![0.229, 0.224, 0.225] }
}

/// The network with these weights.
fn frozen(file: &ArchFile, state: &StateFile, weights: &Path) -> Result<FrozenNetwork> {
    let mut params = Params::zeros(&Device::Cpu);
    let network = Network::new(&mut params, &NetworkPlan::derived(&file.arch))?;
    let problems = load_state_dict(&file.arch, &mut params, &state.tensors)?;
    if !problems.is_empty() {
        let mut lines = vec![format!(
            "{} has not the weights of {}: {} entries differ",
            weights.display(),
            file.name,
            problems.len()
        )];
        lines.extend(problems.iter().take(PROBLEMS).map(|problem| format!("  {problem}")));
        bail!(Usage(lines.join("\n")));
    }
    Ok(network.freeze(&params)?)
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

fn print(args: &Args, names: &[String], logits: &Tensor, about: Option<&About>) -> Result<()> {
    let mut out = stdout();
    let mut table = Table::new(["input", "class", ">probability %"]);
    for (name, row) in names.iter().zip(logits.to_vec2::<f32>()?) {
        let best = most_probable(&row);
        let class = |i: usize| {
            let known = about.and_then(|about| about.classes.get(i).cloned());
            known.unwrap_or_else(|| i.to_string())
        };
        if args.json {
            let top: Vec<_> = best
                .iter()
                .map(|(i, p)| json!({ "class": i, "name": class(*i), "probability": p }))
                .collect();
            writeln!(out, "{}", json!({ "input": name, "top": top }))?;
        }
        for (at, (i, p)) in best.into_iter().enumerate() {
            let name = if at == 0 { name.clone() } else { String::new() };
            table.row([name, class(i), format!("{:.2}", 100.0 * p)]);
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
