//! Judges claims that one kind of runs exceeds another, seed by seed.

use super::Entry;
use crate::claim::{Claim, Measure, PairedEvidence, RunFilter, Verdict};
use crate::report::finished::finished;
use crate::report::stats::PairedDifferences;
use crate::store::{DEFAULTS, RunRow};
use crate::text::plural;
use crate::zoo;
use std::collections::BTreeMap;

/// `None` without a seed that both kinds have.
pub fn entry(claim: &'static Claim, evidence: &PairedEvidence, runs: &[RunRow]) -> Option<Entry> {
    let own = |filter: &RunFilter| -> BTreeMap<u64, (i64, f64)> {
        // A seed counts by its last run: runs come in the order of their ids.
        let fitting = finished(runs).filter(|run| fits(run, filter, evidence.classes));
        fitting
            .filter_map(|run| Some((run.seed, (run.id, measure(run, evidence.measure)?))))
            .collect()
    };
    let (better, worse) = (own(&evidence.better), own(&evidence.worse));
    let pairs = better.iter().filter_map(|(seed, (id, value))| {
        let (other, least) = worse.get(seed)?;
        Some((value - least, [*id, *other]))
    });
    let (differences, ids): (Vec<f64>, Vec<[i64; 2]>) = pairs.unzip();
    let paired = PairedDifferences::of(&differences)?;
    let verdict = match paired.interval {
        Some(interval) if paired.pairs >= evidence.least_seeds => claim.compare_interval(interval),
        _ => Verdict::Inconclusive,
    };
    let interval = paired.interval.map_or_else(String::new, |(low, high)| {
        format!(" (95 % interval {low:+.2} to {high:+.2})")
    });
    let needed = if paired.pairs < evidence.least_seeds {
        format!(", {} needed", evidence.least_seeds)
    } else {
        String::new()
    };
    let mut runs: Vec<i64> = ids.into_iter().flatten().collect();
    runs.sort_unstable();
    runs.dedup();
    Some(Entry {
        claim,
        verdict,
        measured: format!(
            "{:+.2} {}{interval}, {}{needed}",
            paired.mean,
            evidence.measure.unit(),
            plural(paired.pairs, "seed")
        ),
        runs,
    })
}

fn measure(run: &RunRow, measure: Measure) -> Option<f64> {
    match measure {
        Measure::TestTop1 => run.result.as_ref().map(|result| 100.0 * result.test_top1),
        Measure::MacsPerParam => {
            let derived = run.architecture.as_ref()?;
            Some(derived.macs as f64 / derived.params as f64)
        }
    }
}

fn fits(run: &RunRow, filter: &RunFilter, classes: Option<usize>) -> bool {
    let RunFilter { experiment, network, objective, input_channels } = filter;
    let Some(derived) = &run.architecture else { return false };
    let is_network =
        |name: &String| zoo::network(name).is_some_and(|file| file.arch.id() == derived.id);
    let has = |key: &str, wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| setting(run, key).as_ref() == Some(wanted))
    };
    experiment.as_ref().is_none_or(|name| *name == run.experiment)
        && network.as_ref().is_none_or(is_network)
        && classes.is_none_or(|classes| classes == derived.arch.classes)
        && has("search.loss.objective", objective)
        && has("search.loss.input_channels", input_channels)
}

/// The text of a setting, or of its default.
fn setting(run: &RunRow, key: &str) -> Option<String> {
    let given = run.settings.values.get(key).and_then(|value| value.as_str().map(str::to_owned));
    given.or_else(|| {
        let (_, default) = DEFAULTS.iter().find(|(name, _)| *name == key)?;
        serde_json::from_str(default).ok()
    })
}
