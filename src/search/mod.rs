//! Search methods: each finds an architecture in a space, and owns its loop.

mod arch_params;
mod bilevel;
mod dmasking;
mod loss;

pub use arch_params::ArchParams;
pub use dmasking::Dmasking;
pub use loss::{LossSlopes, slopes};

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
    match config.method {
        Method::Dmasking => {
            let mut state = Dmasking::new(space, config, seed, device)?;
            let images = (dataset, indices);
            bilevel::search(&mut state, space, images, config, seed, device, watch)
        }
    }
}
