//! What the networks of an experiment take as input, which data and batches must fit.

use crate::space::{ArchFile, SearchSpace};

/// The input of a network, or of all networks of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInput {
    /// For messages: `space` or `network`.
    pub noun: &'static str,
    /// For messages: `the space "fbnetv2_f"`.
    pub of: String,
    /// The largest side, in pixels.
    pub resolution: usize,
    /// Whether images may be larger: a network takes every so many pixels of them.
    pub subsamples: bool,
    pub channels: usize,
    pub classes: usize,
    /// The side of the smallest map, in pixels.
    smallest_map: usize,
}

impl NetworkInput {
    /// Of all networks of a space.
    #[must_use]
    pub fn of_space(space: &SearchSpace) -> Self {
        Self {
            noun: "space",
            of: format!("the space \"{}\"", space.name),
            resolution: space.max_resolution(),
            subsamples: false,
            channels: space.image_channels,
            classes: space.classes,
            smallest_map: space.smallest_map_side(),
        }
    }

    /// Of one network.
    #[must_use]
    pub fn of_network(network: &ArchFile) -> Self {
        let ArchFile { name, arch, .. } = network;
        Self {
            noun: "network",
            of: format!("the network \"{name}\""),
            resolution: arch.resolution,
            subsamples: true,
            channels: arch.image_channels,
            classes: arch.classes,
            smallest_map: arch.smallest_map_side(),
        }
    }

    /// Whether images of this side fit.
    #[must_use]
    pub fn takes(&self, side: usize) -> bool {
        side == self.resolution || self.subsamples && side > self.resolution
    }

    /// Whether a batch norm gets a single value per channel in a batch of `batch` images. The variance
    /// is zero then, and nothing behind it is learned. Training leaves out an incomplete last batch,
    /// so every batch has this size.
    #[must_use]
    pub fn has_single_value_norm(&self, batch: usize) -> bool {
        batch == 1 && self.smallest_map == 1
    }
}
