//! What searches evaluate and compute, and searches that diverge.

use super::*;
use repro::cost;
use repro::record::{Metric, Work};
use repro::rng::Seed;
use repro::search::{SearchOutcome, draw};

/// The running sums of `parts`, on top of `first`.
fn sums(first: f64, parts: impl Iterator<Item = f64>) -> Vec<f64> {
    let add = |sum: &mut f64, part: f64| {
        *sum += part;
        Some(*sum)
    };
    parts.scan(first, add).collect()
}

/// A search whose result must be its best candidate, with its measurements.
fn scored(sets: &[&str]) -> (SearchOutcome, Metrics) {
    let manifest = smoke(sets);
    let (found, log) = run(&manifest, 1);
    let best = &log[&Metric::SEARCH_CANDIDATE_TOP1];
    let top = best.iter().copied().fold(0.0, f64::max);
    assert_eq!(log[&Metric::SEARCH_BEST_TOP1].last(), Some(&top));
    let own = macs(&manifest.search().unwrap().space, &found.decisions) as f64;
    let is_best = |i: usize| best[i] == top && log[&Metric::SEARCH_CANDIDATE_MACS][i] == own;
    assert!((0..best.len()).any(is_best), "{sets:?}");
    (found, log)
}

#[test]
fn random_search_returns_its_best_candidate() {
    // 400 images: 320 in the weight split, 80 in the architecture split.
    let (found, log) = scored(&["search.method=random_search", "search.random.epochs=2"]);
    let candidates = &log[&Metric::SEARCH_CANDIDATE_MACS];
    assert_eq!(candidates.len(), 4);
    // Two epochs of training, two batches of calibration, the score.
    let images = 4 * (2 * 320 + 2 * 32 + 80);
    let of_one = f64::from(3 * 2 * 320 + 2 * 32 + 80);
    let macs = (candidates.iter().sum::<f64>() * of_one) as u64;
    assert_eq!(found.work, Work { images, macs, architectures: 4 });
    let each = candidates.iter().map(|macs| macs * of_one);
    assert_eq!(log[&Metric::SEARCH_CANDIDATE_EXECUTED_MACS], sums(0.0, each));
    // Two epochs of ten batches.
    assert_eq!(log[&Metric::SEARCH_CANDIDATE_WEIGHT_STEPS], [20.0; 4]);
}

#[test]
fn searches_with_shared_weights_return_their_best_candidate() {
    for method in ["search.method=rs_ws", "search.method=evolution"] {
        let (found, log) = scored(&[method]);
        let candidates = &log[&Metric::SEARCH_CANDIDATE_MACS];
        assert_eq!((found.work.architectures, candidates.len()), (12, 12));
        assert_eq!(found.work.images, 4 * 320 + 12 * (2 * 32 + 80));
        assert!(found.shared.is_some());
        // A path costs three times the images of its minibatch.
        let path =
            |step| draw(&space("smoke"), None, &mut Seed(1).stream("paths/draw", step)).unwrap();
        let step = |step| (3 * 32 * macs(&space("smoke"), &path(step))) as f64;
        let trained = sums(0.0, (0..40).map(step));
        let epochs: Vec<f64> = (1..=4).map(|epoch| trained[10 * epoch - 1]).collect();
        assert_eq!(log[&Metric::SEARCH_EXECUTED_MACS], epochs);
        let each = candidates.iter().map(|macs| macs * f64::from(2 * 32 + 80));
        let executed = sums(epochs[3], each);
        assert_eq!(log[&Metric::SEARCH_CANDIDATE_EXECUTED_MACS], executed);
        assert_eq!(found.work.macs as f64, executed[11]);
    }
}

#[test]
fn paths_can_be_drawn_within_the_budget() {
    let bound = ["search.budget.macs=2e5", "search.budget.tolerance=0.05"];
    let within = ["search.method=rs_ws", "search.shared.paths=budget"];
    let manifest = smoke(&[&within[..], &bound].concat());
    let (_, log) = run(&manifest, 1);
    let range = manifest.search().unwrap().config.budget.as_ref();
    let path = |step| {
        draw(&manifest.search().unwrap().space, range, &mut Seed(1).stream("paths/draw", step))
    };
    let costs = (0..40).map(|step| macs(&manifest.search().unwrap().space, &path(step).unwrap()));
    assert!(costs.clone().all(|cost| (190_000..=200_000).contains(&cost)));
    let executed = costs.map(|cost| (96 * cost) as f64).sum::<f64>();
    assert_eq!(log[&Metric::SEARCH_EXECUTED_MACS][3], executed);
}

#[test]
fn a_gradient_search_counts_all_its_passes() {
    let (found, log) = run(&smoke(&[]), 1);
    // Four epochs of the weights, three of α; 80 images hold two batches of 32.
    let (weights, alpha) = (4 * 320, 3 * 64);
    let macs = cost::supernet(&space("smoke")).macs * (3 * weights + 2 * alpha);
    assert_eq!(found.work, Work { images: weights + alpha, macs, architectures: 0 });
    let each = [0, 2 * 64, 2 * 64, 2 * 64].map(|of_alpha| 3 * 320 + of_alpha);
    let each = each.map(|images| (images * cost::supernet(&space("smoke")).macs) as f64);
    assert_eq!(log[&Metric::SEARCH_EXECUTED_MACS], sums(0.0, each.into_iter()));
    assert!(!log.contains_key(&Metric::SEARCH_DIVERGED));
}

#[test]
fn a_search_that_explodes_is_recorded_as_diverged() {
    let wild = ["search.weights.learning_rate=40", "search.weights.clip_norm=1e6"];
    let (_, log) = run(&smoke(&[&["search.method=darts"], &wild[..]].concat()), 1);
    let losses = &log[&Metric::SEARCH_LOSS];
    assert!(losses[losses.len() - 1] > 100.0, "{losses:?}");
    assert!(log[&Metric::SEARCH_DIVERGED][0] > 100.0);
}

#[test]
fn a_search_reports_that_all_networks_diverged() {
    // Each step multiplies the weights by -99, until they are no longer finite.
    let wild = ["search.weights.learning_rate=100", "search.weights.weight_decay=1"];
    let long = "search.random.epochs=3";
    let manifest = smoke(&[&["search.method=random_search", long], &wild[..]].concat());
    let (found, log) = run_on(&dataset(), &manifest, 1);
    let error = found.err().unwrap();
    assert!(error.to_string().starts_with("all 4 candidates diverged"), "{error:#}");
    assert_eq!(log[&Metric::SEARCH_CANDIDATE_DIVERGED], [1.0; 4]);
    assert_eq!(log[&Metric::SEARCH_CANDIDATE_TOP1], [0.1; 4]);
    // 30 steps were planned.
    let steps = &log[&Metric::SEARCH_CANDIDATE_WEIGHT_STEPS];
    assert!(steps.len() == 4 && steps.iter().all(|n| (1.0..=30.0).contains(n)), "{steps:?}");
}
