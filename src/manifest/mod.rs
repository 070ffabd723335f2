//! Experiment manifests: a TOML file says what to search, on which data, with which recipe.
//!
//! The types here are validated: whoever holds a [`Manifest`] need not check it again. The file's
//! own shape lives in `wire` and, section by section, beside it; the strict reading and the messages
//! for its editor in [`crate::document`].

pub(crate) mod dataset;
mod folder;
pub(crate) mod keys;
mod loss;
mod optimizer;
mod rank;
mod sampling;
mod search;
mod temperature;
mod train;
pub(crate) mod wire;

pub use crate::document::{Diagnostic, Diagnostics, Key, Overrides};
pub use wire::{keys, load};

use crate::recipe::{DataConfig, Method, RankCorrelation, SearchConfig, TrainConfig};
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
    /// One run each, with every method.
    pub seeds: Vec<u64>,
    /// The text of the space file, kept with the run.
    pub space_text: String,
    pub space: SearchSpace,
    pub data: DataConfig,
    /// All different, each with its own settings.
    pub methods: Vec<Method>,
    /// What all methods share.
    pub search: SearchConfig,
    pub train: TrainConfig,
    /// Whether the run also asks how well its shared weights rank networks.
    pub rank_correlation: Option<RankCorrelation>,
}
