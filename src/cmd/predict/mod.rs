//! `repro predict`: classifies images by a network with trained weights.

mod inputs;

use super::arch;
use super::ending::Ending;
use super::inference::Inference;
use super::output::{say, stdout};
use super::output_file;
use super::threads::start_threads;
use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use inputs::Inputs;
use repro::checkpoint::tensors;
use repro::data::DataError;
use repro::text::{self, Table, printable};
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

Tensors of a run may be larger than the images of its training: the network subsamples them, as in
training. Other networks see every pixel of a tensor, whatever its side. A Python file of
`repro export` does the same.

Prints the five most probable classes of each input. --output writes a safetensors file with the
tensor `logits` [n, classes] instead. Images that cannot be read are named and left out; the exit
code is then 1, and --output writes nothing.

Keys of --json, one object per input:
  input     its file, or its number in the tensor
  top       class (number), name and probability of the five most probable classes
  damaged   instead of top: why the image cannot be read

Exit codes: 0 success, 1 a file cannot be read or written, or memory is too small, 2 the command
line is invalid, there is no such run, or the weights are those of another network.")]
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

/// Images of a pass, if memory allows.
const BATCH: usize = 32;
/// Classes that are printed.
const SHOWN: usize = 5;

/// # Errors
/// When there is no such network, its weights do not fit, or no input can be read.
pub fn run(args: &Args, database: &Path) -> Result<Ending> {
    let threads = start_threads(args.threads)?;
    let read = args.input.iter().chain(&args.weights).map(PathBuf::as_path);
    let read: Vec<&Path> = read.chain([Path::new(&args.arch)]).collect();
    let target = |output: &PathBuf| output_file::target(output, &read, database);
    let output = args.output.as_ref().map(target).transpose()?;
    let device = &Device::Cpu;
    let mut trained = arch::load_trained(&args.arch, args.weights.as_deref(), database, device)?;
    let inputs = Inputs::open(&args.input, &mut trained)?;
    let arch = &trained.file.arch;
    let (side, beside) = (inputs.side(), inputs.reading_bytes());
    let inference = Inference { arch, side, threads, device, beside };
    let batch = inference.fitting_batch(inputs.len().min(BATCH))?;
    let network = trained.net.freeze(&trained.params)?;
    let mut shown = Shown { args, trained: &trained, table: new_table() };
    let (mut all, mut damaged) = (Vec::new(), 0);
    for from in (0..inputs.len()).step_by(batch) {
        let batch = inputs.read(from..inputs.len().min(from + batch))?;
        for (name, error) in &batch.damaged {
            say(error);
            damaged += 1;
            shown.damaged(name, error)?;
        }
        if batch.names.is_empty() {
            continue;
        }
        let logits = network.forward(&batch.images)?;
        check_finite(&batch.names, &logits)?;
        match &output {
            Some(_) => all.push(logits),
            None => shown.add(&batch.names, &logits)?,
        }
    }
    shown.finish()?;
    if damaged > 0 {
        let of = text::plural(inputs.len(), "image");
        let written = if output.is_some() { "; nothing was written" } else { "" };
        say(format_args!("{damaged} of {of} cannot be read{written}"));
        return Ok(Ending::Failed);
    }
    if let Some(output) = &output {
        let logits = Tensor::cat(&all, 0)?;
        tensors::write(output, &[], &[("logits".to_owned(), &logits)], |_| Ok(()))?;
    }
    Ok(Ending::Done)
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

fn new_table() -> Table {
    Table::new(["input", "class", ">probability %"])
}

/// What is printed: a table at the end, or JSON as it comes.
struct Shown<'a> {
    args: &'a Args,
    trained: &'a TrainedNetwork,
    table: Table,
}

impl Shown<'_> {
    fn add(&mut self, names: &[String], logits: &Tensor) -> Result<()> {
        let Self { args, trained, table } = self;
        for (name, row) in names.iter().zip(logits.to_vec2::<f32>()?) {
            let best = most_probable(&row);
            if args.json {
                let class = |(i, p): &(usize, f64)| json!({ "class": i, "name": trained.class_name(*i), "probability": p });
                let top: Vec<_> = best.iter().map(class).collect();
                writeln!(stdout(), "{}", json!({ "input": name, "top": top }))?;
                continue;
            }
            for (at, (i, p)) in best.into_iter().enumerate() {
                let name = if at == 0 { name.clone() } else { String::new() };
                table.row([name, trained.class_name(i), format!("{:.2}", 100.0 * p)]);
            }
        }
        Ok(())
    }

    fn damaged(&self, name: &str, error: &DataError) -> Result<()> {
        if self.args.json && self.args.output.is_none() {
            let line = json!({ "input": name, "damaged": error.to_string() });
            writeln!(stdout(), "{line}")?;
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        if !self.args.json && self.args.output.is_none() && !self.table.is_empty() {
            write!(stdout(), "{}", printable(&self.table.text()))?;
        }
        Ok(())
    }
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
