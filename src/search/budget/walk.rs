//! Dynamic programming over blocks: the best decisions whose cost lies in a band.
//!
//! The sum of log p over decisions is not quite that of networks: a skip has no expansion, but its
//! decisions name one. So a network with skips has several lists of decisions, whose probabilities are
//! not added up.
//!
//! Cost is a sum over blocks once the input width of each block is known. So all networks are built
//! block by block at once. Of the partial networks that end with one width at about one cost (one of
//! `cells` cells between zero and the bound) only the best goes on, with its exact cost. At the end the
//! best network whose exact cost lies in the band is taken. Lost are partial networks that share a cell
//! with a better one and would have ended on the other side of the band's edge; finer cells lose fewer.
//! Where blocks share their type, partial networks of different types are kept apart until the last of
//! these blocks, and the type counts once.

use crate::cost::{self, BlockProbabilities};
use crate::recipe::Objective;
use crate::space::{BlockChoices, BlockDecision, SearchSpace};
use std::ops::RangeInclusive;

/// What is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The largest Σ log p.
    MostProbable,
    LargestCost,
    SmallestCost,
}

impl Goal {
    /// The number to maximise.
    fn value(self, log_p: f64, cost: u64) -> f64 {
        match self {
            Self::MostProbable => log_p,
            Self::LargestCost => cost as f64,
            Self::SmallestCost => -(cost as f64),
        }
    }
}

/// One walk through the blocks, at one resolution.
pub(super) struct Walk<'a> {
    pub space: &'a SearchSpace,
    /// Pixels of the input.
    pub side: usize,
    pub goal: Goal,
    pub objective: Objective,
    pub band: RangeInclusive<u64>,
    pub cells: usize,
}

/// The best network of a cell, up to the current block.
#[derive(Clone, Copy)]
struct Partial {
    value: f64,
    /// Exact.
    cost: u64,
    /// Its predecessor: the position in the frontier before.
    from: usize,
    decision: BlockDecision,
}

/// What the next block depends on: its input width, and the type that it shares with the block before,
/// where it does.
type Boundary = (usize, Option<usize>);

/// All partial networks after a block: one per boundary and cell.
struct Frontier {
    boundaries: Vec<Boundary>,
    partials: Vec<Option<Partial>>,
}

/// One way to decide a block, given its input width.
struct BlockOption {
    decision: BlockDecision,
    boundary: Boundary,
    cost: u64,
    log_p: f64,
}

/// The position of a block among those that share its type.
#[derive(Clone, Copy)]
struct GroupPosition {
    is_first: bool,
    is_last: bool,
}

impl Walk<'_> {
    /// The best decisions within the band, and their value.
    pub(super) fn run(
        &self,
        preferences: &[BlockProbabilities<f64>],
    ) -> Option<(f64, Vec<BlockDecision>)> {
        let (stem, mut side) = cost::count_stem(self.space, self.side);
        let mut first = self.frontier(vec![(self.space.stem_width(), None)]);
        let decision = BlockDecision { block_type: 0, expansion: 0, width: 0 };
        let stem = Partial { value: 0.0, cost: *stem.of(self.objective), from: 0, decision };
        self.offer(&mut first, 0, stem);
        let mut frontiers = vec![first];
        for group in self.space.type_groups() {
            for i in group.clone() {
                let position =
                    GroupPosition { is_first: i == group.start, is_last: i + 1 == group.end };
                let next = self.step(frontiers.last()?, i, &preferences[i], position, side);
                frontiers.push(next);
                side = side.div_ceil(self.space.blocks[i].stride);
            }
        }
        let (value, position) = self.best(frontiers.last()?, side)?;
        Some((value, trace(&frontiers, position)?))
    }

    fn frontier(&self, boundaries: Vec<Boundary>) -> Frontier {
        let partials = vec![None; boundaries.len() * self.cells];
        Frontier { boundaries, partials }
    }

    /// Keeps the partial network if it is the best of its cell. None beyond the bound is kept, since
    /// cost only grows.
    fn offer(&self, frontier: &mut Frontier, boundary: usize, partial: Partial) {
        let high = *self.band.end();
        if partial.cost > high {
            return;
        }
        let cell =
            (u128::from(partial.cost) * self.cells as u128 / (u128::from(high) + 1)) as usize;
        let slot = &mut frontier.partials[boundary * self.cells + cell];
        if slot.is_none_or(|kept| partial.value > kept.value) {
            *slot = Some(partial);
        }
    }

    fn step(
        &self,
        before: &Frontier,
        block: usize,
        preferences: &BlockProbabilities<f64>,
        position: GroupPosition,
        side: usize,
    ) -> Frontier {
        let choices = &self.space.blocks[block];
        let after =
            |boundary: &Boundary| self.options(choices, preferences, position, *boundary, side);
        let options: Vec<Vec<BlockOption>> = before.boundaries.iter().map(after).collect();
        let mut boundaries: Vec<Boundary> = options.iter().flatten().map(|o| o.boundary).collect();
        boundaries.sort_unstable();
        boundaries.dedup();
        let mut next = self.frontier(boundaries);
        for (from, partial) in before.partials.iter().enumerate() {
            let Some(partial) = partial else { continue };
            for option in &options[from / self.cells] {
                let boundary = next.boundaries.partition_point(|b| *b < option.boundary);
                let (cost, decision) = (partial.cost + option.cost, option.decision);
                let value = self.goal.value(partial.value + option.log_p, cost);
                self.offer(&mut next, boundary, Partial { value, cost, from, decision });
            }
        }
        next
    }

    /// All decisions of one block after a boundary.
    fn options(
        &self,
        choices: &BlockChoices,
        preferences: &BlockProbabilities<f64>,
        position: GroupPosition,
        (input, shared): Boundary,
        side: usize,
    ) -> Vec<BlockOption> {
        let (expansions, widths) = (choices.expansions(), choices.widths.len());
        let decision = |index: usize| BlockDecision {
            block_type: index / (expansions * widths),
            expansion: index / widths % expansions,
            width: index % widths,
        };
        let option = |decision: BlockDecision| {
            let BlockDecision { block_type, expansion, width } = decision;
            let block = self.space.decide_block(choices, decision, input);
            let (cost, _) = cost::count_block(&block, input, side);
            let of_type = if position.is_first { preferences.types[block_type] } else { 0.0 };
            let log_p = of_type + preferences.expansions[expansion] + preferences.widths[width];
            let boundary = (block.width, (!position.is_last).then_some(block_type));
            BlockOption { decision, boundary, cost: *cost.of(self.objective), log_p }
        };
        let all = (0..choices.types.len() * expansions * widths).map(decision);
        let fits = |decision: &BlockDecision| shared.is_none_or(|t| t == decision.block_type);
        all.filter(fits).map(option).collect()
    }

    /// The value and the position of the best network within the band.
    fn best(&self, last: &Frontier, side: usize) -> Option<(f64, usize)> {
        let mut best: Option<(f64, usize)> = None;
        for (position, partial) in last.partials.iter().enumerate() {
            let Some(partial) = partial else { continue };
            let (width, _) = last.boundaries[position / self.cells];
            let total = partial.cost + cost::count_head(self.space, width, side).of(self.objective);
            let value = self.goal.value(partial.value, total);
            if self.band.contains(&total) && best.is_none_or(|(best, _)| value > best) {
                best = Some((value, position));
            }
        }
        best
    }
}

/// The decisions of the network that ends at `position` in the last frontier.
fn trace(frontiers: &[Frontier], mut position: usize) -> Option<Vec<BlockDecision>> {
    let mut blocks = Vec::with_capacity(frontiers.len() - 1);
    for frontier in frontiers[1..].iter().rev() {
        let partial = frontier.partials[position]?;
        blocks.push(partial.decision);
        position = partial.from;
    }
    blocks.reverse();
    Some(blocks)
}
