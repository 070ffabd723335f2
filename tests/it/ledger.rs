//! The ledger of claims: synthetic evidence decides each verdict, and every claim without evidence says so.

use crate::report::{SPACE, WRITER, finished, set, unfinished};
use repro::ledger::{self, Entry};
use repro::record::{ScalingPoint, StepUsage};
use repro::store::{ExperimentKind, RunRow, RunStatus};
use std::path::Path;

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
    text.clone_into(&mut run.manifest.space_text);
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
    failed.manifest.space_text = paper;
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
