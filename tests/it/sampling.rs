//! Methods that draw networks: uniformity, budgets, shared weights, and each of them end to end.

use crate::numbers::{random_map, values};
use crate::spaces::random_probabilities;
use candle_core::{Device, Tensor};
use repro::cost;
use repro::data::{self, Batch, Dataset};
use repro::manifest::{self, Manifest, Overrides};
use repro::monitor::Monitor;
use repro::net::{Network, SharedWeights};
use repro::nn::{Params, Pass};
use repro::progress::Quiet;
use repro::recipe::{Budget, DatasetName, Objective};
use repro::record::{FoundArchitecture, Metric, Phase, PhaseUsage, Recorder, Work};
use repro::rng::Seed;
use repro::runner::{RunPlan, plans};
use repro::search::{
    Paths, Preferences, Scorer, SearchData, SearchOutcome, draw, most_probable, mutate,
    preferences, search, split,
};
use repro::space::{
    BlockDecision, BlockKind, BlockSpec, Decisions, SearchSpace, load_space, parse_space,
};
use repro::train::{self, SgdState, sgd_step};
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

/// What the shipped small spaces have to choose: blocks alone, resolutions as well, and types that the
/// blocks of a stage share.
fn small_spaces() -> [SearchSpace; 3] {
    let searched = space("smoke_resolutions");
    let shared = SearchSpace { share_types: true, ..searched.clone() };
    [space("smoke"), searched, shared]
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

#[test]
fn draws_are_uniform_over_every_choice_and_over_pairs() {
    for space in small_spaces() {
        draws_are_uniform(&space);
    }
}

fn draws_are_uniform(space: &SearchSpace) {
    let draws: Vec<Decisions> =
        (0..20_000).map(|i| draw(space, None, &mut Seed(5).stream("draw", i)).unwrap()).collect();
    let mut tests = 0;
    let mut check = |options: usize, of: &dyn Fn(&Decisions) -> usize| {
        let mut counts = vec![0.0; options];
        for made in &draws {
            counts[of(made)] += 1.0;
        }
        let expected = draws.len() as f64 / options as f64;
        let chi2: f64 = counts.iter().map(|n| (n - expected) * (n - expected) / expected).sum();
        let freedom = options as f64 - 1.0;
        // Four standard deviations of a chi-square: seldom in 20,000 tests, let alone in these.
        assert!(chi2 < freedom + 4.0 * (2.0 * freedom).sqrt() + 4.0, "{chi2} of {options} options");
        tests += 1;
    };
    for (i, block) in space.blocks.iter().enumerate() {
        let (types, widths) = (block.types.len(), block.widths.len());
        check(types, &|made| made.blocks[i].block_type);
        check(block.expansions(), &|made| made.blocks[i].expansion);
        check(types * widths, &|made| made.blocks[i].block_type * widths + made.blocks[i].width);
        let first = space.blocks[0].types.len();
        if i > 0 {
            check(types * first, &|m| m.blocks[i].block_type * first + m.blocks[0].block_type);
        }
        let resolutions = space.resolutions.len();
        check(types * resolutions, &|m| m.blocks[i].block_type * resolutions + m.resolution);
    }
    assert_eq!(tests, 4 * 4 + 3);
}

#[test]
fn a_draw_within_a_budget_is_uniform_among_the_networks_within() {
    for (space, tolerance) in small_spaces().into_iter().zip([0.05, 0.02, 0.05]) {
        draws_within_are_uniform(&space, &budget(2e5, tolerance));
    }
}

fn draws_within_are_uniform(space: &SearchSpace, budget: &Budget) {
    let within: Vec<Decisions> =
        all(space).into_iter().filter(|d| budget.band().contains(&macs(space, d))).collect();
    let mut counts: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
    let key = |made: &Decisions| -> Vec<usize> {
        let blocks = made.blocks.iter().flat_map(|b| [b.block_type, b.expansion, b.width]);
        blocks.chain([made.resolution]).collect()
    };
    let draws = 40 * within.len();
    for i in 0..draws as u64 {
        let made = draw(space, Some(budget), &mut Seed(6).stream("draw", i)).unwrap();
        assert!(budget.band().contains(&macs(space, &made)));
        *counts.entry(key(&made)).or_default() += 1.0;
    }
    let expected = 40.0;
    let chi2: f64 = within
        .iter()
        .map(|made| counts.get(&key(made)).copied().unwrap_or(0.0) - expected)
        .map(|apart| apart * apart / expected)
        .sum();
    let freedom = within.len() as f64 - 1.0;
    assert!(within.len() > 100 && (chi2 - freedom).abs() < 4.0 * (2.0 * freedom).sqrt(), "{chi2}");
}

#[test]
fn a_band_that_rejection_does_not_hit_is_reached_all_the_same() {
    let space = space("fbnetv2_f_cifar");
    // Small networks need many small choices at once.
    let (least, _) = cost::cost_range(&space).macs;
    let budget = budget(1.1 * least as f64, 0.02);
    let drawn: Vec<Decisions> = (0..2)
        .map(|i| draw(&space, Some(&budget), &mut Seed(7).stream("draw", i)).unwrap())
        .collect();
    for made in &drawn {
        assert!(budget.band().contains(&macs(&space, made)), "{}", macs(&space, made));
    }
    assert_ne!(drawn[0], drawn[1]);
}

/// Σ log p; a shared type counts once.
fn log_p(preferences: &Preferences, space: &SearchSpace, made: &Decisions) -> f64 {
    let choices = space.blocks.iter().zip(&preferences.blocks).zip(&made.blocks);
    let of_blocks = choices.map(|((block, p), decision)| {
        let of_type = p.types[decision.block_type];
        let shares = space.share_types && block.index > 0;
        let of_type = if shares { 0.0 } else { of_type };
        of_type + p.expansions[decision.expansion] + p.widths[decision.width]
    });
    preferences.resolutions[made.resolution] + of_blocks.sum::<f64>()
}

#[test]
fn the_most_probable_decisions_within_a_budget_are_those_that_a_full_search_finds() {
    let macs = [(1.2e5, 0.05), (2e5, 0.05), (3e5, 0.01), (4.5e5, 0.9)];
    // From the smallest networks to the largest.
    let params = [(3e3, 0.1), (6e3, 0.05), (9e3, 0.05), (1.2e4, 0.9)];
    for (objective, bounds) in [(Objective::Macs, macs), (Objective::Params, params)] {
        for space in small_spaces() {
            full_search_agrees(&space, objective, &bounds);
        }
    }
}

fn full_search_agrees(space: &SearchSpace, objective: Objective, bounds: &[(f64, f64)]) {
    let cost = |made: &Decisions| *cost::count(&space.decide(made)).of(objective);
    let all: Vec<(u64, Decisions)> =
        all(space).into_iter().map(|made| (cost(&made), made)).collect();
    for seed in 0..10 {
        let p = random_probabilities(space, &format!("{seed}"));
        let preferences = preferences(&p);
        for &(bound, tolerance) in bounds {
            let budget = Budget { objective, bound, tolerance, above: 0.0 };
            let found = most_probable(space, &preferences, &budget).unwrap();
            assert!(budget.band().contains(&cost(&found)));
            let within = all.iter().filter(|(cost, _)| budget.band().contains(cost));
            let of = |made: &Decisions| log_p(&preferences, space, made);
            let best = within.map(|(_, made)| of(made)).fold(f64::MIN, f64::max);
            assert!(all.iter().any(|(_, made)| *made == found), "types are not shared");
            let found = of(&found);
            assert!((found - best).abs() < 1e-9, "seed {seed}, {bound}: {found} of {best}");
        }
    }
}

#[test]
fn a_budget_may_reach_above_its_bound() {
    let space = space("smoke");
    let costs: Vec<u64> = all(&space).iter().map(|made| macs(&space, made)).collect();
    let around = Budget { above: 0.05, ..budget(2e5, 0.05) };
    assert_eq!(around.band(), 190_000..=210_000);
    // Drawn are networks on both sides of the bound, and none beyond the edges.
    let drawn: Vec<u64> = (0..200)
        .map(|i| draw(&space, Some(&around), &mut Seed(8).stream("draw", i)).unwrap())
        .map(|made| macs(&space, &made))
        .collect();
    assert!(drawn.iter().all(|macs| around.band().contains(macs)));
    assert!(drawn.iter().any(|macs| *macs > 200_000) && drawn.iter().any(|macs| *macs < 200_000));
    // A band that begins and ends with the costs of networks holds both of them.
    let edges =
        |range: std::ops::Range<u64>| costs.iter().copied().filter(move |c| range.contains(c));
    let low = edges(185_000..200_000).min().unwrap();
    let high = edges(200_001..215_000).max().unwrap();
    let budget = Budget {
        tolerance: 1.0 - (low as f64 - 0.5) / 2e5,
        above: (high as f64 + 0.5) / 2e5 - 1.0,
        ..around
    };
    assert_eq!(budget.band(), low..=high);
    for made in [low, high] {
        let only = Budget { bound: made as f64, tolerance: 1e-9, above: 0.0, ..budget };
        let preferences = preferences(&random_probabilities(&space, "edge"));
        let found = most_probable(&space, &preferences, &only).unwrap();
        assert_eq!(macs(&space, &found), made);
    }
}

#[test]
fn a_band_between_two_networks_is_refused_in_words() {
    let space = space("smoke");
    let mut costs: Vec<u64> = all(&space).iter().map(|made| macs(&space, made)).collect();
    costs.sort_unstable();
    let gap = costs.windows(2).max_by_key(|pair| pair[1] - pair[0]).unwrap();
    let budget = budget((gap[1] - 1) as f64, 0.5 * (gap[1] - gap[0]) as f64 / gap[1] as f64);
    let error = draw(&space, Some(&budget), &mut Seed(1).stream("draw", 0)).unwrap_err();
    let nearest = format!("; the nearest have {} and {}: give a larger", gap[0], gap[1]);
    assert!(error.to_string().contains(&nearest), "{error}");
}

#[test]
fn a_band_without_a_network_ends_a_run_before_it_begins() {
    let space = space("smoke");
    let mut costs: Vec<u64> = all(&space).iter().map(|made| macs(&space, made)).collect();
    costs.sort_unstable();
    let gap = costs.windows(2).max_by_key(|pair| pair[1] - pair[0]).unwrap();
    let methods = METHODS.map(|method| format!("{method:?}")).join(", ");
    let manifest = smoke(&[
        &format!("search.method=[{methods}]"),
        &format!("search.budget.macs={:?}", (gap[1] - 1) as f64),
        &format!("search.budget.tolerance={:?}", 0.5 * (gap[1] - gap[0]) as f64 / gap[1] as f64),
    ]);
    for plan in plans(&manifest) {
        let (error, log) = refused(&plan);
        let parts = ["smoke.toml: search.budget: macs = ", "give a larger search.budget.tolerance"];
        for part in parts {
            assert!(error.contains(part), "{}: {error}", plan.method.name());
        }
        assert!(log.is_empty(), "{}", plan.method.name());
    }
}

#[test]
fn more_networks_to_rank_than_the_budget_holds_end_a_run_before_it_begins() {
    let manifest = smoke(&[
        "rank_correlation.architectures=500",
        "search.budget.macs=2e5",
        "search.budget.tolerance=0.002",
    ]);
    let (error, log) = refused(&plans(&manifest).next().unwrap());
    assert!(error.contains("smoke.toml: rank_correlation.architectures: only "), "{error}");
    assert!(error.contains("not 500; ask for fewer"), "{error}");
    assert!(log.is_empty());
}

/// What a run that must fail says, and what it has measured before.
fn refused(plan: &RunPlan<'_>) -> (String, Metrics) {
    let (mut log, stop) = (Log::default(), AtomicBool::new(false));
    let mut monitor = Monitor { recorder: &mut log, progress: &Quiet, stop: &stop };
    let error = plan.execute(Path::new("/nowhere"), &Device::Cpu, &mut monitor).unwrap_err();
    (format!("{error:#}"), log.0)
}

#[test]
fn a_mutation_changes_one_choice_and_stays_within_the_budget() {
    let budget = budget(4e6, 0.1);
    let cifar = space("fbnetv2_f_cifar");
    let shared = SearchSpace { share_types: true, ..space("smoke_resolutions") };
    for (space, budget) in [(cifar, Some(&budget)), (shared, None)] {
        let parent = draw(&space, budget, &mut Seed(1).stream("draw", 0)).unwrap();
        let mut resolutions = 0;
        for i in 0..50 {
            let mut stream = Seed(2).stream("mutate", i);
            let child = mutate(&space, budget, &parent, &mut stream).unwrap();
            assert!(budget.is_none_or(|b| b.band().contains(&macs(&space, &child))));
            let changed = |of: fn(&BlockDecision) -> usize| -> Vec<bool> {
                let pairs = parent.blocks.iter().zip(&child.blocks);
                pairs.map(|(a, b)| of(a) != of(b)).collect()
            };
            let types = changed(|b| b.block_type);
            let groups = space.type_groups();
            assert!(groups.iter().all(|g| types[g.clone()].iter().all(|t| *t == types[g.start])));
            let types = groups.iter().filter(|group| types[group.start]).count();
            let others = [changed(|b| b.expansion), changed(|b| b.width)].concat();
            let others = others.iter().filter(|changed| **changed).count();
            let resolution = usize::from(parent.resolution != child.resolution);
            assert_eq!(types + others + resolution, 1);
            assert_ne!(space.decide(&child), space.decide(&parent));
            resolutions += resolution;
        }
        assert_eq!(resolutions > 0, space.resolutions.len() > 1);
    }
}

fn batch(space: &SearchSpace, label: &str, n: usize) -> Batch {
    let side = space.max_resolution();
    let xs = random_map(label, (n, side, side, space.image_channels)).tensor();
    Batch { xs, labels: (0..n).map(|i| (i % space.classes) as u32).collect() }
}

fn copies(params: &Params) -> Vec<(String, Tensor)> {
    let named = params.named().take(params.tensors().count());
    named.map(|(name, tensor)| (name.to_owned(), tensor.copy().unwrap())).collect()
}

#[test]
fn a_step_along_a_path_moves_the_weights_of_that_network_and_no_other() {
    let manifest = smoke(&["search.method=rs_ws"]);
    let space = &manifest.space;
    let optimizer = (manifest.search.weights, manifest.search.recompute);
    let mut paths = Paths::new(space, optimizer, Seed(3), &Device::Cpu).unwrap();
    let path = |i| draw(space, None, &mut Seed(3).stream("draw", i)).unwrap();
    // Others go first, so that there are velocities that must rest.
    for i in 0..4 {
        paths.step(&path(i), &batch(space, "images", 8), 0.1).unwrap();
    }
    let before = copies(paths.weights().params());
    let chosen = path(9);
    let mut own = paths.weights().extract(&chosen).unwrap();
    paths.step(&chosen, &batch(space, "more images", 8), 0.1).unwrap();
    let after = copies(paths.weights().params());

    // What belongs to the network: every entry that its cut was copied from.
    let ones: Vec<Tensor> = before.iter().map(|(_, t)| t.zeros_like().unwrap()).collect();
    let part: Vec<Tensor> =
        own.params.tensors().map(|(tensor, _)| tensor.ones_like().unwrap()).collect();
    let mut belongs = ones;
    own.write_into(&mut belongs, &part).unwrap();
    let (mut moved, mut inside, mut outside) = (0, 0, 0);
    for (((name, before), (_, after)), belongs) in before.iter().zip(&after).zip(&belongs) {
        for ((b, a), own) in values(before).iter().zip(values(after)).zip(values(belongs)) {
            if own == 0.0 {
                assert_eq!(*b, a, "{name} is not of this network");
                outside += 1;
            } else {
                moved += usize::from(*b != a);
                inside += 1;
            }
        }
    }
    assert!(outside > 1000 && moved * 10 > inside * 9, "{moved} of {inside}, {outside}");

    // The first step from rest is that of the network by itself.
    let mut fresh = Paths::new(space, optimizer, Seed(3), &Device::Cpu).unwrap();
    own = fresh.weights().extract(&chosen).unwrap();
    let images = batch(space, "images", 8);
    let mut optimizer = SgdState::new(manifest.search.weights, &own.params).unwrap();
    let (net, target, none) = (&own.net, (&images.labels[..], 0.0), manifest.search.recompute);
    sgd_step(&mut own.params, &mut optimizer, 0.1, target, none, |pass| {
        net.forward(pass, &images.xs)
    })
    .unwrap();
    fresh.step(&chosen, &images, 0.1).unwrap();
    let cut = fresh.weights().extract(&chosen).unwrap();
    for ((name, expected), (_, found)) in copies(&own.params).iter().zip(&copies(&cut.params)) {
        assert_eq!(values(expected), values(found), "{name}");
    }
}

#[test]
fn calibration_takes_the_mean_of_the_batches_statistics() {
    let space = space("smoke");
    let shared = SharedWeights::new(&space, Seed(1), &Device::Cpu).unwrap();
    let path = draw(&space, None, &mut Seed(1).stream("draw", 0)).unwrap();
    let statistics = |labels: &[&str]| -> Vec<f64> {
        let mut cut = shared.extract(&path).unwrap();
        for (seen, label) in labels.iter().enumerate() {
            let mut pass = Pass::calibrating(&mut cut.params, seen);
            cut.net.forward(&mut pass, &batch(&space, label, 8).xs).unwrap();
        }
        let buffers = cut.params.named().skip(cut.params.tensors().count());
        buffers.flat_map(|(_, tensor)| values(tensor)).collect()
    };
    let (a, b, both) = (statistics(&["a"]), statistics(&["b"]), statistics(&["a", "b"]));
    assert!(a.len() > 100 && a != b);
    for ((a, b), both) in a.iter().zip(&b).zip(both) {
        let mean = f64::midpoint(*a, *b);
        assert!((mean - both).abs() <= 1e-5 * (1.0 + mean.abs()), "{mean} {both}");
    }
}

#[test]
fn a_score_is_that_of_the_calibrated_network_on_the_held_out_images() {
    let (manifest, dataset) = (smoke(&[]), dataset());
    let indices: Vec<usize> = (0..400).collect();
    let (weights, held_out) = split(&indices, &manifest.search);
    assert_eq!((weights.len(), held_out.len()), (320, 80));
    let scorer = Scorer::new(&dataset, (weights, held_out), 32, 2, &Device::Cpu).unwrap();
    let shared = SharedWeights::new(&manifest.space, Seed(1), &Device::Cpu).unwrap();
    let path = draw(&manifest.space, None, &mut Seed(1).stream("draw", 3)).unwrap();
    let mut work = Work::default();
    let score = scorer.score(&shared, &path, &mut work).unwrap();
    let macs = macs(&manifest.space, &path);
    let images = 2 * 32 + 80;
    assert_eq!(work, Work { images, macs: images * macs, architectures: 1 });

    // The same by hand: all calibration images as one, whose mean is the mean of equal batches'.
    let arch = manifest.space.decide(&path);
    let (net, mut params) = Network::of_arch(&arch, Seed(9), &Device::Cpu).unwrap();
    for (name, tensor) in shared.extract(&path).unwrap().params.named() {
        params.set(name, tensor).unwrap();
    }
    for seen in 0..2 {
        let of_batch = weights[seen * 32..][..32].to_vec();
        let loader = data::Loader::evaluation(&dataset, &dataset.train, of_batch, 32);
        let batch = loader.epoch(0).next().unwrap().unwrap();
        net.forward(&mut Pass::calibrating(&mut params, seen), &batch.xs).unwrap();
    }
    let by_hand =
        train::evaluate(&net, &params, &dataset, &dataset.train, held_out.to_vec()).unwrap();
    assert_eq!(score, by_hand);
}

/// Keeps every metric in the order of its steps.
#[derive(Default)]
struct Log(BTreeMap<Metric, Vec<f64>>);

impl Recorder for Log {
    fn measure(&mut self, _: u64, metrics: &[(Metric, f64)]) -> anyhow::Result<()> {
        for (metric, value) in metrics {
            self.0.entry(*metric).or_default().push(*value);
        }
        Ok(())
    }
    fn phase_started(&mut self, _: Phase) -> anyhow::Result<()> {
        Ok(())
    }
    fn phase_finished(&mut self, _: Phase, _: PhaseUsage) -> anyhow::Result<()> {
        Ok(())
    }
    fn architecture(&mut self, _: &FoundArchitecture) -> anyhow::Result<()> {
        Ok(())
    }
}

type Metrics = BTreeMap<Metric, Vec<f64>>;

fn run(manifest: &Manifest, seed: u64) -> (SearchOutcome, Metrics) {
    let (found, log) = run_on(&dataset(), manifest, seed);
    (found.unwrap(), log)
}

/// A search that is handed the first 400 images.
fn run_on(
    dataset: &Dataset,
    manifest: &Manifest,
    seed: u64,
) -> (anyhow::Result<SearchOutcome>, Metrics) {
    run_on_some(dataset, manifest, seed, 400)
}

/// The same with so many of them.
fn run_on_some(
    dataset: &Dataset,
    manifest: &Manifest,
    seed: u64,
    images: usize,
) -> (anyhow::Result<SearchOutcome>, Metrics) {
    let (mut log, stop) = (Log::default(), AtomicBool::new(false));
    let indices: Vec<usize> = (0..images).collect();
    let images = SearchData { dataset, indices: &indices, device: &Device::Cpu };
    let mut monitor = Monitor { recorder: &mut log, progress: &Quiet, stop: &stop };
    let (method, config) = (&manifest.methods[0], &manifest.search);
    let found = search(&manifest.space, images, method, config, Seed(seed), &mut monitor);
    (found, log.0)
}

/// What does not depend on the machine's mood.
fn results(log: &Metrics) -> Vec<(&Metric, &Vec<f64>)> {
    log.iter().filter(|(metric, _)| !metric.unit().is_of_time()).collect()
}

#[test]
fn every_method_gives_the_same_bits_for_the_same_seed_and_keeps_to_the_budget() {
    let gradients = ["dmasking", "dnas", "darts", "darts2"];
    let draws = ["random", "random_search", "rs_ws", "evolution"];
    let macs = ["search.budget.macs=2e5", "search.budget.tolerance=0.05"];
    let params = [
        "search.budget.params=7e3",
        "search.budget.tolerance=0.05",
        "search.loss.objective=params",
        "search.loss.cost_unit=1e3",
    ];
    let each = gradients.iter().chain(&draws);
    for (method, of_budget) in each.flat_map(|method| [(method, &macs[..]), (method, &params)]) {
        let method_set = format!("search.method={method}");
        let manifest = smoke(&[&[method_set.as_str()], of_budget].concat());
        let budget = manifest.search.budget.unwrap();
        let [(a, log_a), (b, log_b), (other, log_other)] = [1, 1, 2].map(|s| run(&manifest, s));
        assert_eq!(a.decisions, b.decisions, "{method}");
        assert_eq!(results(&log_a), results(&log_b), "{method}");
        // α begins alike, so that a short gradient search may well end alike.
        assert!(gradients.contains(method) || a.decisions != other.decisions, "{method}");
        assert!(*method == "random" || results(&log_a) != results(&log_other), "{method}");
        for found in [&a, &other] {
            let cost = *cost::count(&found.arch).of(budget.objective);
            assert!(budget.band().contains(&cost), "{method}: {cost}");
            assert_eq!(found.arch, manifest.space.decide(&found.decisions));
        }
        let recorded = log_a.contains_key(&Metric::SEARCH_BUDGET_CHANGED);
        assert_eq!(recorded, gradients.contains(method), "{method}");
        if recorded {
            assert_eq!(log_a[&Metric::SEARCH_BUDGET_MACS_UNCONSTRAINED].len(), 1, "{method}");
        }
    }
}

const METHODS: [&str; 8] =
    ["dmasking", "dnas", "darts", "darts2", "random", "random_search", "rs_ws", "evolution"];

/// Other pixels and labels for some images.
fn change(images: &mut data::Split, which: impl IntoIterator<Item = usize>) {
    let data::Images::Memory(pixels) = &mut images.images else { panic!("in memory") };
    let size = pixels.height * pixels.width;
    for i in which {
        images.labels[i] = (images.labels[i] + 1) % 10;
        for pixel in &mut pixels.bytes[i * size..][..size] {
            *pixel = 255 - *pixel;
        }
    }
}

#[test]
fn no_search_sees_an_image_that_it_was_not_handed() {
    let mut others = dataset();
    change(&mut others.train, 400..1000);
    let tests = others.test.len();
    change(&mut others.test, 0..tests);
    for method in METHODS {
        let manifest = smoke(&[&format!("search.method={method}"), "search.epochs=2"]);
        let [(a, log_a), (b, log_b)] = [&dataset(), &others].map(|d| run_on(d, &manifest, 1));
        assert_eq!(a.unwrap().decisions, b.unwrap().decisions, "{method}");
        assert_eq!(results(&log_a), results(&log_b), "{method}");
    }
}

#[test]
fn weights_learn_from_their_part_and_choices_from_the_other() {
    // 320 images are the weights', in 10 batches; α waits for the first epoch to end.
    let first = |log: &Metrics| log[&Metric::SEARCH_STEP_LOSS][..10].to_vec();
    let [mut weights_changed, mut held_out_changed] = [dataset(), dataset()];
    change(&mut weights_changed.train, 0..320);
    change(&mut held_out_changed.train, 320..400);
    let sets = [&dataset(), &weights_changed, &held_out_changed];
    for method in ["dmasking", "dnas", "darts", "darts2", "rs_ws", "evolution"] {
        let manifest = smoke(&[&format!("search.method={method}"), "search.epochs=2"]);
        let [log, with_weights, with_held_out] = sets.map(|set| run_on(set, &manifest, 1).1);
        assert_eq!(first(&log), first(&with_held_out), "{method}");
        assert_ne!(first(&log), first(&with_weights), "{method}");
        let by_alpha = log.contains_key(&Metric::SEARCH_ALPHA_STEP_CROSS_ENTROPY);
        let judged = if by_alpha {
            Metric::SEARCH_ALPHA_STEP_CROSS_ENTROPY
        } else {
            Metric::SEARCH_CANDIDATE_LOSS
        };
        assert_ne!(log[&judged], with_held_out[&judged], "{method}");
        if !by_alpha {
            assert_eq!(
                log[&Metric::SEARCH_STEP_LOSS],
                with_held_out[&Metric::SEARCH_STEP_LOSS],
                "{method}"
            );
        }
    }
}

#[test]
fn every_method_searches_the_resolution() {
    for method in METHODS {
        let method_set = format!("search.method={method}");
        let space_set = "space=\"spaces/smoke_resolutions.toml\"";
        let bound = ["search.budget.macs=2e5", "search.budget.tolerance=0.2", "search.epochs=2"];
        let manifest = smoke(&[&[method_set.as_str(), space_set], &bound[..]].concat());
        let (found, log) = run(&manifest, 1);
        assert_eq!(found.arch, manifest.space.decide(&found.decisions), "{method}");
        let macs = macs(&manifest.space, &found.decisions);
        assert!((160_000..=200_000).contains(&macs), "{method}: {macs}");
        let learns = ["dmasking", "dnas", "darts", "darts2"].contains(&method);
        assert_eq!(found.resolutions.len(), if learns { 3 } else { 0 }, "{method}");
        assert_eq!(log.contains_key(&Metric::SEARCH_ENTROPY_RESOLUTION), learns, "{method}");
    }
}

#[test]
fn residual_blocks_are_searched_by_masks_by_options_and_along_paths() {
    // The size space of NATS-Bench, narrow, for grey pictures.
    let path = experiments("spaces/nats_size.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("high = 64", "high = 16");
    let text = text.replace("resolutions = [32]", "resolutions = [28]");
    let text = text.replace("channels = 3", "channels = 1");
    let space = parse_space(&text, &path).unwrap_or_else(|e| panic!("{e}"));
    for method in ["dmasking", "dnas", "rs_ws"] {
        // 100 images: two batches for the weights, one for α.
        let method_set = format!("search.method={method}");
        let short = ["search.epochs=1", "search.warmup_epochs=0", "search.batch_size=32"];
        let share = ["search.weight_share=0.65"];
        let manifest = smoke(&[&[method_set.as_str()], &short[..], &share].concat());
        let manifest = Manifest { space: space.clone(), ..manifest };
        let (found, log) = run_on_some(&dataset(), &manifest, 1, 100);
        let found = found.unwrap();
        assert_eq!(log[&Metric::SEARCH_STEP_LOSS].len(), 2, "{method}");
        assert_eq!(found.probabilities.is_empty(), method == "rs_ws", "{method}");
        let is_residual = |block: &BlockSpec| matches!(block.kind, BlockKind::Residual);
        assert!(found.arch.blocks.iter().all(is_residual), "{method}");
    }
}

/// What `parts` come to one after the other, on top of `first`.
fn sums(first: f64, parts: impl Iterator<Item = f64>) -> Vec<f64> {
    let add = |sum: &mut f64, part: f64| {
        *sum += part;
        Some(*sum)
    };
    parts.scan(first, add).collect()
}

#[test]
fn the_best_candidate_is_returned_and_the_work_is_what_was_done() {
    let scored = |sets: &[&str]| {
        let manifest = smoke(sets);
        let (found, log) = run(&manifest, 1);
        let best = &log[&Metric::SEARCH_CANDIDATE_TOP1];
        let top = best.iter().copied().fold(0.0, f64::max);
        assert_eq!(log[&Metric::SEARCH_BEST_TOP1].last(), Some(&top));
        let own = macs(&manifest.space, &found.decisions) as f64;
        let is_best = |i: usize| best[i] == top && log[&Metric::SEARCH_CANDIDATE_MACS][i] == own;
        assert!((0..best.len()).any(is_best), "{sets:?}");
        (found, log)
    };
    // 400 images: 320 for the weights, 80 held out.
    let (found, log) = scored(&["search.method=random_search", "search.random.epochs=2"]);
    let total: f64 = log[&Metric::SEARCH_CANDIDATE_MACS].iter().sum();
    assert_eq!(log[&Metric::SEARCH_CANDIDATE_MACS].len(), 4);
    let images = 4 * (2 * 320 + 2 * 32 + 80);
    let of_one = f64::from(3 * 2 * 320 + 2 * 32 + 80);
    let macs = (total * of_one) as u64;
    assert_eq!(found.work, Work { images, macs, architectures: 4 });
    let each = log[&Metric::SEARCH_CANDIDATE_MACS].iter().map(|macs| macs * of_one);
    assert_eq!(log[&Metric::SEARCH_CANDIDATE_EXECUTED_MACS], sums(0.0, each));

    for method in ["search.method=rs_ws", "search.method=evolution"] {
        let (found, log) = scored(&[method]);
        assert_eq!((found.work.architectures, log[&Metric::SEARCH_CANDIDATE_MACS].len()), (12, 12));
        assert_eq!(found.work.images, 4 * 320 + 12 * (2 * 32 + 80));
        assert!(found.shared.is_some());
        // Training along paths: three times the images of every minibatch, of the network drawn for it.
        let path =
            |step| draw(&space("smoke"), None, &mut Seed(1).stream("paths/draw", step)).unwrap();
        let cost = |step| cost::count(&space("smoke").decide(&path(step))).macs;
        let step = |step| (3 * 32 * cost(step)) as f64;
        let trained = sums(0.0, (0..40).map(step));
        let epochs: Vec<f64> = (1..=4).map(|epoch| trained[10 * epoch - 1]).collect();
        assert_eq!(log[&Metric::SEARCH_EXECUTED_MACS], epochs);
        let each =
            log[&Metric::SEARCH_CANDIDATE_MACS].iter().map(|macs| macs * f64::from(2 * 32 + 80));
        let executed = sums(epochs[3], each);
        assert_eq!(log[&Metric::SEARCH_CANDIDATE_EXECUTED_MACS], executed);
        assert_eq!(found.work.macs as f64, executed[11]);
    }

    // Paths within a budget are those that the budget draws.
    let bound = ["search.budget.macs=2e5", "search.budget.tolerance=0.05"];
    let within = ["search.method=rs_ws", "search.shared.paths=budget"];
    let manifest = smoke(&[&within[..], &bound].concat());
    let (_, log) = run(&manifest, 1);
    let range = manifest.search.budget.as_ref();
    let path = |step| draw(&manifest.space, range, &mut Seed(1).stream("paths/draw", step));
    let of = |made: &Decisions| cost::count(&manifest.space.decide(made)).macs;
    let costs = (0..40).map(|step| of(&path(step).unwrap()));
    assert!(costs.clone().all(|cost| (190_000..=200_000).contains(&cost)));
    assert_eq!(
        log[&Metric::SEARCH_EXECUTED_MACS][3],
        costs.map(|cost| (96 * cost) as f64).sum::<f64>()
    );

    let (found, log) = run(&smoke(&[]), 1);
    // Four epochs of the weights, three of α; 80 images hold two batches of 32.
    let (weights, alpha) = (4 * 320, 3 * 64);
    let macs = cost::supernet(&space("smoke")).macs * (3 * weights + 2 * alpha);
    assert_eq!(found.work, Work { images: weights + alpha, macs, architectures: 0 });
    let each = [0, 2 * 64, 2 * 64, 2 * 64].map(|of_alpha| 3 * 320 + of_alpha);
    let each = each.map(|images| (images * cost::supernet(&space("smoke")).macs) as f64);
    assert_eq!(log[&Metric::SEARCH_EXECUTED_MACS], sums(0.0, each.into_iter()));
}

#[test]
fn a_search_looks_at_all_its_networks_before_it_says_that_all_diverged() {
    // Each step multiplies the weights by -99, until they are no numbers any more.
    let wild = ["search.weights.learning_rate=100", "search.weights.weight_decay=1"];
    let long = "search.random.epochs=3";
    let manifest = smoke(&[&["search.method=random_search", long], &wild[..]].concat());
    let (found, log) = run_on(&dataset(), &manifest, 1);
    let error = found.err().unwrap();
    assert!(error.to_string().starts_with("all 4 candidates diverged"), "{error:#}");
    assert_eq!(log[&Metric::SEARCH_CANDIDATE_DIVERGED], [1.0; 4]);
    assert_eq!(log[&Metric::SEARCH_CANDIDATE_TOP1], [0.1; 4]);
}
