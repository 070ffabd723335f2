//! Cost budgets: the most probable decisions within one, and whether there are any.

mod walk;

use crate::cost::{self, BlockProbabilities, Probabilities};
use crate::recipe::{Budget, Objective};
use crate::record::Metric;
use crate::space::{Decisions, SearchSpace};
use anyhow::{Result, bail};
use std::ops::RangeInclusive;
use walk::{Goal, Walk};

/// Numbers of cost cells, from the first try to the last.
const CELLS: [usize; 3] = [512, 4096, 16_384];

/// Logarithms of the probabilities of a space's options, up to a constant for each choice.
pub type Preferences = Probabilities<f64>;

/// A probability of zero counts as the smallest positive number.
#[must_use]
pub fn preferences(probabilities: &Probabilities<f64>) -> Preferences {
    probabilities.map(|p| p.max(f64::MIN_POSITIVE).ln())
}

/// Whether the network of these decisions is within the budget; always, if there is none.
#[must_use]
pub fn allows(budget: Option<&Budget>, space: &SearchSpace, decisions: &Decisions) -> bool {
    budget.is_none_or(|budget| {
        let cost = cost::count(&space.decide(decisions));
        budget.band().contains(cost.of(budget.objective))
    })
}

/// The decisions of the largest Σ log p among the networks within the budget, as exactly as [`walk`]
/// finds them. Of resolutions with the same sum the largest is taken.
///
/// # Errors
/// When no network was found within the budget.
pub fn most_probable(
    space: &SearchSpace,
    preferences: &Preferences,
    budget: &Budget,
) -> Result<Decisions> {
    let (objective, band) = (budget.objective, budget.band());
    for cells in CELLS {
        let found = best(space, preferences, Goal::MostProbable, objective, &band, cells);
        if let Some((_, decisions)) = found {
            return Ok(decisions);
        }
    }
    let range = match (band.start(), band.end()) {
        (low, high) if low == high => low.to_string(),
        (low, high) => format!("{low} to {high}"),
    };
    bail!(
        "no network of the space \"{}\" was found with {range} {}{}: give a larger \
         search.budget.tolerance or another bound",
        space.name,
        objective.name(),
        neighbours(space, objective, &band)
    )
}

/// The best decisions over all resolutions, with the value that `goal` maximises.
fn best(
    space: &SearchSpace,
    preferences: &Preferences,
    goal: Goal,
    objective: Objective,
    band: &RangeInclusive<u64>,
    cells: usize,
) -> Option<(f64, Decisions)> {
    let mut best: Option<(f64, Decisions)> = None;
    for (resolution, of_resolution) in preferences.resolutions.iter().enumerate().rev() {
        let side = space.resolutions[resolution];
        let walk = Walk { space, side, goal, objective, band: band.clone(), cells };
        let Some((of_blocks, blocks)) = walk.run(&preferences.blocks) else { continue };
        let value = of_resolution + of_blocks;
        if best.as_ref().is_none_or(|(best, _)| value > *best) {
            best = Some((value, Decisions { resolution, blocks }));
        }
    }
    best
}

/// Names the costs of networks on both sides of a band that holds none: the nearest that were found.
fn neighbours(space: &SearchSpace, objective: Objective, band: &RangeInclusive<u64>) -> String {
    let (least, most) = cost::cost_range(space).of(objective);
    let below =
        nearest(space, objective, Goal::LargestCost, least..=band.start().saturating_sub(1));
    let above = nearest(space, objective, Goal::SmallestCost, band.end() + 1..=most);
    match (below, above) {
        (Some(below), Some(above)) => format!("; the nearest have {below} and {above}"),
        (Some(nearest), None) | (None, Some(nearest)) => format!("; the nearest has {nearest}"),
        (None, None) => String::new(),
    }
}

/// The cost of a network in the band that `goal` finds. What is found narrows the band, and so the
/// cells, until no network is left between it and the goal.
fn nearest(
    space: &SearchSpace,
    objective: Objective,
    goal: Goal,
    mut band: RangeInclusive<u64>,
) -> Option<u64> {
    let alike = indifferent(space);
    let mut nearest = None;
    while !band.is_empty() {
        let Some((_, found)) = best(space, &alike, goal, objective, &band, CELLS[1]) else { break };
        let cost = *cost::count(&space.decide(&found)).of(objective);
        nearest = Some(cost);
        band = match goal {
            Goal::SmallestCost => *band.start()..=cost.saturating_sub(1),
            Goal::LargestCost | Goal::MostProbable => cost + 1..=*band.end(),
        };
    }
    nearest
}

/// The same preference for every option.
fn indifferent(space: &SearchSpace) -> Preferences {
    let alike = |options: usize| vec![0.0; options];
    let blocks = space.blocks.iter().map(|block| BlockProbabilities {
        types: alike(block.types.len()),
        expansions: alike(block.expansions()),
        widths: alike(block.widths.len()),
    });
    Preferences { resolutions: alike(space.resolutions.len()), blocks: blocks.collect() }
}

/// Checks that the space has a network within the budget.
///
/// # Errors
/// When none was found.
pub fn check_budget(space: &SearchSpace, budget: &Budget) -> Result<()> {
    most_probable(space, &indifferent(space), budget).map(drop)
}

/// The cost of the most probable options together, and how many choices the projection onto the budget
/// changed.
pub(super) fn budget_metrics(
    space: &SearchSpace,
    argmax: &Decisions,
    within: &Decisions,
) -> [(Metric, f64); 3] {
    let cost = cost::count(&space.decide(argmax));
    [
        (Metric::SEARCH_BUDGET_MACS_UNCONSTRAINED, cost.macs as f64),
        (Metric::SEARCH_BUDGET_PARAMS_UNCONSTRAINED, cost.params as f64),
        (Metric::SEARCH_BUDGET_CHANGED, changed(space, argmax, within) as f64),
    ]
}

/// The number of choices in which two lists of decisions differ. A type that several blocks share
/// counts once.
fn changed(space: &SearchSpace, a: &Decisions, b: &Decisions) -> usize {
    let blocks = a.blocks.iter().zip(&b.blocks).zip(&space.blocks);
    let of_blocks = blocks.map(|((a, b), choices)| {
        let repeated = space.share_types && choices.index > 0;
        let differ = [
            !repeated && a.block_type != b.block_type,
            a.expansion != b.expansion,
            a.width != b.width,
        ];
        differ.into_iter().filter(|differs| *differs).count()
    });
    usize::from(a.resolution != b.resolution) + of_blocks.sum::<usize>()
}
