//! The most probable decisions within a cost budget.
//!
//! That is not quite the most probable network: a skip has no expansion, but its list of decisions
//! names one, so that a network with skips is several lists, whose probabilities are not added up.
//!
//! Cost is a sum over blocks once a block's input width is known, so all networks are walked block by
//! block at once: of the ways that lead to one width at about one cost (one of `CELLS` cells between
//! nothing and the bound), only the most probable goes on, with its exact cost. In the end the most
//! probable way whose exact cost lies in the band is taken. What is lost are ways that share a cell
//! with a more probable one and would have ended on the other side of the band's edge; where no way
//! is left, finer cells are tried. Every resolution has its own walk. Where blocks share their type,
//! ways of different types are kept apart until the last of these blocks, and the type counts once.

use crate::cost::{self, BlockProbabilities, Probabilities};
use crate::recipe::{Budget, Objective};
use crate::record::Metric;
use crate::space::{BlockChoices, BlockDecision, Decisions, SearchSpace};
use anyhow::{Result, bail};
use std::ops::RangeInclusive;

/// Between a cost of zero and the bound, at the first and at the last try.
const CELLS: [usize; 3] = [512, 4096, 16_384];

/// Logarithms of the probabilities of a space's options, up to a constant of each choice.
pub type Preferences = Probabilities<f64>;

/// A probability of zero counts as the smallest that there is.
#[must_use]
pub fn preferences(probabilities: &Probabilities<f64>) -> Preferences {
    probabilities.map(|p| p.max(f64::MIN_POSITIVE).ln())
}

/// Whether the network of these decisions is within the budget; all are where there is none.
#[must_use]
pub fn allows(budget: Option<&Budget>, space: &SearchSpace, decisions: &Decisions) -> bool {
    budget.is_none_or(|budget| {
        let cost = cost::count(&space.decide(decisions));
        budget.band().contains(cost.of(budget.objective))
    })
}

/// The decisions of the largest Σ log p among the networks within the budget; see the head of this
/// file. Of resolutions that are as good the largest is taken.
///
/// # Errors
/// When no network was found within it.
pub fn most_probable(
    space: &SearchSpace,
    preferences: &Preferences,
    budget: &Budget,
) -> Result<Decisions> {
    for cells in CELLS {
        let mut best: Option<(f64, Decisions)> = None;
        for (resolution, of_resolution) in preferences.resolutions.iter().enumerate().rev() {
            let side = space.resolutions[resolution];
            let walk =
                Walk { space, side, objective: budget.objective, band: budget.band(), cells };
            let Some((of_blocks, blocks)) = walk.run(&preferences.blocks) else { continue };
            let log_p = of_resolution + of_blocks;
            if best.as_ref().is_none_or(|(best, _)| log_p > *best) {
                best = Some((log_p, Decisions { resolution, blocks }));
            }
        }
        if let Some((_, decisions)) = best {
            return Ok(decisions);
        }
    }
    let band = budget.band();
    let range = match (band.start(), band.end()) {
        (low, high) if low == high => low.to_string(),
        (low, high) => format!("{low} to {high}"),
    };
    bail!(
        "no network of the space \"{}\" was found with {range} {}: give a larger search.budget.\
         tolerance or another bound",
        space.name,
        budget.objective.name()
    )
}

/// Whether a network is within the budget at all, whatever is preferred.
///
/// # Errors
/// When none was found.
pub fn check_budget(space: &SearchSpace, budget: &Budget) -> Result<()> {
    let alike = |options: usize| vec![0.0; options];
    let blocks = space.blocks.iter().map(|block| BlockProbabilities {
        types: alike(block.types.len()),
        expansions: alike(block.expansions()),
        widths: alike(block.widths.len()),
    });
    let resolutions = alike(space.resolutions.len());
    let preferences = Preferences { resolutions, blocks: blocks.collect() };
    most_probable(space, &preferences, budget).map(drop)
}

/// How much the budget decided: what the likeliest options together would have cost, and how many
/// decisions had to change.
pub(super) fn budget_metrics(
    space: &SearchSpace,
    likeliest: &Decisions,
    within: &Decisions,
) -> [(Metric, f64); 3] {
    let cost = cost::count(&space.decide(likeliest));
    [
        (Metric::SEARCH_BUDGET_MACS_UNCONSTRAINED, cost.macs as f64),
        (Metric::SEARCH_BUDGET_PARAMS_UNCONSTRAINED, cost.params as f64),
        (Metric::SEARCH_BUDGET_CHANGED, changed(space, likeliest, within) as f64),
    ]
}

/// In how many choices two lists of decisions differ; a type that several blocks share counts once.
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

/// One walk through the blocks.
struct Walk<'a> {
    space: &'a SearchSpace,
    /// Pixels of the input.
    side: usize,
    objective: Objective,
    band: RangeInclusive<u64>,
    cells: usize,
}

/// The most probable way to a cell.
#[derive(Clone, Copy)]
struct Way {
    log_p: f64,
    /// Exact, of everything so far.
    cost: u64,
    /// Where it comes from: the position among the ways of the layer before.
    from: usize,
    decision: BlockDecision,
}

/// What the next block must know: the width that comes in, and the type that it shares with the block
/// before, where it does.
type End = (usize, Option<usize>);

/// What may come out of a block: for each end, one way per cell.
struct Layer {
    ends: Vec<End>,
    ways: Vec<Option<Way>>,
}

/// One way to decide a block, given its input width.
struct Candidate {
    decision: BlockDecision,
    end: End,
    cost: u64,
    log_p: f64,
}

/// Where a block stands among those that share its type.
#[derive(Clone, Copy)]
struct Place {
    is_first: bool,
    is_last: bool,
}

impl Walk<'_> {
    /// The most probable way within the band, with its Σ log p.
    fn run(&self, preferences: &[BlockProbabilities<f64>]) -> Option<(f64, Vec<BlockDecision>)> {
        let (stem, mut side) = cost::count_stem(self.space, self.side);
        let mut first = self.layer(vec![(self.space.stem_width(), None)]);
        let decision = BlockDecision { block_type: 0, expansion: 0, width: 0 };
        let way = Way { log_p: 0.0, cost: *stem.of(self.objective), from: 0, decision };
        self.offer(&mut first, 0, way);
        let mut layers = vec![first];
        for group in self.space.type_groups() {
            for i in group.clone() {
                let place = Place { is_first: i == group.start, is_last: i + 1 == group.end };
                let next = self.step(layers.last()?, i, &preferences[i], place, side);
                layers.push(next);
                side = side.div_ceil(self.space.blocks[i].stride);
            }
        }
        let (log_p, position) = self.best(layers.last()?, side)?;
        Some((log_p, trace(&layers, position)?))
    }

    fn layer(&self, ends: Vec<End>) -> Layer {
        let ways = vec![None; ends.len() * self.cells];
        Layer { ends, ways }
    }

    /// Keeps the way where it is the most probable of its cell, and none beyond the bound: cost only
    /// grows.
    fn offer(&self, layer: &mut Layer, end: usize, way: Way) {
        let high = *self.band.end();
        if way.cost > high {
            return;
        }
        let cell = (u128::from(way.cost) * self.cells as u128 / (u128::from(high) + 1)) as usize;
        let slot = &mut layer.ways[end * self.cells + cell];
        if slot.is_none_or(|kept| way.log_p > kept.log_p) {
            *slot = Some(way);
        }
    }

    fn step(
        &self,
        before: &Layer,
        block: usize,
        preferences: &BlockProbabilities<f64>,
        place: Place,
        side: usize,
    ) -> Layer {
        let choices = &self.space.blocks[block];
        let behind = |end: &End| self.candidates(choices, preferences, place, *end, side);
        let candidates: Vec<Vec<Candidate>> = before.ends.iter().map(behind).collect();
        let mut ends: Vec<End> = candidates.iter().flatten().map(|c| c.end).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut next = self.layer(ends);
        for (from, way) in before.ways.iter().enumerate() {
            let Some(way) = way else { continue };
            for candidate in &candidates[from / self.cells] {
                let position = next.ends.partition_point(|end| *end < candidate.end);
                let (cost, decision) = (way.cost + candidate.cost, candidate.decision);
                let log_p = way.log_p + candidate.log_p;
                self.offer(&mut next, position, Way { log_p, cost, from, decision });
            }
        }
        next
    }

    /// All decisions of one block behind `end`.
    fn candidates(
        &self,
        choices: &BlockChoices,
        preferences: &BlockProbabilities<f64>,
        place: Place,
        (input, shared): End,
        side: usize,
    ) -> Vec<Candidate> {
        let (expansions, widths) = (choices.expansions(), choices.widths.len());
        let decision = |index: usize| BlockDecision {
            block_type: index / (expansions * widths),
            expansion: index / widths % expansions,
            width: index % widths,
        };
        let candidate = |decision: BlockDecision| {
            let BlockDecision { block_type, expansion, width } = decision;
            let block = self.space.decide_block(choices, decision, input);
            let (cost, _) = cost::count_block(&block, input, side);
            let of_type = if place.is_first { preferences.types[block_type] } else { 0.0 };
            let log_p = of_type + preferences.expansions[expansion] + preferences.widths[width];
            let end = (block.width, (!place.is_last).then_some(block_type));
            Candidate { decision, end, cost: *cost.of(self.objective), log_p }
        };
        let all = (0..choices.types.len() * expansions * widths).map(decision);
        let fits = |decision: &BlockDecision| shared.is_none_or(|t| t == decision.block_type);
        all.filter(fits).map(candidate).collect()
    }

    /// Σ log p and the position of the most probable way that ends in the band.
    fn best(&self, last: &Layer, side: usize) -> Option<(f64, usize)> {
        let mut best: Option<(f64, usize)> = None;
        for (position, way) in last.ways.iter().enumerate() {
            let Some(way) = way else { continue };
            let (width, _) = last.ends[position / self.cells];
            let total = way.cost + cost::count_head(self.space, width, side).of(self.objective);
            if self.band.contains(&total) && best.is_none_or(|(log_p, _)| way.log_p > log_p) {
                best = Some((way.log_p, position));
            }
        }
        best
    }
}

/// The decisions of the way that ends at `position` in the last layer.
fn trace(layers: &[Layer], mut position: usize) -> Option<Vec<BlockDecision>> {
    let mut blocks = Vec::with_capacity(layers.len() - 1);
    for layer in layers[1..].iter().rev() {
        let way = layer.ways[position]?;
        blocks.push(way.decision);
        position = way.from;
    }
    blocks.reverse();
    Some(blocks)
}
