//! `DMaskingNAS` (FBNetV2, section 3): weights by SGD on one part of the images, then architecture
//! parameters by Adam on the other, epoch by epoch, while the temperature falls; the likeliest
//! option of every choice is the result.

use super::{ArchParams, SearchOutcome, slopes};
use crate::cost::{BlockProbabilities, Cost, Graph, Number, Traced, propagate};
use crate::data::{Batch, Dataset, Loader};
use crate::net::{GateGradients, GateValues, Supernet};
use crate::nn::{Params, Pass};
use crate::ops::loss::{CrossEntropy, cross_entropy};
use crate::recipe::{Objective, SearchConfig};
use crate::rng::Seed;
use crate::space::SearchSpace;
use crate::train::{Mean, SgdState, Step, ensure_finite, learning_rate, sgd_step};
use crate::watch::Watch;
use anyhow::Result;
use candle_core::Device;
use std::time::Instant;

/// A supernet with its weights and architecture parameters.
pub struct Dmasking<'a> {
    config: &'a SearchConfig,
    seed: Seed,
    supernet: Supernet,
    params: Params,
    alpha: ArchParams,
    optimizer: SgdState,
}

pub(super) fn search(
    space: &SearchSpace,
    dataset: &Dataset,
    indices: &[usize],
    config: &SearchConfig,
    seed: Seed,
    device: &Device,
    watch: &mut Watch<'_>,
) -> Result<SearchOutcome> {
    let mut state = Dmasking::new(space, config, seed, device)?;
    let split = (indices.len() as f64 * config.weight_share).round() as usize;
    let (for_weights, for_alpha) = indices.split_at(split);
    let loader = |images: &[usize], label: &str| {
        let (size, augment) = (config.batch_size, config.augment);
        Loader::training(dataset, images.to_vec(), size, augment, seed, label).on(device)
    };
    let weight_batches = loader(for_weights, "search/weights");
    let alpha_batches = loader(for_alpha, "search/alpha");

    let weight_steps = (config.epochs * weight_batches.batches()) as u64;
    let alpha_steps = ((config.epochs - config.warmup_epochs) * alpha_batches.batches()) as u64;
    let (mut step, mut alpha_step, mut images) = (0, 0, 0);
    watch.progress.started("searching", weight_steps + alpha_steps);
    for epoch in 0..config.epochs {
        let tau = config.temperature.initial * config.temperature.decay.powi(epoch as i32);
        let start = Instant::now();
        let mut mean = Mean::default();
        for batch in weight_batches.epoch(epoch as u64) {
            let (batch, step_start) = (batch?, Instant::now());
            let rate = learning_rate(&config.weights, step, weight_steps);
            let result = state.weight_step(&batch, step, tau, rate)?.result;
            ensure_finite(result.loss, "search", step)?;
            mean.add(&result, batch.labels.len());
            let seconds = step_start.elapsed().as_secs_f64();
            watch.measure(
                step,
                &[
                    ("search.step_loss", result.loss),
                    ("search.learning_rate", rate),
                    ("search.step_seconds", seconds),
                ],
            )?;
            step += 1;
            watch.progress.advanced(step + alpha_step, &mean.note());
        }
        let (mut alpha_mean, mut alpha_loss) = (Mean::default(), 0.0);
        if epoch >= config.warmup_epochs {
            for batch in alpha_batches.epoch(epoch as u64) {
                let (batch, step_start) = (batch?, Instant::now());
                let (result, loss, cost) = state.alpha_step(&batch, alpha_step, tau)?;
                ensure_finite(loss, "search", alpha_step)?;
                alpha_mean.add(&result, batch.labels.len());
                alpha_loss += loss * batch.labels.len() as f64;
                let seconds = step_start.elapsed().as_secs_f64();
                watch.measure(
                    alpha_step,
                    &[
                        ("search.alpha.step_loss", loss),
                        ("search.alpha.learning_rate", config.alpha.learning_rate),
                        ("search.alpha.step_cross_entropy", result.loss),
                        ("search.alpha.step_cost", cost),
                        ("search.alpha.step_seconds", seconds),
                    ],
                )?;
                alpha_step += 1;
                watch.progress.advanced(step + alpha_step, &alpha_mean.note());
            }
        }
        let epoch_images = mean.images() + alpha_mean.images();
        images += epoch_images as u64;
        let rate = epoch_images as f64 / start.elapsed().as_secs_f64();
        state.measure_epoch(epoch as u64, tau, mean, (alpha_mean, alpha_loss), rate, watch)?;
    }
    watch.progress.finished();
    let decisions = state.alpha.decide(space);
    let arch = space.decide(&decisions);
    Ok(SearchOutcome {
        decisions,
        arch,
        probabilities: state.alpha.named_probabilities(space),
        images,
    })
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

    /// One step of the architecture parameters; the weights are held. Returns the cross-entropy,
    /// the search loss and the expected cost in its unit.
    fn alpha_step(
        &mut self,
        batch: &Batch,
        step: u64,
        tau: f64,
    ) -> Result<(CrossEntropy, f64, f64)> {
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
        Ok((result, loss.value, cost))
    }

    fn objective<'c, N: Number>(&self, cost: &'c Cost<N>) -> &'c N {
        match self.config.loss.objective {
            Objective::Macs => &cost.macs,
            Objective::Params => &cost.params,
        }
    }

    fn measure_epoch(
        &self,
        epoch: u64,
        tau: f64,
        weights: Mean,
        (alpha, alpha_loss): (Mean, f64),
        images_per_second: f64,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let expected = propagate(self.supernet.space(), &self.alpha.probabilities(), &1.0).cost;
        let mut metrics = vec![
            ("search.tau", tau),
            ("search.loss", weights.score().loss),
            ("search.top1", weights.score().top1),
            ("search.expected_macs", expected.macs),
            ("search.expected_params", expected.params),
            ("search.images_per_second", images_per_second),
        ];
        if alpha.images() > 0 {
            metrics.push(("search.alpha.cross_entropy", alpha.score().loss));
            metrics.push(("search.alpha.loss", alpha_loss / alpha.images() as f64));
            metrics.push(("search.alpha.top1", alpha.score().top1));
        }
        let names = ["search.entropy.type", "search.entropy.expansion", "search.entropy.width"];
        metrics.extend(names.into_iter().zip(self.alpha.entropies().map(|(_, h)| h)));
        watch.measure(epoch, &metrics)
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
