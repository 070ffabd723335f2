//! Search methods: each finds an architecture in a space, and owns its loop.

mod arch_params;
mod bilevel;
mod budget;
mod draw;
mod evolution;
mod hypergradient;
mod incumbent;
mod loss;
mod paths;
mod random;
mod relaxed;
mod score;
mod trial;

pub use arch_params::{ArchParams, hardened};
pub use bilevel::{AlphaStep, Relaxation};
pub use budget::{Preferences, check_budget, most_probable, preferences};
pub use draw::{draw, mutate};
pub use hypergradient::NextBatch;
pub use loss::{LossSlopes, slopes};
pub use paths::Paths;
pub use relaxed::{AlphaGradient, Relaxed};
pub use score::{Scorer, split};
pub use trial::Trial;

use crate::data::Dataset;
use crate::monitor::Monitor;
use crate::net::SharedWeights;
use crate::recipe::{Method, SearchConfig, StepConfig, StepKind, SupernetKind};
use crate::record::{ChoiceProbabilities, ResolutionProbability, Work};
use crate::rng::Seed;
use crate::space::{ArchSpec, Decisions, SearchSpace};
use anyhow::{Result, bail};
use candle_core::Device;

/// The training images that a search sees, and where it computes.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    pub dataset: &'a Dataset,
    pub indices: &'a [usize],
    pub device: &'a Device,
}

/// What a search arrived at.
pub struct SearchOutcome {
    pub decisions: Decisions,
    pub arch: ArchSpec,
    /// The final probabilities, block by block; none where the method has no probabilities.
    pub probabilities: Vec<ChoiceProbabilities>,
    /// Those of the input resolutions; empty where there is no choice.
    pub resolutions: Vec<ResolutionProbability>,
    pub work: Work,
    /// Weights that networks can be scored with, where the method has such.
    pub shared: Option<SharedWeights>,
}

impl SearchOutcome {
    /// Of a method without probabilities and shared weights.
    fn decided(space: &SearchSpace, decisions: Decisions, work: Work) -> Self {
        let arch = space.decide(&decisions);
        let (probabilities, resolutions) = Default::default();
        Self { decisions, arch, probabilities, resolutions, work, shared: None }
    }
}

/// Searches `space`. What is found is within the budget, if there is one.
///
/// # Errors
/// When an operator fails, a loss is no longer a number, no network was found within the budget, the
/// recorder fails, or the run was asked to stop.
pub fn search(
    space: &SearchSpace,
    images: Images<'_>,
    method: &Method,
    config: &SearchConfig,
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<SearchOutcome> {
    match method {
        Method::Dmasking { .. } | Method::Dnas { .. } | Method::Darts { .. } => {
            bilevel::search(space, images, method, config, seed, monitor)
        }
        Method::Random => random::one(space, config, seed),
        Method::RandomSearch(settings) => {
            random::search(*settings, space, images, config, seed, monitor)
        }
        Method::RsWs(scores) => {
            paths::search((*scores, None), space, images, config, seed, monitor)
        }
        Method::Evolution { scores, evolution } => {
            paths::search((*scores, Some(*evolution)), space, images, config, seed, monitor)
        }
    }
}

/// A fresh supernet under gates, with its architecture parameters.
///
/// # Errors
/// When the step has no gates, or the device is out of memory.
pub fn relaxation(
    space: &SearchSpace,
    config: &StepConfig,
    seed: Seed,
    device: &Device,
) -> Result<Box<dyn Relaxation>> {
    Ok(match config.kind {
        StepKind::Gated(SupernetKind::Masked(masks), gates) => {
            Box::new(Relaxed::masked(space, masks, gates, config, seed, device)?)
        }
        StepKind::Gated(SupernetKind::Explicit, gates) => {
            Box::new(Relaxed::explicit(space, gates, config, seed, device)?)
        }
        StepKind::Path => bail!("shared weights that are trained along paths have no gates"),
    })
}
