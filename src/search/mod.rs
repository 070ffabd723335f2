//! Search methods: each finds an architecture in a space, and owns its loop.

mod arch_params;
mod bilevel;
mod hypergradient;
mod loss;
mod relaxed;

pub use arch_params::ArchParams;
pub use bilevel::{AlphaStep, Relaxation};
pub use hypergradient::Upcoming;
pub use loss::{LossSlopes, slopes};
pub use relaxed::{AlphaGradient, Relaxed};

use crate::data::Dataset;
use crate::recipe::{Method, SearchConfig};
use crate::record::ChoiceProbabilities;
use crate::rng::Seed;
use crate::space::{ArchSpec, Decisions, SearchSpace};
use crate::watch::Watch;
use anyhow::Result;
use candle_core::Device;

/// What a search arrived at.
#[derive(Clone, Debug)]
pub struct SearchOutcome {
    pub decisions: Decisions,
    pub arch: ArchSpec,
    /// The final probabilities, block by block.
    pub probabilities: Vec<ChoiceProbabilities>,
    /// Training images processed.
    pub images: u64,
}

/// Searches `space` on the training images `indices`.
///
/// # Errors
/// When an operator fails, a loss is no longer a number, the recorder fails, or the run was asked
/// to stop.
pub fn search(
    space: &SearchSpace,
    dataset: &Dataset,
    indices: &[usize],
    config: &SearchConfig,
    seed: Seed,
    device: &Device,
    watch: &mut Watch<'_>,
) -> Result<SearchOutcome> {
    let mut state = relaxation(space, config, seed, device)?;
    bilevel::search(&mut *state, space, (dataset, indices), config, seed, device, watch)
}

/// The fresh supernet of a method, with its architecture parameters.
///
/// # Errors
/// When the device has no room.
pub fn relaxation<'a>(
    space: &SearchSpace,
    config: &'a SearchConfig,
    seed: Seed,
    device: &Device,
) -> Result<Box<dyn Relaxation + 'a>> {
    Ok(match config.method {
        Method::Dmasking => Box::new(Relaxed::masked(space, config, seed, device)?),
        Method::Dnas | Method::Darts | Method::Darts2 => {
            Box::new(Relaxed::explicit(space, config, seed, device)?)
        }
    })
}
