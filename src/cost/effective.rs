//! Effective shape propagation (FBNetV2 section 3.3): the expected number of channels is passed from
//! block to block, and the cost formula is applied to it.
//!
//! The width of a block is a distribution over its options. A skip that keeps the shape passes on the
//! smaller of its input width and its chosen width, as the derived network does. So the whole
//! distribution is passed on, not only its mean. With one-hot probabilities the result is exactly the
//! count of the decided network.
//!
//! Height and width are expectations over the resolutions, h̄ = w̄ = Σ_r g_r h_r, and a map has h̄ · w̄
//! pixels. This is the rule of the paper; unless the gates are one-hot, it is less than the expected
//! number of pixels.

use super::number::CostNumber;
use super::{
    Cost, CostRange, MbConvShape, count, dense_conv, head, residual, square, stem, stem_side,
};
use crate::recipe::InputChannels;
use crate::space::{
    BlockChoices, BlockDecision, BlockType, Decisions, Expansion, ExpansionOf, Head, SearchSpace,
    squeeze_width,
};

/// The probability of every option of a space.
#[derive(Clone, Debug, PartialEq)]
pub struct Probabilities<N> {
    /// In the order of the space; they sum to one.
    pub resolutions: Vec<N>,
    pub blocks: Vec<BlockProbabilities<N>>,
}

/// The probability of each option of a block; each list sums to one.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockProbabilities<N> {
    pub types: Vec<N>,
    pub expansions: Vec<N>,
    pub widths: Vec<N>,
}

/// The expected shape of a block, in channels.
#[derive(Clone, Debug)]
pub struct EffectiveBlock<N> {
    /// The possible numbers of input channels, with their probabilities.
    pub incoming: Vec<(usize, N)>,
    /// Expected input channels.
    pub input: N,
    /// Expected hidden channels.
    pub mid: N,
    /// Expected output channels.
    pub width: N,
    /// ρ, the probability that the block adds its input to its output. A skip that keeps the shape and a
    /// residual block add it, and so does an inverted residual that is as wide as its input.
    pub identity: N,
}

/// The expected shapes and the cost of a supernet under given probabilities.
#[derive(Clone, Debug)]
pub struct Propagation<N> {
    pub blocks: Vec<EffectiveBlock<N>>,
    pub cost: Cost<N>,
}

impl<N> Probabilities<N> {
    /// The same probabilities as another number type.
    #[must_use]
    pub fn map<M>(&self, mut of: impl FnMut(&N) -> M) -> Probabilities<M> {
        let mut all = |values: &[N]| values.iter().map(&mut of).collect::<Vec<M>>();
        let blocks = self.blocks.iter().map(|block| BlockProbabilities {
            types: all(&block.types),
            expansions: all(&block.expansions),
            widths: all(&block.widths),
        });
        let blocks = blocks.collect();
        Probabilities { resolutions: all(&self.resolutions), blocks }
    }
}

/// Passes the probabilities through all blocks of the space. `one` is the number 1 of the wanted type.
#[must_use]
pub fn propagate<N: CostNumber>(
    space: &SearchSpace,
    probabilities: &Probabilities<N>,
    one: &N,
) -> Propagation<N> {
    propagate_counting(space, probabilities, one, InputChannels::Effective)
}

/// [`propagate`], with a choice of the input channels that the cost formula counts with.
#[must_use]
pub fn propagate_counting<N: CostNumber>(
    space: &SearchSpace,
    probabilities: &Probabilities<N>,
    one: &N,
    inputs: InputChannels,
) -> Propagation<N> {
    let mut sides = MapSides::of(space, &probabilities.resolutions, one);
    let mut before = sides.pixels();
    let mut cost = stem(&space.stem, space.image_channels, &before);
    let mut widths: Widths<N> = vec![(space.stem.width, one.clone())];
    let mut blocks = Vec::with_capacity(space.blocks.len());
    for (choices, probabilities) in space.blocks.iter().zip(&probabilities.blocks) {
        sides.stride(choices.stride);
        let after = sides.pixels();
        let pixels = (before, after.clone());
        let propagation = BlockPropagation { space, choices, probabilities, one, pixels, inputs };
        let (block, block_cost, out) = propagation.run(&widths);
        cost = cost.plus(&block_cost);
        blocks.push(block);
        (widths, before) = (out, after);
    }
    let last = match (inputs, space.blocks.last()) {
        (InputChannels::Nominal, Some(block)) => one.constant(block.width_max() as u64),
        _ => mean(&widths, one),
    };
    let spec = Head::Conv { width: space.head.width, activation: space.head.activation };
    let cost = cost.plus(&head(&last, &spec, space.classes, &before));
    Propagation { blocks, cost }
}

/// The sides of one map at every resolution, in pixels.
struct MapSides<'a, N> {
    sides: Vec<usize>,
    probabilities: &'a [N],
    one: &'a N,
}

impl<'a, N: CostNumber> MapSides<'a, N> {
    /// The output of the stem.
    fn of(space: &SearchSpace, probabilities: &'a [N], one: &'a N) -> Self {
        let sides = space.resolutions.iter().map(|side| stem_side(&space.stem, *side));
        Self { sides: sides.collect(), probabilities, one }
    }

    fn stride(&mut self, stride: usize) {
        for side in &mut self.sides {
            *side = side.div_ceil(stride);
        }
    }

    /// h̄ · w̄, the effective number of pixels.
    fn pixels(&self) -> N {
        if let [only] = self.sides[..] {
            return self.one.constant(square(only));
        }
        let weighed = self.sides.iter().zip(self.probabilities);
        let side = sum(weighed.map(|(side, p)| p.scaled(*side as u64)), self.one);
        side.times(&side)
    }
}

/// The probabilities of the ways in which a block treats its input.
struct InputUse<N> {
    /// Passes it on: a skip that keeps the shape.
    keeps: Option<N>,
    /// Adds it for every choice of widths: a residual block.
    adds: Option<N>,
    /// All other types.
    others: N,
}

impl<N: CostNumber> InputUse<N> {
    /// The probability that the output has the chosen width.
    fn has_chosen_width(&self) -> N {
        self.adds.as_ref().map_or_else(|| self.others.clone(), |adds| self.others.plus(adds))
    }
}

/// Channels with their probabilities.
type Widths<N> = Vec<(usize, N)>;

fn mean<N: CostNumber>(widths: &Widths<N>, one: &N) -> N {
    sum(widths.iter().map(|(channels, p)| p.scaled(*channels as u64)), one)
}

fn sum<N: CostNumber>(terms: impl Iterator<Item = N>, one: &N) -> N {
    terms.reduce(|a, b| a.plus(&b)).unwrap_or_else(|| one.constant(0))
}

/// What the propagation through one block needs.
struct BlockPropagation<'a, N> {
    space: &'a SearchSpace,
    choices: &'a BlockChoices,
    probabilities: &'a BlockProbabilities<N>,
    one: &'a N,
    pixels: (N, N),
    inputs: InputChannels,
}

impl<N: CostNumber> BlockPropagation<'_, N> {
    /// The expected shape, the cost, and the distribution of the output width.
    fn run(&self, incoming: &Widths<N>) -> (EffectiveBlock<N>, Cost<N>, Widths<N>) {
        let selected: Widths<N> = self
            .choices
            .widths
            .iter()
            .copied()
            .zip(self.probabilities.widths.iter().cloned())
            .collect();
        let shares = self.shares();
        let out = match &shares.keeps {
            Some(keeps) => mixed_widths(incoming, &selected, keeps, &shares.has_chosen_width()),
            None => selected.clone(),
        };
        let input = mean(incoming, self.one);
        let (mid, squeeze) = self.hidden(incoming);
        let width = mean(&selected, self.one);
        let cost = match self.inputs {
            InputChannels::Effective => self.cost(&input, &mid, &squeeze, &width),
            InputChannels::Nominal => {
                let nominal = vec![(self.choices.in_max, self.one.clone())];
                let (mid, squeeze) = self.hidden(&nominal);
                self.cost(&mean(&nominal, self.one), &mid, &squeeze, &width)
            }
        };
        let block = EffectiveBlock {
            incoming: incoming.clone(),
            input,
            mid,
            width: mean(&out, self.one),
            identity: self.identity(incoming, &selected, &shares),
        };
        (block, cost, out)
    }

    fn shares(&self) -> InputUse<N> {
        let (mut keeps, mut adds, mut others) = (None, None, Vec::new());
        for (block_type, p) in self.choices.types.iter().zip(&self.probabilities.types) {
            match block_type {
                BlockType::Skip if !self.choices.skip_needs_projection() => keeps = Some(p.clone()),
                BlockType::Residual => adds = Some(p.clone()),
                _ => others.push(p.clone()),
            }
        }
        InputUse { keeps, adds, others: sum(others.into_iter(), self.one) }
    }

    /// ρ, see [`EffectiveBlock::identity`].
    fn identity(&self, incoming: &Widths<N>, selected: &Widths<N>, shares: &InputUse<N>) -> N {
        let equal = incoming.iter().flat_map(|(a, p)| {
            selected.iter().filter(move |(b, _)| a == b).map(move |(_, q)| p.times(q))
        });
        let fits = self.choices.can_be_residual();
        let inverted = fits.then(|| sum(equal, self.one).times(&shares.others));
        let always = [&shares.keeps, &shares.adds].into_iter().flatten().cloned();
        sum(inverted.into_iter().chain(always), self.one)
    }

    /// Expected hidden channels and squeezed channels.
    fn hidden(&self, incoming: &Widths<N>) -> (N, N) {
        let divisor = self.space.channel_divisor;
        let expansions = &self.probabilities.expansions;
        let mids = hidden_widths(self.space, self.choices, expansions, incoming);
        let squeezed =
            mids.iter().map(|(mid, p)| (squeeze_width(*mid, divisor), p.clone())).collect();
        (mean(&mids, self.one), mean(&squeezed, self.one))
    }

    /// Σ_t p_t · cost of type t (FBNetV2 section 3.3).
    fn cost(&self, input: &N, mid: &N, squeeze: &N, width: &N) -> Cost<N> {
        let mut total = Cost::zero(self.one);
        for (block_type, p) in self.choices.types.iter().zip(&self.probabilities.types) {
            let cost = match *block_type {
                BlockType::Skip if !self.choices.skip_needs_projection() => continue,
                BlockType::Skip => dense_conv(1, input, width, &self.pixels.1),
                BlockType::Residual => residual(input, width, &self.pixels.1),
                BlockType::MbConv { kernel, squeeze_excite, .. } => MbConvShape {
                    kernel,
                    input: input.clone(),
                    mid: mid.clone(),
                    width: width.clone(),
                    expand: !matches!(self.choices.expansion, Expansion::None),
                    squeeze: squeeze_excite.then(|| squeeze.clone()),
                    pixels: self.pixels.clone(),
                }
                .cost(),
            };
            total = total.plus(&cost.times(p));
        }
        total
    }
}

/// The hidden widths that an inverted residual may have, with their probabilities: its input widths without
/// expansion; one per expansion; or one per expansion and input width, expansion by expansion, where a ratio is
/// multiplied by the block's own input width. Several of them can be equal.
#[must_use]
pub fn hidden_widths<N: CostNumber>(
    space: &SearchSpace,
    choices: &BlockChoices,
    expansions: &[N],
    incoming: &[(usize, N)],
) -> Vec<(usize, N)> {
    match &choices.expansion {
        Expansion::None => incoming.to_vec(),
        Expansion::Options { mids, of: ExpansionOf::LargestInput, .. } => {
            mids.iter().copied().zip(expansions.iter().cloned()).collect()
        }
        Expansion::Options { of: ExpansionOf::Input, .. } => {
            let of_expansion = |(e, g): (usize, &N)| {
                let g = g.clone();
                incoming
                    .iter()
                    .map(move |(input, p)| (space.hidden_width(choices, e, *input), g.times(p)))
            };
            expansions.iter().enumerate().flat_map(of_expansion).collect()
        }
    }
}

/// The distribution of the output width of a block that passes its input on with probability `keeps`.
fn mixed_widths<N: CostNumber>(
    incoming: &Widths<N>,
    selected: &Widths<N>,
    keeps: &N,
    has_chosen_width: &N,
) -> Widths<N> {
    let mut out: Widths<N> =
        selected.iter().map(|(w, p)| (*w, p.times(has_chosen_width))).collect();
    for (a, p) in incoming {
        for (b, q) in selected {
            let (width, share) = (*a.min(b), p.times(q).times(keeps));
            match out.iter_mut().find(|(w, _)| *w == width) {
                Some((_, total)) => *total = total.plus(&share),
                None => out.push((width, share)),
            }
        }
    }
    out
}

pub(super) fn cost_range(space: &SearchSpace) -> CostRange {
    let costs = |largest: bool, of: &dyn Fn(&Cost<u64>) -> u64| {
        let last = |options: usize| if largest { options - 1 } else { 0 };
        let mut decisions = Decisions {
            resolution: last(space.resolutions.len()),
            blocks: space
                .blocks
                .iter()
                .map(|b| BlockDecision {
                    block_type: 0,
                    expansion: last(b.expansions()),
                    width: last(b.widths.len()),
                })
                .collect(),
        };
        for together in space.type_groups() {
            let with_type = |block_type: usize| {
                let mut trial = decisions.clone();
                for block in &mut trial.blocks[together.clone()] {
                    block.block_type = block_type;
                }
                trial
            };
            let cost_of = |block_type: &usize| of(&count(&space.decide(&with_type(*block_type))));
            let types = 0..space.blocks[together.start].types.len();
            let best = if largest { types.max_by_key(cost_of) } else { types.min_by_key(cost_of) };
            decisions = with_type(best.unwrap_or(0));
        }
        of(&count(&space.decide(&decisions)))
    };
    let both = |of: &dyn Fn(&Cost<u64>) -> u64| (costs(false, of), costs(true, of));
    CostRange { macs: both(&|cost| cost.macs), params: both(&|cost| cost.params) }
}
