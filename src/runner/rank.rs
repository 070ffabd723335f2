//! Measures how well shared weights rank networks (Yu et al. 2020): a sample of networks is scored
//! with the shared weights of the search, then each is trained alone with the run's recipe.

use super::execute::SEARCHED;
use super::images::Prepared;
use super::plan::SearchRun;
use crate::checkpoint::Stage;
use crate::cost;
use crate::monitor::Monitor;
use crate::net::SharedWeights;
use crate::progress::Amount;
use crate::recipe::{Method, MethodName};
use crate::record::{Metric, Phase, Work};
use crate::rng::Seed;
use crate::search::{Scorer, Trial, draw, split};
use crate::space::{Decisions, SearchSpace};
use crate::train::Score;
use anyhow::{Context, Result, ensure};
use candle_core::Device;
use serde::{Deserialize, Serialize};

/// After so many repeated draws, the space counts as too small for the sample.
const MAX_REPEATS: usize = 1_000;

/// The name of the phase in checkpoints.
const STAGE: &str = "rank";

/// How far the phase is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Ranking {
    /// Of the networks that were scored under the shared weights: whether the loss was a number.
    shared_is_finite: Vec<bool>,
    /// Networks that were trained.
    trained: usize,
    work: Work,
}

impl SearchRun<'_> {
    /// Executes the phase where there is a sample to rank. Shared scores are measured on the
    /// validation split of the search, scores of trained networks on the run's validation images.
    pub(super) fn rank(
        &self,
        sample: Option<Vec<Decisions>>,
        shared: Option<SharedWeights>,
        prepared: &Prepared,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<()> {
        let Some(sample) = sample else { return Ok(()) };
        monitor.phase(Phase::Rank, |monitor| {
            let mut ranking = match monitor.restored(STAGE) {
                None => Ranking::default(),
                Some(stage) => stage.get("ranking")?,
            };
            if ranking.shared_is_finite.len() < sample.len() {
                let shared = shared
                    .context("the search returned no shared weights to rank networks with")?;
                self.score_sample(&sample, &shared, &mut ranking, prepared, device, monitor)?;
            }
            // The memory of the shared weights is needed.
            monitor.forget_tensors(SEARCHED);
            self.train_sample(&sample, &mut ranking, prepared, device, monitor)?;
            // Later checkpoints say that all of it is done.
            monitor.keep(STAGE, Stage::with("ranking", &ranking)?);
            Ok(((), ranking.work))
        })
    }

    /// Scores the networks that are left under the shared weights.
    fn score_sample(
        &self,
        sample: &[Decisions],
        weights: &SharedWeights,
        ranking: &mut Ranking,
        prepared: &Prepared,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<()> {
        let scorer = self.scorer(prepared, device)?;
        let space = &self.task.space;
        for (i, decisions) in (0..).zip(sample).skip(ranking.shared_is_finite.len()) {
            if monitor.is_due() {
                monitor.checkpoint(STAGE, Stage::with("ranking", ranking)?)?;
            }
            let mut work = ranking.work;
            let score = scorer.score(weights, decisions, &mut work, monitor.stop);
            if score.is_err() && monitor.check_stop().is_err() {
                monitor.checkpoint(STAGE, Stage::with("ranking", ranking)?)?;
            }
            let score = score?;
            record_shared(space, i, decisions, &score, monitor)?;
            ranking.shared_is_finite.push(score.loss.is_finite());
            ranking.work = work;
        }
        Ok(())
    }

    /// Trains the networks that are left, each alone.
    fn train_sample(
        &self,
        sample: &[Decisions],
        ranking: &mut Ranking,
        prepared: &Prepared,
        device: &Device,
        monitor: &mut Monitor<'_>,
    ) -> Result<()> {
        let space = &self.task.space;
        let seed = Seed(self.plan.seed).child("rank");
        // With running statistics, like the derived network of the run.
        let (dataset, images) = (&prepared.dataset, (&[][..], &prepared.validation[..]));
        let config = self.plan.manifest.train();
        let config = config.context("ranking trains networks by [train]")?;
        let size = config.batch_size;
        let scorer = &Scorer::new(dataset, images, size, 0, device)?;
        let trial = Trial {
            dataset,
            images: &prepared.train,
            scorer,
            config,
            label: "train",
            stage: "rank/training",
            device,
        };
        monitor.progress.started("training ranked networks", Amount::Steps(sample.len() as u64));
        for (i, decisions) in (0..).zip(sample).skip(ranking.trained) {
            monitor.keep(STAGE, Stage::with("ranking", ranking)?);
            let arch = space.decide(decisions);
            let own = seed.child(&format!("train/{i}"));
            let trained = trial.score(&arch, own, &mut ranking.work, monitor)?.score;
            let shared_is_finite = ranking.shared_is_finite[ranking.trained];
            record_alone(space, i, &trained, shared_is_finite, monitor)?;
            ranking.trained += 1;
            let note = format!("top-1 {:.1} %", 100.0 * trained.top1);
            monitor.progress.advanced(i + 1, &note);
        }
        monitor.progress.finished();
        Ok(())
    }

    /// Whether ranking under the shared weights of this run gives new information. `evolution` has
    /// the same shared weights as `rs_ws` of the same seed, so only one of them is ranked.
    fn ranks(&self) -> bool {
        let method = self.method.name();
        let mut names = self.task.methods.iter().map(Method::name);
        let same_as_rs_ws =
            method == MethodName::Evolution && names.any(|name| name == MethodName::RsWs);
        method.shares_weights() && !same_as_rs_ws
    }

    /// The distinct networks to rank, within the budget if there is one. `None` where the manifest
    /// does not ask for a rank correlation.
    ///
    /// # Errors
    /// When the space does not have that many.
    pub(super) fn networks_to_rank(&self) -> Result<Option<Vec<Decisions>>> {
        let Some(config) = self.task.rank_correlation.filter(|_| self.ranks()) else {
            return Ok(None);
        };
        let seed = Seed(self.plan.seed).child("rank");
        let (space, budget) = (&self.task.space, self.task.config.budget.as_ref());
        let (mut sample, mut seen) = (Vec::new(), Vec::new());
        for i in 0.. {
            if sample.len() == config.architectures {
                break;
            }
            ensure!(
                i < config.architectures + MAX_REPEATS,
                "{}: rank_correlation.architectures: found only {} distinct networks to rank, not {}; \
                 ask for fewer, or give a larger search.budget.tolerance",
                self.plan.manifest.path.display(),
                sample.len(),
                config.architectures
            );
            let decisions = draw(space, budget, &mut seed.stream("draw", i as u64))?;
            let id = space.decide(&decisions).id();
            if !seen.contains(&id) {
                seen.push(id);
                sample.push(decisions);
            }
        }
        Ok(Some(sample))
    }

    fn scorer<'d>(&self, prepared: &'d Prepared, device: &Device) -> Result<Scorer<'d>> {
        let search = &self.task.config;
        let config = self.task.rank_correlation;
        let config = config.context("ranking needs [rank_correlation]")?;
        let (parts, size) = (split(&prepared.search, search), search.batch_size);
        Scorer::new(&prepared.dataset, parts, size, config.calibration_batches, device)
    }
}

/// Records the shared score at once, so that an interrupted run keeps it. As in a search, a diverged
/// network is scored at chance accuracy.
fn record_shared(
    space: &SearchSpace,
    i: u64,
    decisions: &Decisions,
    score: &Score,
    monitor: &mut Monitor<'_>,
) -> Result<()> {
    let cost = cost::count(&space.decide(decisions));
    let counted = score.or_chance(space.classes);
    let mut metrics = vec![
        (Metric::RANK_SHARED_TOP1, counted.top1),
        (Metric::RANK_SHARED_LOSS, counted.loss),
        (Metric::RANK_MACS, cost.macs as f64),
        (Metric::RANK_PARAMS, cost.params as f64),
    ];
    if !score.loss.is_finite() {
        metrics.push((Metric::RANK_DIVERGED, 1.0));
    }
    monitor.measure(i, &metrics)
}

/// Records the score of the network trained alone. A network counts as diverged once, so this marks
/// it only if its shared score did not.
fn record_alone(
    space: &SearchSpace,
    i: u64,
    score: &Score,
    shared_is_finite: bool,
    monitor: &mut Monitor<'_>,
) -> Result<()> {
    let counted = score.or_chance(space.classes);
    let mut metrics =
        vec![(Metric::RANK_ALONE_TOP1, counted.top1), (Metric::RANK_ALONE_LOSS, counted.loss)];
    if shared_is_finite && !score.loss.is_finite() {
        metrics.push((Metric::RANK_DIVERGED, 1.0));
    }
    monitor.measure(i, &metrics)
}
