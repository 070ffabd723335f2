//! Networks drawn from a space, and small changes of a network.

use super::budget::{Preferences, allows, most_probable};
use crate::recipe::Budget;
use crate::rng::Stream;
use crate::space::{BlockDecision, Decisions, Dimension, SearchSpace};
use anyhow::Result;

/// Draws before a band counts as rare.
const DRAWS: usize = 10_000;
/// Mutations of one parent before it counts as having none within the budget.
const MUTATIONS: usize = 1_000;

/// One network, every option of every choice equally likely, at the largest resolution.
///
/// With a budget, draws are rejected until one is within it (TuNAS's cost-matched random search):
/// uniform among those networks. After 10,000 rejections every option gets Gumbel noise for its log
/// probability, and the most probable network within the budget is taken: without a budget that would
/// again be a uniform draw, within it it is close to one (perturb and MAP, Papandreou & Yuille 2011).
///
/// # Errors
/// When no network was found within the budget.
pub fn draw(
    space: &SearchSpace,
    budget: Option<&Budget>,
    stream: &mut Stream,
) -> Result<Decisions> {
    for _ in 0..DRAWS {
        let drawn = uniform(space, stream);
        if allows(budget, space, &drawn) {
            return Ok(drawn);
        }
    }
    let mut noise = |options: usize| (0..options).map(|_| stream.gumbel()).collect();
    let preferences: Vec<Preferences> = space
        .blocks
        .iter()
        .map(|block| Preferences {
            types: noise(block.types.len()),
            expansions: noise(block.expansions()),
            widths: noise(block.widths.len()),
        })
        .collect();
    match budget {
        Some(budget) => most_probable(space, &preferences, budget),
        None => Ok(uniform(space, stream)),
    }
}

fn uniform(space: &SearchSpace, stream: &mut Stream) -> Decisions {
    let blocks = space.blocks.iter().map(|block| BlockDecision {
        block_type: stream.below(block.types.len()),
        expansion: stream.below(block.expansions()),
        width: stream.below(block.widths.len()),
    });
    let blocks = blocks.collect();
    Decisions { resolution: space.resolutions.len() - 1, blocks }
}

/// `parent` with another option in one choice; both are drawn uniformly. With a budget, mutations
/// outside are rejected, and a parent that seems to have no other is replaced by a fresh draw.
///
/// # Errors
/// As [`draw`].
pub fn mutate(
    space: &SearchSpace,
    budget: Option<&Budget>,
    parent: &Decisions,
    stream: &mut Stream,
) -> Result<Decisions> {
    let kinds = [Dimension::BlockType, Dimension::Expansion, Dimension::Width];
    let all = space.blocks.iter().enumerate();
    let choices = all.flat_map(|(i, block)| kinds.map(|kind| (i, kind, block.options(kind))));
    let open: Vec<_> = choices.filter(|(_, _, options)| *options > 1).collect();
    if open.is_empty() {
        return Ok(parent.clone());
    }
    for _ in 0..MUTATIONS {
        let mut child = parent.clone();
        let (block, kind, options) = open[stream.below(open.len())];
        let decision = &mut child.blocks[block];
        let option = match kind {
            Dimension::BlockType => &mut decision.block_type,
            Dimension::Expansion => &mut decision.expansion,
            _ => &mut decision.width,
        };
        *option = (*option + 1 + stream.below(options - 1)) % options;
        if allows(budget, space, &child) {
            return Ok(child);
        }
    }
    draw(space, budget, stream)
}
