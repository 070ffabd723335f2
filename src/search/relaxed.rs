//! A supernet under gates that follow from α: `DMaskingNAS` on the masked one, DNAS and DARTS on the
//! explicit one.
//!
//! The methods differ in the supernet, in how α becomes gates (Gumbel-Softmax, or softmax without
//! noise), and in how far the gradient of α looks (at the weights, or through one step of theirs).

use super::hypergradient::{Point, Upcoming};
use super::{AlphaStep, ArchParams, Relaxation, slopes};
use crate::cost::{BlockProbabilities, Cost, Graph, Number, Traced, propagate};
use crate::data::Batch;
use crate::net::{ExplicitSupernet, GateGradients, GateValues, Gated, Supernet};
use crate::nn::Params;
use crate::recipe::{Method, Objective, SearchConfig};
use crate::record::Work;
use crate::rng::Seed;
use crate::space::SearchSpace;
use crate::train::{SgdState, Step, sgd_step};
use anyhow::Result;
use candle_core::Device;

/// A supernet with its weights and architecture parameters.
pub struct Relaxed<'a, N> {
    config: &'a SearchConfig,
    seed: Seed,
    supernet: N,
    params: Params,
    alpha: ArchParams,
    optimizer: SgdState,
    /// Multiply-accumulates of the supernet for one image.
    macs: u64,
    work: Work,
}

/// The gradient of the search loss by the gates, and where it was taken.
pub struct AlphaGradient {
    /// Its cross-entropy, loss and cost.
    pub at: AlphaStep,
    /// g, the gates that the step had.
    pub gates: Vec<BlockProbabilities<f64>>,
    /// d loss / d g in full: ρ is a function of the gates, and its part is among theirs.
    pub by_gates: Vec<GateGradients>,
}

impl<'a> Relaxed<'a, Supernet> {
    /// A fresh masked supernet, all options alike.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn masked(
        space: &SearchSpace,
        config: &'a SearchConfig,
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        Self::fresh(Supernet::new(space, seed, device)?, config, seed)
    }
}

impl<'a> Relaxed<'a, ExplicitSupernet> {
    /// A fresh explicit supernet, all options alike.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn explicit(
        space: &SearchSpace,
        config: &'a SearchConfig,
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        Self::fresh(ExplicitSupernet::new(space, seed, device)?, config, seed)
    }
}

impl<'a, N: Gated> Relaxed<'a, N> {
    fn fresh(
        (supernet, params): (N, Params),
        config: &'a SearchConfig,
        seed: Seed,
    ) -> Result<Self> {
        let optimizer = SgdState::new(config.weights, &params)?;
        let alpha = ArchParams::new(supernet.space());
        let (macs, work) = (supernet.cost().macs, Work::default());
        Ok(Self { config, seed, supernet, params, alpha, optimizer, macs, work })
    }

    #[must_use]
    pub fn supernet(&self) -> &N {
        &self.supernet
    }

    /// The gates of one step.
    fn gates(&self, label: &str, step: u64, tau: f64) -> Vec<BlockProbabilities<f64>> {
        match self.config.method {
            Method::Darts | Method::Darts2 => self.alpha.softened(tau),
            _ => self.alpha.gates(self.seed, label, step, tau),
        }
    }

    /// The gradient that [`Relaxation::alpha_step`] goes along.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn alpha_gradient(
        &mut self,
        batch: &Batch,
        upcoming: Option<Upcoming<'_>>,
        step: u64,
        tau: f64,
    ) -> Result<AlphaGradient> {
        let drawn = self.gates("gumbel/alpha", step, tau);
        let graph = Graph::default();
        let leaves = traced(&graph, &drawn);
        let shapes = propagate(self.supernet.space(), &leaves, &graph.leaf(1.0));
        let cost_node = self.objective(&shapes.cost);
        let cost = cost_node.value() / self.config.loss.cost_unit;

        let gates = gate_values(&drawn, shapes.blocks.iter().map(|b| b.identity.value()));
        let (recompute, macs) = (self.config.recompute, self.macs);
        let point = Point { net: &self.supernet, gates: &gates, recompute, macs };
        let (params, work) = (&mut self.params, &mut self.work);
        let (result, by_gates) = match upcoming {
            Some(upcoming) if self.config.method == Method::Darts2 => {
                point.second_order(params, batch, upcoming, work)?
            }
            _ => point.first_order(params, batch, work)?,
        };

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
        let total = leaves.iter().zip(&by_gates).map(|(leaf, direct)| GateGradients {
            types: combine(&leaf.types, &direct.types),
            expansions: combine(&leaf.expansions, &direct.expansions),
            widths: combine(&leaf.widths, &direct.widths),
            identity: 0.0,
        });
        let by_gates = total.collect();
        Ok(AlphaGradient {
            at: AlphaStep { result, loss: loss.value, cost },
            gates: drawn,
            by_gates,
        })
    }

    fn objective<'c, M: Number>(&self, cost: &'c Cost<M>) -> &'c M {
        match self.config.loss.objective {
            Objective::Macs => &cost.macs,
            Objective::Params => &cost.params,
        }
    }
}

impl<N: Gated> Relaxation for Relaxed<'_, N> {
    fn weight_step(&mut self, batch: &Batch, step: u64, tau: f64, rate: f64) -> Result<Step> {
        let drawn = self.gates("gumbel/weights", step, tau);
        let Self { supernet, params, optimizer, macs, work, .. } = self;
        let identities =
            propagate(supernet.space(), &drawn, &1.0).blocks.into_iter().map(|b| b.identity);
        let gates = gate_values(&drawn, identities);
        let target = (&batch.labels[..], 0.0);
        work.trained(*macs, batch.labels.len());
        Ok(sgd_step(params, optimizer, rate, target, self.config.recompute, |pass| {
            Ok(supernet.forward(pass, &batch.xs, &gates, false)?.0)
        })?)
    }

    fn alpha_step(
        &mut self,
        batch: &Batch,
        upcoming: Option<Upcoming<'_>>,
        step: u64,
        tau: f64,
    ) -> Result<AlphaStep> {
        let found = self.alpha_gradient(batch, upcoming, step, tau)?;
        self.alpha.step(&self.config.alpha, &found.gates, &found.by_gates, tau);
        Ok(found.at)
    }

    fn alpha(&self) -> &ArchParams {
        &self.alpha
    }

    fn params(&self) -> &Params {
        &self.params
    }

    fn work(&self) -> Work {
        self.work
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
