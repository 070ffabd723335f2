//! Logits of published networks against PyTorch, which built them from other definitions
//! (`benches/pytorch/published.py`). Weights and images are those of a formula that both compute.

use super::network;
use candle_core::{Device, Tensor};
use repro::net::{Network, load_state_dict, state_dict};
use repro::rng::Seed;
use std::collections::BTreeMap;

/// Share of the logits' spread.
const TOLERANCE: f64 = 1e-4;

/// Numbers in [-1, 1) from a name: FNV-1a, then `SplitMix64`, of which 24 bits are taken.
fn uniform(name: &str, count: usize) -> Vec<f64> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let number = |i: u64| {
        let mut z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (1..=count as u64).map(number).collect()
}

/// The weights of this name.
fn value(name: &str, dims: &[usize]) -> Tensor {
    let fan_in: usize = dims[1..].iter().product();
    let scaled = |u: f64| {
        if name.ends_with("running_var") || name.ends_with("bn.weight") {
            1.0 + 0.3 * u
        } else if dims.len() == 1 {
            0.2 * u
        } else {
            u * (3.0 / fan_in as f64).sqrt()
        }
    };
    let values = uniform(name, dims.iter().product()).into_iter();
    let values: Vec<f32> = values.map(|u| scaled(u) as f32).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

#[test]
fn published_networks_have_the_logits_of_pytorch() {
    let text = include_str!("logits.json");
    let expected: BTreeMap<String, Vec<Vec<f64>>> = serde_json::from_str(text).unwrap();
    assert_eq!(expected.len(), 5);
    for (name, expected) in expected {
        let arch = network(&name).arch;
        let (net, mut params) = Network::of_arch(&arch, Seed(0), &Device::Cpu).unwrap();
        let mut state = BTreeMap::new();
        for (key, tensor) in state_dict(&arch, &params).unwrap() {
            // FBNet's convolutions have biases before their batch norms.
            if let Some(layer) = key.strip_suffix(".conv.weight")
                && name == "fbnet_a"
                && [".pw", ".dw", ".pwl"].iter().any(|part| layer.ends_with(part))
            {
                let bias = format!("{layer}.conv.bias");
                state.insert(bias.clone(), value(&bias, &[tensor.dims()[0]]));
            }
            state.insert(key.clone(), value(&key, tensor.dims()));
        }
        let mismatch = load_state_dict(&arch, &mut params, &state).unwrap();
        assert!(mismatch.is_empty(), "{name}: {mismatch:?}");
        let side = arch.resolution;
        let images: Vec<f32> =
            uniform("images", 2 * 3 * side * side).into_iter().map(|v| v as f32).collect();
        let images = Tensor::from_vec(images, (2, 3, side, side), &Device::Cpu).unwrap();
        let images = images.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        let logits = net.freeze(&params).unwrap().forward(&images).unwrap();
        let found = logits.to_vec2::<f32>().unwrap().concat();
        let expected = expected.concat();
        assert_eq!(found.len(), expected.len());
        let (least, most) = expected
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        let largest =
            found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        let share = largest / (most - least);
        assert!(share <= TOLERANCE, "{name}: {share:e} of the spread {:e}", most - least);
    }
}
