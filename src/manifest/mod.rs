//! Experiment manifests: TOML files that name a space, data, methods and recipes.
//!
//! A [`Manifest`] is validated and needs no further checks. `wire` reads the file, with one file per
//! section beside it. [`crate::document`] has the strict reading and the messages.

pub(crate) mod dataset;
mod folder;
pub(crate) mod keys;
mod loss;
mod optimizer;
mod rank;
mod sampling;
mod search;
mod sweep;
mod temperature;
#[cfg(test)]
mod tests;
mod train;
pub(crate) mod wire;

pub use crate::document::{Diagnostic, Diagnostics, Key, Overrides};
pub use sweep::load_points;
pub use wire::{keys, load, parse};

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
    /// The text of the space file, kept with the run.
    pub space_text: String,
    pub space: SearchSpace,
    pub data: DataConfig,
    /// All different, each with its own settings.
    pub methods: Vec<Method>,
    /// What all methods share.
    pub search: SearchConfig,
    pub train: TrainConfig,
    /// Whether the run also measures how well its shared weights rank networks.
    pub rank_correlation: Option<RankCorrelation>,
    /// The values of this point of a sweep, as `key=value`; empty without one.
    pub point: Vec<String>,
}
