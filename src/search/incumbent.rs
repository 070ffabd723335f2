//! The networks that a search has looked at, and the best of them so far.

use super::score::better;
use crate::cost;
use crate::monitor::Monitor;
use crate::record::{Metric, Work};
use crate::space::{Decisions, SearchSpace};
use crate::train::Score;
use anyhow::{Result, bail};

/// The best network so far.
pub struct Incumbent<'s> {
    space: &'s SearchSpace,
    seen: u64,
    best: Option<(Decisions, Score)>,
}

impl<'s> Incumbent<'s> {
    #[must_use]
    pub fn new(space: &'s SearchSpace) -> Self {
        Self { space, seen: 0, best: None }
    }

    /// Looks at one more network, records its score, its cost, the best score so far and what the
    /// search has executed until then, shows how far the search is, and returns the score that counts:
    /// a network that diverged, whose loss is no number, counts as one that guesses, and is never the
    /// best.
    ///
    /// # Errors
    /// When the recorder fails, or the run was asked to stop.
    pub fn meet(
        &mut self,
        decisions: &Decisions,
        score: Score,
        work: &Work,
        monitor: &mut Monitor<'_>,
    ) -> Result<Score> {
        let diverged = !score.loss.is_finite();
        let score = score.or_guessing(self.space.classes);
        if !diverged && self.best.as_ref().is_none_or(|(_, best)| better(&score, best)) {
            self.best = Some((decisions.clone(), score));
        }
        let best = self.best.as_ref().map_or(score, |(_, best)| *best);
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
        monitor.measure(self.seen, &metrics)?;
        self.seen += 1;
        let note = if diverged { "diverged, counts as top-1" } else { "top-1" };
        monitor.progress.advanced(self.seen, &format!("{note} {:.1} %", 100.0 * score.top1));
        Ok(score)
    }

    /// The best of all.
    ///
    /// # Errors
    /// When all diverged.
    pub fn into_best(self) -> Result<Decisions> {
        let Some((decisions, _)) = self.best else {
            bail!(
                "all {} candidates diverged; a lower learning_rate or a clip_norm of \
                 [search.weights] helps",
                self.seen
            )
        };
        Ok(decisions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, Overrides};
    use crate::progress::Quiet;
    use crate::record::{FoundArchitecture, Phase, PhaseUsage, Recorder};
    use crate::rng::Seed;
    use crate::search::draw;
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    /// Keeps what is measured.
    #[derive(Default)]
    struct Log(Vec<(u64, Metric, f64)>);

    impl Recorder for Log {
        fn measure(&mut self, step: u64, metrics: &[(Metric, f64)]) -> Result<()> {
            self.0.extend(metrics.iter().map(|(metric, value)| (step, *metric, *value)));
            Ok(())
        }
        fn phase_started(&mut self, _: Phase) -> Result<()> {
            Ok(())
        }
        fn phase_finished(&mut self, _: Phase, _: PhaseUsage) -> Result<()> {
            Ok(())
        }
        fn architecture(&mut self, _: &FoundArchitecture) -> Result<()> {
            Ok(())
        }
    }

    /// What a search among networks with these accuracies returns, by their number; those of NaN
    /// diverged.
    fn best_of(top1s: &[f64]) -> (Result<usize>, Log) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/smoke.toml");
        let space = manifest::load(&path, &Overrides::default()).unwrap().space;
        let network = |i| draw(&space, None, &mut Seed(1).stream("draw", i as u64)).unwrap();
        let (mut log, stop) = (Log::default(), AtomicBool::new(false));
        let mut incumbent = Incumbent::new(&space);
        for (i, top1) in top1s.iter().enumerate() {
            let mut monitor = Monitor { recorder: &mut log, progress: &Quiet, stop: &stop };
            let loss = if top1.is_nan() { f64::NAN } else { 1.0 };
            let score = Score { loss, top1: if top1.is_nan() { 0.0 } else { *top1 } };
            let work = Work { macs: 10 * (i as u64 + 1), ..Work::default() };
            let counts = incumbent.meet(&network(i), score, &work, &mut monitor).unwrap();
            let guessing = Score { loss: 10_f64.ln(), top1: 0.1 };
            assert_eq!(counts, if top1.is_nan() { guessing } else { score });
        }
        let number = |made| (0..top1s.len()).find(|i| network(*i) == made).unwrap();
        (incumbent.into_best().map(number), log)
    }

    #[test]
    fn a_network_that_diverged_counts_as_guessing_and_is_never_the_best() {
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
    fn a_search_whose_networks_all_diverged_fails_and_says_so() {
        let error = best_of(&[f64::NAN; 3]).0.unwrap_err();
        assert!(error.to_string().starts_with("all 3 candidates diverged; a lower"), "{error}");
    }
}
