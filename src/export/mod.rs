//! Writes networks for other programs, as ONNX, safetensors and PyTorch source, and runs for experiment trackers.

pub mod logs;
pub mod onnx;
pub mod pytorch;
pub mod safetensors;

use crate::data::Normalisation;
use crate::net::state_dict;
use crate::space::{ArchFile, ArchSpec};
use crate::trained::{TrainedNetwork, TrainingImages};
use candle_core::{Result, Tensor};

/// A trained network, to be exported.
pub struct Model<'a> {
    trained: &'a TrainedNetwork,
    /// Names and values as in [`state_dict`].
    pub state: Vec<(String, Tensor)>,
}

impl<'a> Model<'a> {
    /// The network with its current weights.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(trained: &'a TrainedNetwork) -> Result<Self> {
        Ok(Self { trained, state: state_dict(&trained.file.arch, &trained.params)? })
    }

    fn network(&self) -> &ArchFile {
        &self.trained.file
    }

    fn arch(&self) -> &ArchSpec {
        &self.trained.file.arch
    }

    /// The names of the classes; empty where they are not known.
    fn classes(&self) -> &[String] {
        self.trained.images.as_ref().map_or(&[], |images| &images.classes)
    }

    /// That of the training, or the usual one of ImageNet; `None` where neither has the network's channels.
    fn normalisation(&self) -> Option<Normalisation> {
        let normalisation = self.trained.normalisation();
        Some(normalisation).filter(|usual| usual.mean.len() == self.arch().image_channels)
    }

    /// The number of the run that has trained the network.
    fn run(&self) -> Option<i64> {
        self.trained.images.as_ref().and_then(|images: &TrainingImages| images.run)
    }
}
