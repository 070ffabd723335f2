//! Memory studies from the manifest to the report, with real processes, steps and a real database.

use crate::cli::repro;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

const SPACE: &str = r#"
name = "tiny"
channel_divisor = 4
types = ["k3_hswish", "k5_relu_se", "skip"]
[input]
resolutions = [14, 28]
channels = 1
classes = 12
[stem]
kernel = 3
stride = 2
width = 8
activation = "hswish"
[[stage]]
blocks = 2
stride = 2
expansion = [1.5, 3]
width = { low = 4, high = 16, step = 4 }
[head]
width = 16
activation = "hswish"
"#;

const STUDY: &str = r#"
name = "memory_tiny"
space = "tiny.toml"
seeds = [3]
[data]
dataset = "fashion-mnist-slice"
[scaling]
methods = ["dmasking", "dnas"]
recompute = ["block", "none"]
batch_size = 32
steps = 1
repeats = 2
most_gigabytes = 0.006
[scaling.options]
width = [1, 2, 4]
all = [1, 2]
"#;

/// A folder with the study and its space.
fn study(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tiny.toml"), SPACE).unwrap();
    let manifest = folder.path().join("study.toml");
    fs::write(&manifest, text).unwrap();
    (folder, manifest)
}

fn in_folder(folder: &Path, arguments: &[&str]) -> Output {
    repro(arguments).current_dir(folder).output().unwrap()
}

fn rows(csv: &str) -> Vec<Vec<(String, String)>> {
    let mut lines = csv.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let names = lines.next().unwrap();
    lines.map(|cells| names.iter().cloned().zip(cells).collect()).collect()
}

fn cell<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    &row.iter().find(|(column, _)| column == name).unwrap().1
}

#[test]
fn a_study_reports_every_point() {
    let (folder, _) = study(STUDY);
    let output = in_folder(folder.path(), &["run", "study.toml", "--json", "--threads", "1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("run 2 (2 of 2): steps of dnas"), "{stderr}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let runs: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let methods: Vec<&str> = runs.iter().map(|run| run["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["dmasking", "dnas"]);
    assert!(runs.iter().all(|run| run["status"] == "finished"), "{runs:?}");

    let output = in_folder(folder.path(), &["report", "--print"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    for part in ["memory_tiny\n", "dimension", "width      dnas ", "1 to 4"] {
        assert!(printed.contains(part), "{part} is missing:\n{printed}");
    }
    let output = in_folder(folder.path(), &["show", "2"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("\npoints\n  dimension") && shown.contains(" predicted "), "{shown}");
    let output = in_folder(folder.path(), &["show", "2", "--json"]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(shown["points"][0]["measured"]["peak_bytes"].as_u64() > Some(0), "{shown}");

    let output = in_folder(folder.path(), &["report"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reports = folder.path().join("reports/memory");
    assert_points(&rows(&fs::read_to_string(reports.join("tiny.csv")).unwrap()));
    assert_page(&reports);
}

/// The CSV file of [`STUDY`].
fn assert_points(rows: &[Vec<(String, String)>]) {
    assert_eq!(rows.len(), 2 * 2 * (3 + 2));
    let (measured, predicted): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| cell(row, "measured") == "true");
    // With two options of everything, the explicit supernet needs more than the study allows.
    for row in &predicted {
        let names = ["method", "dimension", "options", "peak_bytes", "processes"];
        let found = names.map(|name| cell(row, name));
        assert_eq!(found, ["dnas", "all", "2", "", "0"], "{rows:?}");
    }
    assert!(!predicted.is_empty());
    for row in measured {
        let number = |name: &str| cell(row, name).parse::<f64>().unwrap();
        assert_eq!((cell(row, "measured"), cell(row, "processes")), ("true", "2"), "{row:?}");
        let owners = ["weight", "velocity", "activation", "gradient", "scratch"];
        let owners: f64 = owners.iter().map(|name| number(&format!("{name}_bytes"))).sum();
        assert_eq!(owners, number("peak_bytes"), "{row:?}");
        let phases = ["forward", "backward", "optimizer"];
        let phases = phases.iter().map(|name| number(&format!("{name}_peak_bytes")));
        assert_eq!(phases.reduce(f64::max).unwrap(), number("peak_bytes"), "{row:?}");
        assert!(number("step_seconds") > 0.0);
        let model = number("predicted_bytes") / number("peak_bytes");
        assert!((model - 1.0).abs() < 0.03, "{model} {row:?}");
    }
    let peak = |method: &str, dimension: &str, options: &str| {
        let row = rows.iter().find(|row| {
            ["method", "dimension", "options", "recompute"].map(|name| cell(row, name))
                == [method, dimension, options, "none"]
        });
        cell(row.unwrap(), "peak_bytes").parse::<f64>().unwrap()
    };
    let grows = |method| peak(method, "width", "4") / peak(method, "width", "1");
    assert!(grows("dmasking") < 1.01, "{}", grows("dmasking"));
    assert!(grows("dnas") > 2.0, "{}", grows("dnas"));
    // With one option of everything there is one network.
    assert_eq!(cell(&rows[0], "log10_candidates"), "0.0");
}

/// The page of [`STUDY`] and its figures.
fn assert_page(reports: &Path) {
    let page = fs::read_to_string(reports.join("tiny.md")).unwrap();
    for part in [
        "C2, width: from 1 to 4 options, masking needs 0.0",
        "reproduced in bytes, not comparable: fewer than 3 processes at an end or 3 points in seconds",
        "Recompute none, run 1.",
        "C2 as a whole, \"Memory and compute stay nearly constant as the space grows\": ",
        "(width reproduced in bytes, not judged in seconds; all not claimed).",
        "One block per option (dnas): from 1 to 4 widths, 2.0",
        "Recompute none, run 2.",
        "(all runs)",
        "| predicted |",
    ] {
        assert!(page.contains(part), "{part} is missing:\n{page}");
    }
    for kind in ["bytes", "seconds"] {
        let svg = fs::read_to_string(reports.join(format!("tiny-{kind}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("<circle") && !svg.contains("NaN"));
        assert!(page.contains(&format!("(tiny-{kind}.svg)")));
    }
}

#[test]
fn a_wrong_study_is_refused_with_the_place() {
    let wrong = [
        (
            "\"dnas\"]",
            "\"random\"]",
            "methods: [\"dmasking\", \"random\"] has a method without a supernet",
        ),
        ("[1, 2, 4]", "[1, 2, 5]", "width[3]: 5 is more than the 4 options"),
        ("[1, 2, 4]", "[1, 4, 2]", "width[3]: 2 is not larger than the number before it"),
        ("[1, 2, 4]", "[]", "width: is empty"),
        ("width = [1, 2, 4]\nall = [1, 2]", "", "options: lists nothing that grows"),
        ("seeds = [3]", "seeds = [3, 4]", "seeds: has several seeds"),
        ("repeats = 2", "repeats = 0", "repeats: 0 is not allowed"),
        ("batch_size = 32", "batch_size = 2000", "batch_size: 2000 is more than the 1000"),
        ("\"fashion-mnist-slice\"", "\"cifar10\"", "data.dataset: \"cifar10\" has"),
        ("[data]", "[train]\nepochs = 1\n[data]", "train: "),
        ("steps = 1", "step = 1", "step: "),
    ];
    for (from, to, expected) in wrong {
        let (folder, _) = study(&STUDY.replace(from, to));
        let output = in_folder(folder.path(), &["check", "study.toml"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{to}: {stderr}");
        assert!(stderr.contains("study.toml:") && stderr.contains(expected), "{to}: {stderr}");
    }
    let (folder, _) = study(STUDY);
    let types = "[\"k3_hswish\", \"k5_relu_se\", \"skip\"]";
    let skips = SPACE.replace(types, "[\"skip\", \"k3_relu\"]");
    fs::write(folder.path().join("tiny.toml"), skips).unwrap();
    let output = in_folder(folder.path(), &["check", "study.toml"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("has a block (1.1) whose first block type is not"), "{stderr}");
    let own_input = format!("expansion_of = \"input\"\n{SPACE}");
    fs::write(folder.path().join("tiny.toml"), own_input).unwrap();
    let output = in_folder(folder.path(), &["check", "study.toml"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("there is no explicit supernet to compare with"), "{stderr}");
    let (folder, _) = study(STUDY);
    let output = in_folder(folder.path(), &["run", "study.toml", "--force"]);
    assert_eq!(output.status.code(), Some(2));
    let output = in_folder(folder.path(), &["bench", "study.toml"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("study.toml is a memory study"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn every_process_gets_the_seed() {
    let (folder, _) = study(&STUDY.replace("seeds = [3]", "seeds = [3, 4]"));
    let small = ["--set", "scaling.options.all=[1]", "--set", "scaling.repeats=1"];
    let arguments = [&["run", "study.toml", "--json", "--seed", "7"][..], &small].concat();
    let output = in_folder(folder.path(), &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let first = String::from_utf8(output.stdout).unwrap();
    let run: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!((&run["seed"], &run["status"]), (&7.into(), &"finished".into()));
}

#[cfg(target_os = "linux")]
mod signals {
    use super::*;
    use crate::processes::{Running, wait_until};
    use std::process::Stdio;

    /// A study whose processes measure for an hour.
    fn begin(folder: &Path) -> Running {
        let program = repro(&[]).get_program().to_owned();
        let mut command = std::process::Command::new(program);
        command.args(["run", "study.toml", "--set", "scaling.seconds=3600", "--threads", "1"]);
        command.current_dir(folder).env_remove("REPRO_DB").stdin(Stdio::null());
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// The id of the measuring process.
    fn measuring(study: &Running) -> String {
        let id = study.0.id();
        let mut children = String::new();
        wait_until("a measuring process", || {
            let path = format!("/proc/{id}/task/{id}/children");
            children = fs::read_to_string(path).unwrap_or_default();
            !children.trim().is_empty()
        });
        children.trim().to_owned()
    }

    /// Whether the process exists and is not a zombie.
    fn lives(id: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !matches!(rest.trim().chars().next(), None | Some('Z')))
    }

    #[test]
    fn a_report_warns_of_another_study() {
        let (first, _) = study(STUDY);
        let running = begin(first.path());
        measuring(&running);
        let (second, _) = study(STUDY);
        let small = ["scaling.options={width=[1]}", "scaling.methods=[\"dmasking\"]"];
        let short = ["scaling.recompute=[\"none\"]", "scaling.repeats=1", "scaling.seconds=1"];
        let sets = small.iter().chain(&short).flat_map(|set| ["--set", *set]);
        let arguments: Vec<&str> =
            ["run", "study.toml", "--threads", "1"].into_iter().chain(sets).collect();
        let output = in_folder(second.path(), &arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains("warning: other programs or virtual machines kept "), "{stderr}");
        let warning = "cores busy during 3 of 3 processes";
        let output = in_folder(second.path(), &["report", "--print"]);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains(warning), "{printed}");
        assert!(in_folder(second.path(), &["report"]).status.success());
        let page = fs::read_to_string(second.path().join("reports/memory/tiny.md")).unwrap();
        assert!(page.contains(warning) && page.contains("ran at the same time"), "{page}");
    }

    #[test]
    fn a_stopped_study_does_not_wait() {
        let (folder, _) = study(STUDY);
        let mut running = begin(folder.path());
        let child = measuring(&running);
        assert!(lives(&child));
        running.signal("-TERM");
        assert_eq!(running.wait().code(), Some(130));
        assert!(!lives(&child));
        let output = in_folder(folder.path(), &["show", "1", "--json"]);
        let run: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(run["status"], "interrupted");
        let output = in_folder(folder.path(), &["report", "--print"]);
        let printed = String::from_utf8(output.stdout).unwrap();
        let why = "Not all points of dmasking were measured (run 1): interrupted";
        assert!(printed.contains("memory_tiny\n") && printed.contains(why), "{printed}");
    }

    #[test]
    fn a_killed_study_leaves_no_process() {
        let (folder, _) = study(STUDY);
        let mut running = begin(folder.path());
        let child = measuring(&running);
        running.signal("-KILL");
        assert_eq!(running.wait().code(), None);
        wait_until("the measuring process to end", || !lives(&child));
    }
}
