//! Random draws from a space, and mutations of a network.

use super::budget::{Preferences, allows, most_probable};
use crate::cost::BlockProbabilities;
use crate::recipe::Budget;
use crate::rng::Stream;
use crate::space::{BlockDecision, Decisions, SearchSpace};
use anyhow::Result;
use std::ops::Range;

/// Rejected draws after which networks within a budget count as rare.
const DRAWS: usize = 10_000;
/// Rejected mutations after which a parent is replaced.
const MUTATIONS: usize = 1_000;

/// Draws one network; all options of a choice are equally probable.
///
/// With a budget, draws are rejected until one is within it (TuNAS's cost-matched random search), which
/// is uniform among those networks. After 10,000 rejections the log probability of every option becomes
/// Gumbel noise, and the most probable decisions within the budget are taken. Without a budget this
/// would be a uniform draw; within one it is nearly uniform (perturb and MAP, Papandreou & Yuille 2011).
///
/// # Errors
/// When no network was found within the budget.
pub fn draw(
    space: &SearchSpace,
    budget: Option<&Budget>,
    stream: &mut Stream,
) -> Result<Decisions> {
    let Some(budget) = budget else {
        return Ok(uniform(space, stream));
    };
    for _ in 0..DRAWS {
        let drawn = uniform(space, stream);
        if allows(Some(budget), space, &drawn) {
            return Ok(drawn);
        }
    }
    perturbed(space, budget, stream)
}

/// The most probable decisions within the budget, with Gumbel noise as log probabilities.
fn perturbed(space: &SearchSpace, budget: &Budget, stream: &mut Stream) -> Result<Decisions> {
    let mut noise =
        |options: usize| -> Vec<f64> { (0..options).map(|_| stream.gumbel()).collect() };
    let blocks = space.blocks.iter().map(|block| BlockProbabilities {
        types: noise(block.types.len()),
        expansions: noise(block.expansions()),
        widths: noise(block.widths.len()),
    });
    let blocks = blocks.collect();
    let preferences = Preferences { resolutions: noise(space.resolutions.len()), blocks };
    most_probable(space, &preferences, budget)
}

fn uniform(space: &SearchSpace, stream: &mut Stream) -> Decisions {
    let mut blocks: Vec<BlockDecision> = Vec::with_capacity(space.blocks.len());
    for group in space.type_groups() {
        let block_type = stream.below(space.blocks[group.start].types.len());
        blocks.extend(space.blocks[group].iter().map(|block| BlockDecision {
            block_type,
            expansion: stream.below(block.expansions()),
            width: stream.below(block.widths.len()),
        }));
    }
    Decisions { resolution: stream.below(space.resolutions.len()), blocks }
}

/// A choice with several options.
enum OpenChoice {
    Resolution,
    Type(Range<usize>),
    Expansion(usize),
    Width(usize),
}

/// All open choices, with their numbers of options.
fn open_choices(space: &SearchSpace) -> Vec<(OpenChoice, usize)> {
    let mut all = vec![(OpenChoice::Resolution, space.resolutions.len())];
    for group in space.type_groups() {
        let options = space.blocks[group.start].types.len();
        all.push((OpenChoice::Type(group), options));
    }
    for (i, block) in space.blocks.iter().enumerate() {
        all.push((OpenChoice::Expansion(i), block.expansions()));
        all.push((OpenChoice::Width(i), block.widths.len()));
    }
    all.retain(|(_, options)| *options > 1);
    all
}

/// `parent` with another option in one choice; choice and option are drawn uniformly. Mutations outside
/// the budget are rejected, and so are those that give the same network: a skip has no expansion and
/// mostly no width of its own. After too many rejections the result is a new draw.
///
/// # Errors
/// As [`draw`].
pub fn mutate(
    space: &SearchSpace,
    budget: Option<&Budget>,
    parent: &Decisions,
    stream: &mut Stream,
) -> Result<Decisions> {
    let open = open_choices(space);
    if open.is_empty() {
        return Ok(parent.clone());
    }
    let before = space.decide(parent);
    for _ in 0..MUTATIONS {
        let mut child = parent.clone();
        let (choice, options) = &open[stream.below(open.len())];
        let step = 1 + stream.below(options - 1);
        let change = |option: &mut usize| *option = (*option + step) % options;
        match choice {
            OpenChoice::Resolution => change(&mut child.resolution),
            OpenChoice::Type(group) => {
                child.blocks[group.clone()].iter_mut().for_each(|b| change(&mut b.block_type));
            }
            OpenChoice::Expansion(i) => change(&mut child.blocks[*i].expansion),
            OpenChoice::Width(i) => change(&mut child.blocks[*i].width),
        }
        if allows(budget, space, &child) && space.decide(&child) != before {
            return Ok(child);
        }
    }
    draw(space, budget, stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Objective;
    use crate::rng::Seed;
    use crate::space::load_space;
    use std::path::Path;

    #[test]
    fn perturbed_draws_are_nearly_uniform() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/spaces/smoke.toml");
        let space = load_space(&path).unwrap();
        let objective = Objective::Macs;
        let budget = Budget { objective, bound: 2e5, tolerance: 0.05, above: 0.0 };
        // How often each option of each choice is drawn.
        let shares = |of: &dyn Fn(&mut Stream) -> Decisions| -> Vec<f64> {
            let mut shares = vec![0.0; 100];
            for i in 0..2000 {
                let made = of(&mut Seed(9).stream("draw", i));
                for (block, made) in made.blocks.iter().enumerate() {
                    let options = [made.block_type, 8 + made.expansion, 16 + made.width];
                    for option in options {
                        shares[24 * block + option] += 1.0 / 2000.0;
                    }
                }
            }
            shares
        };
        let uniform = shares(&|stream| draw(&space, Some(&budget), stream).unwrap());
        let close = shares(&|stream| perturbed(&space, &budget, stream).unwrap());
        let apart = uniform.iter().zip(&close).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        // Chance alone makes 0.04 of it.
        assert!(apart < 0.12, "{apart}");
    }
}
