//! The explicit supernet: every option of every block is a block with its own weights, and all of them
//! run (DARTS, Liu et al. 2019; FBNet, Wu et al. 2019). FBNetV2 (section 3.1) compares masking with it.
//!
//! An option of a block is a block type with an expansion and a width:
//!
//! y = Σ_t Σ_e Σ_w g_t g_e g_w pad(b_tew(x)) + ρ x ∘ Σ_w g_w 1_w
//!
//! Each b_tew has w output channels and m_e hidden channels, in its batch norms as well; pad adds zero
//! channels up to the largest width of the block. Three things are as in the masked supernet, because
//! they are not options of one block. A skip that needs a projection has no expansion, so there is one
//! per width. The input itself has no weights, so it is added once, with ρ and the mask of the widths.
//! The hidden channels of a block without expansion are its input channels, under their mask.
//!
//! Each input resolution has its own network and weights, on subsampled images. The pooled features are
//! weighted by the gates of the resolutions and summed before the one classifier. The networks share
//! the gates of their blocks.
//!
//! With one-hot gates it equals the derived network. Otherwise the sum of options equals a mask over
//! shared weights up to the next batch norm, because each option has its own batch norm.
//!
//! The tape keeps for each option what it keeps for a branch of the masked supernet: the output of the
//! depthwise convolution and that of the projection. Padded copies are not kept.

use super::GatedNetwork;
use super::block::{Block, BlockGates};
use super::ends::{Classifier, HeadLayers, Stem};
use super::gates::{
    GateGradients, GateValues, InputWidths, NetGates, add_hidden, add_prefix_sums, mask_hidden,
    prefix_mask, taken,
};
use super::resolution::subsampled;
use crate::cost::{self, Cost, Traced};
use crate::nn::{Params, Pass, Rows};
use crate::recipe::MaskPlace;
use crate::rng::Seed;
use crate::space::{
    BlockChoices, Expansion, NetworkPlan, OptionPath, SearchSpace, option_paths, option_plans,
};
use crate::tape::{LeafGradients, Value};
use candle_core::{Device, Result, Tensor, bail};
use std::rc::Rc;

/// The supernet with a block for every option.
#[derive(Debug)]
pub struct ExplicitSupernet {
    /// One per resolution, the largest first.
    networks: Vec<ResolutionNetwork>,
    classifier: Classifier,
    space: SearchSpace,
}

/// The network of one resolution, up to the pooling.
#[derive(Debug)]
struct ResolutionNetwork {
    side: usize,
    stem: Stem,
    blocks: Vec<Rc<OptionBlocks>>,
    head: HeadLayers,
}

/// One block of the supernet: a block per width, whose padded outputs are summed.
#[derive(Debug)]
struct OptionBlocks {
    /// In the order of [`option_plans`].
    parts: Vec<Block>,
    width: usize,
}

/// The gates on the tape of one pass, for each part of each block.
pub struct ExplicitTapeGates {
    blocks: Vec<Vec<BlockGates>>,
    /// One per resolution, the largest first: its gate for every pooled channel. `None` where there is
    /// one resolution.
    heads: Vec<Option<Value>>,
    values: Vec<GateValues>,
    inputs: InputWidths,
}

/// g_t g_e
fn product(path: &OptionPath, gates: &GateValues) -> f64 {
    gates.types[path.block_type] * path.expansion.map_or(1.0, |e| gates.expansions[e])
}

impl OptionBlocks {
    fn new(params: &mut Params, space: &SearchSpace, choices: &BlockChoices) -> Result<Self> {
        let plans = option_plans(space, choices);
        let parts = plans.iter().map(|plan| Block::new(params, plan)).collect::<Result<_>>()?;
        Ok(Self { parts, width: choices.width_max() })
    }

    /// x `[n, h, w, c_in]` → `[n, ⌈h/s⌉, ⌈w/s⌉, width]`.
    fn forward(&self, pass: &mut Pass<'_>, x: &Value, gates: &[BlockGates]) -> Result<Value> {
        let mut gram = None;
        let parts = self.parts.iter().zip(gates);
        let parts = parts.map(|(part, gates)| part.forward_beside(pass, x, &mut gram, gates));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        pass.tape.sum_padded(&parts, self.width)
    }
}

impl ResolutionNetwork {
    fn new(
        params: &mut Params,
        space: &SearchSpace,
        side: usize,
        head: impl FnOnce(&mut Params) -> Result<HeadLayers>,
    ) -> Result<Self> {
        let stem = Stem::new(params, &NetworkPlan::supernet(space))?;
        let blocks = space.blocks.iter();
        let blocks = blocks.map(|choices| OptionBlocks::new(params, space, choices).map(Rc::new));
        let blocks = blocks.collect::<Result<_>>()?;
        Ok(Self { side, stem, blocks, head: head(params)? })
    }

    /// Images of the largest resolution → features `[n, mid]`, multiplied by `gate` `[mid]`.
    fn forward(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        gates: &[Vec<BlockGates>],
        gate: Option<Value>,
    ) -> Result<Value> {
        let images = Value::constant(subsampled(images, self.side)?);
        let mut x = self.stem.forward(pass, &images, None)?;
        for (block, gates) in self.blocks.iter().zip(gates) {
            let (block, gates) = (block.clone(), gates.clone());
            x = pass.block(move |pass| block.forward(pass, &x, &gates))?;
        }
        self.head.forward(pass, &x, gate)
    }
}

impl ExplicitSupernet {
    /// A supernet with initial weights.
    ///
    /// # Errors
    /// When expansions of the space count from a block's own input, or the device runs out of memory.
    pub fn new(space: &SearchSpace, seed: Seed, device: &Device) -> Result<(Self, Params)> {
        if space.expands_own_input() {
            bail!("an explicit supernet needs hidden widths that do not depend on input widths");
        }
        let mut params = Params::new(seed, device);
        let plan = NetworkPlan::supernet(space);
        let mut classifier = None;
        let whole = ResolutionNetwork::new(&mut params, space, space.max_resolution(), |params| {
            let (head, after) = HeadLayers::new(params, &plan)?;
            classifier = Some(after);
            Ok(head)
        })?;
        let Some(classifier) = classifier else { bail!("a network needs a classifier") };
        let mut networks = vec![whole];
        for &side in space.resolutions.iter().rev().skip(1) {
            params.set_name_prefix(&format!("at_{side}."));
            let head = |params: &mut Params| HeadLayers::alone(params, &plan);
            networks.push(ResolutionNetwork::new(&mut params, space, side, head)?);
        }
        params.set_name_prefix("");
        Ok((Self { networks, classifier, space: space.clone() }, params))
    }

    /// The gates of the pooled features of each resolution.
    fn bind_heads(&self, rows: &mut Rows, resolutions: &[f64]) -> Vec<Option<Value>> {
        if self.networks.len() == 1 {
            return vec![None];
        }
        let gates = resolutions.iter().rev();
        let width = self.space.head.width;
        gates.map(|gate| Some(rows.row(&vec![*gate; width]))).collect()
    }

    /// The gates of the parts of one block.
    fn bind(
        &self,
        rows: &mut Rows,
        choices: &BlockChoices,
        values: &GateValues,
        incoming: &[(usize, Traced)],
    ) -> Vec<BlockGates> {
        let hidden = match &choices.expansion {
            Expansion::None => {
                let (mids, shares): (Vec<_>, Vec<_>) =
                    incoming.iter().map(|(c, p)| (*c, p.value())).unzip();
                let (divisor, place) = (self.space.channel_divisor, MaskPlace::default());
                mask_hidden(rows, (&mids, &shares), divisor, place)
            }
            Expansion::Options { .. } => BlockGates::default(),
        };
        let paths = option_paths(choices);
        let mut parts = Vec::new();
        for width in values.widths.iter().filter(|_| !paths.is_empty()) {
            let products: Vec<f64> =
                paths.iter().map(|path| product(path, values) * width).collect();
            let branches = Some(rows.row(&products));
            parts.push(BlockGates { branches, ..hidden.clone() });
        }
        if choices.adds_input() {
            let mask = prefix_mask(&choices.widths, &values.widths);
            parts.push(BlockGates {
                identity: Some(rows.row(&[values.identity])),
                width: Some(rows.row(&mask)),
                ..BlockGates::default()
            });
        }
        parts
    }

    /// The gradients of the gates of a block, and of the probabilities of its input widths.
    fn block_gradients(
        &self,
        choices: &BlockChoices,
        (parts, values): (&[BlockGates], &GateValues),
        incoming: &[(usize, Traced)],
        gradients: &mut LeafGradients,
    ) -> Result<(GateGradients, Vec<f64>)> {
        let mut found = GateGradients::zeros(choices);
        let mut by_input = vec![0.0; incoming.len()];
        let paths = option_paths(choices);
        for (w, part) in parts.iter().enumerate() {
            for (path, by_product) in
                paths.iter().zip(taken(part.branches.as_ref(), gradients)?.unwrap_or_default())
            {
                add_product(&mut found, values, (*path, w), by_product);
            }
            if let Some(identity) = taken(part.identity.as_ref(), gradients)? {
                found.identity = identity[0];
            }
            if let Some(mask) = taken(part.width.as_ref(), gradients)? {
                add_prefix_sums(&mut found.widths, &choices.widths, &mask);
            }
        }
        // All parts share the masks of the hidden channels.
        if let Some(part) = parts.first() {
            let mids: Vec<usize> = incoming.iter().map(|(c, _)| *c).collect();
            add_hidden(&mut by_input, part, &mids, self.space.channel_divisor, gradients)?;
        }
        Ok((found, by_input))
    }
}

/// Adds d g_t, d g_e and d g_w from the gradient of the product g_t g_e g_w.
fn add_product(
    found: &mut GateGradients,
    values: &GateValues,
    (path, width): (OptionPath, usize),
    by_product: f64,
) {
    let OptionPath { block_type, expansion } = path;
    let (g_t, g_w) = (values.types[block_type], values.widths[width]);
    let g_e = expansion.map_or(1.0, |e| values.expansions[e]);
    found.types[block_type] += by_product * g_e * g_w;
    found.widths[width] += by_product * g_t * g_e;
    if let Some(e) = expansion {
        found.expansions[e] += by_product * g_t * g_w;
    }
}

impl GatedNetwork for ExplicitSupernet {
    type TapeGates = ExplicitTapeGates;

    fn space(&self) -> &SearchSpace {
        &self.space
    }

    fn cost(&self) -> Cost<u64> {
        cost::explicit_supernet(&self.space)
    }

    fn forward(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        gates: &NetGates,
        gradients_wanted: bool,
    ) -> Result<(Value, ExplicitTapeGates)> {
        let inputs = InputWidths::new(&self.space, gates);
        let (bound, heads) = pass.rows(gradients_wanted, |rows| {
            let choices = self.space.blocks.iter().zip(&gates.blocks).zip(&inputs.widths);
            let bound: Vec<_> = choices
                .map(|((choices, values), incoming)| self.bind(rows, choices, values, incoming))
                .collect();
            let heads = self.bind_heads(rows, &gates.resolutions);
            (bound, heads)
        })?;
        let mut features: Option<Value> = None;
        for (network, gate) in self.networks.iter().zip(&heads) {
            let more = network.forward(pass, images, &bound, gate.clone())?;
            features = Some(match features {
                None => more,
                Some(sum) => pass.tape.add(&sum, &more)?,
            });
        }
        let Some(features) = features else { bail!("a supernet needs a resolution") };
        let logits = self.classifier.forward(pass, features, None)?;
        let values = gates.blocks.clone();
        Ok((logits, ExplicitTapeGates { blocks: bound, heads, values, inputs }))
    }

    fn gate_gradients(
        &self,
        bound: &ExplicitTapeGates,
        gradients: &mut LeafGradients,
    ) -> Result<NetGates> {
        let gates = bound.blocks.iter().zip(&bound.values).zip(&bound.inputs.widths);
        let (mut found, mut by_inputs) = (Vec::new(), Vec::new());
        for (choices, ((parts, values), incoming)) in self.space.blocks.iter().zip(gates) {
            let parts = (&parts[..], values);
            let (block, by_input) = self.block_gradients(choices, parts, incoming, gradients)?;
            found.push(block);
            by_inputs.push(by_input);
        }
        bound.inputs.add_to(&mut found, &by_inputs);
        let mut resolutions = Vec::new();
        for gate in bound.heads.iter().rev() {
            let by_channel = taken(gate.as_ref(), gradients)?.unwrap_or_default();
            resolutions.push(by_channel.iter().sum());
        }
        Ok(NetGates { resolutions, blocks: found })
    }
}
