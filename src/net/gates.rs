//! Gates as numbers, the masks that they become on the tape (FBNetV2 section 3.1), and the gradients of
//! gates from those of masks. Both supernets use this.

use super::block::BlockGates;
use crate::cost::{BlockProbabilities, Graph, Probabilities, Traced, propagate};
use crate::nn::Rows;
use crate::recipe::MaskPlace;
use crate::space::{BlockChoices, SearchSpace, squeeze_width};
use crate::tape::{LeafGradients, Value};
use candle_core::Result;

/// The gates of a supernet, or their gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct NetGates {
    /// In the order of the space.
    pub resolutions: Vec<f64>,
    pub blocks: Vec<GateValues>,
}

/// The gates of one block, and its ρ.
#[derive(Clone, Debug, PartialEq)]
pub struct GateValues {
    pub types: Vec<f64>,
    pub expansions: Vec<f64>,
    pub widths: Vec<f64>,
    /// ρ, the factor of the input, from [`crate::cost::propagate`]; 1 by
    /// [`ResidualRule::Full`](crate::recipe::ResidualRule::Full).
    pub identity: f64,
}

/// d loss / d gate, in the shape of [`GateValues`].
pub type GateGradients = GateValues;

impl GateValues {
    /// Zeros in the shape of the choices of a block.
    pub(super) fn zeros(choices: &BlockChoices) -> Self {
        Self {
            types: vec![0.0; choices.types.len()],
            expansions: vec![0.0; choices.expansions()],
            widths: vec![0.0; choices.widths.len()],
            identity: 0.0,
        }
    }
}

/// The possible input widths of each block, with their probabilities as functions of the gates. They are
/// the hidden widths of a block without expansion.
pub(super) struct InputWidths {
    graph: Graph,
    gates: Vec<BlockProbabilities<Traced>>,
    pub(super) widths: Vec<Vec<(usize, Traced)>>,
}

impl InputWidths {
    pub(super) fn new(space: &SearchSpace, gates: &NetGates) -> Self {
        let graph = Graph::default();
        let leaves = |values: &[f64]| values.iter().map(|v| graph.leaf(*v)).collect();
        let blocks = gates.blocks.iter().map(|block| BlockProbabilities {
            types: leaves(&block.types),
            expansions: leaves(&block.expansions),
            widths: leaves(&block.widths),
        });
        let (blocks, resolutions) = (blocks.collect(), leaves(&gates.resolutions));
        let gates = Probabilities { resolutions, blocks };
        let shapes = propagate(space, &gates, &graph.leaf(1.0)).blocks;
        let widths = shapes.into_iter().map(|block| block.incoming).collect();
        Self { graph, gates: gates.blocks, widths }
    }

    /// Backpropagates the gradients `by_inputs` of the input widths' probabilities to the gates of the
    /// types and widths of earlier blocks.
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

/// The masks of the hidden and the squeezed channels, where there are several hidden widths `mids`. All
/// other gates of the result are absent.
pub(super) fn mask_hidden(
    rows: &mut Rows,
    (mids, shares): (&[usize], &[f64]),
    divisor: usize,
    place: MaskPlace,
) -> BlockGates {
    let mut gates = BlockGates::default();
    if mids.len() > 1 {
        let squeezes: Vec<usize> = mids.iter().map(|m| squeeze_width(*m, divisor)).collect();
        let mid = Some(rows.row(&prefix_mask(mids, shares)));
        match place {
            MaskPlace::AfterNorm => gates.mid = mid,
            MaskPlace::BeforeNorm => gates.filters.depthwise = mid,
        }
        gates.squeeze = Some(rows.row(&prefix_mask(&squeezes, shares)));
    }
    gates
}

/// Adds d g_i of the hidden widths `mids`, through the masks of [`mask_hidden`].
pub(super) fn add_hidden(
    by_mid: &mut [f64],
    gates: &BlockGates,
    mids: &[usize],
    divisor: usize,
    gradients: &mut LeafGradients,
) -> Result<()> {
    for place in [&gates.mid, &gates.filters.depthwise] {
        if let Some(mask) = taken(place.as_ref(), gradients)? {
            add_prefix_sums(by_mid, mids, &mask);
        }
    }
    if let Some(mask) = taken(gates.squeeze.as_ref(), gradients)? {
        let squeezes: Vec<usize> = mids.iter().map(|m| squeeze_width(*m, divisor)).collect();
        add_prefix_sums(by_mid, &squeezes, &mask);
    }
    Ok(())
}

/// The gradient of a row; `None` where it is not recorded or nothing depends on it.
pub(super) fn taken(
    row: Option<&Value>,
    gradients: &mut LeafGradients,
) -> Result<Option<Vec<f64>>> {
    let values = row.map_or(Ok(None), |row| gradients.take_values(row))?;
    Ok(values.map(|values| values.into_iter().map(f64::from).collect()))
}

/// M = Σ_i g_i 1_i (FBNetV2 section 3.1): entry c is the sum of the gates of all options wider than c.
pub(super) fn prefix_mask(options: &[usize], gates: &[f64]) -> Vec<f64> {
    let widest = options.iter().copied().max().unwrap_or(0);
    (0..widest)
        .map(|c| options.iter().zip(gates).filter(|(w, _)| **w > c).map(|(_, g)| g).sum())
        .collect()
}

/// d g_i += Σ_{c < w_i} d M_c.
pub(super) fn add_prefix_sums(gates: &mut [f64], options: &[usize], mask: &[f64]) {
    for (gate, option) in gates.iter_mut().zip(options) {
        *gate += mask[..*option].iter().sum::<f64>();
    }
}
