//! Search methods. Each finds an architecture in a space and owns its loop.

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
pub use loss::{LossGradient, loss_gradient};
pub use paths::Paths;
pub use relaxed::{AlphaGradient, Relaxed};
pub use score::{Scorer, split};
pub use trial::{Trial, TrialResult};

use crate::data::Dataset;
use crate::monitor::Monitor;
use crate::net::SharedWeights;
use crate::recipe::{Method, SearchConfig, StepConfig, StepKind, SupernetKind};
use crate::record::{ChoiceProbabilities, ResolutionProbability, Work};
use crate::rng::Seed;
use crate::space::{ArchSpec, Decisions, SearchSpace};
use anyhow::{Result, bail};
use candle_core::Device;

/// The training images that a search sees, and the device that it runs on.
#[derive(Clone, Copy)]
pub struct SearchData<'a> {
    pub dataset: &'a Dataset,
    pub indices: &'a [usize],
    pub device: &'a Device,
}

/// The result of a search.
pub struct SearchOutcome {
    pub decisions: Decisions,
    pub arch: ArchSpec,
    /// The final probabilities, block by block; empty where the method has none.
    pub probabilities: Vec<ChoiceProbabilities>,
    /// The final probabilities of the input resolutions; empty where there is no choice.
    pub resolutions: Vec<ResolutionProbability>,
    pub work: Work,
    /// Weights to score networks with, where the method has them.
    pub shared: Option<SharedWeights>,
}

impl SearchOutcome {
    /// The result of a method without probabilities and shared weights.
    fn decided(space: &SearchSpace, decisions: Decisions, work: Work) -> Self {
        let arch = space.decide(&decisions);
        let (probabilities, resolutions) = Default::default();
        Self { decisions, arch, probabilities, resolutions, work, shared: None }
    }
}

/// Searches `space`. The result is within the budget, if there is one.
///
/// # Errors
/// When an operator fails, a loss is no longer finite, no network was found within the budget, the
/// recorder fails, or the run was asked to stop.
pub fn search(
    space: &SearchSpace,
    data: SearchData<'_>,
    method: &Method,
    config: &SearchConfig,
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<SearchOutcome> {
    match method {
        Method::Dmasking { .. } | Method::Dnas { .. } | Method::Darts { .. } => {
            bilevel::search(space, data, method, config, seed, monitor)
        }
        Method::Random => random::one(space, config, seed),
        Method::RandomSearch(settings) => {
            random::search(*settings, space, data, config, seed, monitor)
        }
        Method::RsWs(scores) => paths::search((*scores, None), space, data, config, seed, monitor),
        Method::Evolution { scores, evolution } => {
            paths::search((*scores, Some(*evolution)), space, data, config, seed, monitor)
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
