//! What the networks of an experiment take as input, which data and batches must fit.

use crate::space::{ArchFile, SearchSpace};

/// The input of a network, or of all networks of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInput {
    /// Whether it is one network, and not a space.
    pub is_network: bool,
    /// For messages: `the space "fbnetv2_f"`.
    pub of: String,
    /// The largest side, in pixels.
    pub resolution: usize,
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
            is_network: false,
            of: format!("the space \"{}\"", space.name),
            resolution: space.max_resolution(),
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
            is_network: true,
            of: format!("the network \"{name}\""),
            resolution: arch.resolution,
            channels: arch.image_channels,
            classes: arch.classes,
            smallest_map: arch.smallest_map_side(),
        }
    }

    /// For messages.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        if self.is_network { "network" } else { "space" }
    }

    /// Whether images of this side fit. One network takes every so many pixels of larger ones.
    #[must_use]
    pub fn takes(&self, side: usize) -> bool {
        side == self.resolution || self.is_network && side > self.resolution
    }

    /// Whether a batch norm gets a single value per channel in a batch of `batch` images. The variance
    /// is zero then, and nothing behind it is learned. Training leaves out an incomplete last batch,
    /// so every batch has this size.
    #[must_use]
    pub fn has_single_value_norm(&self, batch: usize) -> bool {
        batch == 1 && self.smallest_map == 1
    }
}
