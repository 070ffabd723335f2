//! The supernet of DMaskingNAS: every block type of every block at its largest widths, masks for
//! what may be narrower (FBNetV2 section 3.1).

use super::Net;
use super::block::BlockGates;
use super::plan::Plan;
use crate::cost::{BlockProbabilities, Graph, Traced, propagate};
use crate::nn::{Params, Pass};
use crate::rng::Seed;
use crate::space::{
    ArchSpec, BlockChoices, BlockDecision, BlockType, Decisions, Expansion, SearchSpace,
    squeeze_width,
};
use crate::tape::{Gradients, Value};
use candle_core::{Device, Result, Tensor};

/// The gates of one block, and how much of the input its output adds.
#[derive(Clone, Debug, PartialEq)]
pub struct GateValues {
    pub types: Vec<f64>,
    pub expansions: Vec<f64>,
    pub widths: Vec<f64>,
    /// ρ, from [`crate::cost::propagate`].
    pub identity: f64,
}

/// d loss / d gate, in the shape of [`GateValues`].
pub type GateGradients = GateValues;

impl GateValues {
    /// In the shape of a block's choices.
    pub(super) fn zeros(choices: &BlockChoices) -> Self {
        Self {
            types: vec![0.0; choices.types.len()],
            expansions: vec![0.0; choices.expansions()],
            widths: vec![0.0; choices.widths.len()],
            identity: 0.0,
        }
    }
}

/// The network with all options.
#[derive(Debug)]
pub struct Supernet {
    net: Net,
    space: SearchSpace,
}

/// Gates on a tape, to ask for their gradients afterwards.
pub struct BoundGates {
    blocks: Vec<BlockGates>,
    inputs: Inputs,
}

/// How many channels reach each block, with their probabilities, as functions of the gates: the
/// hidden channels of a block without expansion.
pub(super) struct Inputs {
    graph: Graph,
    gates: Vec<BlockProbabilities<Traced>>,
    pub(super) widths: Vec<Vec<(usize, Traced)>>,
}

impl Supernet {
    /// Adds the supernet's parameters to `params`.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(space: &SearchSpace, seed: Seed, device: &Device) -> Result<(Self, Params)> {
        let mut params = Params::new(seed, device);
        let net = Net::new(&mut params, &Plan::supernet(space))?;
        Ok((Self { net, space: space.clone() }, params))
    }

    #[must_use]
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// Images `[n, h, w, c]` → logits `[n, classes]` under the given gates.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn forward(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        gates: &[GateValues],
        gradients_wanted: bool,
    ) -> Result<(Value, BoundGates)> {
        let inputs = Inputs::new(&self.space, gates);
        let mut blocks: Vec<BlockGates> = Vec::with_capacity(gates.len());
        for ((choices, values), incoming) in self.space.blocks.iter().zip(gates).zip(&inputs.widths)
        {
            blocks.push(self.bind(pass, choices, values, incoming, gradients_wanted)?);
        }
        let logits = self.net.forward_gated(pass, images, &blocks)?;
        Ok((logits, BoundGates { blocks, inputs }))
    }

    /// Masks and factors of one block. A mask exists where there is something to choose; the hidden
    /// channels of a block without expansion are its input's, as many as the blocks before let
    /// through.
    fn bind(
        &self,
        pass: &mut Pass<'_>,
        choices: &BlockChoices,
        values: &GateValues,
        incoming: &[(usize, Traced)],
        wanted: bool,
    ) -> Result<BlockGates> {
        let mut gates = BlockGates::default();
        if choices.types.len() > 1 {
            let branches: Vec<f64> =
                branch_types(choices).map(|(type_index, _)| values.types[type_index]).collect();
            if !branches.is_empty() {
                gates.branches = Some(pass.row(&branches, wanted)?);
            }
        }
        if choices.can_be_residual() {
            gates.identity = Some(pass.row(&[values.identity], wanted)?);
        }
        let (mids, shares): (Vec<usize>, Vec<f64>) = match &choices.expansion {
            Expansion::None => incoming.iter().map(|(c, p)| (*c, p.value())).unzip(),
            Expansion::Options { mids, .. } => (mids.clone(), values.expansions.clone()),
        };
        mask_hidden(pass, &mut gates, (&mids, &shares), self.space.channel_divisor, wanted)?;
        if choices.widths.len() > 1 {
            gates.width = Some(pass.row(&prefix_mask(&choices.widths, &values.widths), wanted)?);
        }
        Ok(gates)
    }
}

/// Masks the hidden channels and the squeezed ones, where there are several widths `mids` of them.
pub(super) fn mask_hidden(
    pass: &mut Pass<'_>,
    gates: &mut BlockGates,
    (mids, shares): (&[usize], &[f64]),
    divisor: usize,
    wanted: bool,
) -> Result<()> {
    if mids.len() > 1 {
        let squeezes: Vec<usize> = mids.iter().map(|m| squeeze_width(*m, divisor)).collect();
        gates.mid = Some(pass.row(&prefix_mask(mids, shares), wanted)?);
        gates.squeeze = Some(pass.row(&prefix_mask(&squeezes, shares), wanted)?);
    }
    Ok(())
}

impl Inputs {
    pub(super) fn new(space: &SearchSpace, gates: &[GateValues]) -> Self {
        let graph = Graph::default();
        let leaves = |values: &[f64]| values.iter().map(|v| graph.leaf(*v)).collect();
        let gates: Vec<_> = gates
            .iter()
            .map(|block| BlockProbabilities {
                types: leaves(&block.types),
                expansions: leaves(&block.expansions),
                widths: leaves(&block.widths),
            })
            .collect();
        let shapes = propagate(space, &gates, &graph.leaf(1.0)).blocks;
        let widths = shapes.into_iter().map(|block| block.incoming).collect();
        Self { graph, gates, widths }
    }

    /// Adds what the probabilities of the widths that reach the blocks, with the gradients
    /// `by_inputs`, owe to the types and widths before.
    pub(super) fn add_to(&self, found: &mut [GateGradients], by_inputs: &[Vec<f64>]) {
        let widths = self.widths.iter().flatten().map(|(_, p)| p);
        let weighted: Vec<_> = widths.zip(by_inputs.iter().flatten().copied()).collect();
        let derivatives = self.graph.derivatives(&weighted);
        for (block, gates) in found.iter_mut().zip(&self.gates) {
            let types = block.types.iter_mut().zip(&gates.types);
            let widths = block.widths.iter_mut().zip(&gates.widths);
            for (total, gate) in types.chain(widths) {
                *total += derivatives.to(gate);
            }
        }
    }
}

impl BoundGates {
    /// What the reverse pass found for the gates.
    ///
    /// # Errors
    /// When a gradient cannot be read from the device.
    pub fn gradients(
        &self,
        space: &SearchSpace,
        gradients: &mut Gradients,
    ) -> Result<Vec<GateGradients>> {
        let mut found = Vec::with_capacity(self.blocks.len());
        let mut by_inputs = Vec::new();
        for ((choices, gates), incoming) in
            space.blocks.iter().zip(&self.blocks).zip(&self.inputs.widths)
        {
            let (block, by_input) = block_gradients(space, choices, gates, incoming, gradients)?;
            by_inputs.push(by_input);
            found.push(block);
        }
        self.inputs.add_to(&mut found, &by_inputs);
        Ok(found)
    }
}

/// The gradients of a block's own gates, and of the probabilities of its inputs' widths.
fn block_gradients(
    space: &SearchSpace,
    choices: &BlockChoices,
    gates: &BlockGates,
    incoming: &[(usize, Traced)],
    gradients: &mut Gradients,
) -> Result<(GateGradients, Vec<f64>)> {
    let mut found = GateGradients::zeros(choices);
    let mut by_input = vec![0.0; incoming.len()];
    if let Some(branches) = row(gates.branches.as_ref(), gradients)? {
        for ((type_index, _), gradient) in branch_types(choices).zip(branches) {
            found.types[type_index] = f64::from(gradient);
        }
    }
    if let Some(identity) = row(gates.identity.as_ref(), gradients)? {
        found.identity = f64::from(identity[0]);
    }
    if let Some(mask) = row(gates.width.as_ref(), gradients)? {
        add_prefix_sums(&mut found.widths, &choices.widths, &mask);
    }
    let (by_mid, mids) = match &choices.expansion {
        Expansion::None => (&mut by_input, incoming.iter().map(|(c, _)| *c).collect()),
        Expansion::Options { mids, .. } => (&mut found.expansions, mids.clone()),
    };
    add_hidden(by_mid, gates, &mids, space.channel_divisor, gradients)?;
    Ok((found, by_input))
}

/// d g_i of the hidden widths `mids`, through both masks of [`mask_hidden`].
pub(super) fn add_hidden(
    by_mid: &mut [f64],
    gates: &BlockGates,
    mids: &[usize],
    divisor: usize,
    gradients: &mut Gradients,
) -> Result<()> {
    if let Some(mask) = row(gates.mid.as_ref(), gradients)? {
        add_prefix_sums(by_mid, mids, &mask);
    }
    if let Some(mask) = row(gates.squeeze.as_ref(), gradients)? {
        let squeezes: Vec<usize> = mids.iter().map(|m| squeeze_width(*m, divisor)).collect();
        add_prefix_sums(by_mid, &squeezes, &mask);
    }
    Ok(())
}

/// The gradient of a row of gates, where there is one.
pub(super) fn row(value: Option<&Value>, gradients: &mut Gradients) -> Result<Option<Vec<f32>>> {
    let gradient = value.and_then(|v| gradients.take(v));
    gradient.map(|gradient| gradient.to_vec1()).transpose()
}

/// The types of a block that have layers, with their positions among its types.
pub(super) fn branch_types(choices: &BlockChoices) -> impl Iterator<Item = (usize, BlockType)> {
    let keeps = !choices.skip_needs_projection();
    let types = choices.types.iter().copied().enumerate();
    types.filter(move |(_, t)| !(keeps && *t == BlockType::Skip))
}

/// M = Σ_i g_i 1_i: entry c is the sum of the gates of all options wider than c.
pub(super) fn prefix_mask(options: &[usize], gates: &[f64]) -> Vec<f64> {
    let widest = options.iter().copied().max().unwrap_or(0);
    (0..widest)
        .map(|c| options.iter().zip(gates).filter(|(w, _)| **w > c).map(|(_, g)| g).sum())
        .collect()
}

/// d g_i += Σ_{c < w_i} d M_c.
pub(super) fn add_prefix_sums(gates: &mut [f64], options: &[usize], mask: &[f32]) {
    for (gate, option) in gates.iter_mut().zip(options) {
        *gate += mask[..*option].iter().map(|d| f64::from(*d)).sum::<f64>();
    }
}

/// Weights for the derived network `arch`, cut out of the supernet's: of every tensor the first
/// channels. The result has the derived network's names.
///
/// # Errors
/// When `arch` was not derived from `space` by `decisions`.
pub fn inherited(
    space: &SearchSpace,
    decisions: &Decisions,
    arch: &ArchSpec,
    params: &Params,
) -> Result<Vec<(String, Tensor)>> {
    let (_, target) = Net::of_arch(arch, Seed(0), params.device())?;
    let sources: Vec<(&str, &Tensor)> = params.named().collect();
    let mut found = Vec::new();
    for (name, like) in target.named() {
        let from = source_name(space, &decisions.blocks, name);
        let Some((_, tensor)) = sources.iter().find(|(n, _)| *n == from) else {
            candle_core::bail!("the supernet has no {from:?} for {name:?}")
        };
        let mut cut = (*tensor).clone();
        for (axis, size) in like.dims().iter().enumerate() {
            cut = cut.narrow(axis, 0, *size)?;
        }
        found.push((name.to_owned(), cut.contiguous()?));
    }
    Ok(found)
}

/// The supernet's name of a derived network's tensor: the branch is called by its type.
pub(super) fn source_name(space: &SearchSpace, decisions: &[BlockDecision], name: &str) -> String {
    for (choices, decision) in space.blocks.iter().zip(decisions) {
        for branch in ["mbconv", "skip"] {
            let prefix = format!("blocks.{}.{branch}.", choices.label());
            if let Some(rest) = name.strip_prefix(&prefix) {
                let chosen = choices.types[decision.block_type];
                return format!("blocks.{}.{chosen}.{rest}", choices.label());
            }
        }
    }
    name.to_owned()
}
