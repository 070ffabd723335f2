//! Reports over invented runs: what they say, that they say it twice alike, and that every number
//! of the CSV is the run's.

use repro::cost;
use repro::env::Environment;
use repro::record::{ChoiceProbabilities, Metric, Phase, PhaseUsage};
use repro::report::{self, build, results_table, write};
use repro::space::{BlockDecision, Decisions, parse_space};
use repro::store::{
    ArchitectureRow, FinalResult, ManifestRecord, Measurement, PhaseRow, RunRow, RunStatus,
};
use std::collections::BTreeMap;
use std::path::Path;

const COMMAND: &str = "repro report --out reports";

const SPACE: &str = r#"
name = "small"
channel_divisor = 4
[input]
resolutions = [32]
channels = 3
classes = 10
[stem]
kernel = 3
stride = 1
width = 8
activation = "hswish"
[[stage]]
blocks = 1
stride = 1
expansion = 1
width = { low = 8, high = 12, step = 4 }
types = ["k3_hswish", "k5_hswish_se", "skip"]
[[stage]]
blocks = 3
stride = 2
expansion = { low = 1.5, high = 4.5, step = 1.5 }
width = { low = 8, high = 20, step = 4 }
types = ["k3_hswish", "k5_hswish_se", "skip"]
[head]
width = 64
activation = "hswish"
"#;

fn manifest(seeds: &str) -> ManifestRecord {
    ManifestRecord {
        sha256: format!("{:0>64}", seeds.len()),
        name: "small".to_owned(),
        text: format!("name = \"small\"\nseeds = [{seeds}]\n[search]\nepochs = 2\n"),
        space_name: "small".to_owned(),
        space_text: SPACE.to_owned(),
        space_candidates: "1119744".to_owned(),
        space_log10: 1_119_744_f64.log10(),
    }
}

fn environment() -> Environment {
    Environment {
        version: "0.1.0".to_owned(),
        git_revision: Some("0123456789abcdef".to_owned()),
        git_dirty: Some(true),
        rustc: "rustc 1.95.0".to_owned(),
        libraries: "candle-core 0.11.1".to_owned(),
        host: "a-secret-name".to_owned(),
        os: "linux x86_64".to_owned(),
        cpu: "Some CPU @ 2.00GHz".to_owned(),
        instructions: "AVX2+FMA".to_owned(),
        cores: 2,
        memory_bytes: 8 << 30,
        threads: 2,
        device: "cpu".to_owned(),
    }
}

/// What a search over [`SPACE`] may find: a block, a wider one, a skip, one with squeeze-excite.
fn architecture() -> ArchitectureRow {
    let space = parse_space(SPACE, Path::new("small.toml")).unwrap_or_else(|e| panic!("{e}"));
    let block = |block_type, expansion, width| BlockDecision { block_type, expansion, width };
    let blocks = vec![block(0, 0, 0), block(0, 1, 3), block(2, 2, 0), block(1, 2, 2)];
    let arch = space.decide(&Decisions { resolution: 0, blocks });
    let probabilities = space.blocks.iter().map(|block| ChoiceProbabilities {
        block: block.label(),
        types: vec![0.5, 0.3, 0.2],
        expansions: if block.expansions() == 1 { vec![1.0] } else { vec![0.1, 0.25, 0.65] },
        widths: if block.widths.len() == 2 { vec![0.55, 0.45] } else { vec![0.1, 0.1, 0.1, 0.7] },
    });
    let cost = cost::count(&arch);
    ArchitectureRow {
        id: arch.id(),
        macs: cost.macs,
        params: cost.params,
        probabilities: probabilities.collect(),
        resolutions: Vec::new(),
        arch,
    }
}

fn phases(search: Option<f64>, train: f64) -> Vec<PhaseRow> {
    let usage = |seconds, peak_bytes| PhaseUsage {
        seconds,
        peak_bytes,
        images: 640,
        macs: Some(12_345_678_901),
        architectures: Some(0),
    };
    let row = |phase, usage| PhaseRow { phase, usage };
    let search = search.map(|seconds| row(Phase::Search, Some(usage(seconds, 512 << 20))));
    let train = row(Phase::Train, Some(usage(train, 100_000_001)));
    search.into_iter().chain([train]).collect()
}

fn finished(id: i64, seed: u64, top1: f64) -> RunRow {
    RunRow {
        id,
        experiment: "small".to_owned(),
        manifest: manifest("1"),
        method: "dmasking".to_owned(),
        dataset: "cifar10".to_owned(),
        seed,
        attempt: 1,
        status: RunStatus::Finished,
        error: None,
        started_at: 1_772_323_200.25 + id as f64,
        last_seen_at: 1_772_326_800.5,
        command: "repro run small.toml".to_owned(),
        environment: environment(),
        phases: phases(Some(100.0 + id as f64), 50.125),
        architecture: Some(architecture()),
        result: Some(FinalResult {
            test_top1: top1,
            test_loss: 0.1 + 0.2,
            test_images: 10_000,
            weights_sha256: "ab".repeat(32),
        }),
    }
}

fn unfinished(id: i64, status: RunStatus, error: Option<&str>, phases: Vec<PhaseRow>) -> RunRow {
    let error = error.map(str::to_owned);
    RunRow { status, error, phases, architecture: None, result: None, ..finished(id, 4, 0.0) }
}

/// Three seeds, of which the command line chose one and the last was resumed after its search; one
/// run that failed in its search and one that was killed before it began anything.
fn small() -> Vec<RunRow> {
    let chosen = RunRow { manifest: manifest("1, 2"), ..finished(2, 2, 0.8123) };
    let resumed = RunRow { phases: phases(None, 49.0), attempt: 2, ..finished(3, 3, 0.7999) };
    let error = "search: the loss became NaN at step 3;\na \"lower\" learning_rate | `clip_norm`, \
                 <b>helps</b> \u{1b}[31m";
    let searching = vec![PhaseRow { phase: Phase::Search, usage: None }];
    let failed = unfinished(4, RunStatus::Failed, Some(error), searching);
    vec![
        finished(1, 1, 0.8),
        chosen,
        resumed,
        failed,
        unfinished(5, RunStatus::Interrupted, None, vec![]),
    ]
}

/// Names and numbers that no manifest would allow.
fn odd() -> RunRow {
    let mut run = finished(i64::MAX, u64::MAX, 1e-300);
    "odd|name, \"quoted\"/../_x_".clone_into(&mut run.experiment);
    "not a space".clone_into(&mut run.manifest.space_text);
    run.manifest.space_log10 = 1234.5;
    run.manifest.space_candidates = "9".repeat(100);
    run.environment.git_revision = None;
    run.environment.git_dirty = None;
    "repro run 'odd`name.toml' --set x=\"\"".clone_into(&mut run.command);
    let usage = PhaseUsage {
        seconds: 1e15,
        peak_bytes: u64::MAX,
        images: u64::MAX,
        macs: None,
        architectures: Some(u64::MAX),
    };
    run.phases = vec![PhaseRow { phase: Phase::Search, usage: Some(usage) }];
    if let Some(found) = &mut run.architecture {
        (found.macs, found.params) = (u64::MAX, 1);
    }
    run
}

/// Three epochs of a search for the runs that got so far.
#[allow(clippy::unnecessary_wraps)]
fn measurements(id: i64) -> anyhow::Result<Vec<Measurement>> {
    let searched = if matches!(id, 1 | 2) { 3 } else { 0 };
    let epochs = (0..searched).flat_map(|step| {
        let x = (step as f64) / 3.0 + id as f64 / 10.0;
        [
            value(Metric::SEARCH_LOSS, step, 2.3 - x),
            value(Metric::SEARCH_EXPECTED_MACS, step, 2e6 - 5e5 * x),
            value(Metric::SEARCH_ENTROPY_TYPE, step, 1.0 - x / 2.0),
            value(Metric::TRAIN_LOSS, step, 1.0),
        ]
    });
    Ok(epochs.collect())
}

/// A CSV reader of its own, after RFC 4180: rows of fields.
fn parse_csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (vec![], vec![], String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    assert!(!quoted && field.is_empty() && row.is_empty(), "the last line is not complete");
    rows
}

/// The rows by their column's name.
fn records(csv: &str) -> Vec<BTreeMap<String, String>> {
    let mut rows = parse_csv(csv).into_iter();
    let titles = rows.next().unwrap();
    rows.map(|row| {
        assert_eq!(row.len(), titles.len());
        titles.iter().cloned().zip(row).collect()
    })
    .collect()
}

fn report_of(runs: &[RunRow]) -> report::Report {
    let mut reports = build(runs, &measurements, COMMAND).unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

#[test]
fn the_page_says_what_the_runs_measured() {
    insta::assert_snapshot!("small_md", report_of(&small()).markdown);
}

#[test]
fn the_page_shows_odd_names_as_they_are() {
    insta::assert_snapshot!("odd_md", report_of(&[odd()]).markdown);
}

#[test]
fn the_csv_holds_one_row_per_run() {
    insta::assert_snapshot!("small_csv", report_of(&small()).csv);
}

#[test]
fn the_picture_has_a_line_for_every_run_that_searched() {
    let figure = report_of(&small()).figure.unwrap();
    assert_eq!(figure.matches("seed ").count(), 2);
    insta::assert_snapshot!("small_svg", figure);
}

#[test]
fn the_terminal_shows_the_same_table() {
    let runs: Vec<RunRow> = small().into_iter().chain([odd()]).collect();
    insta::assert_snapshot!("terminal", results_table(&runs));
}

#[test]
fn the_csv_is_read_back_as_the_runs() {
    for runs in [small(), vec![odd()]] {
        let records = records(&report_of(&runs).csv);
        assert_eq!(records.len(), runs.len());
        for (record, run) in records.iter().zip(&runs) {
            let text = |key: &str| record[key].as_str();
            let real = |key: &str| text(key).parse::<f64>().ok();
            let whole = |key: &str| text(key).parse::<u64>().ok();
            assert_eq!(text("run_id").parse(), Ok(run.id));
            assert_eq!(text("experiment"), run.experiment);
            assert_eq!(text("error"), run.error.as_deref().unwrap_or_default());
            assert_eq!(text("status"), run.status.name());
            assert_eq!(text("command"), run.command);
            assert_eq!(text("space_candidates"), run.manifest.space_candidates);
            assert_eq!(real("space_log10"), Some(run.manifest.space_log10));
            assert_eq!(whole("seed"), Some(run.seed));
            assert_eq!(real("started_at_unix_seconds"), Some(run.started_at));
            assert_eq!(real("test_top1"), run.result.as_ref().map(|r| r.test_top1));
            assert_eq!(real("test_loss_nats"), run.result.as_ref().map(|r| r.test_loss));
            assert_eq!(whole("macs"), run.architecture.as_ref().map(|a| a.macs));
            assert_eq!(whole("params"), run.architecture.as_ref().map(|a| a.params));
            for phase in Phase::ALL {
                let key = |what: &str| format!("{}_{what}", phase.name());
                let usage = run.usage(phase);
                assert_eq!(real(&key("seconds")), usage.map(|u| u.seconds));
                assert_eq!(whole(&key("peak_bytes")), usage.map(|u| u.peak_bytes));
                assert_eq!(whole(&key("processed_images")), usage.map(|u| u.images));
                assert_eq!(whole(&key("executed_macs")), usage.and_then(|u| u.macs));
                assert_eq!(whole(&key("architectures")), usage.and_then(|u| u.architectures));
            }
            assert_eq!(text("git_dirty"), if run.id == i64::MAX { "" } else { "true" });
        }
    }
}

#[test]
fn the_same_runs_give_the_same_bytes_in_any_order() {
    let forwards = report_of(&small());
    assert_eq!(forwards, report_of(&small()));
    assert_eq!(forwards, report_of(&small().into_iter().rev().collect::<Vec<_>>()));
}

#[test]
fn the_machine_is_described_but_not_named() {
    let report = report_of(&small());
    assert!(report.markdown.contains("Some CPU @ 2.00GHz"));
    assert!(!report.markdown.contains("a-secret-name") && !report.csv.contains("a-secret-name"));
}

#[test]
fn every_line_of_a_table_is_as_wide_as_its_title() {
    let mut wide = finished(123_456_789, 2, 1.0);
    wide.phases = phases(Some(1e12), 0.001);
    let text = results_table(&[finished(1, 1, 0.05), wide]);
    let lines: Vec<&str> = text.lines().collect();
    // Title, rule, two runs, their mean.
    assert_eq!(lines.len(), 5);
    let gaps = lines[1].char_indices().filter(|(_, c)| *c == ' ').map(|(i, _)| i);
    for gap in gaps {
        for line in &lines {
            assert_eq!(line.chars().nth(gap), Some(' '), "column {gap} of {line:?}");
        }
    }
    assert!(lines.iter().all(|line| line.chars().count() == lines[1].len()), "{text}");
}

#[test]
fn a_cell_cannot_break_the_markdown_table() {
    let page = report_of(&small()).markdown;
    let line = page.lines().find(|line| line.contains("the loss became NaN")).unwrap();
    let bars = line.replace("\\|", "").matches('|').count();
    assert_eq!(bars, 7, "{line}");
    assert!(line.contains("learning_rate \\| \\`clip_norm\\`, \\<b>helps\\</b>"), "{line}");
}

#[test]
fn runs_of_other_settings_are_not_averaged() {
    let mut other = finished(2, 2, 0.9);
    other.manifest.text = other.manifest.text.replace("epochs = 2", "epochs = 3");
    let mean = |runs: &[RunRow]| results_table(runs).contains("mean");
    assert!(!mean(&[finished(1, 1, 0.8), other.clone()]));
    assert!(mean(&[finished(1, 1, 0.8), other, finished(3, 3, 0.8)]));
    assert!(!mean(&[finished(1, 1, 0.8), finished(2, 1, 0.8)]));
}

#[test]
fn a_mean_counts_each_seed_once_and_says_so() {
    let runs = [finished(1, 1, 0.1), finished(2, 1, 0.8), finished(3, 2, 0.9)];
    let page = report_of(&runs).markdown;
    // Mean and sd of 80 and 90, by hand.
    assert!(page.contains("mean ± sd, n = 2 | 85.00 ± 7.07 |"), "{page}");
    assert!(page.contains("run more than once counts by its last run: the mean is of runs 2, 3."));
}

#[test]
fn a_mean_over_machines_is_marked() {
    let mut other = finished(2, 2, 0.9);
    other.environment.threads = 1;
    let marked =
        |other| report_of(&[finished(1, 1, 0.8), other]).markdown.contains("not of one kind");
    assert!(marked(other.clone()));
    other.environment = Environment { host: "elsewhere".to_owned(), ..environment() };
    assert!(!marked(other));
}

#[test]
fn the_papers_space_reproduces_its_growth() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/spaces/fbnetv2_f.toml");
    let mut run = finished(1, 1, 0.8);
    run.manifest.space_text = std::fs::read_to_string(path).unwrap();
    let page = report_of(&[run]).markdown;
    let c1 = page.lines().find(|line| line.contains("C1: ")).unwrap();
    for part in ["14 orders of magnitude (abstract)", "10^14.6 combinations", "| reproduced"] {
        assert!(c1.contains(part), "{c1}");
    }
    assert!(!page.contains("C2"), "{page}");
}

#[test]
fn files_are_written_whole_and_named_for_their_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/reports");
    let runs: Vec<RunRow> = small().into_iter().chain([odd()]).collect();
    let written = write(&runs, &measurements, &out, COMMAND).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let odd = "odd=7Cname=2C=20=22quoted=22=2F..=2F_x_";
    let csv_and_md = [format!("{odd}.csv"), format!("{odd}.md")];
    let small = ["small-search.svg", "small.csv", "small.md"].map(str::to_owned);
    assert_eq!(names, csv_and_md.into_iter().chain(small).collect::<Vec<_>>());
    assert_eq!(written.len(), names.len());
    for report in
        build(&runs, &measurements, COMMAND).unwrap().iter().filter(|r| r.experiment == "small")
    {
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(read("small.md"), report.markdown);
        assert_eq!(read("small.csv"), report.csv);
        assert_eq!(Some(read("small-search.svg")), report.figure);
        assert!(report.markdown.contains("(small-search.svg)"));
    }
}

#[test]
fn a_report_that_cannot_be_made_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.md"), "old").unwrap();
    let unreadable = |id| if id == 5 { anyhow::bail!("disk on fire") } else { Ok(vec![]) };
    let error = write(&small(), &unreadable, folder.path(), COMMAND).unwrap_err();
    assert_eq!(format!("{error:#}"), "cannot read the measurements of run 5: disk on fire");
    assert_eq!(std::fs::read_to_string(folder.path().join("small.md")).unwrap(), "old");

    std::fs::create_dir(folder.path().join("small.csv")).unwrap();
    let error = write(&small(), &measurements, folder.path(), COMMAND).unwrap_err();
    assert!(format!("{error:#}").starts_with("cannot write "), "{error:#}");
    assert_eq!(std::fs::read_to_string(folder.path().join("small.md")).unwrap(), "old");
    let left = std::fs::read_dir(folder.path()).unwrap();
    assert!(left.map(|e| e.unwrap().file_name()).all(|n| !n.to_string_lossy().contains("partial")));
}

#[test]
fn runs_are_selected_by_experiment_and_by_id() {
    let all = || small().into_iter().chain([odd()]).collect::<Vec<_>>();
    let ids = |experiments: &[&str], ids: &[i64]| -> Result<Vec<i64>, String> {
        let experiments: Vec<String> = experiments.iter().map(|name| (*name).to_owned()).collect();
        let selected = report::select(all(), &experiments, ids).map_err(|e| e.to_string())?;
        Ok(selected.iter().map(|run| run.id).collect())
    };
    assert_eq!(ids(&[], &[]), Ok(vec![1, 2, 3, 4, 5, i64::MAX]));
    assert_eq!(ids(&[], &[4, 2]), Ok(vec![2, 4]));
    assert_eq!(ids(&["small"], &[i64::MAX]), Ok(vec![1, 2, 3, 4, 5, i64::MAX]));
    let error = ids(&["smal"], &[]).unwrap_err();
    assert_eq!(error, "no run of experiment \"smal\"; did you mean \"small\"?");
    assert_eq!(ids(&[], &[9]).unwrap_err(), "there is no run 9");
}

#[test]
fn no_runs_make_no_files() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(write(&[], &measurements, folder.path(), COMMAND).unwrap().len(), 0);
    assert_eq!(results_table(&[]), "no runs\n");
}

/// A run of a method, of which [`tests_of`] knows two trainings that differ by two points.
fn by(method: &str, id: i64, seed: u64, top1: f64) -> RunRow {
    RunRow { method: method.to_owned(), ..finished(id, seed, top1) }
}

fn comparison_of(runs: &[RunRow]) -> String {
    let tests_of = |id: i64| {
        let top1 = runs
            .iter()
            .find(|run| run.id == id)
            .map_or(0.0, |run| run.result.as_ref().map_or(0.0, |result| result.test_top1));
        let test = |step, value| Measurement { metric: Metric::TEST_TOP1, step, value };
        Ok(vec![test(0, top1 - 0.01), test(1, top1 + 0.01)])
    };
    let reports = build(runs, &tests_of, COMMAND).unwrap();
    let page = &reports[0].markdown;
    let (_, after) = page.split_once("## Comparison of methods").unwrap_or_default();
    after.split("## The paper's claims").next().unwrap_or_default().to_owned()
}

/// Random draws at 70, 71 and 73 % and three methods around them.
fn compared() -> Vec<RunRow> {
    let random = [0.70, 0.71, 0.73];
    // Differences by seed, in points: +5 ± 1, -5 ± 1, and +1 ± 4.
    let others = [
        ("dmasking", [0.05, 0.06, 0.04]),
        ("evolution", [-0.05, -0.06, -0.04]),
        ("rs_ws", [0.01, 0.05, -0.03]),
    ];
    let baseline = (1..).zip(random).map(|(seed, top1)| by("random", seed as i64, seed, top1));
    let others = (1..).zip(others).flat_map(|(i, (method, differences))| {
        (1..).zip(random.into_iter().zip(differences)).map(move |(seed, (top1, difference))| {
            by(method, 10 * i + seed as i64, seed, top1 + difference)
        })
    });
    baseline.chain(others).collect()
}

#[test]
fn a_comparison_says_what_can_be_concluded() {
    insta::assert_snapshot!("comparison_md", comparison_of(&compared()));
}

#[test]
fn a_verdict_needs_an_interval_without_zero() {
    let section = comparison_of(&compared());
    let verdict = |method: &str| {
        let found = section.lines().find(|line| line.starts_with(&format!("- {method} ")));
        found.unwrap_or_default().split(':').next().unwrap_or_default().to_owned()
    };
    assert_eq!(verdict("dmasking"), "- dmasking is better than random");
    assert_eq!(verdict("evolution"), "- evolution is worse than random");
    assert_eq!(verdict("rs_ws"), "- rs_ws cannot be told from random");
    // By hand: 4.302653 · 1/√3 around 5 points.
    assert!(section.contains("+2.52 to +7.48"), "{section}");
    assert!(section.contains("The manifest sets no budget"));
}

#[test]
fn the_best_of_several_draws_is_a_baseline_too_and_one_network_is_one_measurement() {
    let best = [(1, 0.705), (2, 0.72), (3, 0.735)];
    let best = best.map(|(seed, top1)| by("random_search", 40 + seed, seed as u64, top1));
    let twice = by("rs_ws", 51, 1, 0.70 - 0.05);
    let runs: Vec<RunRow> = compared().into_iter().chain(best).chain([twice]).collect();
    let section = comparison_of(&runs);
    for baseline in ["random", "random_search"] {
        let verdict = format!("\n- dmasking is better than {baseline}: ");
        assert!(section.contains(&verdict), "{section}");
    }
    assert!(section.contains("\n- random_search cannot be told from random: "), "{section}");
    assert!(!section.contains("random_search cannot be told from random_search"), "{section}");
    let note = "- evolution and rs_ws found the same network with seed 1";
    assert!(section.contains(note), "{section}");
}

#[test]
fn differences_are_of_the_seeds_that_both_have_by_their_last_runs() {
    let mut runs = compared();
    runs.retain(|run| !(run.method == "random" && run.seed == 2));
    // Seed 1 of dmasking again, and of a run that says nothing.
    runs.push(by("dmasking", 99, 1, 0.9));
    runs.push(RunRow { status: RunStatus::Failed, ..by("dmasking", 100, 3, 0.1) });
    let section = comparison_of(&runs);
    let row = section.lines().filter(|line| line.starts_with("| dmasking ")).nth(1).unwrap();
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    // (20 + 4) / 2 points.
    assert_eq!((cells[3], cells[4], cells[9]), ("2", "+12.00", "1, 3, 13, 99"), "{row}");
}

#[test]
fn seeds_without_a_result_are_named_with_what_became_of_them() {
    let mut runs = compared();
    assert!(!comparison_of(&runs).contains("has no result"));
    for run in &mut runs {
        match run.id {
            12 => run.status = RunStatus::Failed,
            23 => run.status = RunStatus::Interrupted,
            _ => {}
        }
    }
    runs.retain(|run| run.id != 33);
    // What was begun again and has finished lacks nothing, and other settings are nobody's seeds.
    runs.push(RunRow { status: RunStatus::Failed, ..by("random", 98, 1, 0.1) });
    let mut other = RunRow { status: RunStatus::Failed, ..by("random", 99, 7, 0.1) };
    other.manifest.text = other.manifest.text.replace("epochs = 2", "epochs = 3");
    runs.push(other);
    let section = comparison_of(&runs);
    for note in [
        "- dmasking has no result for seed 2 (run 12 failed), ",
        "- evolution has no result for seed 3 (run 23 interrupted), ",
        "- rs_ws has no result for seed 3 (not begun), ",
    ] {
        assert!(section.contains(note), "{section}");
    }
    assert_eq!(section.matches("has no result").count(), 3, "{section}");
}

#[test]
fn unequal_search_compute_stands_beside_the_difference() {
    let mut runs = compared();
    for run in &mut runs {
        let macs = match run.method.as_str() {
            "random" => 0,
            "evolution" => 1_050,
            "dmasking" => 2_000,
            _ => 1_000,
        };
        run.phases[0].usage.as_mut().unwrap().macs = Some(macs);
        if run.method == "rs_ws" {
            "random_search".clone_into(&mut run.method);
        }
    }
    let section = comparison_of(&runs);
    let times = |method: &str, baseline: &str| {
        let row = format!("| {method} | {baseline} |");
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let row = section.lines().map(squeeze).find(|line| line.starts_with(&row)).unwrap();
        row.split('|').map(str::trim).nth(8).unwrap().to_owned()
    };
    assert_eq!(times("dmasking", "random_search"), "2.00");
    assert_eq!(times("evolution", "random_search"), "1.05");
    assert_eq!(times("dmasking", "random"), "–");
    let note = "- Search MACs differ by more than a tenth: dmasking 2.00 times those of random_search. \
                More search compute is not told apart from a better method.";
    assert!(section.contains(note), "{section}");
}

#[test]
fn how_much_the_budget_decided_is_said_of_each_method() {
    let runs = [by("random", 1, 1, 0.5), by("dmasking", 2, 1, 0.6), by("dmasking", 3, 2, 0.6)];
    let measured = |id: i64| {
        let changed = value(Metric::SEARCH_BUDGET_CHANGED, 0, id as f64);
        let macs = value(Metric::SEARCH_BUDGET_MACS_UNCONSTRAINED, 0, 1e6 * id as f64);
        Ok(if id > 1 { vec![changed, macs] } else { vec![] })
    };
    let page = &build(&runs, &measured, COMMAND).unwrap()[0].markdown;
    let note = "The likeliest options of dmasking together have 2.50 M MACs; to keep to the budget, \
                2.5 decisions of a network are others";
    assert!(page.contains(note) && page.matches("The likeliest options").count() == 1, "{page}");
}

#[test]
fn only_claims_that_the_runs_bear_on_are_shown() {
    let none = "These runs bear on none of them";
    let page = report_of(&[by("random", 1, 1, 0.5)]).markdown;
    assert!(page.contains(none) && !page.contains("| C1"), "{page}");
    // A small space for other data refutes nothing.
    let page = report_of(&[finished(1, 1, 0.8)]).markdown;
    assert!(page.contains(none) && !page.contains("| C1"), "{page}");
}

#[test]
fn runs_of_other_settings_are_told_apart_by_key() {
    let mut runs = [by("random", 1, 1, 0.5), by("random", 2, 2, 0.6), by("random", 3, 1, 0.7)];
    runs[2].manifest.text = runs[2].manifest.text.replace("epochs = 2", "epochs = 3");
    let page = report_of(&runs).markdown;
    let note =
        "\nThe settings of run 3 are not those of runs 1, 2: search.epochs = 3 instead of 2.\n";
    assert!(page.contains(note), "{page}");
    assert_eq!(report_of(&runs[..2]).markdown.matches("The settings of").count(), 0);
}

#[test]
fn the_csv_has_every_training() {
    let runs = [by("random", 1, 1, 0.82), by("random", 2, 2, 0.73)];
    let tests = tests_of(&[(1, &[0.80, 0.84]), (2, &[])]);
    let records = records(&build(&runs, &tests, COMMAND).unwrap()[0].csv);
    let column: Vec<&str> = records.iter().map(|r| &r["test_top1_of_trainings"][..]).collect();
    assert_eq!(column, ["0.8;0.84", ""]);
}

#[test]
fn other_settings_are_another_comparison_and_seeds_and_the_method_are_none() {
    let mut runs = vec![by("random", 1, 1, 0.5), by("dmasking", 2, 1, 0.6)];
    runs[1].manifest.text = runs[1].manifest.text.replace("epochs = 2", "epochs = 3");
    assert_eq!(comparison_of(&runs), "");
    let mut runs = vec![by("random", 1, 1, 0.5), by("dmasking", 2, 1, 0.6)];
    runs[1].manifest.text =
        "name = \"small\"\nseeds = [7]\n[search]\nmethod = \"dmasking\"\nepochs = 2\n".to_owned();
    assert!(comparison_of(&runs).contains("1 seed has no interval"));
}

fn value(metric: Metric, step: u64, value: f64) -> Measurement {
    Measurement { metric, step, value }
}

/// The test accuracies of the trainings of these runs.
fn tests_of(
    top1s: &'static [(i64, &'static [f64])],
) -> impl Fn(i64) -> anyhow::Result<Vec<Measurement>> {
    move |id| {
        let (_, top1s) = top1s.iter().find(|(of, _)| *of == id).unwrap();
        Ok((0..).zip(*top1s).map(|(i, top1)| value(Metric::TEST_TOP1, i, *top1)).collect())
    }
}

#[test]
fn the_deviation_between_trainings_is_the_root_of_the_mean_variance() {
    let runs = [by("random", 1, 1, 0.82), by("random", 2, 2, 0.73), by("dmasking", 3, 1, 0.75)];
    let tests = tests_of(&[(1, &[0.80, 0.84]), (2, &[0.70, 0.76]), (3, &[0.75])]);
    let page = &build(&runs, &tests, COMMAND).unwrap()[0].markdown;
    let cells = |method: &str| -> Vec<String> {
        let (_, section) = page.split_once("## Comparison of methods").unwrap();
        let row = section.lines().find(|line| line.starts_with(&format!("| {method} "))).unwrap();
        row.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    // The variances are 0.0008 and 0.0018; one training has none.
    assert_eq!(cells("random")[2..6], ["2", "4", "77.50 ± 6.36", "3.61"]);
    assert_eq!(cells("dmasking")[2..6], ["1", "1", "75.00", "–"]);
}

#[test]
fn the_compute_of_a_run_is_its_search_and_one_of_its_trainings() {
    let executing = |mut run: RunRow, search: u64, train: u64| {
        run.phases.iter_mut().zip([search, train]).for_each(|(row, macs)| {
            row.usage.as_mut().unwrap().macs = Some(macs);
        });
        run
    };
    // 4e8 + 12e8 / 2, 1e10, and 4e10 + 18e10 / 3: powers of ten, one from the next.
    let runs = [
        executing(by("random", 1, 1, 0.5), 400_000_000, 1_200_000_000),
        executing(by("dmasking", 2, 1, 0.6), 0, 10_000_000_000),
        executing(by("darts", 3, 1, 0.7), 40_000_000_000, 180_000_000_000),
    ];
    let tests = tests_of(&[(1, &[0.5, 0.5]), (2, &[0.6]), (3, &[0.7, 0.7, 0.7])]);
    let picture = &build(&runs, &tests, COMMAND).unwrap()[0].compute_figures[0];
    let dots = picture.lines().filter(|line| line.starts_with("<circle"));
    let xs: Vec<f64> = dots.map(|dot| dot.split('"').nth(1).unwrap().parse().unwrap()).collect();
    // Behind the runs' dots come those of the legend.
    let [first, second, third, _, _, _] = xs[..] else { panic!("{picture}") };
    assert!(third > first + 100.0, "{xs:?}");
    assert!((second - f64::midpoint(first, third)).abs() < 0.11, "{xs:?}");
}

#[test]
fn runs_that_ranked_with_the_same_weights_are_one_measurement() {
    let runs = [
        by("rs_ws", 1, 1, 0.5),
        by("evolution", 2, 1, 0.5),
        by("dmasking", 3, 1, 0.5),
        by("random", 4, 1, 0.5),
        by("rs_ws", 5, 2, 0.5),
    ];
    let ranked = |id: i64| {
        let shared = match id {
            1 | 2 | 5 => [0.1, 0.2, 0.3],
            3 => [0.3, 0.2, 0.1],
            _ => return Ok(vec![]),
        };
        let pairs = (0..).zip(shared.into_iter().zip([0.4, 0.5, 0.6]));
        let pair = |(i, (shared, alone))| {
            [value(Metric::RANK_SHARED_TOP1, i, shared), value(Metric::RANK_ALONE_TOP1, i, alone)]
        };
        Ok(pairs.flat_map(pair).collect())
    };
    let report = &build(&runs, &ranked, COMMAND).unwrap()[0];
    let (_, section) = report.markdown.split_once("## Rank correlation").unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.contains("| 3 |") || line.contains(" 3 |"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let rows: Vec<[&str; 4]> = rows.iter().map(|r| [r[1], r[2], r[4], r[6]]).collect();
    let expected = [
        ["rs_ws, evolution", "1", "1.00", "1, 2"],
        ["dmasking", "1", "-1.00", "3"],
        ["rs_ws", "2", "1.00", "5"],
    ];
    assert_eq!(rows, expected);
    // Of those with the same networks and the same seed.
    let differences: Vec<&str> = section.lines().filter(|line| line.starts_with("- τ-b")).collect();
    let [difference] = differences[..] else { panic!("{section}") };
    let beginning = "- τ-b of runs 1, 2: rs_ws, evolution, seed 1 less that of run 3: dmasking, seed 1: \
                     +2.00, 95 % interval +2.00 to +2.00";
    assert!(difference.starts_with(beginning), "{difference}");
    let picture = report.rank_figure.as_ref().unwrap();
    assert_eq!(picture.matches("<circle").count(), 3 * 3 + 3);
    assert!(picture.contains("runs 1, 2: rs_ws, evolution, seed 1"), "{picture}");
}

#[test]
fn networks_that_diverged_are_said_of_their_run() {
    let measured = |id| {
        let diverged = |step| value(Metric::SEARCH_CANDIDATE_DIVERGED, step, 1.0);
        Ok(if id == 2 { vec![diverged(3), diverged(7)] } else { vec![] })
    };
    let runs = [finished(1, 1, 0.8), finished(2, 2, 0.8)];
    let page = &build(&runs, &measured, COMMAND).unwrap()[0].markdown;
    assert_eq!(page.matches(" diverged").count(), 1);
    let note = "Of the networks that run 2 tried, 2 diverged: each counts as one that guesses.";
    assert!(page.contains(note), "{page}");
}
