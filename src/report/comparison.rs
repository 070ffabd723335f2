//! Methods beside each other: what each found and what its search cost, and whether that is better
//! than chance, seed by seed: than one random draw, and than the best of several.

use super::frame::mean_and_sd;
use super::results::{
    Number, Settings, environment, macs, mean_cell, networks, params, peak_bytes,
};
use super::results::{search_images, search_macs, seconds, top1};
use super::stats::Paired;
use crate::recipe::MethodName;
use crate::record::{Metric, Phase};
use crate::store::{Measurement, RunRow, RunStatus};
use crate::text::{self, Table, Unit, or_dash, points, run_ids};
use std::collections::{BTreeMap, BTreeSet};

/// The methods that the others are held against.
const BASELINES: [&str; 2] = [MethodName::Random.as_str(), MethodName::RandomSearch.as_str()];

/// What a search had executed until a step, and the accuracy that it steers by: of methods that score
/// networks, and of those that learn α.
const COURSES: [(Metric, Metric); 2] = [
    (Metric::SEARCH_CANDIDATE_EXECUTED_MACS, Metric::SEARCH_BEST_TOP1),
    (Metric::SEARCH_EXECUTED_MACS, Metric::SEARCH_ALPHA_TOP1),
];

const NUMBERS: [Number; 8] = [
    Number { title: ">MACs", unit: Unit::Count, of: macs },
    Number { title: ">params", unit: Unit::Count, of: params },
    Number { title: ">search s", unit: Unit::Seconds, of: |r| seconds(r, Phase::Search) },
    Number { title: ">search images", unit: Unit::Count, of: search_images },
    Number { title: ">search MACs", unit: Unit::Count, of: search_macs },
    Number { title: ">networks", unit: Unit::Count, of: networks },
    Number { title: ">search MiB", unit: Unit::Mebibytes, of: |r| peak_bytes(r, Phase::Search) },
    Number { title: ">train MiB", unit: Unit::Mebibytes, of: |r| peak_bytes(r, Phase::Train) },
];

/// A finished run with the test accuracy of each of its trainings, in 0..=1.
#[derive(Clone, Debug)]
pub struct Tested<'a> {
    pub run: &'a RunRow,
    pub top1s: Vec<f64>,
    /// Where the network was chosen by probabilities within a budget.
    budget: Option<BudgetsPart>,
    /// Multiply-accumulates executed so far, and held-out accuracy in 0..=1, as the search went: of
    /// the best network so far, or of the supernet on the images of α. Empty where a version did not
    /// record them, and where nothing was searched.
    pub course: Vec<(f64, f64)>,
}

/// How much the budget decided.
#[derive(Clone, Copy, Debug)]
struct BudgetsPart {
    /// Decisions that are not the likeliest option.
    changed: f64,
    /// Multiply-accumulates of the likeliest options together.
    macs: f64,
}

/// The runs of one method, one per seed, by seed.
pub struct MethodRuns<'a> {
    pub name: &'a str,
    pub runs: Vec<Tested<'a>>,
}

/// Two or more methods with the same settings.
pub struct Comparison<'a> {
    pub methods: Vec<MethodRuns<'a>>,
    /// Runs with these settings that have no result, nor has another one of their method and seed.
    lost: Vec<&'a RunRow>,
}

/// A method less a baseline, seed by seed.
struct Difference<'a> {
    method: &'a str,
    baseline: &'a str,
    paired: Paired,
    /// Its mean search MACs over the baseline's, if both executed any.
    search: Option<f64>,
    /// Of the runs behind it.
    ids: Vec<i64>,
}

/// How a method stands beside a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Better,
    Worse,
    CannotBeTold,
}

impl<'a> Tested<'a> {
    /// `None` where the run has not finished.
    #[must_use]
    pub fn of(run: &'a RunRow, measurements: &[Measurement]) -> Option<Self> {
        let of = |metric: Metric| {
            measurements.iter().filter(move |m| m.metric == metric).map(|m| m.value)
        };
        let changed = of(Metric::SEARCH_BUDGET_CHANGED).next();
        let unconstrained = of(Metric::SEARCH_BUDGET_MACS_UNCONSTRAINED).next();
        let budget = changed.zip(unconstrained);
        let budget = budget.map(|(changed, macs)| BudgetsPart { changed, macs });
        let top1s = trainings(measurements);
        let course =
            COURSES.iter().flat_map(|(macs, top1)| course(measurements, *macs, *top1)).collect();
        (run.status == RunStatus::Finished).then_some(Self { run, top1s, budget, course })
    }
}

/// The test accuracies of a run's trainings, in 0..=1.
pub fn trainings(measurements: &[Measurement]) -> Vec<f64> {
    measurements.iter().filter(|m| m.metric == Metric::TEST_TOP1).map(|m| m.value).collect()
}

/// The two metrics wherever a step has both.
fn course(measurements: &[Measurement], macs: Metric, top1: Metric) -> Vec<(f64, f64)> {
    let of = |metric: Metric| -> BTreeMap<u64, f64> {
        let of_metric = measurements.iter().filter(|m| m.metric == metric);
        of_metric.map(|m| (m.step, m.value)).collect()
    };
    let (macs, top1) = (of(macs), of(top1));
    macs.iter().filter_map(|(step, macs)| Some((*macs, *top1.get(step)?))).collect()
}

/// The comparisons among runs, which come in the order of their ids: of two or more methods that agree
/// in all settings but the method and the seeds. A seed counts by its last run. `runs` are all, with
/// those that have not finished.
#[must_use]
pub fn comparisons<'a>(tested: &[Tested<'a>], runs: &'a [RunRow]) -> Vec<Comparison<'a>> {
    let mut groups: Vec<(Settings<'a>, Vec<MethodRuns<'a>>)> = Vec::new();
    for one in tested {
        let settings = Settings::across_methods(one.run);
        let known = groups.iter().position(|(of_group, _)| *of_group == settings);
        let group = known.unwrap_or_else(|| {
            groups.push((settings, Vec::new()));
            groups.len() - 1
        });
        add(&mut groups[group].1, one);
    }
    let comparisons = groups.into_iter().map(|(settings, methods)| {
        let has = |run: &RunRow| methods.iter().any(|m| m.name == run.method && m.has(run.seed));
        let unfinished = runs.iter().filter(|run| run.status != RunStatus::Finished);
        let lost = unfinished.filter(|run| Settings::across_methods(run) == settings && !has(run));
        Comparison { lost: lost.collect(), methods }
    });
    comparisons.filter(|comparison| comparison.methods.len() > 1).collect()
}

fn add<'a>(methods: &mut Vec<MethodRuns<'a>>, one: &Tested<'a>) {
    let name = one.run.method.as_str();
    let known = methods.iter().position(|method| method.name == name);
    let method = known.unwrap_or_else(|| {
        methods.push(MethodRuns { name, runs: Vec::new() });
        methods.len() - 1
    });
    let runs = &mut methods[method].runs;
    runs.retain(|other| other.run.seed != one.run.seed);
    let place = runs.partition_point(|other| other.run.seed < one.run.seed);
    runs.insert(place, one.clone());
}

impl MethodRuns<'_> {
    fn rows(&self) -> Vec<&RunRow> {
        self.runs.iter().map(|tested| tested.run).collect()
    }

    fn has(&self, seed: u64) -> bool {
        self.runs.iter().any(|tested| tested.run.seed == seed)
    }

    fn mean_search_macs(&self) -> Option<f64> {
        let macs: Vec<f64> = self.rows().into_iter().filter_map(search_macs).collect();
        mean_and_sd(&macs).map(|(mean, _)| mean)
    }

    /// How much the budget decided, if it did.
    fn budgets_part(&self) -> Option<String> {
        let parts: Vec<BudgetsPart> = self.runs.iter().filter_map(|tested| tested.budget).collect();
        let mean = |of: fn(&BudgetsPart) -> f64| {
            mean_and_sd(&parts.iter().map(of).collect::<Vec<_>>()).map(|(mean, _)| mean)
        };
        let (changed, macs) = mean(|part| part.changed).zip(mean(|part| part.macs))?;
        Some(format!(
            "The likeliest options of {} together have {} MACs; to keep to the budget, {changed:.1} \
             decisions of a network are others (means over seeds).",
            self.name,
            Unit::Count.cell(macs)
        ))
    }

    /// The standard deviation between the trainings of one network, over all networks: the root of
    /// the mean variance.
    fn sd_of_trainings(&self) -> Option<f64> {
        let sds = self.runs.iter().filter_map(|tested| mean_and_sd(&tested.top1s)?.1);
        let squares: Vec<f64> = sds.map(|sd| sd * sd).collect();
        mean_and_sd(&squares).map(|(mean, _)| mean.sqrt())
    }

    /// This method less the baseline for every seed that both have, with the runs' ids.
    fn less(&self, baseline: &MethodRuns<'_>) -> (Vec<f64>, Vec<i64>) {
        let (mut differences, mut ids) = (Vec::new(), Vec::new());
        for own in self.rows() {
            let Some(other) = baseline.rows().into_iter().find(|run| run.seed == own.seed) else {
                continue;
            };
            if let (Some(a), Some(b)) = (top1(own), top1(other)) {
                differences.push(a - b);
                ids.extend([own.id, other.id]);
            }
        }
        ids.sort_unstable();
        (differences, ids)
    }
}

impl Comparison<'_> {
    /// One row per method.
    #[must_use]
    pub fn methods_table(&self) -> Table {
        let first = ["method", ">seeds", ">trainings", ">top-1 %", ">sd of trainings"];
        let columns = first.into_iter().chain(NUMBERS.iter().map(|number| number.title));
        let mut table = Table::new(columns.chain(["runs"]));
        for method in &self.methods {
            let rows = method.rows();
            let trainings: usize = method.runs.iter().map(|tested| tested.top1s.len()).sum();
            let number = |number: &Number| mean_cell(number, &rows);
            let accuracy = Number { title: "", unit: Unit::Percent, of: top1 };
            let cells = [
                Some(method.name.to_owned()),
                Some(rows.len().to_string()),
                Some(trainings.to_string()),
                number(&accuracy),
                method.sd_of_trainings().map(|sd| Unit::Percent.cell(sd)),
            ];
            let cells =
                cells.into_iter().chain(NUMBERS.iter().map(number)).chain([Some(ids(&rows))]);
            table.row(cells.map(or_dash));
        }
        table
    }

    /// One row per method and baseline that have seeds in common; empty where there is no baseline.
    #[must_use]
    pub fn differences_table(&self) -> Table {
        let mut table = Table::new([
            "method",
            "baseline",
            ">pairs",
            ">difference",
            ">sd",
            "95 % interval",
            ">smallest visible",
            ">search MACs, times",
            "runs",
        ]);
        for Difference { method, baseline, paired, search, ids } in self.differences() {
            let interval = paired.interval.map(|(l, h)| format!("{} to {}", points(l), points(h)));
            table.row([
                method.to_owned(),
                baseline.to_owned(),
                paired.pairs.to_string(),
                points(paired.mean),
                or_dash(paired.sd.map(|sd| Unit::Percent.cell(sd))),
                or_dash(interval),
                or_dash(paired.detectable.map(|d| Unit::Percent.cell(d))),
                or_dash(search.map(|times| format!("{times:.2}"))),
                text::list(ids),
            ]);
        }
        table
    }

    /// What can be concluded, one sentence per method and baseline.
    #[must_use]
    pub fn verdicts(&self) -> Vec<String> {
        self.differences().iter().map(sentence).collect()
    }

    /// Of every method to every baseline before it.
    fn differences(&self) -> Vec<Difference<'_>> {
        let mut differences = Vec::new();
        for (i, name) in BASELINES.iter().enumerate() {
            let Some(baseline) = self.methods.iter().find(|method| method.name == *name) else {
                continue;
            };
            let others = self.methods.iter().filter(|other| !BASELINES[..=i].contains(&other.name));
            differences.extend(others.filter_map(|method| {
                let (found, ids) = method.less(baseline);
                let macs = method.mean_search_macs().zip(baseline.mean_search_macs());
                let search = macs.filter(|(own, other)| *own > 0.0 && *other > 0.0);
                let search = search.map(|(own, other)| own / other);
                let (method, baseline, paired) = (method.name, *name, Paired::of(&found)?);
                Some(Difference { method, baseline, paired, search, ids })
            }));
        }
        differences
    }

    /// What a reader of the table and the differences has to know.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let runs: Vec<&RunRow> = self.methods.iter().flat_map(MethodRuns::rows).collect();
        let mut notes = Vec::new();
        let first = runs.first().map(|run| environment(run));
        if runs.iter().any(|run| Some(environment(run)) != first) {
            let (versions, seconds) = ("more than one program version or machine", "their seconds");
            notes.push(format!(
                "The runs are of {versions}: {seconds} are not of one kind, and a difference between \
                 methods may be one between versions."
            ));
        }
        let mut seen: Vec<&RunRow> = Vec::new();
        for run in &runs {
            let same = |other: &&RunRow| found(other).is_some() && found(other) == found(run);
            if let Some(other) = seen.iter().copied().find(same) {
                notes.push(format!(
                    "{} and {} found the same network with seed {}: what they say is one \
                     measurement, not two ({}).",
                    other.method,
                    run.method,
                    run.seed,
                    run_ids([other.id, run.id])
                ));
            }
            seen.push(run);
        }
        let [rs_ws, evolution] = [MethodName::RsWs, MethodName::Evolution].map(MethodName::as_str);
        if [rs_ws, evolution].iter().all(|name| self.methods.iter().any(|m| m.name == *name)) {
            notes.push(format!(
                "With the same seed {rs_ws} and {evolution} search under the same shared weights: what \
                 they found is not independent."
            ));
        }
        notes.extend(self.methods.iter().filter_map(MethodRuns::budgets_part));
        notes.extend(self.missing());
        notes.extend(self.unequal_search());
        notes
    }

    /// Methods without a result for a seed that they or others have begun.
    fn missing(&self) -> Vec<String> {
        let finished = self.methods.iter().flat_map(MethodRuns::rows);
        let seeds: BTreeSet<u64> =
            finished.chain(self.lost.iter().copied()).map(|run| run.seed).collect();
        let mut names: Vec<&str> = self.methods.iter().map(|method| method.name).collect();
        for run in &self.lost {
            if !names.contains(&run.method.as_str()) {
                names.push(&run.method);
            }
        }
        let without = |name: &str| -> Vec<String> {
            let method = self.methods.iter().find(|method| method.name == name);
            let lacks = |seed: &&u64| method.is_none_or(|method| !method.has(**seed));
            let fate = |seed: &u64| {
                let lost = self.lost.iter().rfind(|run| run.method == name && run.seed == *seed);
                lost.map_or(format!("{seed} (not begun)"), |run| {
                    format!("{seed} (run {} {})", run.id, run.status.name())
                })
            };
            seeds.iter().filter(lacks).map(fate).collect()
        };
        let all = names.into_iter().map(|name| (name, without(name)));
        all.filter(|(_, seeds)| !seeds.is_empty())
            .map(|(name, seeds)| {
                format!(
                    "{name} has no result for seed {}, left out of its means and differences.",
                    seeds.join(", ")
                )
            })
            .collect()
    }

    /// Methods that searched for longer or shorter than what they are held against.
    fn unequal_search(&self) -> Option<String> {
        let unequal = |difference: Difference<'_>| {
            let Difference { method, baseline, search, .. } = difference;
            let times = search.filter(|times| (times - 1.0).abs() > 0.1)?;
            Some(format!("{method} {times:.2} times those of {baseline}"))
        };
        let unequal: Vec<String> = self.differences().into_iter().filter_map(unequal).collect();
        (!unequal.is_empty()).then(|| {
            format!(
                "Search MACs differ by more than a tenth: {}. More search compute is not told apart \
                 from a better method.",
                unequal.join(", ")
            )
        })
    }

    /// Whether the methods were held to one cost.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        let run = self.methods.iter().flat_map(MethodRuns::rows).next();
        let manifest = run.and_then(|run| toml::from_str::<toml::Table>(&run.manifest.text).ok());
        manifest.is_some_and(|m| m.get("search").is_some_and(|s| s.get("budget").is_some()))
    }
}

impl Verdict {
    fn of(paired: &Paired) -> Self {
        match paired.interval {
            Some((low, _)) if low > 0.0 => Self::Better,
            Some((_, high)) if high < 0.0 => Self::Worse,
            _ => Self::CannotBeTold,
        }
    }
}

/// The network of a run with its seed, which also trains it, and so with its accuracy.
fn found(run: &RunRow) -> Option<(&str, u64, Option<f64>)> {
    run.architecture.as_ref().map(|found| (found.id.as_str(), run.seed, top1(run)))
}

fn sentence(difference: &Difference<'_>) -> String {
    let Difference { method, baseline, paired, ids, .. } = difference;
    let verdict = match Verdict::of(paired) {
        Verdict::Better => "is better than",
        Verdict::Worse => "is worse than",
        Verdict::CannotBeTold => "cannot be told from",
    };
    let seeds = if paired.pairs == 1 { "1 seed" } else { &format!("{} seeds", paired.pairs) };
    let why = match (paired.interval, paired.detectable) {
        (Some((low, high)), Some(difference)) => format!(
            "interval {} to {}; {seeds} would probably show a difference of {} points",
            points(low),
            points(high),
            Unit::Percent.cell(difference)
        ),
        _ if paired.pairs == 1 => "1 seed has no interval".to_owned(),
        _ => format!("the differences of {seeds} do not vary, so there is no interval"),
    };
    format!(
        "{method} {verdict} {baseline}: {} points of top-1, {why} ({})",
        points(paired.mean),
        run_ids(ids.iter().copied())
    )
}

fn ids(runs: &[&RunRow]) -> String {
    text::list(runs.iter().map(|run| run.id))
}
