//! Counted costs against counts layer by layer, and against the weights of networks as they are built.

use super::{spaces, two_resolutions};
use crate::spaces::{decisions, dense, own_input, shipped, small, sparse, unexpanded};
use candle_core::Device;
use repro::cost::{self, Cost, count};
use repro::net::{ExplicitSupernet, Network, Supernet};
use repro::nn::Params;
use repro::rng::Seed;
use repro::space::{ArchSpec, BlockKind, BlockType, Expansion, Head, SearchSpace, squeeze_width};

/// Multiply-accumulates, weights and pooled elements, counted layer by layer.
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
            BlockKind::MbConv { kernel, mid, expand, squeeze, groups, .. } => {
                side = out(before, *kernel, block.stride);
                if *expand {
                    conv(1, input, *mid, *groups, before);
                }
                conv(*kernel, *mid, *mid, *mid, side);
                if let Some(squeeze) = squeeze {
                    pool(*mid, side);
                    conv(1, *mid, *squeeze, 1, 1);
                    conv(1, *squeeze, *mid, 1, 1);
                }
                conv(1, *mid, block.width, *groups, side);
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
        Head::IrPool { mid, width, squeeze, .. } => {
            conv(1, input, mid, 1, side);
            if let Some(squeeze) = squeeze {
                pool(mid, side);
                conv(1, mid, squeeze.width, 1, 1);
                conv(1, squeeze.width, mid, 1, 1);
            }
            pool(mid, side);
            conv(1, mid, width, 1, 1);
            pool(width, 1);
            conv(1, width, arch.classes, 1, 1);
        }
    }
    Cost { macs, params, pooled }
}

#[test]
fn count_sums_the_layers() {
    for space in spaces() {
        for made in decisions(&space, "count", 50) {
            let arch = space.decide(&made);
            assert_eq!(count(&arch), plain_count(&arch), "{made:?}");
        }
    }
}

#[test]
fn counted_weights_equal_built_weights() {
    let shipped = shipped("fbnetv2_f_cifar.toml");
    for space in [unexpanded(), small(), sparse(), dense(), own_input(), shipped] {
        for made in decisions(&space, "built", 10) {
            let arch = space.decide(&made);
            let (_, params) = Network::of_arch(&arch, Seed(0), &Device::Cpu).unwrap();
            let weights = params.named().filter(|(name, _)| name.ends_with(".weight"));
            let built: usize = weights.map(|(_, tensor)| tensor.elem_count()).sum();
            assert_eq!(params.count() as u64, cost::trainable(&arch), "{made:?}");
            assert_eq!(count(&arch).params, built as u64, "{made:?}");
        }
    }
}

#[test]
fn supernet_weights_equal_built_weights() {
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
fn only_the_explicit_supernet_multiplies_weights_by_resolution() {
    let space = two_resolutions();
    let alone = |side: usize| SearchSpace { resolutions: vec![side], ..space.clone() };
    // There is one classifier, which runs once.
    let classifier = (space.head.width * space.classes) as u64;
    let [both, small, large] = [&space, &alone(20), &alone(28)].map(cost::supernet);
    assert_eq!(both.macs, small.macs + large.macs - classifier);
    assert_eq!(both.params, large.params);
    // Each option has its own weights at each resolution.
    let [both, small, large] = [&space, &alone(20), &alone(28)].map(cost::explicit_supernet);
    assert_eq!(both.macs, small.macs + large.macs - classifier);
    assert_eq!(both.params, small.params + large.params - classifier);
    let (_, built) = ExplicitSupernet::new(&space, Seed(0), &Device::Cpu).unwrap();
    let weights = built.named().filter(|(name, _)| name.ends_with(".weight"));
    assert_eq!(both.params, weights.map(|(_, tensor)| tensor.elem_count() as u64).sum::<u64>());
}

/// Multiply-accumulates of a supernet for one image, convolution by convolution. Blocks of the masked one
/// have only their largest sizes, blocks of the explicit one have all sizes.
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
fn supernet_macs_sum_the_convolutions() {
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
