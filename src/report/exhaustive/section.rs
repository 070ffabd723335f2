//! The sections of a page about an exhaustive table, and about searches that are looked up in one.

use super::lookup::{MethodLookup, Setting, settings};
use super::pool::{LEAST_TAU, Noise, Pool, Standing};
use super::{ExhaustiveTable, lookup_of};
use crate::report::finished::finished;
use crate::report::page::{Part, Section};
use crate::report::prose::Prose;
use crate::report::results::SEARCH_MACS;
use crate::report::settings::SettingsKeys;
use crate::report::stats::wilson_interval;
use crate::report::table::{Columns, ReportTable, Spread};
use crate::store::RunRow;
use crate::text::{Unit, count, list, percent, plural, ranges, run_ids};
use std::collections::BTreeSet;

/// Numbers of draws that are shown.
const DRAWS: [u32; 6] = [1, 2, 5, 10, 20, 50];
/// Those beside methods.
const COMPARED_DRAWS: [u32; 3] = [1, 10, 50];

/// What a table says about itself.
pub fn facts(table: &ExhaustiveTable<'_>) -> Section {
    let pool = Pool::of(table, None);
    let runs = run_ids_of(table);
    let rows = [table];
    let own = Columns::of("exhaustive", &rows)
        .whole("networks", "networks", |table| Some(table.networks.len() as u64))
        .text("seeds", "training seeds", |table| list(&table.seeds))
        .whole("complete", "with every seed", |_| Some(pool.networks.len() as u64))
        .of_runs(|_| runs.clone())
        .table();
    let parts = [Part::Table(own)].into_iter().chain(missing_runs(table)).chain(left_out(table));
    let parts = parts.chain([
        Part::Table(pool_table("all networks", &pool, &runs)),
        Part::paragraph(POOL),
        Part::Table(draws(&pool, &runs)),
        Part::paragraph(DRAWS_NOTE),
    ]);
    Section::new(Prose::from("Exhaustive table ").code(table.experiment), parts.collect())
}

/// Whether the table's training runs agree on which networks are better.
pub fn verdict(table: &ExhaustiveTable<'_>) -> String {
    let pool = Pool::of(table, None);
    let networks = plural(pool.networks.len(), "network");
    match pool.noise() {
        Noise::Unknown => format!("{networks}, whose noise one seed does not show"),
        Noise::Small => format!(
            "{networks}, ranked alike by their training seeds (τ-b {:.2})",
            pool.tau_between_seeds().unwrap_or_default()
        ),
        Noise::TooLarge(tau) => {
            format!("{networks}, too noisy to rank anything (τ-b between seeds {tau:.2})")
        }
    }
}

/// The runs of a table, ascending.
fn run_ids_of(table: &ExhaustiveTable<'_>) -> Vec<i64> {
    let runs = table.networks.iter().flat_map(|network| network.runs.values());
    let mut ids: Vec<i64> = runs.map(|run| run.id).collect();
    ids.sort_unstable();
    ids
}

const POOL: &str = "\
The top-1 of a network is its mean test top-1 over the training seeds. τ-b between seeds is the rank \
correlation (Kendall's τ-b) of the networks' top-1 with one training seed and with another, the mean over \
all pairs of seeds, with the 95 % interval of the percentile bootstrap over networks: how well one \
training run predicts the ranking by another. τ-b of MACs and of params show how far cost alone ranks the \
networks.";

const DRAWS_NOTE: &str = "\
The best of n independent uniform draws of a network, in exact expectation: with the N networks in \
ascending order, network i is the best with probability (i/N)^n - ((i - 1)/N)^n. Regret is the top-1 of \
the best network minus that of the network, in percentage points. The percentile is the share of the \
other networks that are worse, where equal ones count half. The best mean is the maximum of noisy means. \
It is too high on average, and every method's regret is too large by the same amount.";

/// The networks that lack a run, if any do.
fn missing_runs(table: &ExhaustiveTable<'_>) -> Option<Part> {
    let missing = table.missing();
    let of_seed = |(seed, numbers): &(u64, Vec<i64>)| {
        let networks = if numbers.len() == 1 { "network" } else { "networks" };
        format!("seed {seed}: {networks} {}", ranges(numbers))
    };
    let places: Vec<String> = missing.iter().map(of_seed).collect();
    let are = match missing.iter().map(|(_, numbers)| numbers.len()).sum() {
        0 => return None,
        1 => "1 run is".to_owned(),
        runs => format!("{runs} runs are"),
    };
    Some(Part::paragraph(format!(
        "{are} missing ({}). Networks without a run of every seed are left out of all statistics.",
        places.join("; ")
    )))
}

/// The runs that belong to another table of the experiment, if there are any.
fn left_out(table: &ExhaustiveTable<'_>) -> Option<Part> {
    let ids = run_ids(table.left_out.iter().copied());
    (!table.left_out.is_empty())
        .then(|| Part::paragraph(format!("Other settings, data or device, left out: {ids}.")))
}

fn pool_table(name: &str, pool: &Pool, runs: &[i64]) -> ReportTable {
    let two = |tau: f64| format!("{tau:.2}");
    let percent = |x| Unit::Percent.cell(x);
    let rows = [pool];
    Columns::of("pool", &rows)
        .text("scope", "scope", |_| name.to_owned())
        .whole("networks", "networks", |pool| Some(pool.networks.len() as u64))
        .number("tau_between_seeds", "τ-b between seeds", |pool| pool.tau_between_seeds(), two)
        .interval(
            "tau_interval",
            "95 % interval",
            |pool| pool.tau_between_seeds().and_then(|_| pool.tau_interval()),
            two,
        )
        .number("tau_of_macs", "τ-b of MACs", |pool| pool.tau_of_cost(|n| n.macs), two)
        .number("tau_of_params", "τ-b of params", |pool| pool.tau_of_cost(|n| n.params), two)
        .whole("best", "best network", |pool| pool.best().map(|best| best.number as u64))
        .number("best_top1", "its top-1 %", |pool| pool.best().map(|best| best.top1), percent)
        .whole_as(
            "best_macs",
            "its MACs",
            |pool| pool.best().map(|best| best.macs),
            |_, macs| count(macs),
        )
        .number("mean_top1", "mean top-1 %", |pool| pool.best_of(1).map(|d| d.top1), percent)
        .of_runs(|_| runs.to_vec())
        .table()
}

fn draws(pool: &Pool, runs: &[i64]) -> ReportTable {
    let rows: Vec<(u32, Standing)> =
        DRAWS.into_iter().filter_map(|n| Some((n, pool.best_of(n)?))).collect();
    let percent = |x| Unit::Percent.cell(x);
    Columns::of("draws", &rows)
        .whole("draws", "draws", |(n, _)| Some(u64::from(*n)))
        .number("top1", "top-1 %", |(_, best)| Some(best.top1), percent)
        .number("regret", "regret", |(_, best)| Some(best.regret), percent)
        .number("percentile", "percentile", |(_, best)| Some(best.percentile), percent)
        .number("hit", "best network found %", |(_, best)| Some(best.hit), percent)
        .of_runs(|_| runs.to_vec())
        .table()
}

/// One section per table that networks of these runs are looked up in. `rows` has the runs of the tables.
pub fn judged(runs: &[RunRow], keys: &SettingsKeys, rows: &[RunRow]) -> Vec<Section> {
    let names: BTreeSet<&str> = finished(runs).filter_map(lookup_of).collect();
    let heading = |name: &str| Prose::from("Derived networks in the table ").code(name);
    let of_table = |name: &str| {
        let Some(table) = ExhaustiveTable::of(name, rows) else {
            let missing = "The database has no finished run of this table, so that the networks cannot \
                           be looked up.";
            return vec![Section::new(heading(name), vec![Part::paragraph(missing)])];
        };
        let mut sections = vec![Section::new(heading(name), vec![Part::paragraph(INTRODUCTION)])];
        let of_table = run_ids_of(&table);
        for setting in settings(runs, keys, &table) {
            add_setting(&mut sections, &setting, &of_table);
        }
        sections.push(facts(&table));
        sections
    };
    names.into_iter().flat_map(of_table).collect()
}

const INTRODUCTION: &str = "\
The derived networks were not trained, but looked up in a table of all networks. Regret is the top-1 \
of the best network minus that of the derived network, in percentage points; the percentile is the \
share of the other networks that are worse. Both are means over the search seeds with Student's t \
interval, cut at 0 and 100 %; the share of searches that found the best network has Wilson's interval. \
Intervals are over search seeds: the table's own noise is not in them. Where the search has a budget, only \
networks within it count. Draws are exact expectations: a uniform draw of a network, and the best of n \
such draws by the table's own top-1, which searches do not have access to.";

/// A section of its own where the setting has a name; otherwise it belongs to the section before it.
fn add_setting(sections: &mut Vec<Section>, setting: &Setting<'_>, of_table: &[i64]) {
    let Setting { label, run, pool, methods } = setting;
    let mut parts = Vec::new();
    if run.settings.budget.is_some() {
        parts.push(Part::Table(pool_table("within the budget", pool, of_table)));
    }
    parts.push(Part::Table(methods_table(pool, methods)));
    let missing = methods.iter().filter(|method| !method.not_found.is_empty()).map(|method| {
        format!(
            "{} of {} that {} derived are not in the table, or not among its complete networks \
             within the budget: {}. They are left out.",
            method.not_found.len(),
            plural(method.runs.len(), "network"),
            method.name,
            run_ids(method.not_found.iter().copied())
        )
    });
    parts.extend(Part::list(missing.chain(conclusions(pool, methods))));
    match sections.last_mut() {
        Some(section) if label.is_empty() => section.parts.extend(parts),
        _ => sections.push(Section::below(label.as_str(), parts)),
    }
}

/// A row of the table of methods.
enum Judged<'a> {
    /// The best of so many uniform draws, in exact expectation.
    Draws(u32, Standing),
    Method(&'a MethodLookup<'a>),
}

impl Judged<'_> {
    fn name(&self) -> String {
        match self {
            Self::Draws(1, _) => "one draw".to_owned(),
            Self::Draws(n, _) => format!("best of {n} draws"),
            Self::Method(method) => method.name.to_owned(),
        }
    }

    fn method(&self) -> Option<&MethodLookup<'_>> {
        match self {
            Self::Draws(..) => None,
            Self::Method(method) => Some(method),
        }
    }

    /// A mean with its interval; draws are exact.
    fn mean(&self, of: fn(&Standing) -> f64) -> Option<(f64, Option<(f64, f64)>)> {
        match self {
            Self::Draws(_, draw) => Some((of(draw), None)),
            Self::Method(method) => method.mean(of),
        }
    }

    fn regret(&self) -> Option<(f64, Option<(f64, f64)>)> {
        self.mean(|standing| standing.regret)
    }

    fn percentile(&self) -> Option<(f64, Option<(f64, f64)>)> {
        self.mean(|standing| standing.percentile)
    }

    /// Searches that found the best network, of how many.
    fn hits(&self) -> Option<(u64, u64)> {
        let standings = &self.method()?.standings;
        let hits = standings.iter().filter(|standing| standing.hit > 0.0).count();
        Some((hits as u64, standings.len() as u64))
    }

    fn share_of_hits(&self) -> Option<f64> {
        match self {
            Self::Draws(_, draw) => Some(draw.hit),
            Self::Method(_) => {
                self.hits().filter(|(_, of)| *of > 0).map(|(hits, of)| hits as f64 / of as f64)
            }
        }
    }

    fn interval_of(&self, interval: Option<(f64, f64)>) -> String {
        match self {
            Self::Draws(..) => "exact".to_owned(),
            Self::Method(_) => interval.map_or_else(|| crate::text::NOTHING.to_owned(), range),
        }
    }
}

fn methods_table(pool: &Pool, methods: &[MethodLookup<'_>]) -> ReportTable {
    let draws = COMPARED_DRAWS.into_iter().filter_map(|n| Some(Judged::Draws(n, pool.best_of(n)?)));
    let rows: Vec<Judged<'_>> = draws.chain(methods.iter().map(Judged::Method)).collect();
    let cell = |x| Unit::Percent.cell(x);
    let of_hits = |row: &Judged<'_>| {
        row.hits().filter(|(_, of)| *of > 0).map(|(hits, of)| wilson_interval(hits, of))
    };
    let macs = |row: &Judged<'_>| -> Option<Spread> { SEARCH_MACS.spread(&row.method()?.runs) };
    Columns::of("judged", &rows)
        .text("method", "method", Judged::name)
        .whole("seeds", "seeds", |row| Some(row.hits()?.1))
        .number("regret", "regret", |row| Some(row.regret()?.0), cell)
        .interval_as("regret_interval", "95 % interval", |row| row.regret()?.1, Judged::interval_of)
        .number("percentile", "percentile", |row| Some(row.percentile()?.0), cell)
        .interval_as(
            "percentile_interval",
            "95 % interval",
            |row| row.percentile()?.1,
            Judged::interval_of,
        )
        .number_as("hit", "best network found", Judged::share_of_hits, |row, share| {
            row.hits().map_or_else(|| percent(share), |(hits, of)| format!("{hits} of {of}"))
        })
        .interval_as("hit_interval", "95 % interval", of_hits, Judged::interval_of)
        .spread(SEARCH_MACS.name, SEARCH_MACS.heading, SEARCH_MACS.unit, macs)
        .runs("runs", |row| {
            let runs = row.method().map(|method| method.runs.iter().map(|run| run.id).collect());
            runs.unwrap_or_default()
        })
        .table()
}

/// In percent, without the name of the unit.
fn range((low, high): (f64, f64)) -> String {
    format!("{} to {}", Unit::Percent.cell(low), Unit::Percent.cell(high))
}

/// How the methods rank, if the table is good enough for that.
fn conclusions(pool: &Pool, methods: &[MethodLookup<'_>]) -> Vec<String> {
    match pool.noise() {
        Noise::Unknown => vec![
            "The noise of the table is unknown, since no two training seeds can be compared. The methods \
             are not ranked."
                .to_owned(),
        ],
        Noise::TooLarge(tau) => vec![format!(
            "The table is too noisy to rank methods: two training seeds rank its networks with a τ-b of \
             {tau:.2}, and {LEAST_TAU} is the least for a ranking. The methods are not ranked."
        )],
        Noise::Small => ranking(pool, methods),
    }
}

fn ranking(pool: &Pool, methods: &[MethodLookup<'_>]) -> Vec<String> {
    let Some(draw) = pool.best_of(1) else { return Vec::new() };
    let all = methods.iter();
    let mut means: Vec<_> =
        all.filter_map(|method| Some((method.name, method.mean(|s| s.regret)?))).collect();
    means.sort_by(|a, b| a.1.0.total_cmp(&b.1.0));
    let mut sentences = Vec::new();
    if means.len() > 1 {
        let order =
            means.iter().map(|(name, (mean, _))| format!("{name} {}", Unit::Percent.cell(*mean)));
        sentences.push(format!(
            "By mean regret in percentage points, the smallest first: {}. Methods whose intervals overlap \
             may be in another order.",
            list(order)
        ));
    }
    sentences.extend(means.iter().map(|(name, (mean, interval))| {
        let verdict = match interval {
            Some((_, high)) if *high < draw.regret => "significantly better",
            Some((low, _)) if *low > draw.regret => "significantly worse",
            Some(_) => "no significant difference",
            None => "not tested",
        };
        let basis = match interval {
            Some(interval) => format!("95 % interval {}", range(*interval)),
            None => "one seed, or equal regrets, give no interval".to_owned(),
        };
        format!(
            "{name} versus one draw: {verdict}, a mean regret of {} instead of {} percentage points \
             ({basis})",
            Unit::Percent.cell(*mean),
            Unit::Percent.cell(draw.regret),
        )
    }));
    sentences
}
