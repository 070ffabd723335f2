//! Experiment manifests: TOML files that name data and recipes, and what is trained: networks that methods find
//! in a space, or a given network.
//!
//! A [`Manifest`] is validated and needs no further checks. `wire` reads the file, with one file per
//! section beside it. [`crate::document`] has the strict reading and the messages.

mod augment;
pub(crate) mod dataset;
mod folder;
mod input;
pub(crate) mod keys;
mod loss;
mod network;
mod optimizer;
mod rank;
mod sampling;
mod search;
mod sweep;
mod table;
mod table_lookup;
mod table_runs;
mod temperature;
#[cfg(test)]
mod tests;
mod train;
pub(crate) mod wire;

pub use crate::document::{Diagnostic, Diagnostics, Key, Overrides};
pub use input::NetworkInput;
pub use network::{InitialWeights, NetworkTask, RunNetworks, sha256_of};
pub use sweep::load_points;
pub use wire::{keys, load, load_of_runs, parse};

use crate::recipe::{DataConfig, Method, Precision, RankCorrelation, SearchConfig, TrainConfig};
use crate::space::SearchSpace;
use std::path::PathBuf;

/// A validated experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub path: PathBuf,
    /// The text that describes the run in full: the file with `--set` applied.
    pub text: String,
    pub name: String,
    pub description: String,
    /// Every method runs once per seed.
    pub seeds: Vec<u64>,
    /// Of matrix products on a GPU; the CPU always computes in f32.
    pub precision: Precision,
    pub data: DataConfig,
    pub task: Task,
    pub assessment: Assessment,
    /// The values of this point of a sweep or table, as `key=value`; empty without one.
    pub point: Vec<String>,
}

/// Where the networks come from that the runs of an experiment train.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Every method searches a space once per seed.
    Search(Box<SearchTask>),
    /// One network is given, and trained once per seed.
    Network(Box<NetworkTask>),
}

/// How good the network of a run is found to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Assessment {
    /// It is trained from scratch and tested.
    Training(Box<TrainConfig>),
    /// Reports look it up among the runs of this experiment, which trains every network of the space.
    Table(String),
}

/// A space and the methods that search it.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchTask {
    /// The text of the space file, kept with the run.
    pub space_text: String,
    pub space: SearchSpace,
    /// All different, each with its own settings.
    pub methods: Vec<Method>,
    /// What all methods share.
    pub config: SearchConfig,
    /// Whether a run also measures how well its shared weights rank networks.
    pub rank_correlation: Option<RankCorrelation>,
}

impl Manifest {
    /// The search, if the experiment is one.
    #[must_use]
    pub fn search(&self) -> Option<&SearchTask> {
        match &self.task {
            Task::Search(search) => Some(search),
            Task::Network(_) => None,
        }
    }

    /// How the network of a run is trained, unless it is looked up in a table.
    #[must_use]
    pub fn train(&self) -> Option<&TrainConfig> {
        match &self.assessment {
            Assessment::Training(train) => Some(train),
            Assessment::Table(_) => None,
        }
    }

    /// The text that is kept with a run beside the manifest: that of the space or of the network.
    #[must_use]
    pub fn space_text(&self) -> &str {
        match &self.task {
            Task::Search(search) => &search.space_text,
            Task::Network(network) => &network.text,
        }
    }

    /// The side of the images, in pixels.
    #[must_use]
    pub fn image_side(&self) -> usize {
        dataset::image_side(&self.data)
    }

    /// What the networks take as input.
    #[must_use]
    pub fn input(&self) -> NetworkInput {
        match &self.task {
            Task::Search(search) => NetworkInput::of_space(&search.space),
            Task::Network(network) => NetworkInput::of_network(&network.network),
        }
    }
}
