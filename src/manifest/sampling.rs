//! The sections of the cost budget and of methods that sample networks: random search, scores under
//! shared weights, evolution.

use super::keys::{MAX_EPOCHS, at_most};
use super::loss::extent;
use crate::document::{Entry, Section};
use crate::recipe::{Budget, Evolution, Objective, PathRange, RandomSearch, SharedScores};
use crate::space::SearchSpace;
use std::ops::Bound::{Excluded, Included};

const PATHS: &[(&str, PathRange)] = &[("space", PathRange::Space), ("budget", PathRange::Budget)];

/// Networks that one search evaluates.
const MAX_CANDIDATES: u64 = 100_000;
const MAX_BATCHES: u64 = 10_000;

/// A bound, and how far the cost may be below and above it.
pub(super) fn read_budget(
    s: &Section<'_>,
    section: &Entry<'_>,
    space: Option<&SearchSpace>,
) -> Option<Budget> {
    let bound = |key| s.optional(key, |value| value.real((Included(1.0), Included(1e18))));
    let (macs, params) = (bound("macs"), bound("params"));
    let tolerance = s.real("tolerance", (Excluded(0.0), Excluded(1.0)));
    let above = s.optional("above", |value| value.real((Included(0.0), Excluded(1.0))));
    let (objective, bound) = match (macs?, params?) {
        (Some(macs), None) => (Objective::Macs, macs),
        (None, Some(params)) => (Objective::Params, params),
        (given, _) => {
            let problem = if given.is_some() { "has two bounds" } else { "has no bound" };
            return section.fail(problem, "give macs or params, as in macs = 4e6");
        }
    };
    let budget =
        Budget { objective, bound, tolerance: tolerance?, above: above?.unwrap_or_default() };
    check_band(section, &budget, space)
}

/// Whether the band overlaps the range of the space's costs. Whether a network lies in it is checked
/// before the run.
fn check_band(section: &Entry<'_>, budget: &Budget, space: Option<&SearchSpace>) -> Option<Budget> {
    let ((least, most), counted) = extent(space?, budget.objective);
    let band = budget.band();
    let (low, high) = (*band.start(), *band.end());
    if band.is_empty() {
        let problem = format!("contains no whole number of {counted}");
        return section.fail(problem, "give a larger tolerance");
    }
    if high < least || low > most {
        let problem = format!(
            "asks for {low} to {high} {counted}, and the networks of the space have {least} to {most}"
        );
        return section.fail(problem, format!("give a bound from {least} to {most}"));
    }
    Some(*budget)
}

/// Calibration batches of a random search where the manifest has no number for it and none for shared
/// weights.
const CALIBRATION_BATCHES: usize = 10;

/// `batches`: of the weight split. `shared`: the calibration batches of shared weights, which are the
/// default, so that all methods of a manifest score in the same way.
pub(super) fn read_random(
    s: &Section<'_>,
    batches: Option<usize>,
    shared: Option<usize>,
) -> Option<RandomSearch> {
    let candidates = s.whole("candidates", 1..=MAX_CANDIDATES);
    let epochs = s.whole("epochs", 1..=MAX_EPOCHS);
    let calibration = s.optional("calibration_batches", |value| {
        at_most(value, 1..=MAX_BATCHES, batches, "batches of the weight split")
    });
    let usual = shared.unwrap_or(CALIBRATION_BATCHES.min(batches.unwrap_or(usize::MAX)));
    Some(RandomSearch {
        candidates: candidates?,
        epochs: epochs?,
        calibration_batches: calibration?.unwrap_or(usual),
    })
}

/// `batches`: of the weight split.
pub(super) fn read_shared(
    s: &Section<'_>,
    batches: Option<usize>,
    has_budget: bool,
) -> Option<SharedScores> {
    let candidates = s.whole("candidates", 1..=MAX_CANDIDATES);
    let calibration =
        s.require("calibration_batches", "the number of batches that calibrate batch norm");
    let what = "batches that train the weights";
    let calibration = calibration.and_then(|value| at_most(&value, 1..=MAX_BATCHES, batches, what));
    let paths = s.optional("paths", |value| match value.name(PATHS)? {
        PathRange::Budget if !has_budget => {
            let problem = "needs a budget, and there is none";
            value.fail(problem, "give [search.budget], or \"space\"")
        }
        range => Some(range),
    });
    Some(SharedScores {
        candidates: candidates?,
        calibration_batches: calibration?,
        paths: paths?.unwrap_or_default(),
    })
}

/// `candidates`: the number of networks that the search scores.
pub(super) fn read_evolution(s: &Section<'_>, candidates: Option<usize>) -> Option<Evolution> {
    let population = s.require("population", "the number of networks in the population");
    let what = "candidates of [search.shared]";
    let population =
        population.and_then(|value| at_most(&value, 2..=MAX_CANDIDATES, candidates, what));
    let sample = s.require("sample", "the number of networks that compete to be the parent");
    let sample = sample.and_then(|value| {
        at_most(&value, 1..=MAX_CANDIDATES, population, "networks of the population")
    });
    Some(Evolution { population: population?, sample: sample? })
}
