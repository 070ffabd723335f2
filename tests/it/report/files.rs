//! The files of a report on disk.

use super::{WRITER, finished, measurements, odd, small, svg};
use repro::report::render::{self, ReportFormat};
use repro::report::{MeasurementsOf, Writer, build, results_table};
use repro::store::RunRow;
use std::path::{Path, PathBuf};

/// Writes Markdown.
fn write(
    runs: &[RunRow],
    measurements_of: MeasurementsOf<'_>,
    out: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let pages = build(runs, &[], measurements_of, WRITER)?;
    render::write(&render::files(&pages, &[], ReportFormat::Markdown)?, out)
}

#[test]
fn files_are_named_after_their_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/reports");
    let runs: Vec<RunRow> = small().into_iter().chain([odd()]).collect();
    let written = write(&runs, &measurements, &out).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let odd = "odd=7Cname=2C=20=22quoted=22=2F..=2F_x_";
    let of_odd = ["-networks.svg", ".csv", ".md"].map(|ending| format!("{odd}{ending}"));
    let of_small = ["-networks.svg", "-search.svg", ".csv", ".md"].map(|end| format!("small{end}"));
    assert_eq!(names, of_odd.into_iter().chain(of_small).collect::<Vec<_>>());
    assert_eq!(written.len(), names.len());
    for report in
        build(&runs, &[], &measurements, WRITER).unwrap().iter().filter(|r| r.title == "small")
    {
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(read("small.md"), report.markdown());
        assert_eq!(read("small.csv"), report.csv().unwrap());
        assert_eq!(read("small-search.svg"), svg(report, "search"));
        assert!(report.markdown().contains("(small-search.svg)"));
    }
}

#[test]
fn a_failed_report_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.md"), "old").unwrap();
    let unreadable = |id| if id == 5 { anyhow::bail!("disk on fire") } else { Ok(vec![]) };
    let error = write(&small(), &unreadable, folder.path()).unwrap_err();
    assert_eq!(format!("{error:#}"), "cannot read the measurements of run 5: disk on fire");
    assert_eq!(std::fs::read_to_string(folder.path().join("small.md")).unwrap(), "old");

    std::fs::create_dir(folder.path().join("small.csv")).unwrap();
    let error = write(&small(), &measurements, folder.path()).unwrap_err();
    assert!(format!("{error:#}").starts_with("cannot write "), "{error:#}");
    assert_eq!(std::fs::read_to_string(folder.path().join("small.md")).unwrap(), "old");
    let left = std::fs::read_dir(folder.path()).unwrap();
    assert!(left.map(|e| e.unwrap().file_name()).all(|n| !n.to_string_lossy().contains("partial")));
}

#[test]
fn no_runs_make_no_files() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(write(&[], &measurements, folder.path()).unwrap().len(), 0);
    assert_eq!(results_table(&[]), "no runs\n");
}

#[test]
fn a_changed_measurement_breaks_the_check() {
    let folder = tempfile::tempdir().unwrap();
    write(&small(), &measurements, folder.path()).unwrap();
    let check = |runs: &[RunRow], command_line| {
        let writer = Writer { command_line, program: "another version" };
        let pages = build(runs, &[], &measurements, writer).unwrap();
        let files = render::files(&pages, &[], ReportFormat::Markdown).unwrap();
        render::differences(&files, folder.path()).unwrap()
    };
    assert_eq!(check(&small(), "repro report --check"), [""; 0]);
    let mut changed = small();
    changed[1].result.as_mut().unwrap().test_top1 += 1e-6;
    let differences = check(&changed, "repro report");
    let named = |name: &str| differences.iter().any(|line| line.contains(name));
    assert!(named("small.csv: line 3 differs from the database"), "{differences:?}");
    assert!(named("small.md") && !named("small-search.svg"), "{differences:?}");
    std::fs::remove_file(folder.path().join("small-search.svg")).unwrap();
    let missing = check(&small(), "repro report");
    assert_eq!(missing.len(), 1);
    assert!(missing[0].ends_with("small-search.svg: missing"), "{missing:?}");
}

#[test]
fn two_experiments_cannot_write_one_file() {
    let named = |id, name: &str| RunRow { experiment: name.to_owned(), ..finished(id, 1, 0.8) };
    let runs = [named(1, "a"), named(2, "a-results")];
    let pages = build(&runs, &[], &measurements, WRITER).unwrap();
    assert!(render::files(&pages, &[], ReportFormat::Markdown).is_ok());
    let error = render::files(&pages, &[], ReportFormat::Csv).unwrap_err().to_string();
    assert!(error.starts_with("two reports would write the file a-results.csv: "), "{error}");
}
