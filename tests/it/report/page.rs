//! The Markdown page: what it says, and that nothing in a name can break it.

use super::{WRITER, by, finished, measurements, odd, report_of, small, svg, value};
use repro::record::Metric;
use repro::report::build;
use repro::report::render::{self, ReportFormat, RunDetails};
use repro::store::RunRow;
use std::path::Path;
use std::sync::Arc;

#[test]
fn the_page_of_a_small_experiment() {
    insta::assert_snapshot!("small_md", report_of(&small()).markdown());
}

#[test]
fn the_page_shows_odd_names_as_they_are() {
    insta::assert_snapshot!("odd_md", report_of(&[odd()]).markdown());
}

#[test]
fn the_order_of_runs_does_not_matter() {
    let written = |runs: &[RunRow]| {
        let pages = [report_of(runs)];
        let details: Vec<RunDetails> =
            small().iter().map(|run| RunDetails::of(run, &measurements(run.id).unwrap())).collect();
        ReportFormat::ALL.map(|format| render::files(&pages, &details, format).unwrap())
    };
    let forwards = written(&small());
    assert_eq!(forwards, written(&small()));
    assert_eq!(forwards, written(&small().into_iter().rev().collect::<Vec<_>>()));
}

#[test]
fn the_machine_is_described_but_not_named() {
    let report = report_of(&small());
    assert!(report.markdown().contains("Some CPU @ 2.00GHz"));
    assert!(
        !report.markdown().contains("a-secret-name")
            && !report.csv().unwrap().contains("a-secret-name")
    );
}

#[test]
fn a_cell_cannot_break_the_markdown_table() {
    let page = report_of(&small()).markdown();
    let line = page.lines().find(|line| line.contains("the loss became NaN")).unwrap();
    let bars = line.replace("\\|", "").matches('|').count();
    assert_eq!(bars, 7, "{line}");
    assert!(line.contains("learning_rate \\| \\`clip_norm\\`, \\<b>helps\\</b>"), "{line}");
}

#[test]
fn the_papers_space_reproduces_its_growth() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/spaces/fbnetv2_f.toml");
    let mut run = finished(1, 1, 0.8);
    Arc::make_mut(&mut run.manifest).space_text = std::fs::read_to_string(path).unwrap();
    let page = report_of(&[run]).markdown();
    let c1 = page.lines().find(|line| line.starts_with("| C1: ")).unwrap();
    for part in ["14 orders of magnitude (abstract)", "10^14.6 combinations", "| reproduced"] {
        assert!(c1.contains(part), "{c1}");
    }
    assert!(!page.contains("C2"), "{page}");
}

#[test]
fn only_claims_that_the_runs_bear_on_are_shown() {
    let none = "None of the paper's claims can be judged from these runs";
    let page = report_of(&[by("random", 1, 1, 0.5)]).markdown();
    assert!(page.contains(none) && !page.contains("| C1"), "{page}");
    // A small space for other data refutes nothing.
    let page = report_of(&[finished(1, 1, 0.8)]).markdown();
    assert!(page.contains(none) && !page.contains("| C1"), "{page}");
}

#[test]
fn search_curves_are_means_over_seeds() {
    let report = report_of(&small());
    let figure = svg(&report, "search");
    assert_eq!(figure.matches(">dmasking, mean ± sd of 2 runs<").count(), 1);
    let one = report_of(&small()[..1]);
    assert!(svg(&one, "search").contains(">run 1: dmasking, seed 1, finished<"));
    insta::assert_snapshot!("small_svg", figure);
}

#[test]
fn diverged_networks_are_noted() {
    let measured = |id| {
        let diverged = |step| value(Metric::SEARCH_CANDIDATE_DIVERGED, step, 1.0);
        Ok(if id == 2 { vec![diverged(3), diverged(7)] } else { vec![] })
    };
    let runs = [finished(1, 1, 0.8), finished(2, 2, 0.8)];
    let page = &build(&runs, &[], &measured, WRITER).unwrap()[0].markdown();
    assert_eq!(page.matches(" diverged").count(), 1);
    let note = "2 networks that run 2 evaluated diverged; each was scored at chance accuracy.";
    assert!(page.contains(note), "{page}");
}

#[test]
fn equal_rankings_are_one_measurement() {
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
    let report = &build(&runs, &[], &ranked, WRITER).unwrap()[0];
    let page = report.markdown();
    let (_, section) = page.split_once("## Rank correlation").unwrap();
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
    let beginning = "- τ-b of runs 1, 2: rs_ws, evolution, seed 1 minus τ-b of run 3: dmasking, seed 1: \
                     +2.00, 95 % interval +2.00 to +2.00";
    assert!(difference.starts_with(beginning), "{difference}");
    let picture = svg(report, "rank");
    assert_eq!(picture.matches("r=\"3\"").count(), 3 * 3 + 3);
    assert!(picture.contains("runs 1, 2: rs_ws, evolution, seed 1"), "{picture}");
}

#[test]
fn a_diverged_search_is_noted() {
    let measured = |id| {
        let search = value(Metric::SEARCH_DIVERGED, 0, 1e12);
        let training = value(Metric::TRAIN_DIVERGED.of_repeat(2), 0, 50.0);
        Ok(if id == 2 { vec![search, training] } else { vec![] })
    };
    let runs = [finished(1, 1, 0.8), finished(2, 2, 0.8)];
    let page = &build(&runs, &[], &measured, WRITER).unwrap()[0].markdown();
    assert_eq!(page.matches(" diverged").count(), 2, "{page}");
    for part in ["The search of run 2 diverged", "1.000e12", "A training run of run 2 diverged"] {
        assert!(page.contains(part), "{page}");
    }
}
