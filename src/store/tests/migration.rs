//! Databases of earlier versions.

use super::*;
use crate::report;
use crate::study;
use std::collections::BTreeMap;

/// A database that the program wrote at migration 4: four runs of one experiment and a memory
/// study, with what that program reported of them.
const VERSION_4: &str = include_str!("../../../tests/it/fixtures/database_v4.sql");
const REPORT_4: &str = include_str!("../../../tests/it/fixtures/database_v4.csv");
const STUDY_4: &str = include_str!("../../../tests/it/fixtures/database_v4_study.csv");

fn version_4() -> (TempDir, Store) {
    let (folder, path) = folder();
    sql(&path, VERSION_4);
    (folder, Store::open(&path).unwrap())
}

/// The cells of each row by their column.
fn cells(csv: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut lines = csv.lines();
    let titles: Vec<&str> = lines.next().unwrap().split(',').collect();
    // A quoted command is the only cell with commas, and not compared.
    lines.map(|line| titles.iter().copied().zip(line.split(',')).collect()).collect()
}

/// Asserts that all numbers of two reports agree, in the columns that both have.
fn assert_same_numbers(now: &str, before: &str) {
    let (now, before) = (cells(now), cells(before));
    assert_eq!(now.len(), before.len());
    let mut compared = 0;
    for (now, before) in now.iter().zip(&before) {
        for (title, cell) in before.iter().filter(|(_, cell)| cell.parse::<f64>().is_ok()) {
            if let Some(own) = now.get(title) {
                assert_eq!(own, cell, "{title}");
                compared += 1;
            }
        }
    }
    assert!(compared > 10 * before.len(), "only {compared} cells");
}

#[test]
fn reports_of_a_migrated_database_have_the_same_numbers() {
    let (_folder, store) = version_4();
    let runs = store.runs().unwrap();
    assert_eq!(runs.damaged, []);
    let (of_study, of_runs): (Vec<_>, Vec<_>) =
        runs.rows.into_iter().partition(|run| run.settings.kind == ExperimentKind::MemoryStudy);
    let measurements_of = |id| Ok(store.measurements(id)?);
    let writer = report::Writer { command_line: "repro report", program: "0.1.0" };
    let reports = report::build(&of_runs, &[], &measurements_of, writer).unwrap();
    assert_same_numbers(&reports[0].csv().unwrap(), REPORT_4);
    let points_of = |id| Ok(store.scaling_points(id)?);
    let (pages, others) = study::report::study_pages(&of_study, &points_of, writer).unwrap();
    assert!(others.is_empty());
    assert_same_numbers(&pages[0].csv().unwrap(), STUDY_4);
}

#[test]
fn settings_of_earlier_manifests_are_filled_in() {
    let (_folder, store) = version_4();
    let run = |id| store.run(id).unwrap();
    let budget = run(11).settings.budget.clone().unwrap();
    assert_eq!((&*budget.objective, budget.bound), ("macs", 2e5));
    assert_eq!((budget.tolerance, budget.above), (0.05, 0.0));
    assert_eq!(run(1).settings.budget, None);
    // One file with another method chosen on the command line; other settings.
    assert_eq!(run(1).settings, run(6).settings);
    assert_ne!(run(1).manifest.sha256, run(6).manifest.sha256);
    assert_ne!(run(1).settings.sha256, run(11).settings.sha256);
    assert_eq!(run(1).settings.values["search.epochs"], 4);
    assert_eq!(run(30).settings.kind, ExperimentKind::MemoryStudy);
    assert_eq!(run(1).data, None);
    let path = &store.database.path;
    assert_eq!(value::<i64>(path, "SELECT count(*) FROM manifests WHERE kind IS NULL"), 0);
}

#[test]
fn an_invalid_budget_does_not_stop_the_migration() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    for (id, [bound, tolerance, above]) in (1..).zip([
        ["2e5", "2", "0"],
        ["-1", "0.1", "0"],
        ["2e5", "0.1", "-0.5"],
        ["nan", "0", "0"],
    ]) {
        let mut run = new_run();
        run.manifest.text =
            format!("[search.budget]\nmacs = {bound}\ntolerance = {tolerance}\nabove = {above}");
        run.manifest.sha256 = format!("{id:064}");
        drop(store.begin(&run).unwrap());
        sql(&path, "UPDATE manifests SET kind = NULL");
        let mut transactor = Transactor::new(Database::at(&path).unwrap()).unwrap();
        transactor.write(async |connection| manifests::fill_settings(connection).await).unwrap();
        assert_eq!(store.run(id).unwrap().settings.budget, None);
    }
}

#[test]
fn a_run_with_new_settings_matches_an_earlier_one() {
    let (_folder, store) = version_4();
    let mut new = new_run();
    new.manifest = (*store.run(2).unwrap().manifest).clone();
    new.manifest.text = format!("# another comment\n{}", new.manifest.text);
    new.manifest.sha256 = "f".repeat(64);
    drop(store.begin(&new).unwrap());
    let runs = store.runs().unwrap().rows;
    assert_eq!(runs.last().unwrap().settings, runs[1].settings);
}

#[test]
fn a_database_of_the_first_version_is_migrated() {
    let (_folder, path) = folder();
    Store::open(&path).unwrap();
    let tables = "scaling_points final_resolutions results final_probabilities final_choices \
                  measurements phases attempts runs architectures environments manifests";
    let drops: String =
        tables.split(' ').map(|table| format!("DROP TABLE {table}; ")).collect::<String>();
    let first = include_str!("../../../migrations/0001_runs.sql");
    let rows = format!(
        "INSERT INTO manifests VALUES ('{0}', 'x', 'epochs = 2', 's', '', '9', 1.0);
         INSERT INTO environments VALUES (1, '', NULL, NULL, '', '', '', '', '', '', 1, 0, 1, 'cpu');
         INSERT INTO runs VALUES (1, '{0}', 'dmasking', 'cifar10', 1);
         INSERT INTO attempts VALUES (1, 1, 1, '', 'interrupted', NULL, 5.0, 9.0, 9.0, 1, NULL, NULL,
                                      NULL);
         INSERT INTO phases VALUES (1, 1, 'data', 5.0, 0.5, 100, 0),
                                   (1, 1, 'search', 6.0, 2.5, 1000, 64),
                                   (1, 1, 'derive', 7.0, NULL, NULL, NULL);
         INSERT INTO measurements VALUES (1, 1, 'search.loss', 0, 2.5), (1, 1, 'cost.macs', 0, 7.0);",
        "a".repeat(64)
    );
    let old = "DELETE FROM _sqlx_migrations WHERE version > 1; DROP VIEW last_attempts;";
    sql(&path, &format!("{old} {drops} {first} {rows}"));
    let store = Store::open(&path).unwrap();
    let usage = |seconds, peak_bytes, images| {
        Some(PhaseUsage { seconds, peak_bytes, images, macs: None, architectures: None })
    };
    let phases = [
        (Phase::Data, usage(0.5, 100, 0)),
        (Phase::Search, usage(2.5, 1000, 64)),
        (Phase::Derive, None),
    ];
    let run = store.run(1).unwrap();
    assert_eq!(run.phases, phases.map(|(phase, usage)| PhaseRow { phase, usage }));
    assert_eq!(run.settings.values["epochs"], 2);
    assert_eq!((run.environment.device.as_str(), run.precision()), ("cpu", "f32"));
    assert_eq!((&run.environment.gpu, &run.environment.cuda), (&None, &None));
    // `cost.macs` is no metric any more: it is a column of the architecture.
    let loss = Measurement { metric: Metric::SEARCH_LOSS, step: 0, value: 2.5 };
    assert_eq!(store.measurements(1).unwrap(), [loss]);
    assert_eq!(value::<i64>(&path, "SELECT count(*) FROM _sqlx_migrations"), 9);
    let mut recorder = store.begin(&new_run()).unwrap();
    recorder.phase_started(Phase::Rank).unwrap();
    recorder.interrupt().unwrap();
}
