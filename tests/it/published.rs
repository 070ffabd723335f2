//! The published totals of the released networks, counted from their architectures
//! (published/architectures.json).

use repro::cost::count;
use repro::net::Network;
use repro::rng::Seed;
use repro::space::{
    Activation, ArchSpec, BlockKind, BlockSpec, ConvSpec, Head, make_divisible, squeeze_width,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Published {
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
    serde_json::from_str::<Published>(text).unwrap().networks
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
                Head::IrPool { mid: self.hidden(input, ratio), width, activation }
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

#[test]
fn counts_equal_the_published_totals() {
    let all = published();
    assert_eq!(all.len(), 13);
    for network in &all {
        let cost = count(&network.arch());
        let rounded =
            |v: u64| (v + network.rounded_to / 2) / network.rounded_to * network.rounded_to;
        assert_eq!(rounded(cost.macs + cost.pooled), network.flops, "{} FLOPs", network.name);
        assert_eq!(rounded(cost.params), network.params, "{} params", network.name);
    }
    let exact = all.iter().filter(|n| n.rounded_to == 1);
    assert_eq!(exact.count(), 7);
}

#[test]
fn paper_mac_totals_exclude_pooling() {
    // Millions, as computed from the released networks.
    let expected = [("F1", 56.23), ("F2", 85.16), ("F4", 237.6), ("L1", 325.0), ("L2", 422.6)];
    let all = published();
    for (name, millions) in expected {
        let network = all.iter().find(|n| n.name == format!("FBNetV2_{name}")).unwrap();
        let macs = count(&network.arch()).macs as f64 / 1e6;
        assert!((macs - millions).abs() < 0.05, "{name}: {macs}");
    }
}

#[test]
fn published_networks_are_built_with_counted_weights() {
    for name in ["FBNetV2_F1", "fbnet_c", "mnv2"] {
        let all = published();
        let network = all.iter().find(|n| n.name == name).unwrap();
        let (_, params) =
            Network::of_arch(&network.arch(), Seed(0), &candle_core::Device::Cpu).unwrap();
        let weights = params.named().filter(|(name, _)| name.ends_with(".weight"));
        let built: usize = weights.map(|(_, tensor)| tensor.elem_count()).sum();
        assert_eq!(built as u64, count(&network.arch()).params, "{name}");
    }
}
