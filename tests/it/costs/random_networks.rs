//! Random networks: counted from their description, and by walking the tensors of the built network.

use candle_core::Device;
use repro::cost::{self, count};
use repro::net::{Network, load_state_dict, state_dict};
use repro::nn::Params;
use repro::rng::{Seed, Stream};
use repro::space::{
    Activation, ArchFile, ArchSpec, BlockKind, BlockSpec, ConvSpec, Head, HeadSqueeze,
    SqueezeFunctions,
};
use std::collections::BTreeMap;
use std::path::Path;

const ACTIVATIONS: [Activation; 3] = [Activation::Relu, Activation::Hswish, Activation::Swish];

fn pick<T: Copy>(stream: &mut Stream, options: &[T]) -> T {
    options[stream.below(options.len())]
}

fn random_block(label: String, input: usize, stream: &mut Stream) -> BlockSpec {
    let stride = pick(stream, &[1, 1, 2]);
    let width = pick(stream, &[8, 16, 24, input]);
    let kind = match stream.below(6) {
        0 => BlockKind::Projection,
        1 => BlockKind::Residual,
        2 => {
            let width = width.min(input);
            return BlockSpec { label, stride: 1, width, kind: BlockKind::Identity };
        }
        _ => {
            let expand = stream.below(3) > 0;
            let mid = if expand { pick(stream, &[input, 16, 48, 3 * input]) } else { input };
            let divides = |n: &usize| [input, mid, width].iter().all(|channels| channels % n == 0);
            let groups: Vec<usize> = [1, 2, 4].into_iter().filter(divides).collect();
            let gate = pick(stream, &[Activation::Hsigmoid, Activation::Sigmoid]);
            let activation = pick(stream, &[None, Some(Activation::Relu)]);
            BlockKind::MbConv {
                kernel: pick(stream, &[3, 5]),
                activation: pick(stream, &ACTIVATIONS),
                mid,
                expand,
                squeeze: pick(stream, &[None, Some(4), Some(10)]),
                residual: stride == 1 && width == input && stream.below(2) == 0,
                groups: pick(stream, &groups),
                squeeze_functions: SqueezeFunctions { activation, gate },
            }
        }
    };
    BlockSpec { label, stride, width, kind }
}

fn random_network(seed: u64) -> ArchSpec {
    let stream = &mut Seed(seed).stream("network", 0);
    let activation = pick(stream, &ACTIVATIONS);
    let stem = ConvSpec {
        kernel: pick(stream, &[1, 3, 5]),
        stride: pick(stream, &[1, 2]),
        width: pick(stream, &[8, 16]),
        activation,
    };
    let mut input = stem.width;
    let mut blocks = Vec::new();
    for stage in 1..=1 + stream.below(3) {
        for index in 1..=1 + stream.below(3) {
            let block = random_block(format!("{stage}.{index}"), input, stream);
            input = block.width;
            blocks.push(block);
        }
    }
    let width = pick(stream, &[16, 40]);
    let functions = SqueezeFunctions::default();
    let squeeze = pick(stream, &[None, Some(HeadSqueeze { width: 6, functions })]);
    let pooled = Head::IrPool { mid: pick(stream, &[16, 24]), width, activation, squeeze };
    let head = if stream.below(2) == 0 { Head::Conv { width, activation } } else { pooled };
    let arch = ArchSpec {
        resolution: pick(stream, &[17, 24, 32]),
        image_channels: pick(stream, &[1, 3]),
        classes: pick(stream, &[2, 10]),
        stem,
        blocks,
        head,
    };
    assert_eq!(arch.check(), Ok(()));
    arch
}

/// The pixels for which each weight of a tensor is used.
fn pixels(arch: &ArchSpec, name: &str) -> usize {
    let halved = |side: usize, stride: usize| side.div_ceil(stride);
    let mut side = halved(arch.resolution, arch.stem.stride);
    if name.starts_with("stem") {
        return side * side;
    }
    for block in &arch.blocks {
        let before = side;
        side = halved(side, block.stride);
        let Some(part) = name.strip_prefix(&format!("blocks.{}.", block.label)) else { continue };
        return match part {
            _ if part.contains(".se.") => 1,
            "mbconv.expand.weight" => before * before,
            _ => side * side,
        };
    }
    if name == "head.weight" { side * side } else { 1 }
}

#[test]
fn random_networks_are_counted_by_their_tensors() {
    let mut kinds = BTreeMap::new();
    for seed in 0..300 {
        let arch = random_network(seed);
        let (_, params) = Network::of_arch(&arch, Seed(0), &Device::Cpu).unwrap();
        let (mut macs, mut weights, mut trainable) = (0, 0, 0);
        for (name, tensor) in params.named() {
            let elements = tensor.elem_count();
            if name.ends_with(".weight") {
                weights += elements;
                macs += elements * pixels(&arch, name);
            }
            if !name.contains(".running_") {
                trainable += elements;
            }
        }
        let counted = count(&arch);
        assert_eq!((counted.macs, counted.params), (macs as u64, weights as u64), "{arch:?}");
        assert_eq!(cost::trainable(&arch), trainable as u64, "{arch:?}");
        for block in &arch.blocks {
            let kind = match block.kind {
                BlockKind::MbConv { groups, .. } if groups > 1 => "grouped",
                BlockKind::MbConv { .. } => "mbconv",
                BlockKind::Identity => "identity",
                BlockKind::Projection => "projection",
                BlockKind::Residual => "residual",
            };
            *kinds.entry(kind).or_insert(0) += 1;
        }
    }
    assert!(kinds.len() == 5 && kinds.values().all(|n| *n > 50), "{kinds:?}");
}

#[test]
fn random_networks_survive_their_file_and_their_state_dict() {
    for seed in 0..100 {
        let arch = random_network(seed);
        let file = ArchFile {
            name: "random".to_owned(),
            description: String::new(),
            arch,
            resize: None,
            published: None,
        };
        let read = ArchFile::parse(&file.to_toml(), Path::new("random.toml"));
        assert_eq!(read.unwrap_or_else(|e| panic!("{e}")), file);
        let arch = &file.arch;
        let (_, params) = Network::of_arch(arch, Seed(seed), &Device::Cpu).unwrap();
        let state: BTreeMap<_, _> = state_dict(arch, &params).unwrap().into_iter().collect();
        let (_, mut other): (_, Params) =
            Network::of_arch(arch, Seed(seed + 1), &Device::Cpu).unwrap();
        assert_ne!(other.sha256().unwrap(), params.sha256().unwrap());
        assert!(load_state_dict(arch, &mut other, &state).unwrap().is_empty());
        assert_eq!(other.sha256().unwrap(), params.sha256().unwrap(), "{arch:?}");
    }
}
