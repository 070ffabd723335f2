//! The masked supernet of DMaskingNAS (FBNetV2 section 3.1): every block type of every block at the
//! largest widths, with masks for the narrower options.

use super::block::BlockGates;
use super::gates::{
    GateGradients, GateValues, InputWidths, NetGates, add_hidden, add_prefix_sums, mask_hidden,
    prefix_mask, taken,
};
use super::resolution::ResolutionPath;
use super::{GatedNetwork, Network};
use crate::cost::{self, Cost, Traced, hidden_widths};
use crate::nn::{Params, Pass, Rows};
use crate::recipe::MaskPlace;
use crate::rng::Seed;
use crate::space::{
    BlockChoices, BlockType, Expansion, ExpansionOf, NetworkPlan, SearchSpace, branch_types,
};
use crate::tape::{LeafGradients, Value};
use candle_core::{Device, Result, Tensor};
use std::rc::Rc;

/// The supernet with one set of weights for all options.
#[derive(Debug)]
pub struct Supernet {
    net: Network,
    space: SearchSpace,
    masks: MaskPlace,
}

/// The gates on the tape of one pass.
pub struct SupernetTapeGates {
    /// One per resolution, the largest first.
    paths: Vec<Rc<ResolutionPath>>,
    values: NetGates,
    inputs: InputWidths,
}

impl Supernet {
    /// A supernet with initial weights.
    ///
    /// # Errors
    /// When the device runs out of memory.
    pub fn new(space: &SearchSpace, seed: Seed, device: &Device) -> Result<(Self, Params)> {
        let mut params = Params::new(seed, device);
        let net = Network::new(&mut params, &NetworkPlan::supernet(space))?;
        let masks = MaskPlace::default();
        Ok((Self { net, space: space.clone(), masks }, params))
    }

    /// The same supernet with the masks of widths and hidden channels in another place.
    #[must_use]
    pub fn masked(self, masks: MaskPlace) -> Self {
        Self { masks, ..self }
    }

    /// One path per resolution, the largest first. They share `blocks` and differ in the mask at the end
    /// of each stage, which is multiplied by the gate of the resolution.
    fn paths(
        &self,
        rows: &mut Rows,
        blocks: &[BlockGates],
        gates: &NetGates,
    ) -> Vec<Rc<ResolutionPath>> {
        let several = self.space.resolutions.len() > 1;
        let resolutions = self.space.resolutions.iter().zip(&gates.resolutions).rev();
        let path = |(i, (side, gate)): (usize, (&usize, &f64))| {
            let mut own = Vec::with_capacity(blocks.len());
            for ((block, choices), values) in
                blocks.iter().zip(&self.space.blocks).zip(&gates.blocks)
            {
                let mut block = block.clone();
                let mask = end_mask(self.masks, choices, values);
                if several {
                    let mask = mask.unwrap_or_else(|| vec![1.0; choices.width_max()]);
                    let row: Vec<f64> = mask.iter().map(|entry| entry * gate).collect();
                    block.width = Some(rows.row(&row));
                } else if let Some(mask) = mask {
                    block.width = Some(rows.row(&mask));
                }
                own.push(block);
            }
            if !several {
                return Rc::new(ResolutionPath::only(own));
            }
            let mut row = |width: usize| Some(rows.row(&vec![*gate; width]));
            let (stem, head) = (row(self.space.stem.width), row(self.space.head.width));
            let side = (i > 0).then_some(*side);
            Rc::new(ResolutionPath { side, share: *gate, stem, head, blocks: own })
        };
        resolutions.enumerate().map(path).collect()
    }

    /// Masks and factors of one block, without the mask at its end. A mask exists where there is a
    /// choice. The hidden channels of a block without expansion are its input channels, whose number
    /// depends on the earlier blocks. Where expansions count from the block's own input, the mask of the
    /// hidden channels is Σ_e Σ_w g_e p_w 1_{mid(e, w)}, with the probabilities p_w of the input widths.
    fn bind(
        &self,
        rows: &mut Rows,
        choices: &BlockChoices,
        values: &GateValues,
        incoming: &[(usize, Traced)],
    ) -> BlockGates {
        let incoming: Vec<(usize, f64)> = incoming.iter().map(|(c, p)| (*c, p.value())).collect();
        let hidden = hidden_widths(&self.space, choices, &values.expansions, &incoming);
        let (mids, shares): (Vec<usize>, Vec<f64>) = hidden.into_iter().unzip();
        let divisor = self.space.channel_divisor;
        let mut gates = mask_hidden(rows, (&mids, &shares), divisor, self.masks);
        if choices.types.len() > 1 {
            let branches: Vec<f64> =
                branch_types(choices).map(|(type_index, _)| values.types[type_index]).collect();
            if !branches.is_empty() {
                gates.branches = Some(rows.row(&branches));
            }
        }
        if choices.adds_input() {
            gates.identity = Some(rows.row(&[values.identity]));
        }
        if choices.widths.len() > 1 {
            let mut mask = || Some(rows.row(&prefix_mask(&choices.widths, &values.widths)));
            match self.masks {
                MaskPlace::BeforeNorm => gates.filters.project = mask(),
                MaskPlace::AfterNorm if choices.types.contains(&BlockType::Residual) => {
                    gates.inner = mask();
                }
                MaskPlace::AfterNorm => {}
            }
        }
        gates
    }
}

/// The mask at the end of a block, without the gate of the resolution; `None` where there is no choice.
fn end_mask(masks: MaskPlace, choices: &BlockChoices, values: &GateValues) -> Option<Vec<f64>> {
    (masks == MaskPlace::AfterNorm && choices.widths.len() > 1)
        .then(|| prefix_mask(&choices.widths, &values.widths))
}

impl SupernetTapeGates {
    /// The gradient of the mask at the end of a stage. The tape has a row g_r · mask per path; the
    /// gradients of the gates g_r are added to `by_resolutions`, in the order of the paths.
    fn end_gradients(
        &self,
        mask: &[f64],
        rows: impl Iterator<Item = Option<Value>>,
        by_resolutions: &mut [f64],
        gradients: &mut LeafGradients,
    ) -> Result<Vec<f64>> {
        let mut by_mask = vec![0.0; mask.len()];
        for ((row, by_gate), path) in rows.zip(by_resolutions).zip(&self.paths) {
            let Some(by_row) = taken(row.as_ref(), gradients)? else { continue };
            for ((total, d), mask) in by_mask.iter_mut().zip(by_row).zip(mask) {
                *total += path.share * d;
                *by_gate += mask * d;
            }
        }
        Ok(by_mask)
    }
}

impl GatedNetwork for Supernet {
    type TapeGates = SupernetTapeGates;

    fn space(&self) -> &SearchSpace {
        &self.space
    }

    fn cost(&self) -> Cost<u64> {
        cost::supernet(&self.space)
    }

    fn forward(
        &self,
        pass: &mut Pass<'_>,
        images: &Tensor,
        gates: &NetGates,
        gradients_wanted: bool,
    ) -> Result<(Value, SupernetTapeGates)> {
        let inputs = InputWidths::new(&self.space, gates);
        let paths = pass.rows(gradients_wanted, |rows| {
            let choices = self.space.blocks.iter().zip(&gates.blocks).zip(&inputs.widths);
            let blocks: Vec<BlockGates> = choices
                .map(|((choices, values), incoming)| self.bind(rows, choices, values, incoming))
                .collect();
            self.paths(rows, &blocks, gates)
        })?;
        let logits = self.net.forward_gated(pass, images, &paths)?;
        Ok((logits, SupernetTapeGates { paths, values: gates.clone(), inputs }))
    }

    fn gate_gradients(
        &self,
        bound: &SupernetTapeGates,
        gradients: &mut LeafGradients,
    ) -> Result<NetGates> {
        let space = &self.space;
        let mut by_resolutions = vec![0.0; bound.paths.len()];
        let mut blocks = Vec::with_capacity(space.blocks.len());
        let mut by_inputs = Vec::new();
        let inputs = space.blocks.iter().zip(&bound.inputs.widths);
        for (i, (choices, incoming)) in inputs.enumerate() {
            let shared = bound.paths[0].block(i);
            let (mut block, by_input) = block_gradients(
                space,
                choices,
                (&shared, &bound.values.blocks[i]),
                incoming,
                gradients,
            )?;
            let mask = end_mask(self.masks, choices, &bound.values.blocks[i]);
            let chosen = mask.is_some();
            let mask = mask.unwrap_or_else(|| vec![1.0; choices.width_max()]);
            let ends = bound.paths.iter().map(|path| path.block(i).width);
            let by_mask = bound.end_gradients(&mask, ends, &mut by_resolutions, gradients)?;
            if chosen {
                add_prefix_sums(&mut block.widths, &choices.widths, &by_mask);
            }
            by_inputs.push(by_input);
            blocks.push(block);
        }
        let (stem, head) = (vec![1.0; space.stem.width], vec![1.0; space.head.width]);
        let stems = bound.paths.iter().map(|path| path.stem.clone());
        bound.end_gradients(&stem, stems, &mut by_resolutions, gradients)?;
        let heads = bound.paths.iter().map(|path| path.head.clone());
        bound.end_gradients(&head, heads, &mut by_resolutions, gradients)?;
        // The input width of a block depends on the types and widths of earlier blocks.
        bound.inputs.add_to(&mut blocks, &by_inputs);
        if bound.paths.len() == 1 {
            // The only resolution has no gate.
            by_resolutions.fill(0.0);
        }
        by_resolutions.reverse();
        Ok(NetGates { resolutions: by_resolutions, blocks })
    }
}

/// The gradients of the gates of a block, and of the probabilities of its input widths, without those
/// through the mask at the end of the block.
fn block_gradients(
    space: &SearchSpace,
    choices: &BlockChoices,
    (gates, values): (&BlockGates, &GateValues),
    incoming: &[(usize, Traced)],
    gradients: &mut LeafGradients,
) -> Result<(GateGradients, Vec<f64>)> {
    let mut found = GateGradients::zeros(choices);
    if let Some(branches) = taken(gates.branches.as_ref(), gradients)? {
        for ((type_index, _), gradient) in branch_types(choices).zip(branches) {
            found.types[type_index] = gradient;
        }
    }
    if let Some(identity) = taken(gates.identity.as_ref(), gradients)? {
        found.identity = identity[0];
    }
    for place in [&gates.inner, &gates.filters.project] {
        if let Some(mask) = taken(place.as_ref(), gradients)? {
            add_prefix_sums(&mut found.widths, &choices.widths, &mask);
        }
    }
    let arriving: Vec<(usize, f64)> = incoming.iter().map(|(c, p)| (*c, p.value())).collect();
    let hidden = hidden_widths(space, choices, &values.expansions, &arriving);
    let mids: Vec<usize> = hidden.into_iter().map(|(mid, _)| mid).collect();
    let mut by_mid = vec![0.0; mids.len()];
    add_hidden(&mut by_mid, gates, &mids, space.channel_divisor, gradients)?;
    let mut by_input = vec![0.0; incoming.len()];
    match &choices.expansion {
        Expansion::None => by_input = by_mid,
        Expansion::Options { of: ExpansionOf::LargestInput, .. } => found.expansions = by_mid,
        // The probability of a hidden width is the product g_e p_w.
        Expansion::Options { of: ExpansionOf::Input, .. } => {
            for (e, of_expansion) in by_mid.chunks(arriving.len()).enumerate() {
                for (w, d) in of_expansion.iter().enumerate() {
                    found.expansions[e] += d * arriving[w].1;
                    by_input[w] += d * values.expansions[e];
                }
            }
        }
    }
    Ok((found, by_input))
}
