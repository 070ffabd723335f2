//! Writes networks for other programs: ONNX, safetensors, and PyTorch source.

pub mod onnx;
pub mod pytorch;
pub mod safetensors;

use crate::net::state_dict;
use crate::nn::Params;
use crate::space::{ArchFile, ArchSpec};
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// A network with its weights.
pub struct Model<'a> {
    pub network: &'a ArchFile,
    /// Names and values as in [`state_dict`].
    pub state: Vec<(String, Tensor)>,
    pub images: Images,
}

/// What is known about the images that a network was trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Images {
    /// Names of the classes; empty where they are not known.
    pub classes: Vec<String>,
    /// The network sees (pixel / 255 - mean) / sd, per channel. Both are empty where they are not known.
    pub mean: Vec<f32>,
    pub sd: Vec<f32>,
    /// Their side in pixels; `None`: that of the network's resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<usize>,
    /// The run that trained the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<i64>,
}

impl<'a> Model<'a> {
    /// The network with the current weights.
    ///
    /// # Errors
    /// When the weights are not those of the network, or cannot be read from the device.
    pub fn new(network: &'a ArchFile, params: &Params, images: Images) -> Result<Self> {
        let state = state_dict(&network.arch, params)?;
        Ok(Self { network, state, images })
    }

    fn arch(&self) -> &ArchSpec {
        &self.network.arch
    }

    /// The side of the input images in pixels. Where it is larger than the network's resolution, the
    /// network subsamples them itself.
    #[must_use]
    pub fn side(&self) -> usize {
        self.images.side.unwrap_or(self.arch().resolution)
    }
}
