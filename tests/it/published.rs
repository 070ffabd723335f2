//! The published networks: their files, and their totals. `published/architectures.json` has some of them
//! by the expansion ratios of their source.

mod parity;

use repro::claim::{self, Mark};
use repro::cost::{count, trainable};
use repro::net::{Network, state_dict};
use repro::rng::Seed;
use repro::space::{
    Activation, ArchFile, ArchSpec, BlockKind, BlockSpec, ConvSpec, Head, Published,
    SqueezeFunctions, make_divisible, squeeze_width,
};
use repro::zoo;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Definitions {
    networks: Vec<PublishedNetwork>,
}

#[derive(Deserialize)]
struct PublishedNetwork {
    name: String,
    resolution: usize,
    divisor: usize,
    flops: u64,
    params: u64,
    /// The unit to which the published totals are rounded; 1 is exact.
    rounded_to: u64,
    blocks: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Row {
    Conv { kernel: usize, stride: usize, width: usize, activation: Activation },
    Irf { kernel: usize, stride: usize, width: usize, ratio: f64, activation: Activation, se: bool },
    Skip { stride: usize, width: usize },
    IrPool { width: usize, ratio: f64, activation: Activation },
}

#[test]
fn published_networks_are_valid() {
    for network in published() {
        assert_eq!(network.arch().check(), Ok(()));
    }
}

fn published() -> Vec<PublishedNetwork> {
    let text = include_str!("published/architectures.json");
    serde_json::from_str::<Definitions>(text).unwrap().networks
}

impl PublishedNetwork {
    fn arch(&self) -> ArchSpec {
        let [Row::Conv { kernel, stride, width, activation }, blocks @ .., last] =
            self.blocks.as_slice()
        else {
            panic!("{} does not begin with a convolution", self.name)
        };
        let stem =
            ConvSpec { kernel: *kernel, stride: *stride, width: *width, activation: *activation };
        let mut input = stem.width;
        let blocks: Vec<BlockSpec> = blocks
            .iter()
            .enumerate()
            .map(|(i, row)| self.block(&format!("1.{}", i + 1), row, &mut input))
            .collect();
        let head = match *last {
            Row::IrPool { width, ratio, activation } => {
                Head::IrPool { mid: self.hidden(input, ratio), width, activation, squeeze: None }
            }
            Row::Conv { width, activation, kernel: 1, stride: 1 } => {
                Head::Conv { width, activation }
            }
            _ => panic!("{} ends otherwise", self.name),
        };
        let (resolution, image_channels, classes) = (self.resolution, 3, 1000);
        ArchSpec { resolution, image_channels, classes, stem, blocks, head }
    }

    fn hidden(&self, input: usize, ratio: f64) -> usize {
        make_divisible(input as f64 * ratio, self.divisor)
    }

    fn block(&self, label: &str, row: &Row, input: &mut usize) -> BlockSpec {
        let (stride, width, kind) = match *row {
            Row::Irf { kernel, stride, width, ratio, activation, se } => {
                let mid = self.hidden(*input, ratio);
                let kind = BlockKind::MbConv {
                    kernel,
                    activation,
                    mid,
                    expand: mid != *input,
                    squeeze: se.then(|| squeeze_width(mid, self.divisor)),
                    residual: stride == 1 && width == *input,
                    groups: 1,
                    squeeze_functions: SqueezeFunctions::default(),
                };
                (stride, width, kind)
            }
            Row::Skip { stride: 1, width } if width == *input => (1, width, BlockKind::Identity),
            Row::Skip { stride, width } => (stride, width, BlockKind::Projection),
            _ => panic!("{}: no such block inside", self.name),
        };
        *input = width;
        BlockSpec { label: label.to_owned(), stride, width, kind }
    }
}

/// The same network, whatever its blocks are called.
fn unlabelled(mut arch: ArchSpec) -> ArchSpec {
    arch.blocks.iter_mut().for_each(|block| block.label.clear());
    arch
}

fn network(name: &str) -> ArchFile {
    zoo::network(name).unwrap_or_else(|| panic!("no network {name}"))
}

/// Those of `experiments/archs/`.
fn all_networks() -> impl Iterator<Item = ArchFile> {
    zoo::names().map(network)
}

#[test]
fn the_files_have_the_networks_that_their_ratios_define() {
    let all = published();
    assert_eq!(all.len(), 13);
    for defined in all {
        let ArchFile { arch, published, .. } = network(&defined.name);
        assert_eq!(unlabelled(arch), unlabelled(defined.arch()), "{}", defined.name);
        let Published { params, flops, rounded_to, .. } = published.unwrap();
        let totals = (defined.params, defined.flops, defined.rounded_to);
        assert_eq!((params, flops), (totals.0, totals.1), "{}", defined.name);
        assert_eq!(rounded_to, totals.2, "{}", defined.name);
    }
}

/// Computed totals, rounded like the published ones, and these.
fn totals(arch: &ArchSpec, published: &Published) -> [(u64, u64); 2] {
    let cost = count(arch);
    let unit = published.rounded_to;
    let rounded = |v: u64| (v + unit / 2) / unit * unit;
    [(cost.macs + cost.pooled, published.flops), (cost.params, published.params)]
        .map(|(computed, published)| (rounded(computed), published))
}

#[test]
fn counts_equal_the_published_totals() {
    let (mut exact, mut rounded) = (0, 0);
    for ArchFile { name, arch, published, .. } in all_networks() {
        let Some(published) = published.filter(|_| name != "mnv3") else { continue };
        for (computed, published) in totals(&arch, &published) {
            assert_eq!(computed, published, "{name}");
        }
        *(if published.rounded_to == 1 { &mut exact } else { &mut rounded }) += 1;
    }
    assert_eq!((exact, rounded), (7, 7));
}

#[test]
fn the_totals_of_mobilenetv3_are_those_of_unrounded_squeeze_excites() {
    let ArchFile { mut arch, published, .. } = network("mnv3");
    for block in &mut arch.blocks {
        if let BlockKind::MbConv { mid, squeeze: Some(squeeze), .. } = &mut block.kind {
            *squeeze = *mid / 4;
        }
    }
    for (computed, published) in totals(&arch, &published.unwrap()) {
        assert_eq!(computed, published);
    }
}

#[test]
fn the_totals_of_f0_are_those_without_its_classifier() {
    let arch = network("FBNetV2_F0").arch;
    let (cost, classifier) = (count(&arch), 1280 * 1000);
    // 1.53 and 65.2 million; further digits were cut.
    assert_eq!((cost.params - classifier) / 10_000, 153);
    assert_eq!((cost.macs + cost.pooled - classifier) / 100_000, 652);
}

#[test]
fn paper_mac_totals_exclude_pooling() {
    // Millions, as computed from the released networks.
    let expected = [("F1", 56.23), ("F2", 85.16), ("F4", 237.6), ("L1", 325.0), ("L2", 422.6)];
    for (name, millions) in expected {
        let macs = count(&network(&format!("FBNetV2_{name}")).arch).macs as f64 / 1e6;
        assert!((macs - millions).abs() < 0.05, "{name}: {macs}");
    }
}

#[test]
fn published_networks_are_built_with_counted_weights() {
    for ArchFile { name, arch, .. } in all_networks() {
        let (_, params) = Network::of_arch(&arch, Seed(0), &candle_core::Device::Cpu).unwrap();
        let weights = params.named().filter(|(name, _)| name.ends_with(".weight"));
        let built: usize = weights.map(|(_, tensor)| tensor.elem_count()).sum();
        assert_eq!(built as u64, count(&arch).params, "{name}");
        assert_eq!(params.count() as u64, trainable(&arch), "{name}");
    }
}

#[test]
fn state_dicts_have_the_published_names_and_shapes() {
    let text = include_str!("published/state_dict_names.json");
    let expected: BTreeMap<String, Vec<(String, Vec<usize>)>> = serde_json::from_str(text).unwrap();
    assert_eq!(expected.len(), 3);
    for (name, expected) in expected {
        let arch = network(&name).arch;
        let (_, params) = Network::of_arch(&arch, Seed(0), &candle_core::Device::Cpu).unwrap();
        let found = state_dict(&arch, &params).unwrap().into_iter();
        let found: BTreeMap<String, Vec<usize>> =
            found.map(|(name, tensor)| (name, tensor.dims().to_vec())).collect();
        assert_eq!(found, expected.into_iter().collect(), "{name}");
    }
}

/// The numbers that claims mark as computed are those of the networks.
#[test]
fn claims_have_the_counted_costs() {
    let cost = |name: &str| count(&zoo::network(name).unwrap().arch);
    let flops = |name: &str| (cost(name).macs + cost(name).pooled) as f64;
    let fewer = |ours: &str, theirs: &str| 100.0 * (1.0 - flops(ours) / flops(theirs));
    let counted = |id: &str| {
        let numbers = &claim::find(id).unwrap().published;
        let last = numbers.iter().rfind(|number| number.mark == Mark::Computed);
        last.unwrap().value
    };
    let near = |a: f64, b: f64, unit: f64| assert!((a - b).abs() <= unit / 2.0, "{a} {b}");
    near(counted("C5"), fewer("FBNetV2_F1", "mnv3_small"), 0.1);
    near(counted("C6"), fewer("FBNetV2_L1", "eff_0"), 0.1);
    near(counted("C7"), cost("mnv3").params as f64 / 1e6, 0.01);
}
