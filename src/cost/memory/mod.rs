//! The memory of a training step, predicted from a space or an architecture alone.
//!
//! The step is simulated without numbers: the same blocks in the same order, and a tape that holds
//! sizes instead of tensors and frees them when the real tape does. So the bytes of every owner are
//! known at every moment. The model includes parameters, maps, gradients, packed weights, the partial
//! sums over a batch, the tiles of each thread, and the overhead of a tensor. It leaves out
//! short-lived rows, gates, masks, and the records of the tape.
//!
//! On a GPU the same tensors live as long; what operators use while they run is another (`gpu`).

mod gpu;
mod ledger;
mod operators;
mod simulation;
mod state;
mod tape;

pub use ledger::Footprint;

use crate::recipe::{MethodName, Recompute};
use crate::space::{ArchSpec, BlockDecision, Decisions, NetworkPlan, SearchSpace};
use crate::tiling::Backend;
use simulation::StepSimulation;

/// What the memory of a step depends on besides the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSetting {
    pub batch: usize,
    pub threads: usize,
    pub recompute: Recompute,
    pub backend: Backend,
}

impl StepSetting {
    /// A step by the kernels of the CPU.
    #[must_use]
    pub fn on_cpu(batch: usize, threads: usize, recompute: Recompute) -> Self {
        Self { batch, threads, recompute, backend: Backend::Cpu }
    }
}

/// The peak of a step that trains the weights of the masked supernet by SGD with momentum.
#[must_use]
pub fn masked_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    let sides: Vec<usize> = space.resolutions.iter().rev().copied().collect();
    peak(setting, |simulation| simulation.network(&NetworkPlan::supernet(space), &sides))
}

/// The peak of a step that trains the weights of the explicit supernet.
#[must_use]
pub fn explicit_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    peak(setting, |simulation| simulation.explicit(space))
}

/// The peak of a training step of a decided network on images of side `side`, in pixels.
#[must_use]
pub fn network_step(arch: &ArchSpec, side: usize, setting: StepSetting) -> Footprint {
    let plan = NetworkPlan::derived(arch);
    peak(setting, |simulation| simulation.derived(&plan, side))
}

/// The peak of the largest step in a search by `method`.
#[must_use]
pub fn search_step(space: &SearchSpace, method: MethodName, setting: StepSetting) -> Footprint {
    match method {
        MethodName::Dmasking => masked_step(space, setting),
        MethodName::Dnas | MethodName::Darts => explicit_step(space, setting),
        MethodName::Darts2 => {
            // The weights one step ahead, and the direction of that step.
            let step = explicit_step(space, setting);
            Footprint { gradients: step.gradients + 2 * step.weights, ..step }
        }
        MethodName::Random => Footprint::default(),
        MethodName::RandomSearch => largest_network_step(space, setting),
        MethodName::RsWs | MethodName::Evolution => {
            // The shared weights are kept beside the weights of the subnetwork.
            let shared =
                peak(setting, |simulation| simulation.weights(&NetworkPlan::supernet(space)));
            let step = largest_network_step(space, setting);
            Footprint {
                weights: step.weights + shared.weights,
                optimizer: step.optimizer + shared.optimizer,
                ..step
            }
        }
    }
}

/// The peak of a training step of about the largest network of the space: all blocks have one type and
/// the largest sizes.
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

/// The peak of the second of two steps, which starts with the weights and tiles of the first.
fn peak(setting: StepSetting, step: impl Fn(&mut StepSimulation)) -> Footprint {
    let mut simulation = StepSimulation::new(setting);
    step(&mut simulation);
    simulation.reset_peak();
    step(&mut simulation);
    simulation.peak()
}
