//! How many optimizer steps a search took. Methods differ in it at equal compute: DARTS takes one step of α
//! before each step of the weights, the methods that alternate by epochs take fewer steps of α.

use crate::record::Metric;
use crate::report::measured::MeasuredRun;

/// What [`SearchSteps`] is read from.
pub const METRICS: [Metric; 3] = [
    Metric::SEARCH_WEIGHT_STEPS,
    Metric::SEARCH_ALPHA_STEPS,
    Metric::SEARCH_CANDIDATE_WEIGHT_STEPS,
];

/// Optimizer steps of a search; `None` where the run recorded none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchSteps {
    /// Steps of shared weights, or of all candidates that were trained alone.
    pub weights: Option<f64>,
    /// Steps of the architecture parameters.
    pub alpha: Option<f64>,
}

impl SearchSteps {
    /// Candidate steps count only if every evaluated candidate recorded them: earlier versions did not, and
    /// such a run may have been continued by a later one.
    pub fn of(measured: &MeasuredRun<'_>) -> Self {
        let last = |metric| measured.series(metric).last().map(|(_, steps)| *steps);
        let of_candidates = measured.values(Metric::SEARCH_CANDIDATE_WEIGHT_STEPS);
        let evaluated = measured.series(Metric::SEARCH_BEST_TOP1).len();
        let alone = !of_candidates.is_empty() && of_candidates.len() == evaluated;
        let of_candidates = alone.then(|| of_candidates.iter().sum());
        Self {
            weights: last(Metric::SEARCH_WEIGHT_STEPS).or(of_candidates),
            alpha: last(Metric::SEARCH_ALPHA_STEPS),
        }
    }
}
