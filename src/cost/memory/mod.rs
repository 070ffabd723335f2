//! The memory of a training step, predicted from a space or an architecture alone.
//!
//! The step is simulated without numbers: the same blocks in the same order, and a tape that holds
//! sizes instead of tensors and frees them when the real tape does. So the bytes of every owner are
//! known at every moment. The model includes parameters, maps, gradients, packed weights, the partial
//! sums over a batch, the tiles of each thread, and the overhead of a tensor. It leaves out
//! short-lived rows, gates, masks, and the records of the tape.
//!
//! On a GPU, tensors live equally long, but operators use other working memory (`gpu`). A tensor takes a multiple of
//! what the memory pool hands out. Gates, masks and their gradients count, and so do the buffers
//! of uploads.

mod gates;
mod gpu;
mod ledger;
mod operators;
mod simulation;
mod state;
mod tape;

pub use ledger::Footprint;
pub use state::upload_slots;

use crate::recipe::{MethodName, Recompute, StepExtras};
use crate::space::{ArchSpec, BlockDecision, Decisions, NetworkPlan, SearchSpace};
use crate::tiling::Backend;
use operators::{PassKind, SupernetGates};
use simulation::StepSimulation;

/// What the memory of a step depends on besides the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSetting {
    pub batch: usize,
    pub threads: usize,
    pub recompute: Recompute,
    pub extras: StepExtras,
    pub backend: Backend,
}

impl StepSetting {
    /// A step by the kernels of the CPU.
    #[must_use]
    pub fn on_cpu(batch: usize, threads: usize, recompute: Recompute) -> Self {
        let extras = StepExtras::default();
        Self { batch, threads, recompute, extras, backend: Backend::Cpu }
    }
}

/// The bytes of a simulated step: at its peak, and between two steps.
#[derive(Clone, Copy, Debug, Default)]
struct Simulated {
    peak: Footprint,
    between: Footprint,
}

/// The peak of a step that trains the weights of the masked supernet by SGD with momentum.
#[must_use]
pub fn masked_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    simulated(setting, |simulation| simulation.masked(space)).peak
}

/// The peak of a step that trains the weights of the explicit supernet.
#[must_use]
pub fn explicit_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    explicit(space, setting, PassKind::training(SupernetGates::Explicit)).peak
}

fn explicit(space: &SearchSpace, setting: StepSetting, kind: PassKind) -> Simulated {
    simulated(setting, |simulation| simulation.explicit(space, kind))
}

/// The peak of a training step of a decided network on images of side `side`, in pixels.
#[must_use]
pub fn network_step(arch: &ArchSpec, side: usize, setting: StepSetting) -> Footprint {
    derived(arch, side, setting).peak
}

/// Bytes of the weights and running statistics of a decided network, once.
#[must_use]
pub fn network_weights(arch: &ArchSpec, side: usize, setting: StepSetting) -> u64 {
    let setting = StepSetting { extras: StepExtras::default(), ..setting };
    derived(arch, side, setting).between.weights
}

/// The peak of a forward pass of a decided network at inference, on images of side `side`, in pixels. An upper
/// bound: on the CPU, few images at a time pass through several layers.
#[must_use]
pub fn inference_step(arch: &ArchSpec, side: usize, setting: StepSetting) -> Footprint {
    let plan = NetworkPlan::derived(arch);
    let Simulated { peak, between } =
        simulated(setting, |simulation| simulation.forward(&plan, side));
    // The weights are folded and packed beside the parameters.
    Footprint { weights: peak.weights + between.weights, optimizer: 0, ..peak }
}

fn derived(arch: &ArchSpec, side: usize, setting: StepSetting) -> Simulated {
    let plan = NetworkPlan::derived(arch);
    simulated(setting, |simulation| simulation.derived(&plan, side))
}

/// The peak of the largest step in a search by `method`.
#[must_use]
pub fn search_step(space: &SearchSpace, method: MethodName, setting: StepSetting) -> Footprint {
    match method {
        MethodName::Dmasking => masked_step(space, setting),
        MethodName::Dnas | MethodName::Darts => explicit_step(space, setting),
        MethodName::Darts2 => second_order_step(space, setting),
        MethodName::Random => Footprint::default(),
        MethodName::RandomSearch => largest_network_step(space, setting),
        MethodName::RsWs | MethodName::Evolution => path_step(space, setting),
    }
}

/// The peak of a step of α through a step of the explicit supernet's weights (`search::hypergradient`).
fn second_order_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    let gates = SupernetGates::Explicit;
    let pass = |weights_wanted| {
        explicit(space, setting, PassKind { gates, weights_wanted, gates_wanted: true })
    };
    // One pass is at the weights one step ahead, which have running statistics of their own. It returns v.
    let (Simulated { peak: ahead, between }, beside) = (pass(true), pass(false).peak);
    let ahead = Footprint { weights: ahead.weights + between.weights, ..ahead };
    // Two are at the weights beside, along v, and with constant weights. Gates and losses of the first stay.
    let kept = simulated(setting, |simulation| simulation.kept_of_pass(space)).peak.activations;
    let beside = Footprint {
        weights: beside.weights + between.weights,
        gradients: beside.gradients + between.optimizer,
        activations: beside.activations + kept,
        ..beside
    };
    larger(ahead, beside)
}

/// The peak of a step of shared weights along one path (`search::paths`): the weights of a subnetwork are copied
/// from the shared ones, trained, and written into copies of these.
fn path_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    let shared = supernet_weights(space, setting);
    let Simulated { peak, between } = largest_network(space, setting);
    let beside_shared = |step: Footprint| Footprint {
        weights: step.weights + shared.weights,
        optimizer: step.optimizer + shared.optimizer,
        ..step
    };
    let written = Footprint { weights: between.weights + between.optimizer, ..between };
    let images = simulated(setting, |simulation| simulation.batch(space)).peak.activations;
    let written = Footprint { activations: images, ..written };
    larger(beside_shared(peak), beside_shared(written))
}

/// The peak while a network is scored under shared weights: it is calibrated, then evaluated with a frozen copy
/// of its weights. An upper bound: the passes of an evaluation take less than those of the calibration.
#[must_use]
pub fn scoring_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    let shared = supernet_weights(space, setting);
    let of_network = |arch: &ArchSpec| {
        let plan = NetworkPlan::derived(arch);
        let simulated = simulated(setting, |s| s.forward(&plan, space.max_resolution()));
        // Of running statistics there are the inverse deviations too.
        let (trained, all) = (simulated.between.optimizer, simulated.between.weights);
        let frozen = all + (all - trained) / 2;
        Footprint { weights: shared.weights + all + frozen, optimizer: 0, ..simulated.peak }
    };
    let networks = largest_networks(space).map(|arch| of_network(&arch));
    networks.max_by_key(Footprint::total).unwrap_or_default()
}

/// The shared weights and their velocities.
fn supernet_weights(space: &SearchSpace, setting: StepSetting) -> Footprint {
    let plan = NetworkPlan::supernet(space);
    simulated(setting, |simulation| simulation.forward(&plan, plan.resolution)).between
}

/// The peak of a training step of about the largest network of the space: all blocks have one type and
/// the largest sizes.
#[must_use]
pub fn largest_network_step(space: &SearchSpace, setting: StepSetting) -> Footprint {
    largest_network(space, setting).peak
}

/// Bytes of the weights and running statistics of such a network, once.
#[must_use]
pub fn largest_network_weights(space: &SearchSpace, setting: StepSetting) -> u64 {
    let setting = StepSetting { extras: StepExtras::default(), ..setting };
    largest_network(space, setting).between.weights
}

fn largest_network(space: &SearchSpace, setting: StepSetting) -> Simulated {
    let steps = largest_networks(space).map(|arch| derived(&arch, space.max_resolution(), setting));
    steps.max_by_key(|simulated| simulated.peak.total()).unwrap_or_default()
}

/// The networks with the largest sizes, whose blocks have one type.
fn largest_networks(space: &SearchSpace) -> impl Iterator<Item = ArchSpec> {
    let types = space.blocks.iter().map(|block| block.types.len()).max().unwrap_or(0);
    (0..types).map(|i| {
        let blocks = space.blocks.iter().map(|block| BlockDecision {
            block_type: i.min(block.types.len() - 1),
            expansion: block.expansions() - 1,
            width: block.widths.len() - 1,
        });
        let resolution = space.resolutions.len() - 1;
        space.decide(&Decisions { resolution, blocks: blocks.collect() })
    })
}

fn larger(a: Footprint, b: Footprint) -> Footprint {
    if b.total() > a.total() { b } else { a }
}

/// The second of two steps, which starts with the weights and tiles of the first.
fn simulated(setting: StepSetting, step: impl Fn(&mut StepSimulation)) -> Simulated {
    let mut simulation = StepSimulation::new(setting);
    step(&mut simulation);
    simulation.reset_peak();
    step(&mut simulation);
    simulation.result()
}
