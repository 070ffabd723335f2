//! What a training step leaves out at random: dropout in front of the classifier (Srivastava et al. 2014),
//! and whole blocks for single images (stochastic depth, Huang et al. 2016, also called drop-connect).
//!
//! What stays is divided by the probability that it stays, so that evaluation needs no factor. Block l of L
//! is left out with the probability l / L times the rate (Huang et al., section 3, equation 4); only blocks
//! that add their input can be. The numbers are a function of (seed, label, step).

use super::Network;
use super::block::BlockGates;
use crate::nn::Pass;
use crate::recipe::DropRates;
use crate::rng::{Seed, Stream};
use crate::tape::Value;
use candle_core::Result;

/// The random numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct DropNoise<'a> {
    pub rates: DropRates,
    pub seed: Seed,
    /// The beginning of the labels of the streams.
    pub label: &'a str,
    pub step: u64,
}

/// The factors of a step, zero for what is left out.
pub(super) struct Drops {
    pub blocks: Vec<BlockGates>,
    /// `[n, features]`
    pub features: Option<Value>,
}

impl DropNoise<'_> {
    fn stream(&self, what: &str) -> Stream {
        self.seed.stream(&format!("{}/{what}", self.label), self.step)
    }

    /// The factors of each block for `images` images; none where a block cannot be left out.
    fn of_blocks(&self, net: &Network, images: usize) -> Vec<Option<Vec<f64>>> {
        let blocks = net.blocks.len() as f64;
        let factors = net.blocks.iter().enumerate().map(|(i, block)| {
            let rate = self.rates.drop_connect * (i + 1) as f64 / blocks;
            let drops = rate > 0.0 && block.is_droppable();
            drops.then(|| factors(rate, images, self.stream(&format!("drop-connect/{i}"))))
        });
        factors.collect()
    }
}

impl Drops {
    /// Draws all factors and uploads them at once.
    pub(super) fn draw(
        noise: &DropNoise<'_>,
        net: &Network,
        pass: &mut Pass<'_>,
        images: usize,
    ) -> Result<Self> {
        let blocks = noise.of_blocks(net, images);
        let width = net.classifier.features();
        let features = (noise.rates.dropout > 0.0)
            .then(|| factors(noise.rates.dropout, images * width, noise.stream("dropout")));
        let (blocks, features) = pass.rows(false, |rows| {
            let row = |factors: &Option<Vec<f64>>| factors.as_ref().map(|row| rows.row(row));
            let mut row = row;
            let blocks: Vec<Option<Value>> = blocks.iter().map(&mut row).collect();
            (blocks, row(&features))
        })?;
        let features = features.map(|row| row.tensor().reshape((images, width)));
        Ok(Self {
            blocks: blocks
                .into_iter()
                .map(|kept| BlockGates { kept, ..Default::default() })
                .collect(),
            features: features.transpose()?.map(Value::constant),
        })
    }
}

/// Zero with the probability `rate`, otherwise 1 / (1 - `rate`).
fn factors(rate: f64, count: usize, mut stream: Stream) -> Vec<f64> {
    let kept = 1.0 / (1.0 - rate);
    (0..count).map(|_| if stream.uniform() < rate { 0.0 } else { kept }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Params;
    use crate::space::{NetworkPlan, parse_space};
    use candle_core::Device;
    use std::path::Path;

    #[test]
    fn factors_have_a_mean_of_one() {
        for rate in [0.05, 0.2, 0.8] {
            let factors = factors(rate, 100_000, Seed(1).stream("factors", 0));
            assert!(factors.iter().all(|f| *f == 0.0 || (f * (1.0 - rate) - 1.0).abs() < 1e-12));
            let mean = factors.iter().sum::<f64>() / 1e5;
            let error = (rate / (1.0 - rate) / 1e5).sqrt();
            assert!((mean - 1.0).abs() < 5.0 * error, "{rate}: {mean}");
        }
    }

    #[test]
    fn deeper_blocks_are_left_out_more_often_and_those_without_their_input_never() {
        let text = include_str!("../../experiments/spaces/smoke.toml");
        let space = parse_space(text, Path::new("smoke.toml")).unwrap();
        let plan = NetworkPlan::supernet(&space);
        let net = Network::new(&mut Params::new(Seed(1), &Device::Cpu), &plan).unwrap();
        let rates = DropRates { dropout: 0.0, drop_connect: 0.6 };
        let noise = DropNoise { rates, seed: Seed(1), label: "test", step: 0 };
        let factors = noise.of_blocks(&net, 20_000);
        let mut droppable = 0;
        for (i, (factors, block)) in factors.iter().zip(&plan.blocks).enumerate() {
            assert_eq!(factors.is_some(), block.identity && !block.branches.is_empty());
            let Some(factors) = factors else { continue };
            let dropped = factors.iter().filter(|factor| **factor == 0.0).count() as f64 / 2e4;
            let rate = 0.6 * (i + 1) as f64 / plan.blocks.len() as f64;
            assert!((dropped - rate).abs() < 0.02, "block {i}: {dropped}");
            droppable += 1;
        }
        assert!(droppable > 0 && droppable < factors.len(), "{droppable}");
        let again = DropNoise { step: 1, ..noise }.of_blocks(&net, 20_000);
        assert_ne!(again, factors);
    }
}
