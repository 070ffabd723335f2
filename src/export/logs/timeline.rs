//! When a measurement was made. The database has the times of phases, but none of single measurements: those of
//! a metric are spread evenly over its phase.

use crate::record::{Metric, Phase};
use crate::store::RunRow;
use std::collections::BTreeMap;

/// The times of a run, in seconds since 1970, UTC.
pub struct Timeline {
    /// From the start of the first attempt to the last sign of life.
    pub whole: (f64, f64),
    phases: BTreeMap<Phase, (f64, f64)>,
    last_steps: BTreeMap<Metric, u64>,
    /// Training runs of the network that have measured something.
    training_runs: u32,
}

impl Timeline {
    /// Of a run whose first attempt started at `started_at`. See [`crate::store::Store::phase_starts`] and
    /// [`crate::store::Store::last_steps`].
    pub fn new(
        run: &RunRow,
        started_at: f64,
        starts: &[(Phase, f64)],
        last_steps: Vec<(Metric, u64)>,
    ) -> Self {
        let end_of_run = run.last_seen_at.max(started_at);
        let phases = starts.iter().map(|(phase, start)| {
            let end = run.usage(*phase).map_or(end_of_run, |usage| start + usage.seconds);
            (*phase, (*start, end.max(*start)))
        });
        let last_repeat = last_steps.iter().map(|(metric, _)| metric.repeat()).max();
        Self {
            whole: (started_at, end_of_run),
            phases: phases.collect(),
            last_steps: last_steps.into_iter().collect(),
            training_runs: last_repeat.unwrap_or(0) + 1,
        }
    }

    /// When a metric was measured at a step, by estimate.
    pub fn at(&self, metric: Metric, step: u64) -> f64 {
        let phase = phase_of(metric);
        let (start, end) = phase.and_then(|phase| self.phases.get(&phase)).unwrap_or(&self.whole);
        let last = self.last_steps.get(&metric).copied().unwrap_or(step).max(step);
        let mut share = (step as f64 + 1.0) / (last as f64 + 1.0);
        // The training runs of a network follow each other.
        if phase == Some(Phase::Train) {
            share = (f64::from(metric.repeat()) + share) / f64::from(self.training_runs);
        }
        start + (end - start) * share.min(1.0)
    }

    /// When a phase ended, or the run where it has not ended.
    pub fn end_of(&self, phase: Phase) -> f64 {
        self.phases.get(&phase).map_or(self.whole.1, |(_, end)| *end)
    }
}

/// The phase that measures a metric; `None` for one of the whole run.
fn phase_of(metric: Metric) -> Option<Phase> {
    let first = metric.of_repeat(0).name().split('.').next().map(str::to_owned)?;
    match first.as_str() {
        "validation" => Some(Phase::Train),
        name => Phase::ALL.into_iter().find(|phase| phase.name() == name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_spread_over_their_phase() {
        let (loss, repeat) = (Metric::TRAIN_LOSS, Metric::TRAIN_LOSS.of_repeat(1));
        let timeline = Timeline {
            whole: (0.0, 100.0),
            phases: [(Phase::Search, (10.0, 30.0)), (Phase::Train, (40.0, 80.0))].into(),
            last_steps: [(Metric::SEARCH_LOSS, 3), (loss, 1), (repeat, 1)].into(),
            training_runs: 2,
        };
        let searches = [0, 1, 2, 3].map(|step| timeline.at(Metric::SEARCH_LOSS, step));
        assert_eq!(searches, [15.0, 20.0, 25.0, 30.0]);
        let training = [(loss, 0), (loss, 1), (repeat, 0), (repeat, 1)];
        assert_eq!(training.map(|(m, step)| timeline.at(m, step)), [50.0, 60.0, 70.0, 80.0]);
        // Later than when the last steps were read; of no phase; of a phase without a start.
        assert_eq!(timeline.at(Metric::SEARCH_LOSS, 9), 30.0);
        assert_eq!(timeline.at(Metric::MEMORY_HIGH_WATER_BYTES, 0), 100.0);
        assert_eq!(timeline.at(Metric::TEST_TOP1, 0), 100.0);
    }

    #[test]
    fn every_metric_but_memory_has_a_phase() {
        let without: Vec<_> = Metric::all().filter(|metric| phase_of(*metric).is_none()).collect();
        assert_eq!(without, [Metric::MEMORY_HIGH_WATER_BYTES]);
        assert_eq!(phase_of(Metric::VALIDATION_LOSS.of_repeat(3)), Some(Phase::Train));
    }
}
