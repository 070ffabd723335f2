//! The formats of a report, opened by the programs that they are for: Chromium, `LaTeX`, pandas and pyarrow.

use super::{WRITER, by, measurements, odd, small};
use repro::report::render::{self, ReportFormat, RunDetails};
use repro::report::{Page, build, networks_page};
use repro::store::RunRow;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Three seeds of two methods, a failed run, a killed one, and an experiment with names that no manifest allows.
fn runs() -> Vec<RunRow> {
    let random = (1..=3).map(|seed| by("random", 10 + seed, seed as u64, 0.7 + 0.01 * seed as f64));
    small().into_iter().chain(random).chain([odd()]).collect()
}

fn pages() -> Vec<Page> {
    build(&runs(), &[], &measurements, WRITER).unwrap()
}

fn details() -> Vec<RunDetails> {
    runs().iter().map(|run| RunDetails::of(run, &measurements(run.id).unwrap())).collect()
}

/// A folder with the report in some formats.
fn written(formats: &[ReportFormat]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for format in formats {
        let files = render::files(&pages(), &details(), *format).unwrap();
        render::write(&files, folder.path()).unwrap();
    }
    folder
}

/// Runs a program; says so and returns `None` where it is not installed.
#[allow(clippy::print_stderr)]
fn output(program: &str, arguments: &[&str], folder: &Path) -> Option<Output> {
    match Command::new(program).args(arguments).current_dir(folder).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("LEFT OUT: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn every_format_has_its_files() {
    let names = ReportFormat::ALL.map(|format| {
        let files = render::files(&pages(), &details(), format).unwrap();
        let names = files.into_iter().map(|file| file.name).filter(|name| !name.starts_with("odd"));
        format!("{format:?}: {}", names.collect::<Vec<_>>().join(" "))
    });
    insta::assert_snapshot!("formats", names.join("\n"));
}

#[test]
fn a_latex_table_names_the_runs_of_each_row() {
    let files = render::files(&pages(), &[], ReportFormat::Latex).unwrap();
    let text = |name: &str| {
        let file = files.iter().find(|file| file.name == name).unwrap();
        String::from_utf8(file.content.clone()).unwrap()
    };
    insta::assert_snapshot!("differences_tex", text("small-differences.tex"));
    insta::assert_snapshot!("unfinished_tex", text("small-unfinished.tex"));
}

#[test]
fn latex_compiles() {
    let folder = written(&[ReportFormat::Latex]);
    for stem in pages().iter().map(|page| &page.stem) {
        // A file name with `=` or `,` is no problem for LaTeX, but its job name would be cut there.
        let arguments =
            ["-interaction=nonstopmode", "-halt-on-error", "-jobname=page", &format!("{stem}.tex")];
        let Some(compiled) = output("pdflatex", &arguments, folder.path()) else { return };
        let log = String::from_utf8_lossy(&compiled.stdout);
        assert!(compiled.status.success(), "{stem}: {log}");
        assert!(fs::metadata(folder.path().join("page.pdf")).unwrap().len() > 10_000, "{log}");
        assert!(!log.contains("Missing character"), "{stem}: {log}");
    }
}

#[test]
fn pandas_and_pyarrow_read_the_same_values() {
    let folder = written(&[ReportFormat::Csv, ReportFormat::Parquet, ReportFormat::Json]);
    let Some(python) = crate::export::python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/read.py");
    for page in pages() {
        let arguments = [script.to_str().unwrap(), ".", &page.stem];
        let read = output(python.to_str().unwrap(), &arguments, folder.path()).unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    }
}

#[test]
fn the_html_page_needs_nothing_else() {
    let folder = written(&[ReportFormat::Html]);
    let html = fs::read_to_string(folder.path().join("report.html")).unwrap();
    for outside in ["src=", "@import", "url(", "href=\"http", "fetch("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("\\u003cb>helps") && !html.contains("<b>"));
    assert!(html.contains("&lt;b>helps&lt;/b>"));
}

#[test]
fn an_experiment_may_be_named_like_an_element() {
    let run = RunRow { experiment: "runs".to_owned(), ..by("dmasking", 1, 1, 0.8) };
    let pages = build(&[run], &[], &measurements, WRITER).unwrap();
    let files = render::files(&pages, &details(), ReportFormat::Html).unwrap();
    let html = String::from_utf8(files[0].content.clone()).unwrap();
    assert!(html.contains("<article id=\"page-experiments/runs\">"));
    assert_eq!(html.matches("id=\"runs\"").count(), 1);
}

#[test]
fn derived_networks_stand_beside_published_ones() {
    let page = networks_page(&runs(), WRITER).unwrap();
    let text = page.markdown();
    let cells = |name: &str| -> Vec<String> {
        let row = text.lines().find(|line| line.starts_with(&format!("| {name} ")));
        let row = row.unwrap_or_else(|| panic!("no {name} in {text}"));
        row.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let own = cells("small: dmasking");
    assert_eq!(own[2..4], ["cifar10", "32"]);
    assert_eq!(own[6..10], ["–", "80.41", "78.64 to 82.18", "3"]);
    assert_eq!(own[11], "1, 2, 3");
    assert_eq!(cells("FBNetV2_F4")[6..8], ["75.82", "–"]);
}

#[test]
fn a_browser_sorts_filters_and_opens_runs() {
    let folder = written(&[ReportFormat::Html]);
    let path = folder.path().join("report.html");
    let driver = include_str!("../../report/drive.js");
    let html = fs::read_to_string(&path).unwrap();
    let html = html.replace("</body>", &format!("<script>\n{driver}</script>\n</body>"));
    fs::write(&path, html).unwrap();
    let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
    let address = format!("file://{}", path.display());
    // A narrow window, as on a phone. A sandbox needs privileges that containers do not have.
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=500,900",
        "--virtual-time-budget=10000",
        "--dump-dom",
        &profile,
        &address,
    ];
    let Some(shown) = output("chromium", &arguments, folder.path()) else { return };
    let dom = String::from_utf8_lossy(&shown.stdout);
    let after =
        dom.split_once("<pre id=\"seen\">").and_then(|(_, after)| after.split_once("</pre>"));
    let end = dom.len().saturating_sub(2000);
    let errors = String::from_utf8_lossy(&shown.stderr);
    let (text, _) =
        after.unwrap_or_else(|| panic!("{errors}{}", &dom[dom.ceil_char_boundary(end)..]));
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let seen: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));

    let all = ["1", "2", "3", "1, 2, 3", "11", "12", "13", "11, 12, 13"];
    assert_eq!(seen["before"], json!(all));
    let ascending =
        ["71.00", "72.00", "72.00 ± 1.00", "73.00", "79.99", "80.00", "80.41 ± 0.71", "81.23"];
    assert_eq!(seen["ascending"], json!(ascending));
    let descending: Vec<&str> = ascending.into_iter().rev().collect();
    assert_eq!(seen["descending"], json!(descending));
    assert_eq!(seen["sort"], "descending");
    assert_eq!(seen["filtered"], json!(["mean ± sd, n = 3"]));
    assert_eq!(seen["unfiltered"], 8);

    assert_eq!(seen["heading"], "Run 4");
    let error = seen["facts"]["error"].as_str().unwrap();
    assert!(error.contains("`clip_norm`, <b>helps</b> \u{1b}[31m"), "{error}");
    assert_eq!(seen["facts"]["status"], "failed");
    assert!(seen["manifest"].as_str().unwrap().contains("name = \"small\""), "{seen}");
    assert_eq!(seen["bold"], 0);
    assert!(seen["charts"].as_u64().unwrap() >= 3, "{seen}");
    assert_eq!(seen["hover"], "step 0: 0.95");
    assert_eq!(seen["fits"], true, "the page scrolls sideways on a phone");
}
