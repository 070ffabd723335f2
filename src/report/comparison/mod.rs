//! Methods compared: what each found, what its search cost, and whether its accuracy differs from that
//! of random baselines with the same seeds.

mod difference;
mod notes;
mod steps;
mod tables;

use super::frame::mean_and_sd;
use super::groups::grouped;
use super::measured::MeasuredRun;
use super::results::{search_macs, top1};
use super::settings::{self, SettingsKeys, has_budget};
use crate::record::Metric;
use crate::store::{RunRow, RunStatus};
use difference::Difference;
use std::collections::BTreeMap;
use steps::SearchSteps;

/// What a search had executed until a step, and the held-out accuracy that it selects by. The first
/// pair is of methods that score networks, the second of those that learn α.
const SEARCH_CURVES: [(Metric, Metric); 2] = [
    (Metric::SEARCH_CANDIDATE_EXECUTED_MACS, Metric::SEARCH_BEST_TOP1),
    (Metric::SEARCH_EXECUTED_MACS, Metric::SEARCH_ALPHA_TOP1),
];

/// The metrics that comparisons use.
pub fn metrics() -> impl Iterator<Item = Metric> {
    let curves = SEARCH_CURVES.into_iter().flat_map(|(macs, top1)| [macs, top1]);
    let budget = [Metric::SEARCH_BUDGET_CHANGED, Metric::SEARCH_BUDGET_MACS_UNCONSTRAINED];
    curves.chain(budget).chain(steps::METRICS)
}

/// A finished run in a comparison.
#[derive(Clone, Debug)]
pub struct ComparedRun<'a> {
    pub run: &'a RunRow,
    /// Test accuracy of each of its training runs, in 0..=1.
    pub top1s: Vec<f64>,
    /// `None` where no budget was set, and where a method draws within the budget.
    projection: Option<Projection>,
    steps: SearchSteps,
    /// Multiply-accumulates executed so far, and held-out accuracy in 0..=1: of the best network so
    /// far, or of the supernet on the architecture split. Empty where nothing was searched, and in
    /// runs of versions that did not record it.
    pub search_curve: Vec<(f64, f64)>,
}

/// What the projection onto the budget changed.
#[derive(Clone, Copy, Debug)]
struct Projection {
    /// Choices that do not have their argmax option.
    changed: f64,
    /// Multiply-accumulates of the argmax options together.
    argmax_macs: f64,
}

/// The runs of one method, one per seed, by seed.
pub struct MethodRuns<'a> {
    pub name: &'a str,
    pub runs: Vec<ComparedRun<'a>>,
}

/// Two or more methods with the same settings and data, on one kind of device.
pub struct Comparison<'a> {
    pub methods: Vec<MethodRuns<'a>>,
    /// Runs with these settings that have no result, where no other run of their method and seed has.
    without_result: Vec<&'a RunRow>,
    /// Of every method to every random baseline.
    differences: Vec<Difference<'a>>,
}

impl<'a> ComparedRun<'a> {
    fn of(measured: &MeasuredRun<'a>) -> Self {
        let changed = measured.value(Metric::SEARCH_BUDGET_CHANGED);
        let argmax_macs = measured.value(Metric::SEARCH_BUDGET_MACS_UNCONSTRAINED);
        let projection = changed
            .zip(argmax_macs)
            .map(|(changed, argmax_macs)| Projection { changed, argmax_macs });
        let curves = SEARCH_CURVES.iter().flat_map(|(macs, top1)| measured.joined(*macs, *top1));
        Self {
            run: measured.run,
            top1s: measured.test_top1s(),
            projection,
            steps: SearchSteps::of(measured),
            search_curve: curves.collect(),
        }
    }
}

/// The comparisons among runs, which come in the order of their ids: of two or more methods that agree
/// in all settings but the method and the seeds. A seed counts by its last run.
#[must_use]
pub fn comparisons<'a>(
    measured: &[MeasuredRun<'a>],
    settings: &SettingsKeys,
) -> Vec<Comparison<'a>> {
    let same = |measured: &&MeasuredRun<'a>| settings.across_methods(measured.run);
    let groups = grouped(measured, same).into_iter().map(|group| {
        let (finished, others): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|m| m.run.status == RunStatus::Finished);
        let methods =
            grouped(finished, |m| &m.run.method).iter().map(|runs| method(runs)).collect();
        let lost = others.into_iter().map(|m| m.run).collect();
        Comparison::new(methods, lost)
    });
    groups.filter(|comparison| comparison.methods.len() > 1).collect()
}

/// One run per seed, the last.
fn method<'a>(runs: &[&MeasuredRun<'a>]) -> MethodRuns<'a> {
    let by_seed: BTreeMap<u64, &MeasuredRun<'a>> =
        runs.iter().map(|measured| (measured.run.seed, *measured)).collect();
    MethodRuns {
        name: &runs[0].run.method,
        runs: by_seed.into_values().map(ComparedRun::of).collect(),
    }
}

impl<'a> MethodRuns<'a> {
    fn rows(&self) -> Vec<&'a RunRow> {
        self.runs.iter().map(|compared| compared.run).collect()
    }

    fn of_seed(&self, seed: u64) -> Option<&'a RunRow> {
        let place = self.runs.binary_search_by_key(&seed, |compared| compared.run.seed).ok()?;
        Some(self.runs[place].run)
    }

    fn mean_search_macs(&self) -> Option<f64> {
        let macs: Vec<f64> = self.rows().into_iter().filter_map(search_macs).collect();
        mean_and_sd(&macs).map(|(mean, _)| mean)
    }

    /// The standard deviation between training runs of one network, over all networks: the root of
    /// the mean variance.
    fn sd_between_training_runs(&self) -> Option<f64> {
        let sds = self.runs.iter().filter_map(|compared| mean_and_sd(&compared.top1s)?.1);
        let squares: Vec<f64> = sds.map(|sd| sd * sd).collect();
        mean_and_sd(&squares).map(|(mean, _)| mean.sqrt())
    }

    /// This method's accuracy minus the baseline's for every seed that both have, with the runs' ids.
    fn minus(&self, baseline: &MethodRuns<'_>) -> (Vec<f64>, Vec<i64>) {
        let (mut differences, mut ids) = (Vec::new(), Vec::new());
        for own in self.rows() {
            let Some(other) = baseline.of_seed(own.seed) else { continue };
            if let (Some(a), Some(b)) = (top1(own), top1(other)) {
                differences.push(a - b);
                ids.extend([own.id, other.id]);
            }
        }
        ids.sort_unstable();
        (differences, ids)
    }
}

impl<'a> Comparison<'a> {
    fn new(methods: Vec<MethodRuns<'a>>, lost: Vec<&'a RunRow>) -> Self {
        let differences = difference::differences(&methods);
        let mut comparison = Self { methods, without_result: Vec::new(), differences };
        let missing = lost.into_iter().filter(|run| !comparison.has(&run.method, run.seed));
        comparison.without_result = missing.collect();
        comparison
    }

    fn method(&self, name: &str) -> Option<&MethodRuns<'a>> {
        self.methods.iter().find(|method| method.name == name)
    }

    fn has(&self, method: &str, seed: u64) -> bool {
        self.method(method).is_some_and(|method| method.of_seed(seed).is_some())
    }

    /// Whether the methods were constrained to one cost.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        self.rows().next().is_some_and(has_budget)
    }

    /// What all runs computed on, and in.
    #[must_use]
    pub fn device_and_precision(&self) -> String {
        self.rows().next().map(settings::device_and_precision).unwrap_or_default()
    }

    fn rows(&self) -> impl Iterator<Item = &'a RunRow> {
        self.methods.iter().flat_map(MethodRuns::rows)
    }
}
