//! Every method from end to end: determinism, images, resolutions, residual blocks.

use super::*;
use repro::cost;
use repro::data;
use repro::manifest::{Manifest, SearchTask, Task};
use repro::record::Metric;
use repro::space::{BlockKind, BlockSpec, parse_space};

#[test]
fn every_method_is_deterministic_and_meets_the_budget() {
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
        let budget = manifest.search().unwrap().config.budget.unwrap();
        let [(a, log_a), (b, log_b), (other, log_other)] = [1, 1, 2].map(|s| run(&manifest, s));
        assert_eq!(a.decisions, b.decisions, "{method}");
        assert_eq!(results(&log_a), results(&log_b), "{method}");
        // α starts the same, so two short gradient searches may end the same.
        assert!(gradients.contains(method) || a.decisions != other.decisions, "{method}");
        assert!(*method == "random" || results(&log_a) != results(&log_other), "{method}");
        for found in [&a, &other] {
            let cost = *cost::count(&found.arch).of(budget.objective);
            assert!(budget.band().contains(&cost), "{method}: {cost}");
            assert_eq!(found.arch, manifest.search().unwrap().space.decide(&found.decisions));
        }
        let recorded = log_a.contains_key(&Metric::SEARCH_BUDGET_CHANGED);
        assert_eq!(recorded, gradients.contains(method), "{method}");
        if recorded {
            assert_eq!(log_a[&Metric::SEARCH_BUDGET_MACS_UNCONSTRAINED].len(), 1, "{method}");
        }
    }
}

/// Changes the pixels and labels of some images.
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
fn a_search_sees_only_its_own_images() {
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
fn weights_and_choices_learn_from_their_own_split() {
    // The weight split has 320 images in 10 batches; α starts after the first epoch.
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
        assert_eq!(
            found.arch,
            manifest.search().unwrap().space.decide(&found.decisions),
            "{method}"
        );
        let macs = macs(&manifest.search().unwrap().space, &found.decisions);
        assert!((160_000..=200_000).contains(&macs), "{method}: {macs}");
        let learns = ["dmasking", "dnas", "darts", "darts2"].contains(&method);
        assert_eq!(found.resolutions.len(), if learns { 3 } else { 0 }, "{method}");
        assert_eq!(log.contains_key(&Metric::SEARCH_ENTROPY_RESOLUTION), learns, "{method}");
    }
}

#[test]
fn every_kind_of_search_handles_residual_blocks() {
    // The size space of NATS-Bench, narrower, for grey images.
    let path = experiments("spaces/nats_size.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("high = 64", "high = 16");
    let text = text.replace("resolutions = [32]", "resolutions = [28]");
    let text = text.replace("channels = 3", "channels = 1");
    let space = parse_space(&text, &path).unwrap_or_else(|e| panic!("{e}"));
    for method in ["dmasking", "dnas", "rs_ws"] {
        // 100 images: two batches in the weight split, one in the architecture split.
        let method_set = format!("search.method={method}");
        let short = ["search.epochs=1", "search.warmup_epochs=0", "search.batch_size=32"];
        let share = ["search.weight_share=0.65"];
        let manifest = smoke(&[&[method_set.as_str()], &short[..], &share].concat());
        let searched = manifest.search().unwrap().clone();
        let searched = SearchTask { space: space.clone(), ..searched };
        let manifest = Manifest { task: Task::Search(Box::new(searched)), ..manifest };
        let (found, log) = run_on_some(&dataset(), &manifest, 1, 100);
        let found = found.unwrap();
        assert_eq!(log[&Metric::SEARCH_STEP_LOSS].len(), 2, "{method}");
        assert_eq!(found.probabilities.is_empty(), method == "rs_ws", "{method}");
        let is_residual = |block: &BlockSpec| matches!(block.kind, BlockKind::Residual);
        assert!(found.arch.blocks.iter().all(is_residual), "{method}");
    }
}
