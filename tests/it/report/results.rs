//! The results table: which runs are averaged, and which are selected.

use super::{by, environment, finished, odd, phases, report_of, set, small};
use repro::env::Environment;
use repro::record::DataFingerprint;
use repro::report::{self, results_table};
use repro::store::RunRow;
use std::sync::Arc;

#[test]
fn the_terminal_shows_the_same_table() {
    let runs: Vec<RunRow> = small().into_iter().chain([odd()]).collect();
    insta::assert_snapshot!("terminal", results_table(&runs));
}

#[test]
fn every_line_of_a_table_is_equally_wide() {
    let mut wide = finished(123_456_789, 2, 1.0);
    wide.phases = phases(Some(1e12), 0.001);
    let text = results_table(&[finished(1, 1, 0.05), wide]);
    let lines: Vec<&str> = text.lines().collect();
    // Headings, two runs, their mean.
    assert_eq!(lines.len(), 4);
    let width = lines[0].chars().count();
    assert!(lines.iter().all(|line| line.chars().count() == width), "{text}");
}

#[test]
fn runs_of_other_settings_are_not_averaged() {
    let mut other = finished(2, 2, 0.9);
    set(&mut other, "epochs = 2", "epochs = 3");
    let mean = |runs: &[RunRow]| results_table(runs).contains("mean");
    assert!(!mean(&[finished(1, 1, 0.8), other.clone()]));
    assert!(mean(&[finished(1, 1, 0.8), other, finished(3, 3, 0.8)]));
    assert!(!mean(&[finished(1, 1, 0.8), finished(2, 1, 0.8)]));
}

#[test]
fn a_mean_counts_each_seed_once() {
    let runs = [finished(1, 1, 0.1), finished(2, 1, 0.8), finished(3, 2, 0.9)];
    let page = report_of(&runs).markdown();
    // Mean and sd of 80 and 90, by hand.
    assert!(page.contains("mean ± sd, n = 2 | 85.00 ± 7.07 |"), "{page}");
    assert!(
        page.contains("run more than once counts by its last run: the mean is over runs 2, 3.")
    );
}

#[test]
fn a_mean_over_machines_is_marked() {
    let mut other = finished(2, 2, 0.9);
    Arc::make_mut(&mut other.environment).threads = 1;
    let marked = |other| {
        report_of(&[finished(1, 1, 0.8), other])
            .markdown()
            .contains("times and memory are not comparable")
    };
    assert!(marked(other.clone()));
    other.environment = Arc::new(Environment { host: "elsewhere".to_owned(), ..environment() });
    assert!(!marked(other));
}

#[test]
fn differing_settings_are_named_by_key() {
    let mut runs = [by("random", 1, 1, 0.5), by("random", 2, 2, 0.6), by("random", 3, 1, 0.7)];
    set(&mut runs[2], "epochs = 2", "epochs = 3");
    let page = report_of(&runs).markdown();
    let note =
        "\nThe settings of run 3 differ from those of runs 1, 2: search.epochs = 3 instead of 2.\n";
    assert!(page.contains(note), "{page}");
    assert_eq!(report_of(&runs[..2]).markdown().matches("The settings of").count(), 0);
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
fn runs_on_other_data_are_not_averaged() {
    let on = |id, seed, sha256: &str| {
        let sha256 = sha256.repeat(64);
        let data = Some(DataFingerprint { train_images: 50_000, test_images: 10_000, sha256 });
        RunRow { data, ..finished(id, seed, 0.8) }
    };
    let page = report_of(&[on(1, 1, "a"), on(2, 2, "b"), on(3, 3, "b")]).markdown();
    let note = "\nThe data of runs 2, 3 differ from those of run 1: 50000 training and 10000 test \
                images, fingerprint bbbbbbbbbbbb instead of";
    assert!(page.contains(note) && page.contains("n = 2 |"), "{page}");
    // A run of an earlier version has no fingerprint, and one set of images no differences.
    let page = report_of(&[on(1, 1, "a"), on(2, 2, "a"), finished(3, 3, 0.8)]).markdown();
    assert!(!page.contains("The data of") && page.contains("n = 3 |"), "{page}");
}

#[test]
fn undecided_choices_are_counted() {
    let with = |types: &[f64], widths: &[f64]| {
        let mut run = finished(1, 1, 0.8);
        let found = run.architecture.as_mut().unwrap();
        found.probabilities.truncate(1);
        found.probabilities[0].types = types.to_vec();
        found.probabilities[0].widths = widths.to_vec();
        found.probabilities[0].expansions = vec![1.0];
        let warnings = report::warnings(&run, &[]);
        (found_choices(&run), warnings.iter().any(|warning| warning.contains("undecided")))
    };
    // Two options need 0.75, and five 0.4.
    assert_eq!(with(&[0.76, 0.24], &[0.41, 0.2, 0.2, 0.1, 0.09]), ((2, 0), false));
    assert_eq!(with(&[0.74, 0.26], &[0.41, 0.2, 0.2, 0.1, 0.09]), ((2, 1), true));
    assert_eq!(with(&[0.74, 0.26], &[0.39, 0.2, 0.2, 0.11, 0.1]), ((2, 2), true));
}

/// All choices, and the undecided ones.
fn found_choices(run: &RunRow) -> (usize, usize) {
    let choices = run.architecture.as_ref().unwrap().choices();
    (choices.all, choices.undecided)
}
