//! Exhaustive tables: every network of a small space, trained once per seed by the runs of one experiment. What a table
//! says about itself, and about searches whose networks are looked up in it.

mod frame;
mod lookup;
mod pool;
mod section;

pub use frame::frame;
pub use section::{facts, judged, verdict};

use super::finished::finished;
use super::groups::grouped;
use super::results::top1;
use crate::cost;
use crate::space::{ArchSpec, SearchSpace, parse_space};
use crate::store::RunRow;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The setting that names the network of a run.
const NETWORK: &str = "table.network";
/// The setting of a search that names the table's experiment.
const LOOKUP: &str = "search.table.experiment";

/// Larger spaces were never trained whole.
const MAX_NETWORKS: usize = 100_000;

/// The runs of one experiment that trains every network of a space.
pub struct ExhaustiveTable<'a> {
    pub experiment: &'a str,
    pub space: SearchSpace,
    /// Of its finished runs.
    pub seeds: BTreeSet<u64>,
    /// All of the space, in the order of [`SearchSpace::networks`].
    pub networks: Vec<TableNetwork<'a>>,
    /// Finished table runs of the experiment with other settings, data or devices.
    pub left_out: Vec<i64>,
}

/// One network of a table.
pub struct TableNetwork<'a> {
    pub number: usize,
    pub arch: ArchSpec,
    pub id: String,
    pub macs: u64,
    pub params: u64,
    /// The last finished run of each seed.
    pub runs: BTreeMap<u64, &'a RunRow>,
}

/// Whether the run is one of an exhaustive table.
pub fn is_of_table(run: &RunRow) -> bool {
    run.settings.values.contains_key(NETWORK)
}

/// The experiment of the table that a run's network is looked up in, if it is.
pub fn lookup_of(run: &RunRow) -> Option<&str> {
    run.settings.values.get(LOOKUP).and_then(Value::as_str)
}

/// What the runs of one table have in common.
fn key(run: &RunRow) -> (String, &str, &str, &str, Option<&str>) {
    let mut settings = run.settings.values.clone();
    settings.remove(NETWORK);
    let settings = serde_json::to_string(&settings).unwrap_or_default();
    let data = run.data.as_ref().map(|data| data.sha256.as_str());
    let (space, device) = (&run.manifest.space_text, run.environment.device_model());
    (settings, space, &run.dataset, device, data)
}

impl<'a> ExhaustiveTable<'a> {
    /// The table of an experiment, if one of its runs has finished: of several settings that with the most runs.
    pub fn of(experiment: &str, runs: &'a [RunRow]) -> Option<Self> {
        let own = finished(runs).filter(|run| run.experiment == experiment && is_of_table(run));
        let mut groups = grouped(own, |run| key(run));
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let mut groups = groups.into_iter();
        let mut runs = groups.next()?;
        let mut left_out: Vec<i64> = groups.flatten().map(|run| run.id).collect();
        left_out.sort_unstable();
        let space = parse_space(&runs[0].manifest.space_text, Path::new(experiment)).ok()?;
        let mut networks: Vec<TableNetwork<'a>> =
            space.networks(MAX_NETWORKS)?.into_iter().enumerate().map(TableNetwork::of).collect();
        let numbers: BTreeMap<String, usize> =
            networks.iter().map(|network| (network.id.clone(), network.number)).collect();
        runs.sort_by_key(|run| run.id);
        for run in &runs {
            let number = run.architecture.as_ref().and_then(|found| numbers.get(&found.id));
            if let Some(number) = number {
                networks[*number].runs.insert(run.seed, run);
            }
        }
        let seeds = runs.iter().map(|run| run.seed).collect();
        Some(Self { experiment: &runs[0].experiment, space, seeds, networks, left_out })
    }

    /// The mean test top-1 of a network, if it was trained with every seed.
    fn mean_top1(&self, network: &TableNetwork<'_>) -> Option<f64> {
        let all = self.seeds.iter().map(|seed| top1(network.runs.get(seed)?));
        let all = all.collect::<Option<Vec<f64>>>()?;
        Some(all.iter().sum::<f64>() / all.len() as f64)
    }

    /// The networks that lack a finished run, by seed.
    fn missing(&self) -> Vec<(u64, Vec<i64>)> {
        let without = |seed: &u64| {
            let missing = self.networks.iter().filter(|network| !network.runs.contains_key(seed));
            (*seed, missing.map(|network| network.number as i64).collect::<Vec<_>>())
        };
        self.seeds.iter().map(without).filter(|(_, numbers)| !numbers.is_empty()).collect()
    }
}

impl TableNetwork<'_> {
    fn of((number, arch): (usize, ArchSpec)) -> Self {
        let cost = cost::count(&arch);
        let (id, runs) = (arch.id(), BTreeMap::new());
        Self { number, id, macs: cost.macs, params: cost.params, arch, runs }
    }
}
