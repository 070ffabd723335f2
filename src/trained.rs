//! Networks with trained weights from files: what prediction, evaluation, export and further training start from.

use crate::data::{CENTRE, Dataset, Normalisation};
use crate::net::{Mismatch, Network, StateFile, load_state_dict, read_state_file};
use crate::nn::Params;
use crate::recipe::ImageFolder;
use crate::space::{ArchFile, NetworkPlan};
use crate::text::printable_name;
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;
use thiserror::Error;

/// Tensors that a message lists: of other shapes or missing, and those that the network does not have.
const LISTED: [usize; 2] = [15, 5];

/// Why there is no trained network.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("{0}")]
    File(String),
    /// It has the weights of another network; lists the entries that differ.
    #[error("{0}")]
    Misfit(String),
    #[error(transparent)]
    Operator(#[from] candle_core::Error),
}

/// A network with trained weights.
pub struct TrainedNetwork {
    pub file: ArchFile,
    pub net: Network,
    pub params: Params,
    /// Of the images that a run trained it on; `None` for other weights.
    pub images: Option<TrainingImages>,
}

/// What the weights of a run say about its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingImages {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// As in [`Normalisation`].
    pub mean: Vec<f32>,
    /// As in [`Normalisation`].
    pub sd: Vec<f32>,
    /// The share of an image's shorter side that the network sees. Earlier versions did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_share: Option<f64>,
    /// Their side in pixels, which may be larger than the network's resolution. Earlier versions did not
    /// write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<usize>,
    /// The number of the run. Files of other programs have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<i64>,
}

impl TrainingImages {
    /// Of the images of this data set.
    #[must_use]
    pub fn of(dataset: &Dataset) -> Self {
        let Normalisation { mean, sd } = dataset.normalisation.clone();
        Self {
            classes: dataset.classes.clone(),
            mean,
            sd,
            seen_share: Some(dataset.seen_share()),
            side: Some(dataset.height),
            run: None,
        }
    }
}

impl TrainedNetwork {
    /// Reads a state dict into a network on `device`: `.safetensors` or PyTorch's `.pth`.
    ///
    /// # Errors
    /// When the file cannot be read, or does not have the weights of the network.
    pub fn load(file: ArchFile, weights: &Path, device: &Device) -> Result<Self, WeightsError> {
        let state = read_state_file(weights).map_err(WeightsError::File)?;
        let images = state.description.as_deref().map(serde_json::from_str).transpose();
        let images = images.map_err(|error| {
            let place = weights.display();
            WeightsError::File(format!("{place}: the description of the weights: {error}"))
        })?;
        let mut params = Params::shapes(device);
        let net = Network::new(&mut params, &NetworkPlan::derived(&file.arch))?;
        set_weights(&file, &mut params, &state, weights)?;
        Ok(Self { file, net, params, images })
    }

    /// Takes images of another side, in pixels.
    pub fn set_resolution(&mut self, side: usize) {
        self.file.arch.resolution = side;
        self.net.set_resolution(side);
    }

    /// The side in pixels of the images that the network takes. It subsamples them to its own resolution
    /// itself.
    #[must_use]
    pub fn side(&self) -> usize {
        let side = self.images.as_ref().and_then(|images| images.side);
        side.unwrap_or(self.file.arch.resolution)
    }

    /// Of the images that the network takes: that of its training, or the usual one of ImageNet.
    #[must_use]
    pub fn normalisation(&self) -> Normalisation {
        match &self.images {
            Some(TrainingImages { mean, sd, .. }) => {
                Normalisation { mean: mean.clone(), sd: sd.clone() }
            }
            None => {
                Normalisation { mean: ImageFolder::MEAN.to_vec(), sd: ImageFolder::SD.to_vec() }
            }
        }
    }

    /// The share of an image's shorter side that the network sees: that of its definition, that of its training, or
    /// the usual one of ImageNet.
    #[must_use]
    pub fn seen_share(&self) -> f64 {
        match (self.file.resize, &self.images) {
            (Some(resize), _) => self.file.arch.resolution as f64 / resize as f64,
            (None, Some(TrainingImages { seen_share: Some(share), .. })) => *share,
            // Of earlier versions; most runs were on data sets whose images are seen whole.
            (None, Some(_)) => 1.0,
            (None, None) => CENTRE,
        }
    }

    /// The shorter side of an image in pixels, before the centre is cropped: that of [`Self::seen_share`].
    #[must_use]
    pub fn resize(&self) -> usize {
        (self.side() as f64 / self.seen_share()).round() as usize
    }

    /// The name of a class, or its number where no name is known.
    #[must_use]
    pub fn class_name(&self, class: usize) -> String {
        let name = self.images.as_ref().and_then(|images| images.classes.get(class));
        name.cloned().unwrap_or_else(|| class.to_string())
    }
}

/// Sets the weights of a network to those of a file that has been read from `path`.
///
/// # Errors
/// When they are those of another network.
pub fn set_weights(
    network: &ArchFile,
    params: &mut Params,
    state: &StateFile,
    path: &Path,
) -> Result<(), WeightsError> {
    let mismatch = load_state_dict(&network.arch, params, &state.tensors)?;
    if mismatch.is_empty() {
        return check_values(state, path);
    }
    let mut text = format!(
        "{} does not have the weights of {}; tensors that differ: {}",
        path.display(),
        network.name,
        mismatch.len()
    );
    let Mismatch { reshaped, missing, unexpected } = &mismatch;
    let missing = missing.iter().map(|tensor| format!("{tensor} is missing"));
    let wrong = reshaped.iter().cloned().chain(missing).take(LISTED[0]);
    let unexpected =
        unexpected.iter().take(LISTED[1]).map(|name| format!("{name} is not one of the network's"));
    let listed: Vec<String> = wrong.chain(unexpected).collect();
    for tensor in &listed {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {tensor}");
    }
    let more = mismatch.len() - listed.len();
    if more > 0 {
        let _ = write!(text, "\n  … and {more} more");
    }
    if let Some(found) = classes_of(network, state, &mismatch) {
        let _ = write!(
            text,
            "\nOnly the number of classes differs: these weights fit the same network with {found} classes."
        );
    } else {
        let _ = write!(text, "\n`repro arch NETWORK --tensors` lists the tensors of a network.");
    }
    Err(WeightsError::Misfit(text))
}

/// Refuses values that no training gives.
fn check_values(state: &StateFile, path: &Path) -> Result<(), WeightsError> {
    for (name, tensor) in &state.tensors {
        let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let problem = if values.iter().any(|value| !value.is_finite()) {
            "has values that are not finite"
        } else if name.ends_with(".running_var") && values.iter().any(|value| *value < 0.0) {
            "has negative variances"
        } else {
            continue;
        };
        let (path, name) = (path.display(), printable_name(name));
        return Err(WeightsError::File(format!("{path}: {name} {problem}")));
    }
    Ok(())
}

/// The number of classes of the weights, if nothing else differs.
fn classes_of(network: &ArchFile, state: &StateFile, mismatch: &Mismatch) -> Option<usize> {
    let classifier = state.tensors.get("head.conv.weight")?;
    let found = *classifier.dims().first()?;
    let is_classifier = |problem: &String| problem.starts_with("head.conv.");
    (found != network.arch.classes
        && mismatch.len() == mismatch.reshaped.len()
        && mismatch.reshaped.iter().all(is_classifier)
        && classifier.dims().len() == 4)
        .then_some(found)
}
