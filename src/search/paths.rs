//! Shared weights trained along random paths (RS-WS, Li & Talwalkar 2019). Every minibatch draws one
//! network, which takes one step of SGD; the weights of all other networks stay as they are. Then
//! networks are scored under the shared weights, and the best of several draws, or of an evolution,
//! is the result.
//!
//! The drawn network is cut out of the supernet and runs alone. This equals the supernet with one-hot
//! gates, at the cost of the network: on the CIFAR-10 space a step takes about an eighth of the time of
//! a step of the whole supernet (`repro bench`, batch 64, two cores).
//!
//! Paths are drawn from the whole space, even where a budget limits the result, unless
//! `search.shared.paths` says otherwise. Each weight has its own momentum, which changes only while the
//! weight is drawn.

use super::draw::{draw, mutate};
use super::evolution::evolve;
use super::incumbent::Incumbent;
use super::score::{Scorer, split};
use super::{SearchData, SearchOutcome};
use crate::cost;
use crate::data::{Batch, Loader, prefetched};
use crate::monitor::Monitor;
use crate::net::SharedWeights;
use crate::progress::Amount;
use crate::recipe::{Evolution, PathRange, Recompute, SearchConfig, Sgd, SharedScores};
use crate::record::{Metric, Work};
use crate::rng::Seed;
use crate::space::{Decisions, SearchSpace};
use crate::train::{LoopMetrics, Score, SgdState, Step, Steps, sgd_step};
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::time::Instant;

/// Shared weights and their velocities.
pub struct Paths {
    weights: SharedWeights,
    velocities: Vec<Tensor>,
    config: Sgd,
    recompute: Recompute,
}

impl Paths {
    /// Initial weights.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(
        space: &SearchSpace,
        (config, recompute): (Sgd, Recompute),
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        let weights = SharedWeights::new(space, seed, device)?;
        let zeros = weights.params().tensors().map(|(tensor, _)| tensor.zeros_like());
        let velocities = zeros.collect::<candle_core::Result<_>>()?;
        Ok(Self { weights, velocities, config, recompute })
    }

    #[must_use]
    pub fn weights(&self) -> &SharedWeights {
        &self.weights
    }

    /// One step of the network of these `decisions`; no other weight changes.
    ///
    /// # Errors
    /// When an operator fails.
    pub fn step(&mut self, decisions: &Decisions, batch: &Batch, rate: f64) -> Result<Step> {
        let mut cut = self.weights.extract(decisions)?;
        let mut optimizer = SgdState::resumed(self.config, cut.slices_of(&self.velocities)?);
        let (net, target) = (&cut.net, (&batch.labels, 0.0));
        let step =
            sgd_step(&mut cut.params, &mut optimizer, rate, target, self.recompute, |pass| {
                net.forward(pass, &batch.xs)
            })?;
        cut.write_into(&mut self.velocities, optimizer.velocities())?;
        self.weights.write_back(&cut)?;
        Ok(step)
    }
}

/// Trains shared weights for `search.epochs` on the weight split.
fn train(
    range: PathRange,
    space: &SearchSpace,
    data: SearchData<'_>,
    config: &SearchConfig,
    seed: Seed,
    work: &mut Work,
    monitor: &mut Monitor<'_>,
) -> Result<SharedWeights> {
    let SearchData { dataset, indices, device } = data;
    let mut paths = Paths::new(space, (config.weights, config.recompute), seed, device)?;
    let (for_weights, _) = split(indices, config);
    let (own, size) = (for_weights.to_vec(), config.batch_size);
    let loader = Loader::training(dataset, own, size, config.augment, seed, "search/weights");
    let loader = loader.share(config.scale).on(device);
    let range = match range {
        PathRange::Space => None,
        PathRange::Budget => config.budget.as_ref(),
    };
    let all = (config.epochs * loader.batches()) as u64;
    monitor.progress.started("training shared weights", Amount::Steps(all));
    let mut steps = Steps::new(LoopMetrics::SEARCH, &config.weights, all, monitor);
    let mut last = Score::default();
    for epoch in 0..config.epochs as u64 {
        let start = Instant::now();
        let mean = prefetched(device, loader.epoch(epoch), |batches| {
            steps.epoch(batches, |batch, step, rate| {
                let path = draw(space, range, &mut seed.stream("paths/draw", step))?;
                work.add_training(cost::count(&space.decide(&path)).macs, batch.labels.len());
                paths.step(&path, batch, rate)
            })
        })?;
        let score = mean.score();
        last = score;
        let rate = mean.images() as f64 / start.elapsed().as_secs_f64();
        let metrics = [
            (Metric::SEARCH_LOSS, score.loss),
            (Metric::SEARCH_TOP1, score.top1),
            (Metric::SEARCH_IMAGES_PER_SECOND, rate),
            (Metric::SEARCH_EXECUTED_MACS, work.macs as f64),
        ];
        steps.monitor.measure(epoch, &metrics)?;
    }
    steps.finish(last, space.classes)?;
    Ok(paths.weights)
}

/// Trains shared weights and returns the best network under them: of independent draws, or of an
/// evolution.
pub(super) fn search(
    (settings, evolution): (SharedScores, Option<Evolution>),
    space: &SearchSpace,
    data: SearchData<'_>,
    config: &SearchConfig,
    seed: Seed,
    monitor: &mut Monitor<'_>,
) -> Result<SearchOutcome> {
    let mut work = Work::default();
    let weights = train(settings.paths, space, data, config, seed, &mut work, monitor)?;
    let (parts, size) = (split(data.indices, config), config.batch_size);
    let batches = settings.calibration_batches;
    let scorer = Scorer::new(data.dataset, parts, size, batches, data.device)?;
    let mut incumbent = Incumbent::new(space);
    monitor.progress.started("scoring networks", Amount::Steps(settings.candidates as u64));
    let mut score = |decisions: &Decisions| {
        let score = scorer.score(&weights, decisions, &mut work)?;
        incumbent.offer(decisions, score, &work, monitor)
    };
    let budget = config.budget.as_ref();
    let fresh = |i: u64| draw(space, budget, &mut seed.stream("candidates/draw", i));
    match evolution {
        None => {
            for i in 0..settings.candidates as u64 {
                score(&fresh(i)?)?;
            }
        }
        Some(evolution) => {
            let mutated = |parent: &Decisions, i: u64| {
                mutate(space, budget, parent, &mut seed.stream("candidates/mutate", i))
            };
            evolve(evolution, settings.candidates, seed, fresh, mutated, score)?;
        }
    }
    monitor.progress.finished();
    let decisions = incumbent.into_best()?;
    let outcome = SearchOutcome::decided(space, decisions, work);
    Ok(SearchOutcome { shared: Some(weights), ..outcome })
}
