//! Methods that draw networks: uniformity, budgets, shared weights, and each of them end to end.

mod budgets;
mod draws;
mod methods;
mod shared;
mod work;

use candle_core::Device;
use repro::cost;
use repro::data::{self, Dataset};
use repro::manifest::{self, Manifest, Overrides};
use repro::monitor::{Checkpoints, Monitor};
use repro::progress::Quiet;
use repro::recipe::{Budget, DatasetName, Objective};
use repro::record::{Metric, Recorder};
use repro::rng::Seed;
use repro::search::{SearchData, SearchOutcome, search};
use repro::space::{BlockDecision, Decisions, SearchSpace, load_space};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

fn experiments(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments").join(name)
}

fn space(name: &str) -> SearchSpace {
    load_space(&experiments(&format!("spaces/{name}.toml"))).unwrap()
}

fn smoke(sets: &[&str]) -> Manifest {
    let sets = sets.iter().map(|set| (*set).to_owned()).collect();
    let overrides = Overrides { sets, seeds: Vec::new() };
    manifest::load(&experiments("smoke.toml"), &overrides).unwrap_or_else(|e| panic!("{e}"))
}

fn dataset() -> Dataset {
    data::load(&DatasetName::FashionMnistSlice.into(), Path::new("/nowhere")).unwrap()
}

fn macs(space: &SearchSpace, decisions: &Decisions) -> u64 {
    cost::count(&space.decide(decisions)).macs
}

fn budget(bound: f64, tolerance: f64) -> Budget {
    Budget { objective: Objective::Macs, bound, tolerance, above: 0.0 }
}

/// The small spaces: with choices in blocks only, with resolutions as well, with types that the blocks of a
/// stage share, and with expansions that count from a block's own input.
fn small_spaces() -> [SearchSpace; 4] {
    let searched = space("smoke_resolutions");
    let shared = SearchSpace { share_types: true, ..searched.clone() };
    let text = include_str!("../../../experiments/spaces/smoke.toml");
    let own_input = crate::spaces::parse(&format!("expansion_of = \"input\"\n{text}"));
    [space("smoke"), searched, shared, own_input]
}

/// Every network of a space.
fn all(space: &SearchSpace) -> Vec<Decisions> {
    let mut all: Vec<Vec<BlockDecision>> = vec![Vec::new()];
    for (i, block) in space.blocks.iter().enumerate() {
        let shares = space.share_types && block.index > 0;
        let mut longer = Vec::new();
        for blocks in &all {
            for block_type in 0..block.types.len() {
                if shares && blocks[i - 1].block_type != block_type {
                    continue;
                }
                for expansion in 0..block.expansions() {
                    for width in 0..block.widths.len() {
                        let mut blocks = blocks.clone();
                        blocks.push(BlockDecision { block_type, expansion, width });
                        longer.push(blocks);
                    }
                }
            }
        }
        all = longer;
    }
    let at =
        |resolution| all.iter().map(move |blocks| Decisions { resolution, blocks: blocks.clone() });
    (0..space.resolutions.len()).flat_map(at).collect()
}

/// Keeps the values of every metric, in order.
#[derive(Default)]
struct Log(BTreeMap<Metric, Vec<f64>>);

impl Recorder for Log {
    fn measure(&mut self, _: u64, metrics: &[(Metric, f64)]) -> anyhow::Result<()> {
        for (metric, value) in metrics {
            self.0.entry(*metric).or_default().push(*value);
        }
        Ok(())
    }
}

type Metrics = BTreeMap<Metric, Vec<f64>>;

fn run(manifest: &Manifest, seed: u64) -> (SearchOutcome, Metrics) {
    let (found, log) = run_on(&dataset(), manifest, seed);
    (found.unwrap(), log)
}

/// A search on the first 400 images.
fn run_on(
    dataset: &Dataset,
    manifest: &Manifest,
    seed: u64,
) -> (anyhow::Result<SearchOutcome>, Metrics) {
    run_on_some(dataset, manifest, seed, 400)
}

/// A search on the first `images` images.
fn run_on_some(
    dataset: &Dataset,
    manifest: &Manifest,
    seed: u64,
    images: usize,
) -> (anyhow::Result<SearchOutcome>, Metrics) {
    let (mut log, stop) = (Log::default(), AtomicBool::new(false));
    let indices: Vec<usize> = (0..images).collect();
    let images = SearchData { dataset, indices: &indices, device: &Device::Cpu };
    let checkpoints = &mut Checkpoints::none();
    let mut monitor = Monitor { recorder: &mut log, progress: &Quiet, stop: &stop, checkpoints };
    let (method, config) =
        (&manifest.search().unwrap().methods[0], &manifest.search().unwrap().config);
    let found =
        search(&manifest.search().unwrap().space, images, method, config, Seed(seed), &mut monitor);
    (found, log.0)
}

/// All metrics but times.
fn results(log: &Metrics) -> Vec<(&Metric, &Vec<f64>)> {
    log.iter().filter(|(metric, _)| !metric.unit().is_of_time()).collect()
}

const METHODS: [&str; 8] =
    ["dmasking", "dnas", "darts", "darts2", "random", "random_search", "rs_ws", "evolution"];
