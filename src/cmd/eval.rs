//! `repro eval`: the accuracy of a network with trained weights on labelled images.

use super::arch;
use super::command_line::command_line;
use super::conclude::Ends;
use super::database::{self, open};
use super::dataset::DataFolder;
use super::device::DeviceChoice;
use super::ending::{Ending, Usage};
use super::inference::Inference;
use super::output::{Output, message, say, stdout};
use super::progress::Display;
use super::signals::{self, StopFlag};
use super::stored::stored_manifest;
use super::threads::start_threads;
use anyhow::{Context, Result, bail};
use repro::data::{self, DataError, Dataset};
use repro::document::nearest;
use repro::evaluation::{self, Accuracy, Evaluation};
use repro::monitor::{Checkpoints, Interrupted, Monitor};
use repro::recipe::{DataConfig, DatasetName, ImageSource};
use repro::report::wilson_interval;
use repro::store::{FinalResult, NewRun, Store};
use repro::text::{self, printable};
use repro::trained::TrainedNetwork;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Evaluate a network with trained weights on labelled images.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro eval --arch 12
  repro eval --arch FBNetV2_F1 --weights fbnetv2_f1.pth --data imagenet/val
  repro eval --arch 12 --data my_images --json

--arch takes the name of a published network, a network file, or the number of a run, like
`repro arch`; --weights a state dict, like `repro predict`. For a run, the weights of its first
training run are used, and without --data the test images of its data set. That data set, or image
folder, is looked for in the folder that REPRO_DATA names, as by `repro run`.

--data is the name of a data set (`repro data list`), whose test images are evaluated, or a folder
with one subfolder of images per class: FOLDER/CLASS/* or FOLDER/val/CLASS/*. For a run, the
subfolders have the names of its classes, with _ for /. For other networks, classes are numbered
in the order of the subfolders' names, as usual for ImageNet. Images are normalised as the weights
say, otherwise like the data set, or as usual for ImageNet in a folder.

Images in files are resized and cropped as the network's definition says, or as in the training of a
run. Images that cannot be read are listed and left out. Intervals are Wilson's, at 95 %.

The result is stored in the database as a run with the method \"eval\", which `repro list` shows.

Keys of --json:
  status            finished, failed or interrupted
  run_id            of the stored result, as in `repro show RUN`
  network           name of the network
  error             why it failed or was interrupted; the keys below only where it is finished
  arch_id           as in `repro list`
  images            images that were evaluated
  top1, top5        shares of these, 0 to 1
  top1_interval     lower and upper end of the 95 % interval
  top5_interval     the same for top5
  loss              mean cross-entropy in nats
  damaged           why each of the other images could not be read
  weights_sha256    of the weights

Exit codes: 0 success, 1 a file or the database cannot be used, or memory is too small, 2 the
command line is invalid, there is no such run, or the weights or classes are those of another
network, 130 interrupted.")]
pub struct Args {
    /// A name, a file, or the number of a run.
    #[arg(long, value_name = "NETWORK")]
    arch: String,
    /// The trained weights; needed unless the network is a run.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// A data set or a folder of images; needed unless the network is a run.
    #[arg(long, value_name = "NAME|FOLDER")]
    data: Option<PathBuf>,
    /// Images per batch.
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Where to compute: cpu, or cuda:N for NVIDIA GPU number N, counted from 0.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = DeviceChoice::parse)]
    device: DeviceChoice,
    /// Number of threads, which does not change the results [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Damaged images that are named.
const NAMED: usize = 10;

/// # Errors
/// When the network, its weights or the images cannot be used.
pub fn run(args: &Args, database: &Path) -> Result<Ending> {
    let threads = start_threads(args.threads)?;
    let device = args.device.open()?;
    let trained = arch::load_trained(&args.arch, args.weights.as_deref(), database, &device)?;
    let stop = signals::stop_flag().context("cannot handle signals")?;
    let (dataset, label) = images(args, &trained, database, &stop)?;
    let weights_sha256 = trained.params.sha256()?;
    let run = NewRun {
        manifest: evaluation::record(&trained.file, &weights_sha256, (&label, &dataset)),
        method: evaluation::METHOD.to_owned(),
        dataset: label,
        seed: 0,
        command: command_line(),
        environment: args.device.environment(threads),
    };
    let evaluation = Evaluation {
        trained: &trained,
        dataset: &dataset,
        batch_size: args.batch as usize,
        weights_sha256: &weights_sha256,
    };
    let inference = Inference {
        arch: &trained.file.arch,
        side: dataset.height,
        threads,
        device: &device,
        beside: dataset.decoding_bytes() * threads as u64,
    };
    inference.check(evaluation.batch_size.min(dataset.test.len()).max(1))?;
    let store = open(database)?.stopped_by(stop.shared());
    match execute(&run, &evaluation, &store, &stop)? {
        Evaluated::Finished { run, accuracy, result } => {
            print(args, &trained, run, &accuracy, &result)?;
            Ok(Ending::Done)
        }
        Evaluated::Ended { run, ending, error } => {
            if args.json {
                let status = if ending == Ending::Interrupted { "interrupted" } else { "failed" };
                let network = &trained.file.name;
                let line =
                    json!({ "status": status, "run_id": run, "network": network, "error": error });
                writeln!(stdout(), "{line}")?;
            }
            Ok(ending)
        }
    }
}

/// What became of an evaluation.
enum Evaluated {
    /// Stored as this run.
    Finished {
        run: i64,
        accuracy: Accuracy,
        result: FinalResult,
    },
    Ended {
        run: i64,
        ending: Ending,
        error: String,
    },
}

/// Evaluates and stores the result.
fn execute(
    run: &NewRun,
    evaluation: &Evaluation<'_>,
    store: &Store,
    stop: &StopFlag,
) -> Result<Evaluated> {
    // Every evaluation is a run of its own.
    let mut recorder = store.begin(run)?;
    let id = recorder.run_id();
    let display = Display::new();
    let evaluated = {
        let (recorder, checkpoints) = (&mut recorder, &mut Checkpoints::none());
        let monitor = &mut Monitor { recorder, progress: &display, stop, checkpoints };
        evaluation.execute(monitor)
    };
    display.clear();
    if evaluated.as_ref().is_err_and(anyhow::Error::is::<Interrupted>) {
        recorder.interrupt()?;
        say(format_args!("run {id}: interrupted; the same command evaluates all images again"));
        let (ending, error) = (Ending::Interrupted, Interrupted.to_string());
        return Ok(Evaluated::Ended { run: id, ending, error });
    }
    let (mut kept, output) = (None, Output::new(false));
    let ends = Ends { store, output: &output };
    let failure = evaluated.as_ref().err().map(message);
    let concluded = ends.conclude(run, recorder, evaluated, |recorder, (accuracy, result)| {
        recorder.finish(&result)?;
        kept = Some((accuracy, result));
        Ok(())
    })?;
    Ok(match kept {
        Some((accuracy, result)) => Evaluated::Finished { run: id, accuracy, result },
        None => Evaluated::Ended {
            run: id,
            ending: concluded.map_or(Ending::Failed, |(_, ending)| ending),
            error: failure.unwrap_or_else(|| "another process continued the run".to_owned()),
        },
    })
}

/// The images to evaluate, and their name in the database.
fn images(
    args: &Args,
    trained: &TrainedNetwork,
    database: &Path,
    stop: &StopFlag,
) -> Result<(Dataset, String)> {
    let config = match (&args.data, arch::run_number(&args.arch)) {
        (None, Some(run)) => stored_manifest(&database::existing(database)?.run(run)?)?.0.data,
        (None, None) => {
            let problem = format!("--data is needed: {} comes without images", args.arch);
            bail!(Usage(problem))
        }
        (Some(given), _) => match named(given, trained) {
            Some(config) => config,
            None => return Ok((folder_images(given, trained)?, folder_label(given))),
        },
    };
    let root = DataFolder::new(None).fetch_if_absent(&config, &Display::new(), stop)?;
    if let Some(folder) = config.folder().map(|folder| root.join(&folder.path))
        && !folder.is_dir()
    {
        // Not the message of data sets: --data of this command is something else.
        bail!(
            "{} does not exist, where the images of {} are expected; set REPRO_DATA to the folder that \
             holds them, or give the test images with --data FOLDER",
            folder.display(),
            args.arch
        );
    }
    let mut dataset = data::load(&config, &root)?;
    let classes = trained.file.arch.classes;
    if dataset.classes.len() != classes || dataset.channels != trained.file.arch.image_channels {
        bail!(Usage(format!(
            "{} has {} classes and {}, the network {classes} classes and {}",
            data::label(&config),
            dataset.classes.len(),
            text::plural(dataset.channels, "channel"),
            text::plural(trained.file.arch.image_channels, "channel")
        )));
    }
    if trained.images.is_some() {
        dataset.normalisation = trained.normalisation();
    }
    Ok((dataset, data::label(&config)))
}

/// The data set of this name, scaled to the images that the network takes. `None`: a folder is meant.
fn named(given: &Path, trained: &TrainedNetwork) -> Option<DataConfig> {
    let found = data::ALL.iter().find(|described| given == Path::new(described.name))?;
    let name = found.dataset;
    if name == DatasetName::ImageFolder {
        return None;
    }
    let source = ImageSource::Dataset { name, side: Some(trained.side()) };
    Some(DataConfig { source, validation_images: 0 })
}

fn folder_images(folder: &Path, trained: &TrainedNetwork) -> Result<Dataset> {
    if !folder.is_dir() {
        let names = data::ALL.iter().map(|described| described.name);
        let hint = nearest(&folder.to_string_lossy(), names);
        let hint = hint.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        bail!(Usage(format!(
            "--data: {} is neither a data set nor a folder{hint}",
            folder.display()
        )));
    }
    let arch = &trained.file.arch;
    let names = trained.images.as_ref().map(|images| &images.classes[..]);
    let shape = (trained.side(), arch.image_channels);
    let classes = (names, arch.classes);
    let opened = data::open_evaluation(folder, classes, shape, trained.normalisation());
    let dataset = opened.map_err(|error| match error {
        DataError::NotTheData { .. } => anyhow::Error::from(Usage(error.to_string())),
        other => other.into(),
    })?;
    let seen: BTreeSet<u32> = dataset.test.labels.iter().copied().collect();
    let unseen = (0..).zip(&dataset.classes).filter(|(label, _)| !seen.contains(label));
    let unseen: Vec<&str> = unseen.map(|(_, name)| name.as_str()).collect();
    if !unseen.is_empty() {
        say(format_args!("warning: there are no images of {}", text::list(unseen)));
    }
    if let Some(left_out) = dataset.left_out() {
        say(left_out);
    }
    Ok(dataset)
}

fn folder_label(folder: &Path) -> String {
    format!("folder {}", folder.display())
}

fn print(
    args: &Args,
    trained: &TrainedNetwork,
    run_id: i64,
    accuracy: &Accuracy,
    result: &FinalResult,
) -> Result<()> {
    let Accuracy { images, top1, top5, loss, damaged } = accuracy;
    let interval = |correct: &usize| wilson_interval(*correct as u64, *images as u64);
    let arch = &trained.file.arch;
    let mut out = stdout();
    if args.json {
        let damaged: Vec<String> = damaged.iter().map(ToString::to_string).collect();
        let value = json!({
            "status": "finished",
            "run_id": run_id,
            "network": trained.file.name,
            "arch_id": arch.id(),
            "images": images,
            "top1": accuracy.share(*top1),
            "top1_interval": interval(top1),
            "top5": accuracy.share(*top5),
            "top5_interval": interval(top5),
            "loss": loss,
            "damaged": damaged,
            "weights_sha256": result.weights_sha256,
        });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    let line = |name: &str, correct: &usize| {
        let (low, high) = interval(correct);
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        format!(
            "{name}  {} % (95 % interval {} to {})",
            percent(accuracy.share(*correct)),
            percent(low),
            percent(high)
        )
    };
    let mut lines = vec![
        format!(
            "{}: {} at {side}x{side}",
            trained.file.name,
            text::plural(*images, "image"),
            side = arch.resolution
        ),
        line("top-1", top1),
        line("top-5", top5),
        format!("loss   {loss:.4}"),
    ];
    if !damaged.is_empty() {
        lines.push(format!("damaged  {} left out:", text::plural(damaged.len(), "image")));
        lines.extend(damaged.iter().take(NAMED).map(|problem| format!("  {problem}")));
        let more = damaged.len().saturating_sub(NAMED);
        if more > 0 {
            lines.push(format!("  and {more} more"));
        }
    }
    lines.push(format!("stored as run {run_id}"));
    writeln!(out, "{}", printable(&lines.join("\n")))?;
    Ok(())
}
