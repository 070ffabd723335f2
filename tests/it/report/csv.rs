//! The CSV file: every number is the run's.

use super::{WRITER, by, odd, report_of, small, tests_of};
use repro::record::Phase;
use repro::report::build;
use std::collections::BTreeMap;

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

#[test]
fn the_csv_has_one_row_per_run() {
    insta::assert_snapshot!("small_csv", report_of(&small()).csv().unwrap());
}

#[test]
fn the_csv_has_every_number_of_the_runs() {
    for runs in [small(), vec![odd()]] {
        let records = records(&report_of(&runs).csv().unwrap());
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
fn the_csv_has_every_training_run() {
    let runs = [by("random", 1, 1, 0.82), by("random", 2, 2, 0.73)];
    let tests = tests_of(&[(1, &[0.80, 0.84]), (2, &[])]);
    let records = records(&build(&runs, &[], &tests, WRITER).unwrap()[0].csv().unwrap());
    let column: Vec<&str> = records.iter().map(|r| &r["test_top1_of_training_runs"][..]).collect();
    assert_eq!(column, ["0.8;0.84", ""]);
}
