//! The ledger of claims: synthetic evidence decides each verdict, and every claim without evidence says so.

use crate::report::{SPACE, WRITER, finished, on_gpu, phases, set, unfinished};
use repro::ledger::{self, Entry};
use repro::record::{ScalingPoint, StepUsage};
use repro::store::{ExperimentKind, RunRow, RunStatus};
use std::path::Path;
use std::sync::Arc;

/// All entries, without points of memory studies.
fn entries(runs: &[RunRow]) -> Vec<Entry> {
    ledger::entries(runs, &|_| Ok(Vec::new())).unwrap()
}

fn entry(id: &str, entries: Vec<Entry>) -> Entry {
    entries.into_iter().find(|entry| entry.claim.id == id).unwrap()
}

/// The entry on the size of spaces.
fn on_size(runs: &[RunRow]) -> Entry {
    entry("C1", entries(runs))
}

/// A run in this space.
fn in_space(id: i64, text: &str) -> RunRow {
    let mut run = finished(id, 1, 0.8);
    text.clone_into(&mut Arc::make_mut(&mut run.manifest).space_text);
    run
}

/// The paper's F space, and one with a width per block for the same images.
fn spaces() -> (String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/spaces/fbnetv2_f.toml");
    let paper = std::fs::read_to_string(path).unwrap();
    let width = |line: &str| line.starts_with("width = {");
    let narrow = |line: &str| if width(line) { "width = 16" } else { line }.to_owned();
    let one_width: Vec<String> = paper.lines().map(narrow).collect();
    (paper.clone(), one_width.join("\n"))
}

#[test]
fn a_claim_without_evidence_is_not_measured() {
    let entries = entries(&[]);
    assert_eq!(entries.len(), 7);
    for Entry { claim, verdict, measured, runs } in entries {
        assert_eq!(verdict.to_string(), format!("not measured: needs {}", claim.needs));
        assert!(measured.is_empty() && runs.is_empty());
    }
}

#[test]
fn the_largest_space_decides_on_the_growth() {
    let (paper, one_width) = spaces();
    assert_eq!(on_size(&[in_space(1, &one_width)]).verdict.name(), "not reproduced");
    let both = [in_space(1, &one_width), in_space(2, &paper), in_space(3, &paper)];
    let largest = on_size(&both);
    assert_eq!((largest.verdict.name(), &largest.runs[..]), ("reproduced", &[2, 3][..]));
    assert_eq!(largest.measured, "10^14.6 combinations of widths");
    // A small space for other images refutes nothing, and runs that have not finished show nothing.
    assert_eq!(on_size(&[in_space(1, SPACE)]).verdict.name(), "not measured");
    let mut failed = unfinished(1, RunStatus::Failed, Some("out of memory"), vec![]);
    Arc::make_mut(&mut failed.manifest).space_text = paper;
    assert_eq!(on_size(&[failed]).verdict.name(), "not measured");
}

/// The masked supernet with 1, 2 and 4 widths, three processes each.
fn points(bytes: [u64; 3], seconds: [f64; 3]) -> Vec<ScalingPoint> {
    let mut points = Vec::new();
    for (i, options) in [1, 2, 4].into_iter().enumerate() {
        points.extend((0..3).map(|repeat| ScalingPoint {
            dimension: "width".to_owned(),
            options,
            recompute: "none".to_owned(),
            repeat,
            batch: 32,
            log10_candidates: options as f64,
            predicted_bytes: bytes[i],
            measured: Some(step(bytes[i], seconds[i] * (1.0 + 1e-4 * repeat as f64))),
        }));
    }
    points
}

fn step(peak_bytes: u64, seconds: f64) -> StepUsage {
    StepUsage {
        seconds,
        forward_seconds: 0.0,
        backward_seconds: 0.0,
        optimizer_seconds: 0.0,
        peak_bytes,
        forward_bytes: 0,
        backward_bytes: 0,
        optimizer_bytes: 0,
        weight_bytes: 0,
        velocity_bytes: 0,
        activation_bytes: 0,
        gradient_bytes: 0,
        scratch_bytes: 0,
        resident_bytes: None,
        other_cores: Some(0.0),
    }
}

/// A run of a memory study.
fn study(id: i64, experiment: &str) -> RunRow {
    let mut run = finished(id, 1, 0.0);
    set(&mut run, "[search]", "[scaling]");
    assert_eq!(run.settings.kind, ExperimentKind::MemoryStudy);
    experiment.clone_into(&mut run.experiment);
    (run.architecture, run.result) = (None, None);
    run
}

#[test]
fn the_weakest_study_decides_on_constant_cost() {
    const EVEN: ([u64; 3], [f64; 3]) = ([1_000_000; 3], [1.0; 3]);
    let on_cost = |studies: &[([u64; 3], [f64; 3])]| {
        let names = ["memory_a", "memory_b"];
        let runs: Vec<RunRow> =
            (1..).zip(&names[..studies.len()]).map(|(i, name)| study(i, name)).collect();
        let points_of = |id: i64| {
            let (bytes, seconds) = studies[id as usize - 1];
            Ok(points(bytes, seconds))
        };
        entry("C2", ledger::entries(&runs, &points_of).unwrap())
    };
    let even = on_cost(&[EVEN]);
    assert_eq!((even.verdict.name(), &even.runs[..]), ("reproduced", &[1][..]));
    assert_eq!(even.measured, "memory_a: width reproduced");
    let more_bytes = on_cost(&[([1_000_000, 2_000_000, 4_000_000], EVEN.1)]);
    assert_eq!(more_bytes.verdict.name(), "not reproduced");
    assert_eq!(
        more_bytes.measured,
        "memory_a: width not reproduced in bytes, reproduced in seconds"
    );
    assert_eq!(on_cost(&[(EVEN.0, [1.0, 2.0, 4.0])]).verdict.name(), "not reproduced");
    assert_eq!(on_cost(&[(EVEN.0, [1.0, 3.0, 1.2])]).verdict.name(), "inconclusive");
    let both = on_cost(&[EVEN, (EVEN.0, [1.0, 2.0, 4.0])]);
    assert_eq!((both.verdict.name(), &both.runs[..]), ("not reproduced", &[1, 2][..]));
}

/// A run of the experiment on effective shapes, whose network has this many parameters.
fn shaped(id: i64, seed: u64, objective: &str, params: u64) -> RunRow {
    let mut run = finished(id, seed, 0.6);
    let search = format!("[search]\n[search.loss]\nobjective = \"{objective}\"\n");
    set(&mut run, "[search]\n", &search);
    "effective_shapes".clone_into(&mut run.experiment);
    if let Some(found) = &mut run.architecture {
        (found.macs, found.params) = (1_000_000, params);
    }
    run
}

/// Ten seeds for each objective; those for params have about this many.
fn effective_shapes(seeds: u64, params: u64) -> Vec<RunRow> {
    let of = |seed: u64| {
        let id = seed as i64;
        [shaped(id, seed, "macs", 20_000), shaped(100 + id, seed, "params", params + 10 * seed)]
    };
    (1..=seeds).flat_map(of).collect()
}

#[test]
fn networks_that_follow_the_objective_decide_on_effective_shapes() {
    let on_shapes = |runs: &[RunRow]| entry("C3", entries(runs));
    let followed = on_shapes(&effective_shapes(10, 10_000));
    assert_eq!(followed.verdict.name(), "reproduced");
    assert!(
        followed.measured.starts_with("+49.") && followed.measured.ends_with(", 10 seeds"),
        "{followed:?}"
    );
    assert_eq!(followed.runs.len(), 20);
    assert_eq!(on_shapes(&effective_shapes(10, 40_000)).verdict.name(), "not reproduced");
    // From 20,100 to 19,900: some have more and some fewer parameters per MAC.
    let mut even = effective_shapes(10, 19_945);
    assert_eq!(on_shapes(&even).verdict.name(), "inconclusive");
    let few = on_shapes(&effective_shapes(9, 10_000));
    assert_eq!(few.verdict.name(), "inconclusive");
    assert!(few.measured.ends_with(", 9 seeds, 10 needed"), "{few:?}");
    // Nominal shapes are another setting.
    for run in &mut even {
        set(run, "[search.loss]\n", "[search.loss]\ninput_channels = \"nominal\"\n");
    }
    assert_eq!(on_shapes(&even).verdict.name(), "not measured");
}

/// A published network trained on a data set with its classes.
fn trained(id: i64, name: &str, seed: u64, top1: f64) -> RunRow {
    let mut run = finished(id, seed, top1);
    let arch = repro::zoo::network(name).unwrap().arch;
    if let Some(found) = &mut run.architecture {
        (found.id, found.arch) = (arch.id(), Arc::new(arch));
    }
    run
}

#[test]
fn accuracies_of_published_networks_decide_on_the_paper_s_comparisons() {
    // Each is ahead by this many percentage points, with a little noise.
    let ahead = |claim: &str, [own, other]: [&str; 2], points: f64| {
        let of = |seed: u64| {
            let noise = 0.0002 * seed as f64;
            let id = 10 * seed as i64;
            [
                trained(id, own, seed, 0.6 + points / 100.0 + noise),
                trained(id + 1, other, seed, 0.6),
            ]
        };
        entry(claim, entries(&(1..=3).flat_map(of).collect::<Vec<_>>())).verdict.name()
    };
    let small = ["FBNetV2_F1", "mnv3_small"];
    assert_eq!(ahead("C5", small, 0.9), "reproduced");
    assert_eq!(ahead("C5", small, 0.55), "inconclusive");
    assert_eq!(ahead("C5", small, 0.1), "not reproduced");
    let large = ["FBNetV2_L1", "eff_0"];
    assert_eq!(ahead("C6", large, 0.1), "reproduced");
    assert_eq!(ahead("C6", large, -1.0), "not reproduced");

    let searched = |points: f64| {
        let of = |seed: u64| {
            let mut own = trained(
                10 * seed as i64,
                "FBNetV2_L1",
                seed,
                0.6 + points / 100.0 + 2e-4 * seed as f64,
            );
            set(&mut own, "[search]\n", "[search]\n[search.loss]\nobjective = \"params\"\n");
            "paper_fbnetv2_p".clone_into(&mut own.experiment);
            [own, trained(10 * seed as i64 + 1, "mnv3", seed, 0.6)]
        };
        entry("C7", entries(&(1..=3).flat_map(of).collect::<Vec<_>>())).verdict.name()
    };
    assert_eq!(searched(2.6), "reproduced");
    assert_eq!(searched(1.0), "not reproduced");
}

#[test]
fn the_hours_of_a_search_decide_on_its_cost() {
    let on_cost = |hours: f64| {
        let mut run = on_gpu("NVIDIA H200", trained(1, "FBNetV2_F1", 1, 0.7));
        run.phases = phases(Some(3600.0 * hours), 1.0);
        entry("C4", entries(&[run]))
    };
    let cheap = on_cost(200.0);
    assert_eq!((cheap.verdict.name(), &cheap.runs[..]), ("reproduced", &[1][..]));
    assert!(cheap.measured.contains("NVIDIA H200 instead of 91,000"), "{cheap:?}");
    assert_eq!(on_cost(300.0).verdict.name(), "not reproduced");
    // A search on a CPU is no evidence.
    assert_eq!(
        entry("C4", entries(&[trained(1, "FBNetV2_F1", 1, 0.7)])).verdict.name(),
        "not measured"
    );
}

#[test]
fn the_page_has_every_claim() {
    let (paper, _) = spaces();
    let entries = entries(&[in_space(1, &paper)]);
    let page = ledger::page(&entries, WRITER).unwrap();
    assert_eq!(page.data.height(), 7);
    let text = page.markdown();
    assert!(text.contains("1 of 7 claims of FBNetV2"), "{text}");
    let row = text.lines().find(|line| line.starts_with("| C1 ")).unwrap();
    assert!(
        row.contains("| reproduced ") && row.contains("14 orders of magnitude (abstract)"),
        "{row}"
    );
}
