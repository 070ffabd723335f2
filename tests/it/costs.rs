//! Expected shapes and costs: at one-hot choices the exact count, in between the expectation over
//! the networks of the space, with its derivatives.

use crate::numbers::assert_gradient;
use crate::spaces::{
    decisions, dense, gate_values, one_hot, parse, random_probabilities, shipped, small, sparse,
    unexpanded,
};
use candle_core::Device;
use repro::cost::{
    self, Cost, Graph, Probabilities, Traced, cost_range, count, propagate, propagate_counting,
};
use repro::net::{ExplicitSupernet, Network, Supernet};
use repro::nn::Params;
use repro::rng::Seed;
use repro::space::{
    ArchSpec, BlockDecision, BlockKind, BlockType, Decisions, Expansion, Head, SearchSpace,
    squeeze_width,
};

fn spaces() -> Vec<SearchSpace> {
    let shipped = ["fbnetv2_f_cifar.toml", "fbnetv2_f.toml", "nats_size.toml"].map(shipped);
    [unexpanded(), small(), sparse(), dense()].into_iter().chain(shipped).collect()
}

/// Multiply-accumulates, weights and pooled elements, layer by layer and by hand.
fn plain_count(arch: &ArchSpec) -> Cost<u64> {
    let (mut macs, mut params, mut pooled) = (0, 0, 0);
    let mut conv = |kernel: usize, input: usize, output: usize, groups: usize, side: usize| {
        let weights = kernel * kernel * input * output / groups;
        params += weights as u64;
        macs += (weights * side * side) as u64;
    };
    let mut pool = |channels: usize, side: usize| pooled += (channels * side * side) as u64;
    let out = |side: usize, k: usize, stride: usize| (side + 2 * (k / 2) - k) / stride + 1;

    let mut side = out(arch.resolution, arch.stem.kernel, arch.stem.stride);
    conv(arch.stem.kernel, arch.image_channels, arch.stem.width, 1, side);
    let mut input = arch.stem.width;
    for block in &arch.blocks {
        let before = side;
        match &block.kind {
            BlockKind::Identity => {}
            BlockKind::Residual => {
                side = out(before, 3, block.stride);
                conv(3, input, block.width, 1, side);
                conv(3, block.width, block.width, 1, side);
            }
            BlockKind::Projection => {
                side = out(before, 1, block.stride);
                conv(1, input, block.width, 1, side);
            }
            BlockKind::MbConv { kernel, mid, expand, squeeze, .. } => {
                side = out(before, *kernel, block.stride);
                if *expand {
                    conv(1, input, *mid, 1, before);
                }
                conv(*kernel, *mid, *mid, *mid, side);
                if let Some(squeeze) = squeeze {
                    pool(*mid, side);
                    conv(1, *mid, *squeeze, 1, 1);
                    conv(1, *squeeze, *mid, 1, 1);
                }
                conv(1, *mid, block.width, 1, side);
            }
        }
        input = block.width;
    }
    match arch.head {
        Head::Conv { width, .. } => {
            conv(1, input, width, 1, side);
            pool(width, side);
            conv(1, width, arch.classes, 1, 1);
        }
        Head::IrPool { mid, width, .. } => {
            conv(1, input, mid, 1, side);
            pool(mid, side);
            conv(1, mid, width, 1, 1);
            pool(width, 1);
            conv(1, width, arch.classes, 1, 1);
        }
    }
    Cost { macs, params, pooled }
}

#[test]
fn the_count_is_that_of_the_layers() {
    for space in spaces() {
        for made in decisions(&space, "count", 50) {
            let arch = space.decide(&made);
            assert_eq!(count(&arch), plain_count(&arch), "{made:?}");
        }
    }
}

#[test]
fn counted_weights_are_those_that_a_network_is_built_with() {
    let shipped = shipped("fbnetv2_f_cifar.toml");
    for space in [unexpanded(), small(), sparse(), dense(), shipped] {
        for made in decisions(&space, "built", 10) {
            let arch = space.decide(&made);
            let (_, params) = Network::of_arch(&arch, Seed(0), &Device::Cpu).unwrap();
            let weights = params.named().filter(|(name, _)| name.ends_with(".weight"));
            let built: usize = weights.map(|(_, tensor)| tensor.elem_count()).sum();
            assert_eq!(count(&arch).params, built as u64, "{made:?}");
        }
    }
}

#[test]
fn the_weights_of_a_supernet_are_counted_as_it_is_built() {
    let built = |params: &Params| -> usize {
        let weights = params.named().filter(|(name, _)| name.ends_with(".weight"));
        weights.map(|(_, tensor)| tensor.elem_count()).sum()
    };
    for space in [unexpanded(), small(), sparse(), dense(), shipped("smoke.toml")] {
        let (_, masked) = Supernet::new(&space, Seed(0), &Device::Cpu).unwrap();
        assert_eq!(cost::supernet(&space).params, built(&masked) as u64, "{}", space.name);
        let space = SearchSpace { resolutions: vec![space.max_resolution()], ..space };
        let (_, explicit) = ExplicitSupernet::new(&space, Seed(0), &Device::Cpu).unwrap();
        let counted = cost::explicit_supernet(&space);
        assert_eq!(counted.params, built(&explicit) as u64, "{}", space.name);
        assert!(counted.macs > cost::supernet(&space).macs, "{}", space.name);
    }
}

#[test]
fn the_expected_cost_at_one_hot_choices_is_the_count_to_the_unit() {
    for space in spaces() {
        for made in decisions(&space, "one-hot", 100) {
            let arch = space.decide(&made);
            let exact = propagate(&space, &one_hot(&space, &made, &0u64, &1u64), &1u64);
            assert_eq!(exact.cost, count(&arch), "{}: {made:?}", space.name);
            let mut input = arch.stem.width as u64;
            for (found, block) in exact.blocks.iter().zip(&arch.blocks) {
                assert_eq!((found.input, found.width), (input, block.width as u64));
                let adds = match block.kind {
                    BlockKind::Identity | BlockKind::Residual => true,
                    BlockKind::Projection => false,
                    BlockKind::MbConv { residual, .. } => residual,
                };
                assert_eq!(found.identity, u64::from(adds), "{}: {made:?}", space.name);
                if let BlockKind::MbConv { mid, .. } = block.kind {
                    assert_eq!(found.mid, mid as u64);
                }
                input = block.width as u64;
            }
            // In floating point the same, since all numbers are whole.
            let real = propagate(&space, &one_hot(&space, &made, &0.0, &1.0), &1.0).cost;
            assert_eq!(
                (real.macs, real.params),
                (exact.cost.macs as f64, exact.cost.params as f64)
            );
        }
    }
}

/// Three blocks with every kind of choice: 1,728 networks.
fn tiny() -> SearchSpace {
    parse(
        r#"
name = "tiny"
channel_divisor = 2
[input]
resolutions = [8]
channels = 3
classes = 4
[stem]
kernel = 3
stride = 1
width = 6
activation = "relu"
[[stage]]
blocks = 3
stride = 1
expansion = [1.5, 3.0]
width = [4, 6]
types = ["k3_relu", "k5_hswish_se", "skip"]
[head]
width = 8
activation = "relu"
"#,
    )
}

/// Every network of a space with its probability.
fn all_networks(space: &SearchSpace, p: &Probabilities<f64>) -> Vec<(Decisions, f64)> {
    let mut all = vec![(Decisions { resolution: 0, blocks: vec![] }, 1.0)];
    for (choices, p) in space.blocks.iter().zip(&p.blocks) {
        let mut longer = vec![];
        for (made, q) in &all {
            for block_type in 0..choices.types.len() {
                for expansion in 0..choices.expansions() {
                    for width in 0..choices.widths.len() {
                        let mut made = made.clone();
                        made.blocks.push(BlockDecision { block_type, expansion, width });
                        let share = p.types[block_type] * p.expansions[expansion];
                        longer.push((made, q * share * p.widths[width]));
                    }
                }
            }
        }
        all = longer;
    }
    all
}

#[test]
fn effective_shapes_are_expectations_over_the_networks_of_a_space() {
    for (space, label) in [(tiny(), "a"), (tiny(), "b"), (unexpanded(), "a"), (dense(), "a")] {
        let p = random_probabilities(&space, label);
        let found = propagate(&space, &p, &1.0).blocks;
        let n = found.len();
        let (mut inputs, mut widths, mut adds) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        let mut total = 0.0;
        for (made, q) in all_networks(&space, &p) {
            total += q;
            let mut input = space.stem.width;
            for (i, block) in space.decide(&made).blocks.iter().enumerate() {
                inputs[i] += q * input as f64;
                widths[i] += q * block.width as f64;
                let residual = matches!(
                    block.kind,
                    BlockKind::Identity
                        | BlockKind::Residual
                        | BlockKind::MbConv { residual: true, .. }
                );
                adds[i] += q * f64::from(u8::from(residual));
                input = block.width;
            }
        }
        assert!((total - 1.0).abs() < 1e-9);
        for (i, found) in found.iter().enumerate() {
            assert!((found.input - inputs[i]).abs() < 1e-9, "input of {i}");
            assert!((found.width - widths[i]).abs() < 1e-9, "width of {i}");
            assert!((found.identity - adds[i]).abs() < 1e-9, "ρ of {i}");
            let hides = !space.blocks[i].types.contains(&BlockType::Residual);
            if hides && space.blocks[i].expansion == Expansion::None {
                assert!((found.mid - inputs[i]).abs() < 1e-9, "hidden of {i}");
            }
            let whole: f64 = found.incoming.iter().map(|(_, p)| p).sum();
            assert!((whole - 1.0).abs() < 1e-9, "input of {i}");
        }
    }
}

/// The expected cost written out: Σ_t p_t · cost of type t at expected channels.
fn plain_expectation(space: &SearchSpace, p: &Probabilities<f64>) -> [f64; 3] {
    let shapes = propagate(space, p, &1.0).blocks;
    let mut total = [0.0; 3];
    let mut conv = |share: f64, weights: f64, side: f64| {
        total[0] += share * weights * side * side;
        total[1] += share * weights;
    };
    let mut pooled = 0.0;
    // The expected side at every resolution's own.
    let padding = 2 * (space.stem.kernel / 2);
    let behind_stem = |side| (side + padding - space.stem.kernel) / space.stem.stride + 1;
    let mut sides: Vec<usize> = space.resolutions.iter().copied().map(behind_stem).collect();
    let expected = |sides: &[usize]| -> f64 {
        sides.iter().zip(&p.resolutions).map(|(side, q)| *side as f64 * q).sum()
    };
    let mut side = expected(&sides);
    let taps = space.stem.kernel.pow(2);
    conv(1.0, (taps * space.image_channels * space.stem.width) as f64, side);
    for ((choices, p), shape) in space.blocks.iter().zip(&p.blocks).zip(&shapes) {
        let before = side;
        for side in &mut sides {
            *side = side.div_ceil(choices.stride);
        }
        side = expected(&sides);
        let width: f64 = choices.widths.iter().zip(&p.widths).map(|(w, q)| *w as f64 * q).sum();
        let keeps = choices.stride == 1 && choices.in_max == choices.width_max();
        let (mid, squeezed, expands) = match &choices.expansion {
            Expansion::Options { mids, .. } => {
                let mean = |of: &dyn Fn(usize) -> usize| -> f64 {
                    mids.iter().zip(&p.expansions).map(|(m, q)| of(*m) as f64 * q).sum()
                };
                let divisor = space.channel_divisor;
                (mean(&|m| m), mean(&|m| squeeze_width(m, divisor)), true)
            }
            Expansion::None => {
                let mean = |of: &dyn Fn(usize) -> usize| -> f64 {
                    shape.incoming.iter().map(|(c, q)| of(*c) as f64 * q).sum()
                };
                (mean(&|c| c), mean(&|c| squeeze_width(c, space.channel_divisor)), false)
            }
        };
        for (block_type, q) in choices.types.iter().zip(&p.types) {
            match block_type {
                BlockType::Skip if keeps => {}
                BlockType::Skip => conv(*q, shape.input * width, side),
                BlockType::Residual => {
                    conv(*q, 9.0 * shape.input * width, side);
                    conv(*q, 9.0 * width * width, side);
                }
                BlockType::MbConv { kernel, squeeze_excite, .. } => {
                    if expands {
                        conv(*q, shape.input * mid, before);
                    }
                    conv(*q, (kernel * kernel) as f64 * mid, side);
                    if *squeeze_excite {
                        conv(*q, 2.0 * mid * squeezed, 1.0);
                        pooled += q * mid * side * side;
                    }
                    conv(*q, mid * width, side);
                }
            }
        }
    }
    let (head, last) = (space.head.width as f64, shapes.last().unwrap().width);
    conv(1.0, last * head, side);
    conv(1.0, head * space.classes as f64, 1.0);
    pooled += head * side * side;
    [total[0], total[1], pooled]
}

#[test]
fn the_expected_cost_is_the_formula_at_the_expected_shapes() {
    for space in spaces() {
        for label in ["a", "b"] {
            let p = random_probabilities(&space, label);
            let found = propagate(&space, &p, &1.0).cost;
            let expected = plain_expectation(&space, &p);
            for (found, expected) in [found.macs, found.params, found.pooled].iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
            }
        }
    }
}

/// All probabilities in one list, and back.
fn flat(p: &Probabilities<f64>) -> Vec<f64> {
    let mut all = vec![];
    let _ = p.map(|v| all.push(*v));
    all
}

fn shaped<N: Clone>(like: &Probabilities<f64>, flat: &[N]) -> Probabilities<N> {
    let mut rest = flat.iter().cloned();
    like.map(|_| rest.next().unwrap())
}

#[test]
fn traced_costs_and_shapes_have_the_derivatives_of_the_formula() {
    for space in spaces() {
        let p = random_probabilities(&space, "slopes");
        let at = flat(&p);
        let graph = Graph::default();
        let leaves: Vec<Traced> = at.iter().map(|v| graph.leaf(*v)).collect();
        let traced = propagate(&space, &shaped(&p, &leaves), &graph.leaf(1.0));
        let plain = propagate(&space, &p, &1.0);
        assert_eq!(traced.cost.macs.value(), plain.cost.macs);

        // A weighted sum of everything, as the search's loss is.
        let mut seeds = vec![
            (&traced.cost.macs, 1.0 / plain.cost.macs),
            (&traced.cost.params, -0.4 / plain.cost.params),
            (&traced.cost.pooled, 0.3 / plain.cost.pooled),
        ];
        for (i, block) in traced.blocks.iter().enumerate() {
            seeds.push((&block.identity, 0.2 * (i + 1) as f64));
            seeds.push((&block.width, 0.01));
            seeds.push((&block.mid, -0.01));
        }
        let derivatives = graph.derivatives(&seeds);
        let found: Vec<f64> = leaves.iter().map(|leaf| derivatives.to(leaf)).collect();
        let value = |flat: &[f64]| {
            let now = propagate(&space, &shaped(&p, flat), &1.0);
            let shapes =
                now.blocks.iter().enumerate().map(|(i, b)| {
                    0.2 * (i + 1) as f64 * b.identity + 0.01 * b.width - 0.01 * b.mid
                });
            now.cost.macs / plain.cost.macs - 0.4 * now.cost.params / plain.cost.params
                + 0.3 * now.cost.pooled / plain.cost.pooled
                + shapes.sum::<f64>()
        };
        for i in 0..at.len() {
            let only: Vec<f64> = vec![found[i]];
            assert_gradient(
                &format!("{} {i}", space.name),
                &only,
                &at[i..=i],
                1,
                (1e-7, 1.0),
                |v| {
                    let mut moved = at.clone();
                    moved[i] = v[0];
                    value(&moved)
                },
            );
        }
    }
}

#[test]
fn no_network_lies_outside_the_extent_of_its_space() {
    for space in spaces() {
        let bounds = cost_range(&space);
        for made in decisions(&space, "extent", 300) {
            let cost = count(&space.decide(&made));
            assert!((bounds.macs.0..=bounds.macs.1).contains(&cost.macs), "{made:?}");
            assert!((bounds.params.0..=bounds.params.1).contains(&cost.params), "{made:?}");
        }
    }
    let space = tiny();
    let p = random_probabilities(&space, "any");
    let costs: Vec<Cost<u64>> =
        all_networks(&space, &p).iter().map(|(made, _)| count(&space.decide(made))).collect();
    let range = |of: &dyn Fn(&Cost<u64>) -> u64| {
        (costs.iter().map(of).min().unwrap(), costs.iter().map(of).max().unwrap())
    };
    assert_eq!(cost_range(&space).macs, range(&|cost| cost.macs));
    assert_eq!(cost_range(&space).params, range(&|cost| cost.params));
}

#[test]
fn the_papers_example_has_its_effective_width() {
    // .8 · 16 + .2 · 12 = 15.2 channels (section 3.3).
    let space = shipped("fbnetv2_f.toml");
    let mut p = random_probabilities(&space, "example");
    p.blocks[0].widths = vec![0.2, 0.8];
    let skip = space.blocks[0].types.iter().position(|t| *t == BlockType::Skip).unwrap();
    p.blocks[0].types = vec![0.0; space.blocks[0].types.len()];
    p.blocks[0].types[(skip + 1) % space.blocks[0].types.len()] = 1.0;
    assert!((propagate(&space, &p, &1.0).blocks[0].width - 15.2).abs() < 1e-12);
    assert_eq!(gate_values(&space, &p).blocks[0].widths, [0.2, 0.8]);
}

#[test]
fn height_and_width_are_expected_sides() {
    // Half 20 and half 28 pixels: a map of 24 x 24, not the mean of both areas.
    let space = two_resolutions();
    let made = &decisions(&space, "sides", 1)[0];
    let mut p = one_hot(&space, made, &0.0, &1.0);
    p.resolutions = vec![0.5, 0.5];
    let stem_weights = (9 * space.image_channels * space.stem.width) as f64;
    let stem_macs = |p: &Probabilities<f64>| {
        let mut first = space.clone();
        first.blocks.clear();
        first.head.width = 0;
        propagate(&first, p, &1.0).cost.macs
    };
    assert_eq!(stem_macs(&p), stem_weights * 24.0 * 24.0);
    for (resolution, side) in [(vec![1.0, 0.0], 20.0), (vec![0.0, 1.0], 28.0)] {
        p.resolutions = resolution;
        assert_eq!(stem_macs(&p), stem_weights * side * side);
    }
}

fn two_resolutions() -> SearchSpace {
    let mut space = small();
    space.resolutions = vec![20, 28];
    space
}

#[test]
fn nominal_input_channels_hide_a_width_from_the_layer_behind_it() {
    use repro::recipe::InputChannels::{Effective, Nominal};
    let space = tiny();
    let graph = Graph::default();
    let p = random_probabilities(&space, "inputs");
    let leaves = p.map(|v| graph.leaf(*v));
    let macs =
        |p: &Probabilities<f64>, inputs| propagate_counting(&space, p, &1.0, inputs).cost.macs;
    assert_eq!(macs(&p, Effective), propagate(&space, &p, &1.0).cost.macs);
    assert!(macs(&p, Nominal) > macs(&p, Effective));
    // With the largest widths and no skip, nominal channels are the effective ones.
    let mut widest = p.clone();
    for block in &mut widest.blocks {
        (block.widths, block.types) = (vec![0.0, 1.0], vec![0.3, 0.7, 0.0]);
    }
    assert_eq!(macs(&widest, Nominal), macs(&widest, Effective));
    for inputs in [Effective, Nominal] {
        let cost = propagate_counting(&space, &leaves, &graph.leaf(1.0), inputs).cost.macs;
        let derivatives = graph.derivatives(&[(&cost, 1.0)]);
        let mut by_leaf = vec![];
        let _ = leaves.map(|leaf| by_leaf.push(derivatives.to(leaf)));
        let at = flat(&p);
        assert_gradient(&format!("{inputs:?}"), &by_leaf, &at, 4, (1e-7, 1.0), |moved| {
            macs(&shaped(&p, moved), inputs)
        });
    }
    // What the first block's width costs in the second block's expansion.
    let slope = |inputs| {
        let mut narrow = p.clone();
        narrow.blocks[0].widths = vec![1.0, 0.0];
        let mut wide = p.clone();
        wide.blocks[0].widths = vec![0.0, 1.0];
        macs(&wide, inputs) - macs(&narrow, inputs)
    };
    assert!(slope(Nominal) < 0.8 * slope(Effective), "{} {}", slope(Nominal), slope(Effective));
}

#[test]
fn the_extent_of_a_space_with_shared_types_is_that_of_its_networks() {
    let space = SearchSpace { share_types: true, ..tiny() };
    let p = random_probabilities(&space, "any");
    let alike = |made: &Decisions| {
        made.blocks.iter().all(|block| block.block_type == made.blocks[0].block_type)
    };
    let costs: Vec<u64> = all_networks(&space, &p)
        .iter()
        .filter(|(made, _)| alike(made))
        .map(|(made, _)| count(&space.decide(made)).macs)
        .collect();
    let range = (*costs.iter().min().unwrap(), *costs.iter().max().unwrap());
    assert_eq!(cost_range(&space).macs, range);
}

#[test]
fn a_masked_supernet_has_the_weights_of_one_resolution_and_an_explicit_one_those_of_all() {
    let space = two_resolutions();
    let alone = |side: usize| SearchSpace { resolutions: vec![side], ..space.clone() };
    // The classifier is one, and runs once.
    let classifier = (space.head.width * space.classes) as u64;
    let [both, small, large] = [&space, &alone(20), &alone(28)].map(cost::supernet);
    assert_eq!(both.macs, small.macs + large.macs - classifier);
    assert_eq!(both.params, large.params);
    // A block for every option has weights of its own at each resolution.
    let [both, small, large] = [&space, &alone(20), &alone(28)].map(cost::explicit_supernet);
    assert_eq!(both.macs, small.macs + large.macs - classifier);
    assert_eq!(both.params, small.params + large.params - classifier);
    let (_, built) = ExplicitSupernet::new(&space, Seed(0), &Device::Cpu).unwrap();
    let weights = built.named().filter(|(name, _)| name.ends_with(".weight"));
    assert_eq!(both.params, weights.map(|(_, tensor)| tensor.elem_count() as u64).sum::<u64>());
}

/// Multiply-accumulates of a supernet for one image, conv by conv: of the masked one, whose blocks have
/// their largest sizes alone, or of the explicit one, whose blocks have all.
fn plain_supernet_macs(space: &SearchSpace, explicit: bool) -> u64 {
    let sizes = |all: &[usize]| if explicit { all.to_vec() } else { vec![*all.last().unwrap()] };
    let mut macs = 0;
    for resolution in &space.resolutions {
        let mut side = resolution.div_ceil(space.stem.stride);
        let (stem, mut input) = (&space.stem, space.stem.width);
        macs += side * side * stem.kernel * stem.kernel * space.image_channels * stem.width;
        for block in &space.blocks {
            let before = side * side;
            side = side.div_ceil(block.stride);
            let after = side * side;
            for block_type in &block.types {
                for width in sizes(&block.widths) {
                    let (mids, is_expanded) = match &block.expansion {
                        Expansion::None => (vec![input], false),
                        Expansion::Options { mids, .. } => (sizes(mids), true),
                    };
                    match block_type {
                        BlockType::Skip if block.skip_needs_projection() => {
                            macs += after * input * width;
                        }
                        BlockType::Skip => {}
                        BlockType::Residual => macs += after * 9 * (input + width) * width,
                        BlockType::MbConv { kernel, squeeze_excite, .. } => {
                            for mid in mids {
                                macs += if is_expanded { before * input * mid } else { 0 };
                                macs += after * kernel * kernel * mid + after * mid * width;
                                let squeezed = squeeze_width(mid, space.channel_divisor);
                                macs += if *squeeze_excite { 2 * mid * squeezed } else { 0 };
                            }
                        }
                    }
                }
            }
            input = *block.widths.last().unwrap();
        }
        macs += side * side * input * space.head.width;
    }
    (macs + space.head.width * space.classes) as u64
}

#[test]
fn the_work_of_both_supernets_is_that_of_their_convolutions() {
    for space in spaces().into_iter().chain([two_resolutions()]) {
        assert_eq!(
            cost::supernet(&space).macs,
            plain_supernet_macs(&space, false),
            "{}",
            space.name
        );
        let explicit = cost::explicit_supernet(&space).macs;
        assert_eq!(explicit, plain_supernet_macs(&space, true), "{}", space.name);
    }
}
