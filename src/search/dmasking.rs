//! `DMaskingNAS` (FBNetV2, section 3): the masked supernet under gates drawn by Gumbel-Softmax.

use super::bilevel::{AlphaStep, Relaxation};
use super::{ArchParams, slopes};
use crate::cost::{BlockProbabilities, Cost, Graph, Number, Traced, propagate};
use crate::data::Batch;
use crate::net::{GateGradients, GateValues, Supernet};
use crate::nn::{Params, Pass};
use crate::ops::loss::cross_entropy;
use crate::recipe::{Objective, SearchConfig};
use crate::rng::Seed;
use crate::space::SearchSpace;
use crate::train::{SgdState, Step, sgd_step};
use anyhow::Result;
use candle_core::Device;

/// A supernet with its weights and architecture parameters.
pub struct Dmasking<'a> {
    config: &'a SearchConfig,
    seed: Seed,
    supernet: Supernet,
    params: Params,
    alpha: ArchParams,
    optimizer: SgdState,
}

impl<'a> Dmasking<'a> {
    /// A fresh supernet, all options alike.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(
        space: &SearchSpace,
        config: &'a SearchConfig,
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        let (supernet, params) = Supernet::new(space, seed, device)?;
        let optimizer = SgdState::new(config.weights, &params)?;
        let alpha = ArchParams::new(space);
        Ok(Self { config, seed, supernet, params, alpha, optimizer })
    }

    /// The supernet's parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// One step of the weights at temperature τ; the gates are drawn anew and held.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step> {
        let Self { supernet, params, optimizer, .. } = self;
        let drawn = self.alpha.gates(self.seed, "gumbel/weights", step, tau);
        let identities =
            propagate(supernet.space(), &drawn, &1.0).blocks.into_iter().map(|b| b.identity);
        let gates = gate_values(&drawn, identities);
        let target = (&batch.labels[..], 0.0);
        Ok(sgd_step(params, optimizer, rate, target, self.config.recompute, |pass| {
            Ok(supernet.forward(pass, &batch.xs, &gates, false)?.0)
        })?)
    }

    fn objective<'c, N: Number>(&self, cost: &'c Cost<N>) -> &'c N {
        match self.config.loss.objective {
            Objective::Macs => &cost.macs,
            Objective::Params => &cost.params,
        }
    }
}

impl Relaxation for Dmasking<'_> {
    fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step> {
        self.weight_step(batch, step, tau, rate)
    }

    fn alpha_step(&mut self, batch: &Batch, step: u64, tau: f64) -> Result<AlphaStep> {
        let space = self.supernet.space().clone();
        let drawn = self.alpha.gates(self.seed, "gumbel/alpha", step, tau);
        let graph = Graph::default();
        let leaves = traced(&graph, &drawn);
        let shapes = propagate(&space, &leaves, &graph.leaf(1.0));
        let cost_node = self.objective(&shapes.cost);
        let cost = cost_node.value() / self.config.loss.cost_unit;

        let gates = gate_values(&drawn, shapes.blocks.iter().map(|b| b.identity.value()));
        let mut pass = Pass::frozen(&mut self.params).recomputing(self.config.recompute);
        let (logits, bound) = self.supernet.forward(&mut pass, &batch.xs, &gates, true)?;
        let result = cross_entropy(logits.tensor(), &batch.labels, 0.0)?;
        let (_, mut gradients) = pass.backward(&logits, result.dlogits.clone())?;
        let by_gates = bound.gradients(&space, &mut gradients)?;

        let loss = slopes(self.config.loss.form, result.loss, cost);
        let mut seeds = vec![(cost_node, loss.by_cost / self.config.loss.cost_unit)];
        for (block, d) in shapes.blocks.iter().zip(&by_gates) {
            seeds.push((&block.identity, loss.by_cross_entropy * d.identity));
        }
        let derivatives = graph.derivatives(&seeds);
        let combine = |leaves: &[Traced], direct: &[f64]| -> Vec<f64> {
            let pairs = leaves.iter().zip(direct);
            pairs.map(|(l, d)| derivatives.to(l) + loss.by_cross_entropy * d).collect()
        };
        let total: Vec<GateGradients> = leaves
            .iter()
            .zip(&by_gates)
            .map(|(leaf, direct)| GateGradients {
                types: combine(&leaf.types, &direct.types),
                expansions: combine(&leaf.expansions, &direct.expansions),
                widths: combine(&leaf.widths, &direct.widths),
                identity: 0.0,
            })
            .collect();
        self.alpha.step(&self.config.alpha, &drawn, &total, tau);
        Ok(AlphaStep { result, loss: loss.value, cost })
    }

    fn alpha(&self) -> &ArchParams {
        &self.alpha
    }
}

fn traced(graph: &Graph, drawn: &[BlockProbabilities<f64>]) -> Vec<BlockProbabilities<Traced>> {
    let leaves = |values: &[f64]| values.iter().map(|v| graph.leaf(*v)).collect();
    drawn
        .iter()
        .map(|block| BlockProbabilities {
            types: leaves(&block.types),
            expansions: leaves(&block.expansions),
            widths: leaves(&block.widths),
        })
        .collect()
}

fn gate_values(
    drawn: &[BlockProbabilities<f64>],
    identities: impl Iterator<Item = f64>,
) -> Vec<GateValues> {
    drawn
        .iter()
        .zip(identities)
        .map(|(block, identity)| GateValues {
            types: block.types.clone(),
            expansions: block.expansions.clone(),
            widths: block.widths.clone(),
            identity,
        })
        .collect()
}
