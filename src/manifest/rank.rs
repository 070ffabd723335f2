//! The section `[rank_correlation]`.

use super::search::Search;
use crate::document::{Entry, Section};
use crate::recipe::{DataConfig, RankCorrelation};
use crate::space::SearchSpace;

/// Networks of a rank correlation, each of which is trained from scratch.
const MAX_RANKED: u64 = 1_000;

/// Networks are scored by the run's shared weights, and by themselves on held-out images.
pub(super) fn read_rank(
    s: &Section<'_>,
    section: &Entry<'_>,
    data: Option<&DataConfig>,
    search: Option<&Search>,
    space: Option<&SearchSpace>,
) -> Option<RankCorrelation> {
    let architectures = s.require(
        "architectures",
        "the number of networks to rank, 20 or more for a useful correlation",
    );
    let architectures = architectures.and_then(|value| {
        let architectures = value.whole(2..=MAX_RANKED)?;
        let size = &space?.size().total;
        if size.log10() < (architectures as f64).log10() - 1e-9 {
            let problem = format!("the space holds only {}", size.grouped());
            return value.fail(problem, "give at most as many");
        }
        Some(architectures)
    });
    let search = search?;
    if !search.methods.iter().any(|method| method.name().shares_weights()) {
        let problem = "needs a method with shared weights";
        return section.fail(problem, "use dmasking, rs_ws or evolution, or remove the section");
    }
    let Some(scores) = search.scores else {
        let problem = "needs the settings of scores under shared weights";
        return section.fail(problem, "give the section [search.shared]");
    };
    if data?.validation_images == 0 {
        let problem = "needs validation images to score the trained networks on";
        return section.fail(problem, "give data.validation_images of 1 or more");
    }
    let calibration_batches = scores.calibration_batches;
    Some(RankCorrelation { architectures: architectures?, calibration_batches })
}
