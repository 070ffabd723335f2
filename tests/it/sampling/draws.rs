//! Draws from a space and mutations: uniformity, with and without a budget.

use super::*;
use repro::cost;
use repro::recipe::Budget;
use repro::rng::Seed;
use repro::search::{draw, mutate};
use repro::space::{BlockDecision, Decisions, SearchSpace};
use std::collections::BTreeMap;

#[test]
fn draws_are_uniform_over_choices_and_pairs() {
    for space in small_spaces() {
        assert_uniform(&space);
    }
}

fn assert_uniform(space: &SearchSpace) {
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
        // Four standard deviations of a chi-square: rare in 20,000 tests, more so in these.
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
fn draws_within_a_budget_are_uniform() {
    for (space, tolerance) in small_spaces().into_iter().zip([0.05, 0.02, 0.05, 0.05]) {
        assert_uniform_within(&space, &budget(2e5, tolerance));
    }
}

fn assert_uniform_within(space: &SearchSpace, budget: &Budget) {
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
fn rare_budgets_are_reached_without_rejection() {
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

#[test]
fn a_mutation_changes_one_choice_within_the_budget() {
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
