//! Gates and masks of blocks, from the gates of a search space.

use repro::net::NetGates;
use repro::recipe::MaskPlace;
use repro::space::{BlockType, Expansion, ExpansionOf, SearchSpace, make_divisible, squeeze_width};

/// Gates and masks of one block; absent ones count as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockGates {
    pub branches: Option<Vec<f64>>,
    pub identity: Option<f64>,
    pub mid: Option<Vec<f64>>,
    pub squeeze: Option<Vec<f64>>,
    pub width: Option<Vec<f64>>,
    /// Between the convolutions of a residual block.
    pub inner: Option<Vec<f64>>,
    /// Masks in front of the batch norm of the depthwise convolution, and of the last one.
    pub mid_before_norm: Option<Vec<f64>>,
    pub width_before_norm: Option<Vec<f64>>,
}

/// Gates and masks of a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates {
    /// Resolutions of the images with their gates; empty for the images as they are.
    pub resolutions: Vec<(usize, f64)>,
    /// Blocks beyond the list have no gates.
    pub blocks: Vec<BlockGates>,
}

/// Σ_i g_i 1_i by its definition. A single option is no choice and has no mask.
pub fn mask(options: &[usize], gates: &[f64]) -> Option<Vec<f64>> {
    let mut mask = vec![0.0; *options.iter().max()?];
    for (option, gate) in options.iter().zip(gates) {
        for entry in &mut mask[..*option] {
            *entry += gate;
        }
    }
    (options.len() > 1).then_some(mask)
}

/// The gates and masks of each block, from the gates of a space. The hidden channels of a block without
/// expansion are those that reach it: the chosen width before it, or fewer behind a skip.
pub fn network_gates(space: &SearchSpace, gates: &NetGates, place: MaskPlace) -> Gates {
    let several = space.resolutions.len() > 1;
    let resolutions = space.resolutions.iter().copied().zip(gates.resolutions.iter().copied());
    Gates {
        resolutions: if several { resolutions.collect() } else { vec![] },
        blocks: block_gates(space, gates, place),
    }
}

pub fn block_gates(space: &SearchSpace, gates: &NetGates, place: MaskPlace) -> Vec<BlockGates> {
    let mut arriving = vec![(space.stem.width, 1.0)];
    let after = |mask| if place == MaskPlace::AfterNorm { mask } else { None };
    let before = |mask| if place == MaskPlace::BeforeNorm { mask } else { None };
    let of_block = space.blocks.iter().zip(&gates.blocks).map(|(choices, values)| {
        let keeps = choices.stride == 1 && choices.in_max == choices.width_max();
        let residual = choices.types.contains(&BlockType::Residual);
        let passes = |t: &BlockType| keeps && *t == BlockType::Skip;
        let typed = || choices.types.iter().zip(&values.types);
        let layered: Vec<f64> = typed().filter(|(t, _)| !passes(t)).map(|(_, g)| *g).collect();
        let (mids, shares): (Vec<usize>, Vec<f64>) = match &choices.expansion {
            Expansion::None => arriving.iter().copied().unzip(),
            Expansion::Options { ratios, of: ExpansionOf::Input, .. } => {
                let options = ratios.iter().zip(&values.expansions);
                let pairs = options.flat_map(|(ratio, g)| {
                    let mid =
                        move |c: usize| make_divisible(ratio * c as f64, space.channel_divisor);
                    arriving.iter().map(move |(c, p)| (mid(*c), g * p))
                });
                pairs.unzip()
            }
            Expansion::Options { mids, .. } => (mids.clone(), values.expansions.clone()),
        };
        let squeezes: Vec<usize> =
            mids.iter().map(|m| squeeze_width(*m, space.channel_divisor)).collect();
        let mut leaving = vec![];
        // Without a skip that keeps its input every type has the chosen width. The gates of the types then
        // play no part, also where they do not sum to one, as in finite differences.
        let skips = choices.types.iter().any(passes);
        let chosen = if skips { layered.iter().sum::<f64>() } else { 1.0 };
        for (width, g) in choices.widths.iter().zip(&values.widths) {
            leaving.push((*width, g * chosen));
            for (_, skip) in typed().filter(|(t, _)| passes(t)) {
                leaving.extend(arriving.iter().map(|(c, p)| (*c.min(width), p * g * skip)));
            }
        }
        arriving = leaving;
        BlockGates {
            branches: (choices.types.len() > 1).then_some(layered),
            identity: (keeps || residual).then_some(values.identity),
            mid: after(mask(&mids, &shares)),
            squeeze: mask(&squeezes, &shares),
            width: after(mask(&choices.widths, &values.widths)),
            inner: after(mask(&choices.widths, &values.widths)).filter(|_| residual),
            mid_before_norm: before(mask(&mids, &shares)),
            width_before_norm: before(mask(&choices.widths, &values.widths)),
        }
    });
    of_block.collect()
}
