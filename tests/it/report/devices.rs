//! Runs on different devices, and in different precisions, are shown apart.

use super::{WRITER, by, finished, measurements, on_gpu, report_of, set, svg, tests_of, value};
use repro::record::Metric;
use repro::report::{build, results_table};
use repro::store::RunRow;
use std::sync::Arc;

const H100: &str = "NVIDIA H100 80GB HBM3";

/// The rows of the results table with a mean: device and number of seeds.
fn means(page: &str) -> Vec<[&str; 2]> {
    let rows = page.lines().filter(|line| line.contains("mean ± sd"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells.map(|cells| [cells[4], cells[5]]).collect()
}

#[test]
fn the_page_names_each_device_with_its_runs() {
    let mut rounded = on_gpu("NVIDIA L4", finished(4, 2, 0.79));
    set(&mut rounded, "seeds = [1]", "seeds = [1]\nprecision = \"tf32\"");
    let runs =
        [finished(1, 1, 0.80), finished(2, 2, 0.81), on_gpu(H100, finished(3, 1, 0.82)), rounded];
    let page = report_of(&runs).markdown();
    let (until_claims, _) = page.split_once("## The paper's claims").unwrap();
    insta::assert_snapshot!("devices_md", until_claims);
}

#[test]
fn runs_on_other_devices_are_not_averaged() {
    let mut second = on_gpu(H100, finished(4, 2, 0.83));
    "cuda:1".clone_into(&mut Arc::make_mut(&mut second.environment).device);
    let runs = [
        finished(1, 1, 0.80),
        finished(2, 2, 0.81),
        on_gpu(H100, finished(3, 1, 0.82)),
        second,
        on_gpu("NVIDIA L4", finished(5, 3, 0.84)),
    ];
    let page = report_of(&runs).markdown();
    let both = "mean ± sd, n = 2";
    assert_eq!(means(&page), [["cpu, f32", both], [&format!("{H100}, f32"), both]]);
    // The numbers of two equal GPUs are no difference.
    assert!(!page.contains("more than one program version or machine"), "{page}");
    for (ids, model) in [("runs 3, 4", H100), ("run 5", "NVIDIA L4")] {
        let note =
            format!("The device of {ids} differs from that of runs 1, 2: {model} instead of cpu.");
        assert!(page.contains(&note), "{page}");
    }
    assert_eq!(page.matches("The device of").count(), 2, "{page}");
    let terminal = results_table(&runs);
    assert!(terminal.contains("NVIDIA L4, f32") && terminal.contains("cpu, f32"), "{terminal}");
    // On one device, the table does not repeat it.
    assert!(!results_table(&runs[..2]).contains("cpu"));
}

#[test]
fn another_driver_is_another_environment() {
    let mut updated = on_gpu(H100, finished(2, 2, 0.82));
    Arc::make_mut(&mut updated.environment).cuda = Some("driver 590.10, toolkit 13.0".to_owned());
    let page = report_of(&[on_gpu(H100, finished(1, 1, 0.80)), updated]).markdown();
    assert!(page.contains("n = 2") && page.contains("times and memory are not comparable"));
    assert!(page.contains("; CUDA driver 590.10, toolkit 13.0 (run 2)"), "{page}");
}

#[test]
fn runs_in_other_precisions_are_not_averaged() {
    let tf32 = |mut run: RunRow| {
        set(&mut run, "seeds = [1]", "seeds = [1]\nprecision = \"tf32\"");
        run
    };
    let runs = [finished(1, 1, 0.80), tf32(finished(2, 2, 0.81))];
    let on_h100 = runs.clone().map(|run| on_gpu(H100, run));
    let page = report_of(&on_h100).markdown();
    let note = "The settings of run 2 differ from those of run 1: precision = \"tf32\" instead of \
                \"f32\".";
    assert!(page.contains(note) && !page.contains("mean ± sd"), "{page}");
    assert_eq!(page.matches(&format!("| {H100}, tf32 ")).count(), 1, "{page}");
    // The CPU does not round.
    let page = report_of(&runs).markdown();
    assert!(page.contains(note) && !page.contains(", tf32"), "{page}");
    assert!(page.contains("- device and precision: cpu, f32 (all runs)"), "{page}");
}

#[test]
fn methods_are_compared_on_one_device() {
    let mut runs = vec![
        by("random", 1, 1, 0.70),
        by("dmasking", 2, 1, 0.75),
        on_gpu(H100, by("dmasking", 3, 1, 0.95)),
    ];
    let tests = tests_of(&[(1, &[0.70]), (2, &[0.75]), (3, &[0.95]), (4, &[0.90])]);
    let sections = |runs: &[RunRow]| -> Vec<String> {
        let page = build(runs, &[], &tests, WRITER).unwrap()[0].markdown();
        page.split("## Comparison of methods").skip(1).map(str::to_owned).collect()
    };
    let [section] = &sections(&runs)[..] else { panic!("not one comparison") };
    assert!(section.contains("Device and precision of all runs: cpu, f32."), "{section}");
    assert!(section.contains(" +5.00 |") && !section.contains("+25.00"), "{section}");
    // With the baseline of the same device there is a second comparison.
    runs.push(on_gpu(H100, by("random", 4, 1, 0.90)));
    let [_, section] = &sections(&runs)[..] else { panic!("not two comparisons") };
    let device = format!("Device and precision of all runs: {H100}, f32.");
    assert!(section.contains(&device) && section.contains(" +5.00 |"), "{section}");
    assert!(!section.contains("more than one program version or machine"), "{section}");
}

#[test]
fn curves_of_many_runs_are_means_over_one_device() {
    let on_cpu = (1..=40).map(|id| finished(id, id as u64, 0.8));
    let others = (41..=70).map(|id| on_gpu(H100, finished(id, id as u64, 0.8)));
    let runs: Vec<RunRow> = on_cpu.chain(others).collect();
    let loss = |id: i64| {
        let loss = if id <= 40 { 1.0 } else { 3.0 };
        Ok(vec![value(Metric::SEARCH_LOSS, 0, loss), value(Metric::SEARCH_LOSS, 1, loss)])
    };
    let report = &build(&runs, &[], &loss, WRITER).unwrap()[0];
    let figure = svg(report, "search");
    for label in ["mean ± sd of 40 runs, first run 1<", "mean ± sd of 30 runs, first run 41<"] {
        assert!(figure.contains(label), "{figure}");
    }
    let report = &build(&runs[..40], &[], &measurements, WRITER).unwrap()[0];
    assert!(!svg(report, "search").contains("first run"));
}
