//! The sections of a page about an exhaustive table, and about searches that are looked up in one.

use super::lookup::{MethodLookup, Setting, settings};
use super::pool::{LEAST_TAU, Noise, Pool, Standing};
use super::{ExhaustiveTable, lookup_of};
use crate::report::finished::finished;
use crate::report::results::{NumberColumn, mean_cell, search_macs};
use crate::report::settings::SettingsKeys;
use crate::report::stats::wilson_interval;
use crate::store::RunRow;
use crate::text::{
    Table, Unit, code, count, escape, list, or_dash, percent, plural, ranges, run_ids,
};
use std::collections::BTreeSet;

/// Numbers of draws that are shown.
const DRAWS: [u32; 6] = [1, 2, 5, 10, 20, 50];
/// Those beside methods.
const COMPARED_DRAWS: [u32; 3] = [1, 10, 50];

/// What a table says about itself.
pub fn facts(table: &ExhaustiveTable<'_>) -> String {
    let pool = Pool::of(table, None);
    let notes: String = [missing_runs(table), left_out(table)].into_iter().flatten().collect();
    let mut own = Table::new(["networks", "training seeds", ">with every seed"]);
    own.row([
        table.networks.len().to_string(),
        list(&table.seeds),
        pool.networks.len().to_string(),
    ]);
    format!(
        "## Exhaustive table {}\n\n{}{notes}\n{}\nThe top-1 of a network is its mean test top-1 over the \
         training seeds. τ-b between seeds is the rank correlation (Kendall's τ-b) of the networks' \
         top-1 with one training seed and with another, the mean over all pairs of seeds, with the 95 % \
         interval of the percentile bootstrap over networks: how well one training run predicts the \
         ranking by another. τ-b of MACs and of params show how far cost alone ranks the networks.\n\n\
         {}\nThe best of n independent uniform draws of a network, in exact expectation: with the N \
         networks in ascending order, network i is the best with probability (i/N)^n - ((i - 1)/N)^n. \
         Regret is the top-1 of the best network minus that of the network, in percentage points. The \
         percentile is the share of the other networks that are worse, where equal ones count half. The \
         best mean is chosen among noisy means, so that it is too high on average and regrets are too \
         large by the same amount for every method.\n",
        code(table.experiment),
        own.markdown(),
        pool_table("all networks", &pool).markdown(),
        draws(&pool).markdown(),
    )
}

/// The networks that lack a run, if any do.
fn missing_runs(table: &ExhaustiveTable<'_>) -> Option<String> {
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
    Some(format!(
        "\n{are} missing ({}). Networks without a run of every seed are left out of all statistics.\n",
        places.join("; ")
    ))
}

/// The runs that belong to another table of the experiment, if there are any.
fn left_out(table: &ExhaustiveTable<'_>) -> Option<String> {
    let ids = run_ids(table.left_out.iter().copied());
    (!table.left_out.is_empty())
        .then(|| format!("\nOther settings, data or device, left out: {ids}.\n"))
}

fn pool_table(name: &str, pool: &Pool) -> Table {
    let mut table = Table::new([
        "",
        ">networks",
        ">τ-b between seeds",
        "95 % interval",
        ">τ-b of MACs",
        ">τ-b of params",
        ">best network",
        ">its top-1 %",
        ">its MACs",
        ">mean top-1 %",
    ]);
    let tau = pool.tau_between_seeds();
    let two = |tau: f64| format!("{tau:.2}");
    let interval = tau.and_then(|_| pool.tau_interval());
    let best = pool.best();
    table.row([
        name.to_owned(),
        pool.networks.len().to_string(),
        or_dash(tau.map(two)),
        or_dash(interval.map(|(low, high)| format!("{low:.2} to {high:.2}"))),
        or_dash(pool.tau_of_cost(|network| network.macs).map(two)),
        or_dash(pool.tau_of_cost(|network| network.params).map(two)),
        or_dash(best.map(|best| best.number)),
        or_dash(best.map(|best| Unit::Percent.cell(best.top1))),
        or_dash(best.map(|best| count(best.macs))),
        or_dash(pool.best_of(1).map(|draw| Unit::Percent.cell(draw.top1))),
    ]);
    table
}

fn draws(pool: &Pool) -> Table {
    let mut table =
        Table::new([">draws", ">top-1 %", ">regret", ">percentile", ">best network found %"]);
    for n in DRAWS {
        let Some(best) = pool.best_of(n) else { continue };
        let cells =
            [best.top1, best.regret, best.percentile, best.hit].map(|x| Unit::Percent.cell(x));
        table.row([n.to_string()].into_iter().chain(cells));
    }
    table
}

/// One section per table that networks of these runs are looked up in. `rows` has the runs of the tables.
pub fn judged(runs: &[RunRow], keys: &SettingsKeys, rows: &[RunRow]) -> Vec<String> {
    let names: BTreeSet<&str> = finished(runs).filter_map(lookup_of).collect();
    let section = |name: &str| match ExhaustiveTable::of(name, rows) {
        Some(table) => {
            let title = format!("## Derived networks in the table {}\n\n", code(name));
            let settings = settings(runs, keys, &table);
            let parts: Vec<String> = settings.iter().map(setting_section).collect();
            format!("{title}{INTRODUCTION}\n{}\n{}", parts.join("\n"), facts(&table))
        }
        None => format!(
            "## Derived networks in the table {}\n\nThe database has no finished run of this table, so \
             that the networks cannot be looked up.\n",
            code(name)
        ),
    };
    names.into_iter().map(section).collect()
}

const INTRODUCTION: &str = "\
The derived networks were not trained, but looked up in a table of all networks. Regret is the top-1 \
of the best network minus that of the derived network, in percentage points; the percentile is the \
share of the other networks that are worse. Both are means over the search seeds with Student's t \
interval, cut at 0 and 100 %; the share of searches that found the best network has Wilson's interval. Intervals are over \
search seeds: the table's own noise is not in them. Where the search has a budget, only networks \
within it count. Draws are exact expectations: a uniform draw of a network, and the best of n such \
draws by the table's own top-1, which no search can see.\n";

fn setting_section(setting: &Setting<'_>) -> String {
    let Setting { label, run, pool, methods } = setting;
    let mut parts = Vec::new();
    if !label.is_empty() {
        parts.push(format!("### {}\n", escape(label)));
    }
    if run.settings.budget.is_some() {
        parts.push(pool_table("within the budget", pool).markdown());
    }
    parts.push(methods_table(pool, methods).markdown());
    let missing = methods.iter().filter(|method| !method.not_found.is_empty()).map(|method| {
        format!(
            "- {} of {} that {} derived are not in the table, or not among its complete networks \
             within the budget: {}. They are left out.\n",
            method.not_found.len(),
            plural(method.runs.len(), "network"),
            method.name,
            run_ids(method.not_found.iter().copied())
        )
    });
    parts.push(missing.chain(conclusions(pool, methods)).collect());
    parts.join("\n")
}

fn methods_table(pool: &Pool, methods: &[MethodLookup<'_>]) -> Table {
    let mut table = Table::new([
        "method",
        ">seeds",
        ">regret",
        "95 % interval",
        ">percentile",
        "95 % interval",
        ">best network found",
        "95 % interval",
        ">search MACs",
        "runs",
    ]);
    for n in COMPARED_DRAWS {
        let Some(best) = pool.best_of(n) else { continue };
        let name = if n == 1 { "one draw".to_owned() } else { format!("best of {n} draws") };
        let exact = "exact".to_owned();
        table.row([
            name,
            or_dash(None::<usize>),
            Unit::Percent.cell(best.regret),
            exact.clone(),
            Unit::Percent.cell(best.percentile),
            exact.clone(),
            percent(best.hit),
            exact,
            or_dash(None::<usize>),
            or_dash(None::<usize>),
        ]);
    }
    let macs = NumberColumn { heading: "", unit: Unit::Count, of: search_macs };
    for method in methods {
        let mean = |of: fn(&Standing) -> f64| {
            let mean = method.mean(of);
            let interval = mean.and_then(|(_, interval)| interval);
            [or_dash(mean.map(|(mean, _)| Unit::Percent.cell(mean))), or_dash(interval.map(range))]
        };
        let of = method.standings.len() as u64;
        let hits = method.standings.iter().filter(|standing| standing.hit > 0.0).count() as u64;
        let [regret, percentile] = [mean(|s| s.regret), mean(|s| s.percentile)];
        let hit = [
            format!("{hits} of {of}"),
            or_dash((of > 0).then(|| range(wilson_interval(hits, of)))),
        ];
        let end =
            [or_dash(mean_cell(&macs, &method.runs)), list(method.runs.iter().map(|run| run.id))];
        let first = [method.name.to_owned(), of.to_string()];
        table.row(first.into_iter().chain(regret).chain(percentile).chain(hit).chain(end));
    }
    table
}

/// In percent, without the name of the unit.
fn range((low, high): (f64, f64)) -> String {
    format!("{} to {}", Unit::Percent.cell(low), Unit::Percent.cell(high))
}

/// How the methods rank, if the table is good enough for that.
fn conclusions(pool: &Pool, methods: &[MethodLookup<'_>]) -> Vec<String> {
    match pool.noise() {
        Noise::Unknown => vec![
            "- The noise of the table is unknown, since no two training seeds can be compared. The methods \
             are not ranked.\n"
                .to_owned(),
        ],
        Noise::TooLarge(tau) => vec![format!(
            "- The table is too noisy to rank methods: two training seeds rank its networks with a τ-b of \
             {tau:.2}, and {LEAST_TAU} is the least for a ranking. The methods are not ranked.\n"
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
            "- By mean regret in percentage points, the smallest first: {}. Methods whose intervals overlap \
             may be in another order.\n",
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
            "- {name} versus one draw: {verdict}, a mean regret of {} instead of {} percentage points \
             ({basis})\n",
            Unit::Percent.cell(*mean),
            Unit::Percent.cell(draw.regret),
        )
    }));
    sentences
}
