//! Several input resolutions in one supernet (FBNetV2 section 3.2): the pixels that each of them sees, and
//! that one-hot gates give the derived network at that resolution. The space `small` has two resolutions,
//! so `networks.rs` tests the gradients and `invariants.rs` one-hot choices for every kind of block.

use crate::harness::derived;
use crate::numbers::{assert_close, loss_of, random_map, scramble, values};
use crate::reference::Map;
use crate::spaces::{decisions, gate_values, one_hot, parse, small};
use candle_core::Device;
use repro::net::{GatedNetwork, NetGates, Supernet};
use repro::nn::{Params, Pass};
use repro::ops::subsample::Grid;
use repro::rng::Seed;
use repro::space::{BlockDecision, Decisions, SearchSpace};

#[test]
fn grids_align_at_every_depth() {
    for (large, small) in (1..=40).flat_map(|large| (1..=large).map(move |small| (large, small))) {
        let image = Grid { ratio: (large, small), size: (small, small) };
        for stride in [1_usize, 2, 4, 8, 32] {
            let (sides, what) = ((large.div_ceil(stride), small.div_ceil(stride)), (large, small));
            let at: Vec<usize> = (0..sides.1).map(|i| image.at(i)).collect();
            assert!(at.windows(2).all(|pair| pair[0] < pair[1]), "{what:?} by {stride}");
            assert!(at[sides.1 - 1] < sides.0, "{what:?} by {stride}");
            for (i, at) in at.iter().enumerate() {
                // Pixel i of the small map describes pixel i · stride of the small image.
                let (here, there) = (at * stride, image.at(i * stride));
                assert!(here <= there && there < here + stride, "{what:?} by {stride}: {i}");
                assert!(here == there || large % small != 0, "{what:?} by {stride}: {i}");
            }
        }
    }
}

/// Only the resolution is a choice. The stem and one 3x3 block have a receptive field of five pixels.
fn five_pixels_across() -> SearchSpace {
    parse(
        r#"
name = "five"
channel_divisor = 1
types = ["k3_hswish"]
[input]
resolutions = [6, 8, 12]
channels = 1
classes = 2
[stem]
kernel = 3
stride = 1
width = 4
activation = "hswish"
[[stage]]
blocks = 1
stride = 1
expansion = 2
width = 4
[head]
width = 5
activation = "hswish"
"#,
    )
}

/// One-hot gates for the resolution of this index.
fn chosen(space: &SearchSpace, resolution: usize) -> NetGates {
    let first = BlockDecision { block_type: 0, expansion: 0, width: 0 };
    let made = Decisions { resolution, blocks: vec![first; space.blocks.len()] };
    gate_values(space, &one_hot(space, &made, &0.0, &1.0))
}

/// A logit of an image that is zero except for these pixels of row 0.
fn logit(net: &Supernet, params: &mut Params, gates: &NetGates, lit: &[usize]) -> f64 {
    let side = net.space().max_resolution();
    let mut image = Map::zeros(1, side, side, 1);
    for x in lit {
        image.data[*x] = 1.5;
    }
    let mut pass = Pass::inference(params);
    let (logits, _) = net.forward(&mut pass, &image.tensor(), gates, false).unwrap();
    values(logits.tensor())[0]
}

#[test]
fn a_resolution_sees_only_its_grid() {
    let space = five_pixels_across();
    let (net, mut params) = Supernet::new(&space, Seed(2), &Device::Cpu).unwrap();
    for (index, resolution) in space.resolutions.iter().enumerate() {
        let gates = chosen(&space, index);
        let dark = logit(&net, &mut params, &gates, &[]);
        let seen: Vec<usize> =
            (0..12).filter(|x| logit(&net, &mut params, &gates, &[*x]) != dark).collect();
        let grid: Vec<usize> = (0..*resolution).map(|i| i * 12 / resolution).collect();
        assert_eq!(seen, grid, "{resolution}");
    }
}

/// Pooling and classifier are linear, so two pixels together change a logit differently from the sum of
/// both changes only where some unit sees both.
#[test]
fn receptive_fields_grow_at_smaller_resolutions() {
    let space = five_pixels_across();
    let (net, mut params) = Supernet::new(&space, Seed(2), &Device::Cpu).unwrap();
    for (index, ratio) in [(0, 2), (2, 1)] {
        let gates = chosen(&space, index);
        let mut together = |x: usize| {
            let mut at = |lit: &[usize]| logit(&net, &mut params, &gates, lit);
            (at(&[0, x]) - at(&[0]) - at(&[x]) + at(&[])).abs()
        };
        let reach: Vec<usize> = (1..6).filter(|i| together(i * ratio) > 1e-6).collect();
        assert_eq!(reach, [1, 2, 3, 4], "image pixels {ratio} apart");
    }
}

#[test]
fn one_hot_resolution_equals_the_derived_network() {
    let space = small();
    let largest = space.max_resolution();
    let images = random_map("images", (4, largest, largest, space.image_channels));
    for made in decisions(&space, "resolution", 20) {
        let what = format!("{made:?}");
        let (net, mut params) = Supernet::new(&space, Seed(4), &Device::Cpu).unwrap();
        scramble(&mut params, "resolution");
        let (alone, mut own) = derived(&space, &made, &params);
        let gates = gate_values(&space, &one_hot(&space, &made, &0.0, &1.0));
        let mut pass = Pass::training(&mut params);
        let (logits, _) = net.forward(&mut pass, &images.tensor(), &gates, false).unwrap();

        // The derived network gets small images, which are subsampled here.
        let side = space.resolutions[made.resolution];
        let sampled = images.sampled((largest, side), (side, side));
        let mut pass = Pass::training(&mut own);
        let expected = alone.forward(&mut pass, &sampled.tensor()).unwrap();
        let expected = values(expected.tensor());
        assert_close(&what, &values(logits.tensor()), &expected, 2e-4);

        // The running statistics equal those of the derived network.
        let (_, after) = derived(&space, &made, &params);
        let running = |params: &Params| -> Vec<(String, Vec<f64>)> {
            let named = params.named().filter(|(name, _)| name.contains(".running_"));
            named.map(|(name, tensor)| (name.to_owned(), values(tensor))).collect()
        };
        for ((name, found), (_, expected)) in running(&after).iter().zip(running(&own)) {
            assert_close(&format!("{what}, {name}"), found, &expected, 2e-4);
        }
    }
}

#[test]
fn derived_network_subsamples_large_images() {
    let space = small();
    let mut made = decisions(&space, "large", 1).remove(0);
    made.resolution = 0;
    let (_, params) = Supernet::new(&space, Seed(4), &Device::Cpu).unwrap();
    let (net, mut own) = derived(&space, &made, &params);
    let images = random_map("images", (3, 7, 7, 3));
    let mut logits = |images: &Map| {
        let mut pass = Pass::inference(&mut own);
        net.forward(&mut pass, &images.tensor()).map(|logits| values(logits.tensor()))
    };
    let of_large = logits(&images).unwrap();
    assert_eq!(of_large, logits(&images.sampled((7, 5), (5, 5))).unwrap());
    let error = logits(&images.sampled((7, 4), (4, 4))).unwrap_err();
    assert!(error.to_string().contains("side 5 does not fit images of 4x4"), "{error}");
    let frozen = net.freeze(&own).unwrap();
    let of_frozen = frozen.forward(&images.tensor()).unwrap();
    assert_close("frozen", &values(&of_frozen), &of_large, 1e-4);
    let error = frozen.forward(&images.sampled((7, 4), (4, 4)).tensor()).unwrap_err();
    assert!(error.to_string().contains("side 5 does not fit images of 4x4"), "{error}");
}

#[test]
fn recomputing_resolutions_gives_equal_gradients() {
    use repro::recipe::Recompute;
    let space = five_pixels_across();
    let run = |recompute| {
        let (net, mut params) = Supernet::new(&space, Seed(2), &Device::Cpu).unwrap();
        let mut gates = chosen(&space, 1);
        gates.resolutions = vec![0.2, 0.5, 0.3];
        let images = random_map("images", (3, 12, 12, 1)).tensor();
        let mut pass = Pass::training(&mut params).recomputing(recompute);
        let (logits, bound) = net.forward(&mut pass, &images, &gates, true).unwrap();
        let result = loss_of(logits.tensor(), &[0, 1, 0], 0.0).unwrap();
        let (weights, mut others) = pass.backward(&logits, result.dlogits).unwrap();
        let weights: Vec<Vec<f64>> = weights.iter().map(|d| values(d.as_ref().unwrap())).collect();
        (weights, net.gate_gradients(&bound, &mut others).unwrap())
    };
    let kept = run(Recompute::None);
    assert_eq!(kept, run(Recompute::Block));
    assert!(kept.1.resolutions.iter().all(|d| *d != 0.0));
}
