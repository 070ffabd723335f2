//! A run with what it measured, by metric.

use crate::record::Metric;
use crate::store::{Measurement, RunRow};
use std::collections::BTreeMap;

/// A step and the value there.
pub type StepValue = (u64, f64);

/// A run and its measurements.
#[derive(Clone, Debug)]
pub struct MeasuredRun<'a> {
    pub run: &'a RunRow,
    by_metric: BTreeMap<Metric, Vec<StepValue>>,
}

impl<'a> MeasuredRun<'a> {
    #[must_use]
    pub fn new(run: &'a RunRow, measurements: &[Measurement]) -> Self {
        let mut by_metric: BTreeMap<Metric, Vec<StepValue>> = BTreeMap::new();
        // They come by metric, so that there are few chunks.
        for chunk in measurements.chunk_by(|a, b| a.metric == b.metric) {
            let values = chunk.iter().map(|m| (m.step, m.value));
            by_metric.entry(chunk[0].metric).or_default().extend(values);
        }
        Self { run, by_metric }
    }

    /// All metrics, by name.
    pub fn all(&self) -> impl Iterator<Item = (Metric, &[StepValue])> {
        self.by_metric.iter().map(|(metric, series)| (*metric, &series[..]))
    }

    /// Every step of a metric; empty where the run has not measured it.
    #[must_use]
    pub fn series(&self, metric: Metric) -> &[StepValue] {
        self.by_metric.get(&metric).map_or(&[], Vec::as_slice)
    }

    /// The values of a metric.
    #[must_use]
    pub fn values(&self, metric: Metric) -> Vec<f64> {
        self.series(metric).iter().map(|(_, value)| *value).collect()
    }

    /// The value of a metric that a run has once.
    #[must_use]
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.series(metric).first().map(|(_, value)| *value)
    }

    /// The first value of a metric in any training run of the network.
    #[must_use]
    pub fn in_any_repeat(&self, metric: Metric) -> Option<f64> {
        let (_, series) = self.by_metric.iter().find(|(m, _)| m.of_repeat(0) == metric)?;
        series.first().map(|(_, value)| *value)
    }

    /// Two metrics wherever a step has both.
    #[must_use]
    pub fn joined(&self, x: Metric, y: Metric) -> Vec<(f64, f64)> {
        let ys: BTreeMap<u64, f64> = self.series(y).iter().copied().collect();
        self.series(x).iter().filter_map(|(step, x)| Some((*x, *ys.get(step)?))).collect()
    }

    /// The test accuracies of the run's training runs, in 0..=1.
    #[must_use]
    pub fn test_top1s(&self) -> Vec<f64> {
        self.values(Metric::TEST_TOP1)
    }
}
