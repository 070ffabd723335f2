//! Exhaustive tables, and searches whose networks are looked up in them: invented accuracies of the 40 networks of a
//! tiny space.

use super::{WRITER, environment, finished, measurements, phases, report_of};
use repro::cost;
use repro::report::{Page, build};
use repro::space::{ArchSpec, parse_space};
use repro::store::{ArchitectureRow, ManifestRecord, RunRow, RunStatus, Settings};
use std::path::Path;
use std::sync::Arc;

const SPACE: &str = r#"
name = "tiny"
channel_divisor = 4
types = ["k3_hswish", "k5_hswish_se", "skip"]
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
stride = 2
expansion = [2, 4]
width = [8, 12, 16, 20]
[[stage]]
blocks = 1
stride = 1
expansion = 2
width = 8
types = ["k3_hswish", "skip"]
[head]
width = 64
activation = "hswish"
"#;

fn networks() -> Vec<ArchSpec> {
    parse_space(SPACE, Path::new("tiny.toml")).unwrap().networks(1000).unwrap()
}

fn row(experiment: &str, text: String, arch: &ArchSpec, id: i64, seed: u64) -> RunRow {
    let cost = cost::count(arch);
    let manifest = ManifestRecord {
        sha256: format!("{id:064x}"),
        name: experiment.to_owned(),
        space_name: "tiny".to_owned(),
        space_text: SPACE.to_owned(),
        space_candidates: "40".to_owned(),
        space_log10: 40_f64.log10(),
        text,
    };
    RunRow {
        experiment: experiment.to_owned(),
        settings: Arc::new(Settings::of(&manifest.text, SPACE)),
        manifest: Arc::new(manifest),
        architecture: Some(ArchitectureRow {
            id: arch.id(),
            arch: Arc::new(arch.clone()),
            macs: cost.macs,
            params: cost.params,
            probabilities: Vec::new(),
            resolutions: Vec::new(),
        }),
        environment: Arc::new(environment()),
        ..finished(id, seed, 0.0)
    }
}

/// A run of the table: network `number` with this accuracy.
fn of_table(number: usize, seed: u64, top1: f64) -> RunRow {
    let id = 100 * seed as i64 + number as i64;
    let text = format!("name = 'table'\n[table]\nnetwork = {number}\n[train]\nepochs = 3\n");
    let mut run = row("table", text, &networks()[number], id, seed);
    "given".clone_into(&mut run.method);
    run.result.as_mut().unwrap().test_top1 = top1;
    run
}

/// A table of two seeds: accuracy grows with the number of the network, and `noise` of each seed is added.
fn table(noise: fn(usize, u64) -> f64) -> Vec<RunRow> {
    let top1 = |number, seed| 0.5 + 0.01 * number as f64 + noise(number, seed);
    let seeds = [1, 2].into_iter();
    let of_seed = |seed| (0..networks().len()).map(move |n| of_table(n, seed, top1(n, seed)));
    seeds.flat_map(of_seed).collect()
}

fn quiet(number: usize, seed: u64) -> f64 {
    if number.is_multiple_of(5) && seed == 2 { -0.015 } else { 0.0 }
}

/// A finished search that derived this network.
fn search(id: i64, method: &str, seed: u64, epochs: usize, number: usize) -> RunRow {
    let text = format!(
        "name = 'judge'\n[search]\nepochs = {epochs}\n[search.table]\nexperiment = 'table'\n"
    );
    let mut run = row("judge", text, &networks()[number], id, seed);
    method.clone_into(&mut run.method);
    run.phases = phases(Some(10.0), 1.0);
    run.phases.pop();
    run.result = None;
    run
}

fn searches() -> Vec<RunRow> {
    let last = networks().len() - 1;
    let good = [last, last - 1, last];
    let bad = [3, 1, 4];
    let of = |method: &'static str, first: i64, epochs, found: [usize; 3]| {
        (0..).zip(found).map(move |(i, n)| search(first + i, method, i as u64 + 1, epochs, n))
    };
    let one = of("dmasking", 1, 10, good).chain(of("random", 4, 10, bad));
    one.chain(of("dmasking", 7, 100, [last; 3])).collect()
}

fn report(runs: &[RunRow], tables: &[RunRow]) -> Page {
    build(runs, tables, &measurements, WRITER).unwrap().remove(0)
}

#[test]
fn a_table_describes_itself() {
    let page = report_of(&table(quiet)).markdown();
    insta::assert_snapshot!("table_md", page);
    assert!(!page.contains("## Results") && !page.contains("## Architectures"), "{page}");
}

#[test]
fn a_table_is_written_as_csv() {
    let mut runs = table(quiet);
    runs.remove(0);
    insta::assert_snapshot!("table_csv", report_of(&runs).csv().unwrap());
}

#[test]
fn derived_networks_are_looked_up() {
    insta::assert_snapshot!("judged_md", report(&searches(), &table(quiet)).markdown());
}

#[test]
fn missing_networks_are_named() {
    let mut runs = table(quiet);
    let missing = [of_table(23, 2, 0.0).id, of_table(3, 1, 0.0).id];
    for run in &mut runs {
        if missing.contains(&run.id) {
            run.status = RunStatus::Failed;
            run.result = None;
        }
    }
    let page = report_of(&runs).markdown();
    let note = "2 runs are missing (seed 1: network 3; seed 2: network 23).";
    assert!(page.contains(note) && page.contains("## Unfinished runs"), "{page}");

    let page = report(&searches(), &runs).markdown();
    let note = "1 of 3 networks that random derived are not in the table";
    assert!(page.contains(note) && page.contains("within the budget: run 4."), "{page}");
}

#[test]
fn a_noisy_table_ranks_nothing() {
    let noise =
        |number: usize, seed| if seed == 2 { 0.02 * (number as f64 - 20.0).abs() } else { 0.0 };
    let page = report(&searches(), &table(noise)).markdown();
    assert!(page.contains("The table is too noisy to rank methods"), "{page}");
    assert!(!page.contains("By mean regret") && !page.contains("significantly"), "{page}");
    let one: Vec<RunRow> = table(noise).into_iter().filter(|run| run.seed == 1).collect();
    let page = report(&searches(), &one).markdown();
    assert!(page.contains("The noise of the table is unknown"), "{page}");
    assert!(!page.contains("By mean regret") && !page.contains("significantly"), "{page}");
}

#[test]
fn only_networks_within_the_budget_count() {
    let all = networks();
    let mut macs: Vec<u64> = all.iter().map(|arch| cost::count(arch).macs).collect();
    macs.sort_unstable();
    let bound = macs[macs.len() / 2];
    let within = |arch: &ArchSpec| cost::count(arch).macs <= bound;
    let best = all.iter().rposition(within).unwrap();
    let budget = format!("[search.budget]\nmacs = {bound}\ntolerance = 0.9\n");
    let mut runs = vec![search(1, "dmasking", 1, 10, best), search(2, "dmasking", 2, 10, best)];
    for run in &mut runs {
        Arc::make_mut(&mut run.manifest).text += &budget;
        run.settings = Arc::new(Settings::of(&run.manifest.text, SPACE));
    }
    let page = report(&runs, &table(|_, _| 0.0)).markdown();
    let line = page.lines().find(|line| line.starts_with("| within the budget")).unwrap();
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    assert_eq!(
        (cells[2], cells[7]),
        (&all.iter().filter(|a| within(a)).count().to_string()[..], &best.to_string()[..])
    );
    assert!(page.contains("2 of 2 |"), "{page}");
}

#[test]
fn other_settings_and_absent_tables_are_named() {
    let mut runs = table(quiet);
    let mut other = of_table(0, 1, 0.9);
    other.id = 1000;
    Arc::make_mut(&mut other.manifest).text =
        other.manifest.text.replace("epochs = 3", "epochs = 1");
    other.settings = Arc::new(Settings::of(&other.manifest.text, SPACE));
    runs.push(other);
    let page = report_of(&runs).markdown();
    assert!(page.contains("Other settings, data or device, left out: run 1000."), "{page}");
    let page = report(&searches(), &[]).markdown();
    assert!(page.contains("The database has no finished run of this table"), "{page}");
}
