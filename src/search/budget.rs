//! The most probable network within a cost budget.
//!
//! Cost is a sum over blocks once a block's input width is known, so all networks are walked block by
//! block at once: of the ways that lead to one width at about one cost (one of `CELLS` cells between
//! nothing and the bound), only the most probable goes on, with its exact cost. In the end the most
//! probable way whose exact cost lies in the band is taken. What is lost are ways that share a cell
//! with a more probable one and would have ended on the other side of the band's edge; where no way
//! is left, finer cells are tried.

use crate::cost::{self, Cost};
use crate::recipe::{Budget, Objective};
use crate::record::ChoiceProbabilities;
use crate::space::{BlockChoices, BlockDecision, Decisions, SearchSpace};
use anyhow::{Result, bail};
use std::ops::RangeInclusive;

/// Between a cost of zero and the bound, at the first and at the last try.
const CELLS: [usize; 3] = [512, 4096, 16_384];

/// Logarithms of the probabilities of a block's options, up to a constant of each choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Preferences {
    pub types: Vec<f64>,
    pub expansions: Vec<f64>,
    pub widths: Vec<f64>,
}

impl Preferences {
    /// A probability of zero counts as the smallest that there is.
    #[must_use]
    pub fn of(probabilities: &ChoiceProbabilities) -> Self {
        let logs =
            |p: &[f64]| p.iter().map(|p| p.max(f64::MIN_POSITIVE).ln()).collect::<Vec<f64>>();
        Self {
            types: logs(&probabilities.types),
            expansions: logs(&probabilities.expansions),
            widths: logs(&probabilities.widths),
        }
    }

    /// The logarithm for all three choices.
    #[must_use]
    pub fn sum(&self, decision: BlockDecision) -> f64 {
        self.types[decision.block_type]
            + self.expansions[decision.expansion]
            + self.widths[decision.width]
    }
}

/// The part of a cost that a budget bounds.
#[must_use]
pub fn measured(cost: &Cost<u64>, objective: Objective) -> u64 {
    match objective {
        Objective::Macs => cost.macs,
        Objective::Params => cost.params,
    }
}

/// Whether the network of these decisions is within the budget; all are where there is none.
#[must_use]
pub fn allows(budget: Option<&Budget>, space: &SearchSpace, decisions: &Decisions) -> bool {
    budget.is_none_or(|budget| {
        let cost = cost::count(&space.decide(decisions));
        budget.band().contains(&measured(&cost, budget.objective))
    })
}

/// The decisions of the largest Σ log p among the networks within the budget, at the largest
/// resolution; see the head of this file. `preferences` are in the order of the space's blocks.
///
/// # Errors
/// When no network was found within it.
pub fn most_probable(
    space: &SearchSpace,
    preferences: &[Preferences],
    budget: &Budget,
) -> Result<Decisions> {
    for cells in CELLS {
        let walk = Walk { space, objective: budget.objective, band: budget.band(), cells };
        if let Some(blocks) = walk.run(preferences) {
            return Ok(Decisions { resolution: space.resolutions.len() - 1, blocks });
        }
    }
    bail!(
        "no network of the space \"{}\" was found with {} to {} {}: give a larger search.budget.\
         tolerance or another bound",
        space.name,
        budget.band().start(),
        budget.band().end(),
        budget.objective.name()
    )
}

/// One walk through the blocks.
struct Walk<'a> {
    space: &'a SearchSpace,
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

/// What may come out of a block: for each width, one way per cell.
struct Layer {
    widths: Vec<usize>,
    ways: Vec<Option<Way>>,
}

/// One way to decide a block, given its input width.
struct Candidate {
    decision: BlockDecision,
    width: usize,
    cost: u64,
    log_p: f64,
}

impl Walk<'_> {
    fn run(&self, preferences: &[Preferences]) -> Option<Vec<BlockDecision>> {
        let (stem, mut side) = cost::count_stem(self.space, self.space.max_resolution());
        let mut first = self.layer(vec![self.space.stem_width()]);
        let decision = BlockDecision { block_type: 0, expansion: 0, width: 0 };
        let way = Way { log_p: 0.0, cost: measured(&stem, self.objective), from: 0, decision };
        self.offer(&mut first, 0, way);
        let mut layers = vec![first];
        for (choices, preferences) in self.space.blocks.iter().zip(preferences) {
            let next = self.step(layers.last()?, choices, preferences, side);
            layers.push(next);
            side = side.div_ceil(choices.stride);
        }
        trace(&layers, self.best(layers.last()?, side)?)
    }

    fn layer(&self, widths: Vec<usize>) -> Layer {
        let ways = vec![None; widths.len() * self.cells];
        Layer { widths, ways }
    }

    /// Keeps the way where it is the most probable of its cell, and none beyond the bound: cost only
    /// grows.
    fn offer(&self, layer: &mut Layer, width: usize, way: Way) {
        let high = *self.band.end();
        if way.cost > high {
            return;
        }
        let cell = (u128::from(way.cost) * self.cells as u128 / (u128::from(high) + 1)) as usize;
        let slot = &mut layer.ways[width * self.cells + cell];
        if slot.is_none_or(|kept| way.log_p > kept.log_p) {
            *slot = Some(way);
        }
    }

    fn step(
        &self,
        before: &Layer,
        choices: &BlockChoices,
        preferences: &Preferences,
        side: usize,
    ) -> Layer {
        let candidates: Vec<Vec<Candidate>> = before
            .widths
            .iter()
            .map(|input| self.candidates(choices, preferences, *input, side))
            .collect();
        let mut widths: Vec<usize> = candidates.iter().flatten().map(|c| c.width).collect();
        widths.sort_unstable();
        widths.dedup();
        let mut next = self.layer(widths);
        for (from, way) in before.ways.iter().enumerate() {
            let Some(way) = way else { continue };
            for candidate in &candidates[from / self.cells] {
                let position = next.widths.partition_point(|width| *width < candidate.width);
                let (cost, decision) = (way.cost + candidate.cost, candidate.decision);
                let log_p = way.log_p + candidate.log_p;
                self.offer(&mut next, position, Way { log_p, cost, from, decision });
            }
        }
        next
    }

    /// All decisions of one block behind `input` channels.
    fn candidates(
        &self,
        choices: &BlockChoices,
        preferences: &Preferences,
        input: usize,
        side: usize,
    ) -> Vec<Candidate> {
        let decision = |index: usize| {
            let (expansions, widths) = (choices.expansions(), choices.widths.len());
            BlockDecision {
                block_type: index / (expansions * widths),
                expansion: index / widths % expansions,
                width: index % widths,
            }
        };
        let all = choices.types.len() * choices.expansions() * choices.widths.len();
        let candidate = |decision| {
            let block = self.space.decide_block(choices, decision, input);
            let (cost, _) = cost::count_block(&block, input, side);
            let (cost, log_p) = (measured(&cost, self.objective), preferences.sum(decision));
            Candidate { decision, width: block.width, cost, log_p }
        };
        (0..all).map(decision).map(candidate).collect()
    }

    /// The position of the most probable way that ends in the band.
    fn best(&self, last: &Layer, side: usize) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for (position, way) in last.ways.iter().enumerate() {
            let Some(way) = way else { continue };
            let head = cost::count_head(self.space, last.widths[position / self.cells], side);
            let total = way.cost + measured(&head, self.objective);
            if self.band.contains(&total) && best.is_none_or(|(log_p, _)| way.log_p > log_p) {
                best = Some((way.log_p, position));
            }
        }
        best.map(|(_, position)| position)
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
