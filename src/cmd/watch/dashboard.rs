//! What `repro watch` shows, read from the database.

use anyhow::Result;
use repro::env;
use repro::record::{ChoiceProbabilities, Metric, Phase};
use repro::store::{Measurement, RunRow, RunStatus, Store};
use repro::text::{self, sparkline};
use serde_json::Value;

/// The newest runs; older ones are in `repro list`.
const MOST_RUNS: usize = 500;
/// Columns of a curve.
const CURVE: usize = 40;

/// The runs, and what is known of one of them.
#[derive(Clone, Debug, Default)]
pub struct Dashboard {
    /// The newest first.
    pub runs: Vec<RunLine>,
    pub details: Option<Details>,
}

/// One run of the list.
#[derive(Clone, Debug)]
pub struct RunLine {
    pub id: i64,
    pub experiment: String,
    pub method: String,
    pub seed: u64,
    pub status: RunStatus,
    /// In 0..=1.
    pub top1: Option<f64>,
    /// Of a running run.
    pub progress: Option<RunProgress>,
}

/// How far a run is in its phase.
#[derive(Clone, Debug, PartialEq)]
pub struct RunProgress {
    pub phase: Phase,
    /// Epochs that are done, and all of them; `None` where a phase has no epochs.
    pub epochs: Option<(u64, u64)>,
    /// Seconds left in the phase, at the speed so far.
    pub left: Option<f64>,
}

/// What is known of the selected run.
#[derive(Clone, Debug)]
pub struct Details {
    pub id: i64,
    /// Experiment, method and seed, device.
    pub title: String,
    pub error: Option<String>,
    pub curves: Vec<Curve>,
    /// Peak bytes by phase.
    pub memory: Vec<(Phase, u64)>,
    /// Of every choice of several options, with a bar per option.
    pub probabilities: Vec<(String, String)>,
}

/// A metric over the epochs or updates.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub name: String,
    pub bars: String,
    pub last: String,
}

/// What the selected run shows, if it has measured it.
const CURVES: [Metric; 14] = [
    Metric::SEARCH_STEP_LOSS,
    Metric::SEARCH_LOSS,
    Metric::SEARCH_ALPHA_CROSS_ENTROPY,
    Metric::SEARCH_ALPHA_TOP1,
    Metric::SEARCH_EXPECTED_MACS,
    Metric::SEARCH_EXPECTED_PARAMS,
    Metric::SEARCH_ENTROPY_TYPE,
    Metric::SEARCH_ENTROPY_EXPANSION,
    Metric::SEARCH_ENTROPY_WIDTH,
    Metric::SEARCH_TAU,
    Metric::SEARCH_BEST_TOP1,
    Metric::TRAIN_STEP_LOSS,
    Metric::TRAIN_LOSS,
    Metric::VALIDATION_TOP1,
];

impl Dashboard {
    /// With the details of `selected`, else of the newest run that is running, else of the newest.
    ///
    /// # Errors
    /// When the database cannot be read, or has no run `selected`.
    pub fn read(store: &Store, selected: Option<i64>) -> Result<Self> {
        let mut rows = store.brief_runs()?.rows;
        rows.reverse();
        if let Some(id) = selected.filter(|id| !rows.iter().any(|run| run.id == *id)) {
            // Its error names the runs that there are.
            store.run(id)?;
        }
        rows.truncate(MOST_RUNS);
        let runs = rows.iter().map(|run| RunLine::of(run, store)).collect::<Result<Vec<_>>>()?;
        let running = || runs.iter().find(|run| run.status == RunStatus::Running);
        let shown = selected.or_else(|| running().or(runs.first()).map(|run| run.id));
        let details = shown.map(|id| Details::read(store, id)).transpose()?;
        Ok(Self { runs, details })
    }

    /// The run whose details are shown.
    pub fn selected(&self) -> Option<i64> {
        self.details.as_ref().map(|details| details.id)
    }

    /// Its place in the list.
    pub fn place(&self) -> Option<usize> {
        let id = self.selected()?;
        self.runs.iter().position(|run| run.id == id)
    }

    /// The run so many places below the selected one.
    pub fn moved(&self, by: isize) -> Option<i64> {
        let last = self.runs.len().checked_sub(1)?;
        let place = self.place().unwrap_or(0).saturating_add_signed(by).min(last);
        Some(self.runs[place].id)
    }
}

impl RunLine {
    fn of(run: &RunRow, store: &Store) -> Result<Self> {
        let is_running = run.status == RunStatus::Running;
        Ok(Self {
            id: run.id,
            experiment: run.experiment.clone(),
            method: run.method.clone(),
            seed: run.seed,
            status: run.status,
            top1: run.result.as_ref().map(|result| result.test_top1),
            progress: if is_running { RunProgress::read(run, store)? } else { None },
        })
    }

    /// For a terminal that is none.
    pub fn sentence(&self) -> String {
        let Self { id, experiment, method, seed, status, .. } = self;
        let progress =
            self.progress.as_ref().map_or_else(String::new, |p| format!(", {}", p.text()));
        let top1 =
            self.top1.map_or_else(String::new, |top1| format!(", top-1 {}", text::percent(top1)));
        format!("run {id} ({experiment}, {method}, seed {seed}): {}{progress}{top1}", status.name())
    }
}

impl RunProgress {
    /// `None` before the first phase.
    fn read(run: &RunRow, store: &Store) -> Result<Option<Self>> {
        let Some((phase, started)) = store.phase_starts(run.id)?.pop() else { return Ok(None) };
        let (key, metric) = match phase {
            Phase::Search => ("search.epochs", Metric::SEARCH_LOSS),
            Phase::Train => ("train.epochs", Metric::TRAIN_LOSS),
            _ => return Ok(Some(Self { phase, epochs: None, left: None })),
        };
        let last = store.last_steps(run.id)?.into_iter().find(|(known, _)| *known == metric);
        let done = last.map_or(0, |(_, step)| step + 1);
        let all = run.settings.values.get(key).and_then(Value::as_u64);
        let epochs = all.map(|all| (done.min(all), all));
        let left = epochs.and_then(|epochs| left(epochs, env::now() - started));
        Ok(Some(Self { phase, epochs, left }))
    }

    pub fn text(&self) -> String {
        let epochs = self.epochs.map(|(done, all)| format!(", {done} of {all} epochs"));
        let left = self.left.map(|seconds| format!(", about {} left", text::duration(seconds)));
        format!("{}{}{}", self.phase.name(), epochs.unwrap_or_default(), left.unwrap_or_default())
    }

    /// In 0..=1.
    pub fn share(&self) -> f64 {
        self.epochs.map_or(0.0, |(done, all)| done as f64 / all.max(1) as f64)
    }
}

/// Seconds left after so many, at the speed so far; `None` before the first epoch.
fn left((done, all): (u64, u64), seconds: f64) -> Option<f64> {
    (done > 0).then(|| seconds.max(0.0) / done as f64 * (all - done) as f64)
}

impl Details {
    fn read(store: &Store, id: i64) -> Result<Self> {
        let run = store.run(id)?;
        let measurements = store.measurements(id)?;
        let peak = |row: &repro::store::PhaseRow| Some((row.phase, row.usage?.peak_bytes));
        let found = run.architecture.as_ref();
        Ok(Self {
            id,
            title: format!(
                "run {id}: {}, {}, seed {}, {}",
                run.experiment, run.method, run.seed, run.environment.device
            ),
            error: run.error.clone(),
            curves: CURVES.iter().filter_map(|metric| Curve::of(*metric, &measurements)).collect(),
            memory: run.phases.iter().filter_map(peak).collect(),
            probabilities: found.map_or_else(Vec::new, |found| bars(&found.probabilities)),
        })
    }
}

impl Curve {
    fn of(metric: Metric, measurements: &[Measurement]) -> Option<Self> {
        let values: Vec<f64> =
            measurements.iter().filter(|m| m.metric == metric).map(|m| m.value).collect();
        let last = text::decimal(*values.last()?);
        Some(Self { name: metric.name().into_owned(), bars: sparkline(&values, CURVE), last })
    }
}

/// The name of each choice of several options, and a bar per option.
fn bars(probabilities: &[ChoiceProbabilities]) -> Vec<(String, String)> {
    let of_block = |block: &ChoiceProbabilities| {
        let choices =
            [("type", &block.types), ("expansion", &block.expansions), ("width", &block.widths)];
        let several = choices.into_iter().filter(|(_, options)| options.len() > 1);
        let label = block.block.clone();
        several
            .map(|(name, options)| {
                // Zero is the lowest bar, whatever the least probable option has.
                let mut scaled = vec![0.0];
                scaled.extend(options);
                let bars: String = sparkline(&scaled, scaled.len()).chars().skip(1).collect();
                let largest = options.iter().copied().fold(0.0, f64::max);
                (format!("{label} {name}"), format!("{bars} {largest:.2}"))
            })
            .collect::<Vec<_>>()
    };
    probabilities.iter().flat_map(of_block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_at_the_speed_so_far() {
        assert_eq!(left((0, 6), 10.0), None);
        assert_eq!(left((2, 6), 10.0), Some(20.0));
        assert_eq!(left((6, 6), 10.0), Some(0.0));
    }

    #[test]
    fn every_choice_of_several_options_has_bars() {
        let block = ChoiceProbabilities {
            block: "1.1".to_owned(),
            types: vec![0.5, 0.5],
            expansions: vec![1.0],
            widths: vec![0.0, 0.1, 0.9],
        };
        let expected = [("1.1 type", "██ 0.50"), ("1.1 width", "▁▂█ 0.90")];
        assert_eq!(bars(&[block]), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
