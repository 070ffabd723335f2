//! What went wrong in a run that finished: a search, a training run or networks that diverged.

use super::measured::MeasuredRun;
use crate::record::Metric;
use crate::text::plural;

/// The metrics that warn, in any training run of the network.
pub const METRICS: [Metric; 4] = [
    Metric::TRAIN_DIVERGED,
    Metric::SEARCH_DIVERGED,
    Metric::SEARCH_CANDIDATE_DIVERGED,
    Metric::RANK_DIVERGED,
];

/// One sentence each.
pub fn warnings(measured: &MeasuredRun<'_>) -> Vec<String> {
    let id = measured.run.id;
    let diverged = |what: &str, metric| {
        measured.in_any_repeat(metric).map(|loss| {
            format!(
                "{what} of run {id} diverged: the mean loss of its last epoch was {loss:.3e}, far above \
                 that of a random guess."
            )
        })
    };
    let of = |metric| measured.series(metric).len();
    let networks = of(Metric::SEARCH_CANDIDATE_DIVERGED) + of(Metric::RANK_DIVERGED);
    let networks = (networks > 0).then(|| {
        format!(
            "{} that run {id} evaluated diverged; each was scored at chance accuracy.",
            plural(networks, "network")
        )
    });
    let search = diverged("The search", Metric::SEARCH_DIVERGED);
    let training = diverged("A training run", Metric::TRAIN_DIVERGED);
    [search, training, networks].into_iter().flatten().collect()
}
