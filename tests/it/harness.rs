//! Runs blocks and networks on the tape and returns plain numbers.

use crate::invariants::cut;
use crate::numbers::{row, scramble, tensor, values};
use crate::reference::{BlockGates, Map, Weights};
use candle_core::{Device, Tensor};
use repro::net::{self, Block, Network};
use repro::nn::{Params, Pass};
use repro::rng::Seed;
use repro::space::{
    Activation, BlockPlan, Branch, Decisions, NetworkPlan, SearchSpace, SqueezeFunctions,
};
use repro::tape::Value;
use std::collections::BTreeMap;

/// The output of a block and all gradients, for one input and one output gradient.
pub struct BlockRun {
    pub y: Vec<f64>,
    pub dx: Vec<f64>,
    pub weights: Weights,
    /// The gradients of the gates, in their shape.
    pub gates: BlockGates,
    pub after: Weights,
}

/// Parameters of a block, changed from their initial values.
pub fn block_params(plan: &BlockPlan, label: &str) -> Params {
    let mut params = Params::new(Seed(3), &Device::Cpu);
    Block::new(&mut params, plan).unwrap();
    scramble(&mut params, label);
    params
}

pub fn params_with(plan: &BlockPlan, weights: &BTreeMap<String, Tensor>) -> Params {
    let mut params = block_params(plan, "replaced");
    for (name, tensor) in weights {
        params.set(name, tensor).unwrap();
    }
    params
}

/// Runs the block in training mode.
pub fn run_block(
    plan: &BlockPlan,
    params: &Params,
    x: &Map,
    gates: &BlockGates,
    dy: &[f64],
) -> BlockRun {
    let mut own = Params::new(Seed(0), &Device::Cpu);
    let block = Block::new(&mut own, plan).unwrap();
    let names: Vec<String> = params.named().map(|(name, _)| name.to_owned()).collect();
    for (name, tensor) in params.named() {
        own.set(name, tensor).unwrap();
    }
    let mut pass = Pass::training(&mut own);
    let input = pass.tape.watch(&x.tensor());
    let mut monitor =
        |values: &Option<Vec<f64>>| values.as_ref().map(|values| pass.tape.watch(&row(values)));
    let bound = net::BlockGates {
        kept: None,
        branches: monitor(&gates.branches),
        identity: monitor(&gates.identity.map(|rho| vec![rho])),
        mid: monitor(&gates.mid),
        squeeze: monitor(&gates.squeeze),
        width: monitor(&gates.width),
        inner: monitor(&gates.inner),
        filters: net::FilterMasks {
            depthwise: monitor(&gates.mid_before_norm),
            project: monitor(&gates.width_before_norm),
        },
    };
    let y = block.forward(&mut pass, &input, &bound).unwrap();
    let dys = tensor(dy, y.tensor().dims());
    let (gradients, mut others) = pass.backward(&y, dys).unwrap();
    let weights = names.iter().zip(&gradients);
    let weights = weights.filter_map(|(n, g)| Some((n.clone(), values(g.as_ref()?)))).collect();
    let mut take = |value: &Option<Value>| {
        value.as_ref().and_then(|value| others.take(value)).map(|g| values(&g))
    };
    BlockRun {
        dx: take(&Some(input)).unwrap_or_else(|| vec![0.0; x.data.len()]),
        gates: BlockGates {
            branches: take(&bound.branches),
            identity: take(&bound.identity).map(|rho| rho[0]),
            mid: take(&bound.mid),
            squeeze: take(&bound.squeeze),
            width: take(&bound.width),
            inner: take(&bound.inner),
            mid_before_norm: take(&bound.filters.depthwise),
            width_before_norm: take(&bound.filters.project),
        },
        y: values(y.tensor()),
        weights,
        after: crate::numbers::weights(&own),
    }
}

/// Names and gradients of the parameters that have a gradient.
pub fn named_gradients(params: &Params, gradients: &[Option<Tensor>]) -> Vec<(String, Tensor)> {
    let all = params.named().zip(gradients);
    all.filter_map(|((name, _), g)| Some((name.to_owned(), g.clone()?))).collect()
}

/// A network with parameters changed from their initial values.
pub fn scrambled_net(plan: &NetworkPlan, label: &str) -> (Network, Params) {
    let mut params = Params::new(Seed(5), &Device::Cpu);
    let net = Network::new(&mut params, plan).unwrap();
    scramble(&mut params, label);
    (net, params)
}

/// The network that `made` derives from a supernet. Its tensors, with the running statistics, are the
/// first channels of the supernet's.
pub fn derived(space: &SearchSpace, made: &Decisions, supernet: &Params) -> (Network, Params) {
    let (net, mut own) = Network::of_arch(&space.decide(made), Seed(0), &Device::Cpu).unwrap();
    let tensors: Vec<(String, Vec<usize>)> =
        own.named().map(|(name, tensor)| (name.to_owned(), tensor.dims().to_vec())).collect();
    for (name, dims) in tensors {
        let source = supernet_name(space, made, &name);
        let (_, whole) = supernet.named().find(|(name, _)| *name == source).unwrap();
        own.set(&name, &cut(whole, &dims)).unwrap();
    }
    (net, own)
}

/// The name in the supernet, which names a branch after its type.
fn supernet_name(space: &SearchSpace, made: &Decisions, name: &str) -> String {
    for (choices, decision) in space.blocks.iter().zip(&made.blocks) {
        let block = format!("blocks.{}", choices.label());
        let Some(rest) = name.strip_prefix(&format!("{block}.")) else { continue };
        let (_, part) = rest.split_once('.').unwrap();
        return format!("{block}.{}.{part}", choices.types[decision.block_type]);
    }
    name.to_owned()
}

/// An inverted residual for a block plan.
pub fn mbconv(
    kernel: usize,
    activation: Activation,
    mid: usize,
    expand: bool,
    squeeze: Option<usize>,
) -> Branch {
    let (groups, functions) = (1, SqueezeFunctions::default());
    Branch::MbConv { kernel, activation, mid, expand, squeeze, groups, functions }
}

pub fn block_plan(
    (stride, input, width): (usize, usize, usize),
    branches: &[Branch],
    identity: bool,
) -> BlockPlan {
    let named = branches.iter().enumerate().map(|(t, b)| (format!("branch{t}"), b.clone()));
    BlockPlan { label: "2.1".to_owned(), stride, input, width, branches: named.collect(), identity }
}
