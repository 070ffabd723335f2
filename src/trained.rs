//! Networks with trained weights from files: what prediction, evaluation, export and further training start from.

use crate::data::{CENTRE, Dataset, Normalisation};
use crate::net::{Network, StateFile, load_state_dict, read_state_file};
use crate::nn::Params;
use crate::recipe::ImageFolder;
use crate::space::{ArchFile, NetworkPlan};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;
use thiserror::Error;

/// Problems of a state dict that a message lists.
const PROBLEMS: usize = 20;

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
        let mut params = Params::zeros(device);
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
    let problems = load_state_dict(&network.arch, params, &state.tensors)?;
    if problems.is_empty() {
        return Ok(());
    }
    let mut text = format!(
        "{} does not have the weights of {}; entries that differ: {}",
        path.display(),
        network.name,
        problems.len()
    );
    for problem in problems.iter().take(PROBLEMS) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {problem}");
    }
    Err(WeightsError::Misfit(text))
}
