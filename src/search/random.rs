//! Random search without shared weights: one uniform draw, or the best of several that are each
//! trained by themselves for a short time.

use super::draw::draw;
use super::incumbent::Incumbent;
use super::score::split;
use super::{Images, SearchOutcome};
use crate::cost;
use crate::data::Loader;
use crate::net::Net;
use crate::recipe::{RandomSearch, SearchConfig};
use crate::record::Work;
use crate::rng::Seed;
use crate::space::{Decisions, SearchSpace};
use crate::train::{self, Mean, Score, SgdState, learning_rate, sgd_step};
use crate::watch::Watch;
use anyhow::{Context, Result};

/// One draw, nothing trained.
pub(super) fn one(space: &SearchSpace, config: &SearchConfig, seed: Seed) -> Result<SearchOutcome> {
    let mut stream = seed.stream("random/draw", 0);
    let decisions = draw(space, config.budget.as_ref(), &mut stream)?;
    Ok(SearchOutcome::decided(space, decisions, Work::default()))
}

/// The best of `search.random.candidates`, by the criterion of the other methods: accuracy on the
/// images that did not train the weights.
pub(super) fn search(
    space: &SearchSpace,
    images: Images<'_>,
    config: &SearchConfig,
    seed: Seed,
    watch: &mut Watch<'_>,
) -> Result<SearchOutcome> {
    let settings = config.random.context("random_search needs [search.random]")?;
    let mut work = Work::default();
    let mut incumbent = Incumbent::new(space);
    watch.progress.started("searching", settings.candidates as u64);
    for i in 0..settings.candidates as u64 {
        // Not the stream of `one`: the first candidate would be its draw.
        let own = seed.child(&format!("random/candidate/{i}"));
        let decisions = draw(space, config.budget.as_ref(), &mut own.stream("draw", 0))?;
        let candidate = Candidate { space, images, config, settings, seed: own };
        let score = candidate.score(&decisions, &mut work, watch)?;
        incumbent.meet(&decisions, score, watch)?;
        watch.progress.advanced(i + 1, &format!("top-1 {:.1} %", 100.0 * score.top1));
    }
    watch.progress.finished();
    Ok(SearchOutcome::decided(space, incumbent.into_best()?, work))
}

/// One network and what trains it.
struct Candidate<'a> {
    space: &'a SearchSpace,
    images: Images<'a>,
    config: &'a SearchConfig,
    settings: RandomSearch,
    seed: Seed,
}

impl Candidate<'_> {
    /// Trains on the weights' images, scores on the held-out ones.
    fn score(&self, decisions: &Decisions, work: &mut Work, watch: &Watch<'_>) -> Result<Score> {
        let Images { dataset, indices, device } = self.images;
        let (config, seed) = (self.config, self.seed);
        let (for_weights, held_out) = split(indices, config);
        let arch = self.space.decide(decisions);
        let (net, mut params) = Net::of_arch(&arch, seed, device)?;
        let mut optimizer = SgdState::new(config.weights, &params)?;
        let (images, size) = (for_weights.to_vec(), config.batch_size);
        let loader = Loader::training(dataset, images, size, config.augment, seed, "search");
        let loader = loader.on(device);
        let steps = (self.settings.epochs * loader.batches()) as u64;
        let batches = (0..self.settings.epochs as u64).flat_map(|epoch| loader.epoch(epoch));
        let mut mean = Mean::default();
        for (step, batch) in (0..).zip(batches) {
            watch.go_on()?;
            let batch = batch?;
            let rate = learning_rate(&config.weights, step, steps);
            let target = (&batch.labels[..], 0.0);
            let done =
                sgd_step(&mut params, &mut optimizer, rate, target, config.recompute, |pass| {
                    net.forward(pass, &batch.xs)
                })?;
            train::ensure_finite(done.result.loss, "search", step)?;
            mean.add(&done.result, batch.labels.len());
        }
        let macs = cost::count(&arch).macs;
        work.trained(macs, mean.images());
        work.predicted(macs, held_out.len());
        work.architectures += 1;
        train::evaluate(&net, &params, dataset, &dataset.train, held_out.to_vec())
    }
}
