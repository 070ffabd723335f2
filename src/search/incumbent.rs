//! The best network of those that a search has evaluated so far.

use super::score::better;
use crate::cost;
use crate::monitor::Monitor;
use crate::record::{Metric, Work};
use crate::space::{Decisions, SearchSpace};
use crate::train::Score;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The best network so far.
pub struct Incumbent<'s> {
    space: &'s SearchSpace,
    state: IncumbentState,
}

/// What a checkpoint keeps of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct IncumbentState {
    pub evaluated: u64,
    best: Option<(Decisions, Score)>,
}

impl<'s> Incumbent<'s> {
    /// As it was in a checkpoint; before the first network it has the default state.
    #[must_use]
    pub fn continued(space: &'s SearchSpace, state: IncumbentState) -> Self {
        Self { space, state }
    }

    #[must_use]
    pub fn state(&self) -> &IncumbentState {
        &self.state
    }

    /// Takes in the score of one more network. Records its score, its cost, the best score so far and
    /// the compute of the search so far, shows the progress, and returns the score that counts. A
    /// network whose loss is not finite has diverged: it is scored at chance accuracy and is never the
    /// best.
    ///
    /// # Errors
    /// When the recorder fails.
    pub fn offer(
        &mut self,
        decisions: &Decisions,
        score: Score,
        work: &Work,
        monitor: &mut Monitor<'_>,
    ) -> Result<Score> {
        let diverged = !score.loss.is_finite();
        let score = score.or_chance(self.space.classes);
        let state = &mut self.state;
        if !diverged && state.best.as_ref().is_none_or(|(_, best)| better(&score, best)) {
            state.best = Some((decisions.clone(), score));
        }
        let best = state.best.as_ref().map_or(score, |(_, best)| *best);
        let cost = cost::count(&self.space.decide(decisions));
        let mut metrics = vec![
            (Metric::SEARCH_CANDIDATE_TOP1, score.top1),
            (Metric::SEARCH_CANDIDATE_LOSS, score.loss),
            (Metric::SEARCH_CANDIDATE_MACS, cost.macs as f64),
            (Metric::SEARCH_CANDIDATE_PARAMS, cost.params as f64),
            (Metric::SEARCH_BEST_TOP1, best.top1),
            (Metric::SEARCH_CANDIDATE_EXECUTED_MACS, work.macs as f64),
        ];
        if diverged {
            metrics.push((Metric::SEARCH_CANDIDATE_DIVERGED, 1.0));
        }
        monitor.measure(state.evaluated, &metrics)?;
        state.evaluated += 1;
        let note = if diverged { "diverged, scored at chance, top-1" } else { "top-1" };
        monitor.progress.advanced(state.evaluated, &format!("{note} {:.1} %", 100.0 * score.top1));
        Ok(score)
    }

    /// The best network.
    ///
    /// # Errors
    /// When all networks diverged.
    pub fn into_best(self) -> Result<Decisions> {
        let Some((decisions, _)) = self.state.best else {
            bail!(
                "all {} candidates diverged; a lower learning_rate or a clip_norm of \
                 [search.weights] helps",
                self.state.evaluated
            )
        };
        Ok(decisions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, Overrides};
    use crate::monitor::Checkpoints;
    use crate::progress::Quiet;
    use crate::record::Recorder;
    use crate::rng::Seed;
    use crate::search::draw;
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    /// Keeps all measurements.
    #[derive(Default)]
    struct Log(Vec<(u64, Metric, f64)>);

    impl Recorder for Log {
        fn measure(&mut self, step: u64, metrics: &[(Metric, f64)]) -> Result<()> {
            self.0.extend(metrics.iter().map(|(metric, value)| (step, *metric, *value)));
            Ok(())
        }
    }

    /// The number of the best of networks with these accuracies; those of NaN diverged.
    fn best_of(top1s: &[f64]) -> (Result<usize>, Log) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
        let space = manifest::load(&path, &Overrides::default()).unwrap();
        let space = space.search().unwrap().space.clone();
        let network = |i| draw(&space, None, &mut Seed(1).stream("draw", i as u64)).unwrap();
        let (mut log, stop) = (Log::default(), AtomicBool::new(false));
        let mut incumbent = Incumbent::continued(&space, IncumbentState::default());
        for (i, top1) in top1s.iter().enumerate() {
            let checkpoints = &mut Checkpoints::none();
            let mut monitor =
                Monitor { recorder: &mut log, progress: &Quiet, stop: &stop, checkpoints };
            let loss = if top1.is_nan() { f64::NAN } else { 1.0 };
            let score = Score { loss, top1: if top1.is_nan() { 0.0 } else { *top1 } };
            let work = Work { macs: 10 * (i as u64 + 1), ..Work::default() };
            let counted = incumbent.offer(&network(i), score, &work, &mut monitor).unwrap();
            let chance = Score { loss: 10_f64.ln(), top1: 0.1 };
            assert_eq!(counted, if top1.is_nan() { chance } else { score });
        }
        let number = |made| (0..top1s.len()).find(|i| network(*i) == made).unwrap();
        (incumbent.into_best().map(number), log)
    }

    #[test]
    fn a_diverged_network_is_scored_at_chance() {
        let (best, log) = best_of(&[f64::NAN, 0.05, 0.07, f64::NAN]);
        assert_eq!(best.unwrap(), 2);
        let of = |metric: Metric| -> Vec<(u64, f64)> {
            log.0.iter().filter(|(_, m, _)| *m == metric).map(|(step, _, v)| (*step, *v)).collect()
        };
        assert_eq!(of(Metric::SEARCH_CANDIDATE_DIVERGED), [(0, 1.0), (3, 1.0)]);
        assert_eq!(of(Metric::SEARCH_CANDIDATE_TOP1), [(0, 0.1), (1, 0.05), (2, 0.07), (3, 0.1)]);
        assert_eq!(of(Metric::SEARCH_BEST_TOP1), [(0, 0.1), (1, 0.05), (2, 0.07), (3, 0.07)]);
        let executed = of(Metric::SEARCH_CANDIDATE_EXECUTED_MACS);
        assert_eq!(executed, [(0, 10.0), (1, 20.0), (2, 30.0), (3, 40.0)]);
        assert!(log.0.iter().all(|(_, _, value)| value.is_finite()));
    }

    #[test]
    fn a_search_fails_if_all_networks_diverged() {
        let error = best_of(&[f64::NAN; 3]).0.unwrap_err();
        assert!(error.to_string().starts_with("all 3 candidates diverged; a lower"), "{error}");
    }
}
