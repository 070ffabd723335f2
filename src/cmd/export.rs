//! `repro export`: networks for other programs.

use super::arch;
use super::ending::Usage;
use super::output::stdout;
use super::output_file;
use anyhow::{Result, bail};
use candle_core::Device;
use clap::ValueEnum;
use repro::export::{Model, onnx, pytorch, safetensors};
use repro::text::printable_name;
use repro::trained::TrainedNetwork;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Write a network for other programs: ONNX, PyTorch, safetensors.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro export 12 --format onnx --fold
  repro export 12 --format pytorch --output found.py
  repro export --arch FBNetV2_F1 --weights fbnetv2_f1.pth --format onnx
  repro export 12 --format toml > found.toml

A network is the name of a published one (`repro arch --all` lists them), a network file, or the
number of a run. For a run, the weights of its first training run, its classes and its
normalisation are used.

  onnx         a graph of standard operators (opset 17): `input` [batch, channels, height, width],
               normalised; `logits` [batch, classes]. Its metadata have the name, the classes, the
               normalisation and the run. With --fold, batch norm is folded into the convolutions;
               without, the weights are those of the state dict.
  pytorch      a Python file that builds the network, and a safetensors file beside it. The file
               needs torch and safetensors only: `from found import load`.
  safetensors  the state dict, with the names of the published networks
               (facebookresearch/mobile-vision)
  toml, json   the architecture, without weights, as `repro arch` and manifests read it; printed
               unless --output is given

Where the images of a run are larger than its network's resolution, the exported network subsamples
them as in training. Other networks see every pixel: a Python file takes images of any side, an ONNX
graph those of the network's resolution. Equal networks give equal files. A file of the same name is replaced.

Exit codes: 0 success, 1 a file cannot be read or written, or memory is too small, 2 the command
line is invalid, there is no such run, or the weights are those of another network.")]
pub struct Args {
    /// A name, a file, or the number of a run.
    #[arg(value_name = "NETWORK", required_unless_present = "arch")]
    network: Option<String>,
    /// The same as NETWORK.
    #[arg(long, value_name = "NETWORK", conflicts_with = "network")]
    arch: Option<String>,
    /// The trained weights, as safetensors or .pth; needed unless the network is a run.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// What to write.
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write [default: the network's name with the ending of the format].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Fold batch norm into the convolutions (onnx).
    #[arg(long)]
    fold: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Onnx,
    Pytorch,
    Safetensors,
    Toml,
    Json,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Pytorch => "py",
            Self::Safetensors => "safetensors",
            Self::Toml => "toml",
            Self::Json => "json",
        }
    }
}

/// # Errors
/// When there is no such network, its weights do not fit, or a file cannot be written.
pub fn run(args: &Args, database: &Path) -> Result<()> {
    if args.fold && args.format != Format::Onnx {
        bail!(Usage("--fold is for --format onnx".to_owned()));
    }
    // The parser requires one of both.
    let name = args.network.as_ref().or(args.arch.as_ref()).map_or("", String::as_str);
    match args.format {
        Format::Toml => return write_text(args, &arch::load(name, database)?.to_toml(), database),
        Format::Json => {
            let json = arch::load(name, database)?.arch.to_json();
            return write_text(args, &format!("{json}\n"), database);
        }
        Format::Onnx | Format::Pytorch | Format::Safetensors => {}
    }
    let trained = arch::load_trained(name, args.weights.as_deref(), database, &Device::Cpu)?;
    for file in write(args, &trained, database)? {
        writeln!(stdout(), "{}", printable_name(&file.display().to_string()))?;
    }
    Ok(())
}

/// The architecture, to a file or to standard output.
fn write_text(args: &Args, text: &str, database: &Path) -> Result<()> {
    if args.weights.is_some() {
        bail!(Usage(
            "--weights is for formats with weights: onnx, pytorch, safetensors".to_owned()
        ));
    }
    match &args.output {
        Some(file) => {
            output_file::write(
                &output_file::target(file, &inputs(args), database)?,
                text.as_bytes(),
            )?;
            writeln!(stdout(), "{}", printable_name(&file.display().to_string()))?;
        }
        None => write!(stdout(), "{text}")?,
    }
    Ok(())
}

/// Writes the network with its weights and returns the files.
fn write(args: &Args, trained: &TrainedNetwork, database: &Path) -> Result<Vec<PathBuf>> {
    let model = &Model::new(trained)?;
    let default = || PathBuf::from(format!("{}.{}", trained.file.name, args.format.ending()));
    let file = args.output.clone().unwrap_or_else(default);
    let tensors = file.with_extension("safetensors");
    let files = match args.format {
        Format::Pytorch if file.extension().is_none_or(|ending| ending != "py") => {
            bail!(Usage("--output is the Python file; it ends in .py".to_owned()))
        }
        Format::Pytorch => vec![file, tensors],
        _ => vec![file],
    };
    let target = |file: &PathBuf| output_file::target(file, &inputs(args), database);
    let targets = files.iter().map(target).collect::<Result<Vec<_>>>()?;
    let write_tensors = |file: &Path| {
        safetensors::write(file, &trained.file.arch, &model.state, trained.images.as_ref())
    };
    match (args.format, &targets[..]) {
        (Format::Onnx, [file]) => output_file::write(file, &onnx::model(model, args.fold)?)?,
        (Format::Pytorch, [file, tensors]) => {
            write_tensors(tensors)?;
            output_file::write(file, pytorch::source(model)?.as_bytes())?;
        }
        (_, targets) => targets.iter().try_for_each(|file| write_tensors(file))?,
    }
    Ok(files)
}

/// What was read, as far as it is files.
fn inputs(args: &Args) -> Vec<&Path> {
    let network = args.network.as_ref().or(args.arch.as_ref()).map(Path::new);
    args.weights.as_deref().into_iter().chain(network).collect()
}
