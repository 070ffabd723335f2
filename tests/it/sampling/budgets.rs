//! Cost budgets: the most probable network within one, and budgets without a network.

use super::*;
use crate::spaces::random_probabilities;
use candle_core::Device;
use repro::cost;
use repro::monitor::{Checkpoints, Monitor};
use repro::progress::Quiet;
use repro::recipe::{Budget, Objective};
use repro::rng::Seed;
use repro::runner::{RunPlan, plans};
use repro::search::{Preferences, draw, most_probable, preferences};
use repro::space::{Decisions, SearchSpace};
use std::path::Path;
use std::sync::atomic::AtomicBool;

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
fn the_budget_search_agrees_with_enumeration() {
    let macs = [(1.2e5, 0.05), (2e5, 0.05), (3e5, 0.01), (4.5e5, 0.9)];
    // From the smallest networks to the largest.
    let params = [(3e3, 0.1), (6e3, 0.05), (9e3, 0.05), (1.2e4, 0.9)];
    for (objective, bounds) in [(Objective::Macs, macs), (Objective::Params, params)] {
        for space in small_spaces() {
            assert_agrees_with_enumeration(&space, objective, &bounds);
        }
    }
}

fn assert_agrees_with_enumeration(
    space: &SearchSpace,
    objective: Objective,
    bounds: &[(f64, f64)],
) {
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
fn a_budget_may_extend_above_its_bound() {
    let space = space("smoke");
    let costs: Vec<u64> = all(&space).iter().map(|made| macs(&space, made)).collect();
    let around = Budget { above: 0.05, ..budget(2e5, 0.05) };
    assert_eq!(around.band(), 190_000..=210_000);
    // Networks on both sides of the bound are drawn, and none outside the band.
    let drawn: Vec<u64> = (0..200)
        .map(|i| draw(&space, Some(&around), &mut Seed(8).stream("draw", i)).unwrap())
        .map(|made| macs(&space, &made))
        .collect();
    assert!(drawn.iter().all(|macs| around.band().contains(macs)));
    assert!(drawn.iter().any(|macs| *macs > 200_000) && drawn.iter().any(|macs| *macs < 200_000));
    // A band that starts and ends at the costs of networks includes both.
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
fn a_budget_in_a_gap_names_the_nearest_costs() {
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
fn an_empty_budget_fails_before_the_run() {
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
            assert!(error.contains(part), "{}: {error}", plan.method());
        }
        assert!(log.is_empty(), "{}", plan.method());
    }
}

#[test]
fn too_many_networks_to_rank_fail_before_the_run() {
    let manifest = smoke(&[
        "rank_correlation.architectures=500",
        "search.budget.macs=2e5",
        "search.budget.tolerance=0.002",
    ]);
    let (error, log) = refused(&plans(&manifest).next().unwrap());
    assert!(error.contains("smoke.toml: rank_correlation.architectures: found only "), "{error}");
    assert!(error.contains("not 500; ask for fewer"), "{error}");
    assert!(log.is_empty());
}

/// The error of a run that must fail, and what it measured before.
fn refused(plan: &RunPlan<'_>) -> (String, Metrics) {
    let (mut log, stop) = (Log::default(), AtomicBool::new(false));
    let checkpoints = &mut Checkpoints::none();
    let mut monitor = Monitor { recorder: &mut log, progress: &Quiet, stop: &stop, checkpoints };
    let error = plan.execute(Path::new("/nowhere"), &Device::Cpu, &mut monitor).err().unwrap();
    (format!("{error:#}"), log.0)
}
