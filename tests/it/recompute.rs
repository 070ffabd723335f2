//! Recomputed blocks give the same bits, and every output is written before it is read.

use crate::numbers::{loss_of, random_map, scramble, values};
use crate::spaces::{gate_values, random_probabilities, small};
use candle_core::{Device, Tensor};
use repro::net::{GatedNetwork, Network, Supernet};
use repro::nn::Pass;
use repro::recipe::Recompute;
use repro::rng::Seed;
use repro::space::{ArchSpec, BlockDecision, Decisions};

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// The network of the largest sizes and the first block types.
fn largest() -> ArchSpec {
    let space = small();
    let blocks = space.blocks.iter().map(|block| BlockDecision {
        block_type: 0,
        expansion: block.expansions() - 1,
        width: block.widths.len() - 1,
    });
    space.decide(&Decisions { resolution: 0, blocks: blocks.collect() })
}

/// The bits of one step: loss, gradients of weights and gates, and the hash of all tensors after it.
fn step(recompute: Recompute, frozen: bool) -> (u64, Vec<Option<Vec<u32>>>, String, String) {
    let space = small();
    let gates = gate_values(&space, &random_probabilities(&space, "gates"));
    let (supernet, mut params) = Supernet::new(&space, Seed(3), &Device::Cpu).unwrap();
    scramble(&mut params, "weights");
    let side = space.max_resolution();
    let images = random_map("images", (3, side, side, space.image_channels)).tensor();
    let pass = if frozen { Pass::frozen(&mut params) } else { Pass::training(&mut params) };
    let mut pass = pass.recomputing(recompute);
    let (logits, bound) = supernet.forward(&mut pass, &images, &gates, true).unwrap();
    let result = loss_of(logits.tensor(), &[0, 1, 2], 0.0).unwrap();
    let (weights, mut others) = pass.backward(&logits, result.dlogits.clone()).unwrap();
    let gates = supernet.gate_gradients(&bound, &mut others).unwrap();
    let weights = weights.iter().map(|d| d.as_ref().map(bits)).collect();
    (result.loss.to_bits(), weights, format!("{gates:?}"), params.sha256().unwrap())
}

#[test]
fn outputs_are_written_before_they_are_read() {
    // In all these tests, outputs are filled with NaN first.
    let (loss, weights, gates, _) = step(Recompute::None, false);
    assert!(f64::from_bits(loss).is_finite());
    let numbers = weights.iter().flatten().flatten();
    assert!(numbers.into_iter().all(|bits| f32::from_bits(*bits).is_finite()));
    assert!(!gates.contains("NaN"), "{gates}");
    let arch = largest();
    let (net, params) = Network::of_arch(&arch, Seed(3), &Device::Cpu).unwrap();
    let (side, channels) = (arch.resolution, arch.image_channels);
    // Two images per chunk, and one in the last.
    let images = random_map("images", (17, side, side, channels)).tensor();
    let logits = net.freeze(&params).unwrap().forward(&images).unwrap();
    assert!(bits(&logits).into_iter().all(|bits| f32::from_bits(bits).is_finite()));
}

#[test]
fn nan_weights_reach_the_loss() {
    let arch = largest();
    let (net, mut params) = Network::of_arch(&arch, Seed(3), &Device::Cpu).unwrap();
    let (side, channels) = (arch.resolution, arch.image_channels);
    let images = random_map("images", (2, side, side, channels)).tensor();
    let names: Vec<(String, Tensor)> =
        params.named().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    for (name, tensor) in names.iter().filter(|(name, _)| !name.contains("running")) {
        let mut spoilt = values(tensor);
        spoilt[0] = f64::NAN;
        params.set(name, &crate::numbers::tensor(&spoilt, tensor.dims())).unwrap();
        let logits = net.forward(&mut Pass::training(&mut params), &images).unwrap();
        let found = loss_of(logits.tensor(), &[0, 1], 0.0).unwrap();
        assert!(found.loss.is_nan(), "{name}: {}", found.loss);
        params.set(name, tensor).unwrap();
    }
}

#[test]
fn recomputed_blocks_give_the_same_bits() {
    for frozen in [false, true] {
        let kept = step(Recompute::None, frozen);
        assert!(kept.1.iter().any(Option::is_some) != frozen);
        assert!(step(Recompute::Block, frozen) == kept, "frozen: {frozen}");
    }
}
