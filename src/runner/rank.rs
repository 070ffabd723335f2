//! How well shared weights rank networks (Yu et al. 2020): a sample of the space is scored with the
//! search's shared weights, then each is trained by itself with the run's recipe.

use super::{Prepared, RunPlan};
use crate::cost;
use crate::net::SharedWeights;
use crate::recipe::{Method, RankCorrelation};
use crate::record::{Phase, Work};
use crate::rng::Seed;
use crate::search::{Scorer, Trial, draw, split};
use crate::space::{Decisions, SearchSpace};
use crate::train::Score;
use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use candle_core::Device;

/// Draws that may repeat a network before the sample counts as larger than what there is.
const REPEATS: usize = 1_000;

impl RunPlan<'_> {
    /// The phase, where the manifest asks for it. Shared scores are on the images that the search
    /// held out from its weights, scores of trained networks on the run's validation images.
    pub(super) fn rank(
        &self,
        shared: Option<SharedWeights>,
        prepared: &Prepared,
        device: &Device,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let Some(config) = self.manifest.rank_correlation.filter(|_| self.ranks()) else {
            return Ok(());
        };
        let weights = shared.context("the search left no shared weights to rank networks with")?;
        let seed = Seed(self.seed).child("rank");
        watch.phase(Phase::Rank, |watch| {
            let mut work = Work::default();
            let sample = self.sample(config, seed)?;
            let mut scores = Vec::with_capacity(sample.len());
            let scorer = self.scorer(prepared, device)?;
            for decisions in &sample {
                watch.go_on()?;
                scores.push(scorer.score(&weights, decisions, &mut work)?);
            }
            drop((weights, scorer));
            let trial = Trial {
                dataset: &prepared.dataset,
                images: &prepared.train,
                held_out: &prepared.validation,
                config: &self.manifest.train,
                label: "train",
                device,
            };
            watch.progress.started("training ranked networks", sample.len() as u64);
            for (i, (decisions, score)) in (0..).zip(sample.iter().zip(&scores)) {
                let arch = self.manifest.space.decide(decisions);
                let own = seed.child(&format!("train/{i}"));
                let trained = trial.score(&arch, own, &mut work, watch)?;
                record(&self.manifest.space, i, decisions, [score, &trained], watch)?;
                let note = format!("top-1 {:.1} %", 100.0 * trained.top1);
                watch.progress.advanced(i + 1, &note);
            }
            watch.progress.finished();
            Ok(((), work))
        })?;
        Ok(())
    }

    /// Whether the run has shared weights of its own: `evolution` trains the very ones that `rs_ws` of
    /// the same seed does, so that ranking under them would find the same once more.
    fn ranks(&self) -> bool {
        let again = self.method == Method::Evolution;
        let again = again && self.manifest.methods.contains(&Method::RsWs);
        self.method.shares_weights() && !again
    }

    /// Different networks of the space, within the budget if there is one.
    fn sample(&self, config: RankCorrelation, seed: Seed) -> Result<Vec<Decisions>> {
        let (space, budget) = (&self.manifest.space, self.manifest.search.budget.as_ref());
        let (mut sample, mut seen) = (Vec::new(), Vec::new());
        for i in 0.. {
            if sample.len() == config.architectures {
                break;
            }
            ensure!(
                i < config.architectures + REPEATS,
                "only {} different networks were found to rank, not {}; ask for fewer in \
                 [rank_correlation]",
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
        Ok(sample)
    }

    fn scorer<'d>(&self, prepared: &'d Prepared, device: &Device) -> Result<Scorer<'d>> {
        let search = &self.manifest.search;
        let shared = search.shared.context("ranking needs [search.shared]")?;
        let (parts, size) = (split(&prepared.search, search), search.batch_size);
        Scorer::new(&prepared.dataset, parts, size, shared.calibration_batches, device)
    }
}

/// As in a search, a network that diverged counts as one that guesses.
fn record(
    space: &SearchSpace,
    i: u64,
    decisions: &Decisions,
    [shared, alone]: [&Score; 2],
    watch: &mut Watch<'_>,
) -> Result<()> {
    let cost = cost::count(&space.decide(decisions));
    let diverged = [shared, alone].iter().any(|score| !score.loss.is_finite());
    let [shared, alone] = [shared, alone].map(|score| score.or_guessing(space.classes));
    let mut metrics = vec![
        ("rank.shared.top1", shared.top1),
        ("rank.shared.loss", shared.loss),
        ("rank.alone.top1", alone.top1),
        ("rank.alone.loss", alone.loss),
        ("rank.macs", cost.macs as f64),
        ("rank.params", cost.params as f64),
    ];
    if diverged {
        metrics.push(("rank.diverged", 1.0));
    }
    watch.measure(i, &metrics)
}
