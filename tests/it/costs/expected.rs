//! Expected shapes and costs: the exact count at one-hot choices, otherwise the expectation.

use super::{all_networks, spaces, tiny, two_resolutions};
use crate::spaces::{
    decisions, dense, gate_values, one_hot, own_input, random_probabilities, shipped, unexpanded,
};
use repro::cost::{Probabilities, count, propagate};
use repro::space::{
    BlockKind, BlockType, ConvSpec, Expansion, ExpansionOf, SearchSpace, make_divisible,
    squeeze_width,
};

#[test]
fn one_hot_cost_is_the_exact_count() {
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
            // Equal in floating point, too, because all numbers are integers.
            let real = propagate(&space, &one_hot(&space, &made, &0.0, &1.0), &1.0).cost;
            assert_eq!(
                (real.macs, real.params),
                (exact.cost.macs as f64, exact.cost.params as f64)
            );
        }
    }
}

#[test]
fn effective_shapes_are_expectations() {
    let several =
        [(tiny(), "a"), (tiny(), "b"), (unexpanded(), "a"), (dense(), "a"), (own_input(), "a")];
    for (space, label) in several {
        let p = random_probabilities(&space, label);
        let found = propagate(&space, &p, &1.0).blocks;
        let n = found.len();
        let (mut inputs, mut widths, mut adds) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        let mut mids = vec![0.0; n];
        let mut total = 0.0;
        for (made, q) in all_networks(&space, &p) {
            total += q;
            let mut input = space.stem.width;
            for (i, block) in space.decide(&made).blocks.iter().enumerate() {
                inputs[i] += q * input as f64;
                if let Expansion::Options { ratios, of: ExpansionOf::Input, .. } =
                    &space.blocks[i].expansion
                {
                    let channels = ratios[made.blocks[i].expansion] * input as f64;
                    mids[i] += q * make_divisible(channels, space.channel_divisor) as f64;
                }
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
            if mids[i] > 0.0 {
                assert!((found.mid - mids[i]).abs() < 1e-9, "hidden of {i}");
            }
            let whole: f64 = found.incoming.iter().map(|(_, p)| p).sum();
            assert!((whole - 1.0).abs() < 1e-9, "input of {i}");
        }
    }
}

/// Of each resolution.
fn sides_behind_stem(space: &SearchSpace) -> Vec<usize> {
    let ConvSpec { kernel, stride, .. } = space.stem;
    let behind_stem = |side: &usize| (side + 2 * (kernel / 2) - kernel) / stride + 1;
    space.resolutions.iter().map(behind_stem).collect()
}

/// The expected cost written out: Σ_t p_t · cost of type t at the expected channels.
fn plain_expectation(space: &SearchSpace, p: &Probabilities<f64>) -> [f64; 3] {
    let shapes = propagate(space, p, &1.0).blocks;
    let mut total = [0.0; 3];
    let mut conv = |share: f64, weights: f64, side: f64| {
        total[0] += share * weights * side * side;
        total[1] += share * weights;
    };
    let mut pooled = 0.0;
    let mut sides = sides_behind_stem(space);
    // The expected side over the resolutions.
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
        let hidden: Vec<(usize, f64)> = match &choices.expansion {
            Expansion::Options { ratios, of: ExpansionOf::Input, .. } => {
                let mut all = vec![];
                for (ratio, g) in ratios.iter().zip(&p.expansions) {
                    for (input, q) in &shape.incoming {
                        let mid = make_divisible(ratio * *input as f64, space.channel_divisor);
                        all.push((mid, g * q));
                    }
                }
                all
            }
            Expansion::Options { mids, .. } => {
                mids.iter().copied().zip(p.expansions.iter().copied()).collect()
            }
            Expansion::None => shape.incoming.clone(),
        };
        let expands = choices.expansion != Expansion::None;
        let mean = |of: &dyn Fn(usize) -> usize| -> f64 {
            hidden.iter().map(|(channels, q)| of(*channels) as f64 * q).sum()
        };
        let mid = mean(&|channels| channels);
        let squeezed = mean(&|channels| squeeze_width(channels, space.channel_divisor));
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
fn expected_cost_uses_expected_shapes() {
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

#[test]
fn paper_example_has_its_effective_width() {
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
