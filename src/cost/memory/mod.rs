//! What a training step needs in memory, from a space or an architecture alone.
//!
//! The step is walked through without numbers: the same blocks in the same order, a tape that holds
//! sizes instead of tensors, and gives them back when the real one does. What is held is known at
//! every moment, and by whom. The model knows the large things: parameters, maps, gradients, packed
//! weights, the parts that sums over the batch are made of, the tiles of each thread, and what a tensor
//! is besides its numbers. It leaves out rows that live for a moment, gates, masks, and the records
//! of the tape themselves.

mod ledger;
mod operators;
mod tape;
mod walk;

pub use ledger::Footprint;

use crate::recipe::{MethodName, Recompute};
use crate::space::{ArchSpec, BlockDecision, Decisions, NetworkPlan, SearchSpace};
use walk::Walk;

/// What a step's memory depends on besides the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSetting {
    pub batch: usize,
    pub threads: usize,
    pub recompute: Recompute,
}

/// The peak of a step of the masked supernet's weights, SGD with momentum.
#[must_use]
pub fn masked_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    let sides: Vec<usize> = space.resolutions.iter().rev().copied().collect();
    peak(setting, |walk| walk.network(&NetworkPlan::supernet(space), &sides))
}

/// The peak of a step of the explicit supernet's weights.
#[must_use]
pub fn explicit_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    peak(setting, |walk| walk.explicit(space))
}

/// The peak of a training step of a decided network that gets images of `side` pixels a side.
#[must_use]
pub fn network_step(arch: &ArchSpec, side: usize, setting: StepSetting) -> Footprint {
    let plan = NetworkPlan::derived(arch);
    peak(setting, |walk| walk.derived(&plan, side))
}

/// The peak of the largest step that a search by `method` takes.
#[must_use]
pub fn search_step(space: &SearchSpace, method: MethodName, setting: StepSetting) -> Footprint {
    match method {
        MethodName::Dmasking => masked_step(space, setting),
        MethodName::Dnas | MethodName::Darts => explicit_step(space, setting),
        MethodName::Darts2 => {
            // The weights one step ahead, and the direction that they are moved along.
            let step = explicit_step(space, setting);
            Footprint { gradients: step.gradients + 2 * step.weights, ..step }
        }
        MethodName::Random => Footprint::default(),
        MethodName::RandomSearch => largest_network_step(space, setting),
        MethodName::RsWs | MethodName::Evolution => {
            // The shared weights stand beside those of the network that is cut out.
            let shared = peak(setting, |walk| walk.weights(&NetworkPlan::supernet(space)));
            let step = largest_network_step(space, setting);
            Footprint {
                weights: step.weights + shared.weights,
                optimizer: step.optimizer + shared.optimizer,
                ..step
            }
        }
    }
}

/// The peak of a step of about the largest network there is: all blocks of one type, with the largest
/// sizes.
#[must_use]
pub fn largest_network_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    let types = space.blocks.iter().map(|block| block.types.len()).max().unwrap_or(0);
    let of_type = |i: usize| {
        let blocks = space.blocks.iter().map(|block| BlockDecision {
            block_type: i.min(block.types.len() - 1),
            expansion: block.expansions() - 1,
            width: block.widths.len() - 1,
        });
        let resolution = space.resolutions.len() - 1;
        let arch = space.decide(&Decisions { resolution, blocks: blocks.collect() });
        network_step(&arch, space.max_resolution(), setting)
    };
    (0..types).map(of_type).max_by_key(Footprint::total).unwrap_or_default()
}

/// Walks twice: a step finds the weights and the threads' tiles of the one before.
fn peak(setting: StepSetting, step: impl Fn(&mut Walk)) -> Footprint {
    let mut walk = Walk::new(setting);
    step(&mut walk);
    walk.begin_anew();
    step(&mut walk);
    walk.peak()
}
