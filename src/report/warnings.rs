//! What went wrong in a run that finished: a search, a training run or networks that diverged, a search that chose
//! mostly skips, or one that left choices undecided.

use super::measured::MeasuredRun;
use crate::record::Metric;
use crate::space::{BlockKind, BlockSpec};
use crate::store::{Choices, RunRow};
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
    let found = [skips(measured.run), undecided(measured.run)];
    [search, training, networks].into_iter().chain(found).flatten().collect()
}

/// Most blocks became skips.
fn skips(run: &RunRow) -> Option<String> {
    /// Of fewer blocks, most may be skips for good reasons.
    const LEAST: usize = 3;
    let found = run.architecture.as_ref()?;
    let blocks = found.arch.blocks.iter().zip(&found.probabilities);
    let chosen: Vec<_> =
        blocks.filter(|(_, p)| p.types.len() > 1).map(|(block, _)| block).collect();
    let is_skip =
        |block: &&&BlockSpec| matches!(block.kind, BlockKind::Identity | BlockKind::Projection);
    let (skips, all) = (chosen.iter().filter(is_skip).count(), chosen.len());
    (skips >= LEAST && 2 * skips > all).then(|| {
        format!(
            "The search of run {} chose a skip in {skips} of {all} blocks: it may have collapsed to skips, \
             as DARTS does (Zela et al. 2020).",
            run.id
        )
    })
}

/// A search that ended before its probabilities preferred one option of each choice.
fn undecided(run: &RunRow) -> Option<String> {
    let Choices { all, undecided } = run.architecture.as_ref()?.choices();
    (undecided > 0).then(|| {
        format!(
            "{undecided} of {} of run {} are undecided: the probability of their most probable option is below \
             2 / options (of two options, below 0.75). There the derived network is close to a random draw.",
            plural(all, "choice"),
            run.id
        )
    })
}
