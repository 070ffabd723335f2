//! `repro report` of a small run.

use super::*;

/// Every number becomes a `#`, since times and accuracies differ between machines.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            _ => out.push(c),
        }
    }
    out
}

#[test]
fn a_run_becomes_a_report() {
    let sandbox = Sandbox::new();
    let [run] = &sandbox.smoke(&[])[..] else { panic!("no run") };
    let out = sandbox.folder.path().join("reports");
    let written = sandbox.repro(&["report", "--out", out.to_str().unwrap()]).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let csv = std::fs::read_to_string(out.join("smoke.csv")).unwrap();
    let (names, row) = csv.trim_end().split_once('\n').unwrap();
    let row: BTreeMap<&str, &str> = names.split(',').zip(row.split(',')).collect();
    for key in ["run_id", "arch_id", "test_top1", "macs", "params", "weights_sha256"] {
        assert_eq!(row[key], run[key].to_string().trim_matches('"'), "{key}");
    }
    let page = std::fs::read_to_string(out.join("smoke.md")).unwrap();
    let blocks = page.lines().filter(|line| line.contains("| MBConv") || line.contains("| skip"));
    assert!(blocks.count() >= 2, "{page}");
    // Headings, table heads and notes are the same on every machine.
    let frame: Vec<&str> = page
        .lines()
        .filter(|line| {
            !line.starts_with("| ") || line.starts_with("| method") || line.starts_with("| block")
        })
        .filter(|line| !line.starts_with("- ") && !line.starts_with("### "))
        .collect();
    let place = out.display().to_string();
    let version = repro::env::program_version();
    let frame = frame.join("\n").replace(&place, "OUT").replace(version, "VERSION");
    let frame: Vec<String> = without_numbers(&frame)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").replace("--", "-"))
        .map(|line| line.replace("--", "-").replace("--", "-").replace("--", "-"))
        .collect();
    insta::assert_snapshot!("report_of_smoke", frame.join("\n"));

    let check = |expected: i32| {
        let arguments = ["report", "--check", "--out", out.to_str().unwrap()];
        let checked = sandbox.repro(&arguments).output().unwrap();
        assert_eq!(checked.status.code(), Some(expected), "{checked:?}");
        String::from_utf8(checked.stderr).unwrap()
    };
    check(0);
    std::fs::write(out.join("smoke.csv"), csv.replace("dmasking", "random")).unwrap();
    let said = check(1);
    assert!(said.contains("smoke.csv: line 2 differs from the database"), "{said}");
    let claims = sandbox.repro(&["claims"]).output().unwrap();
    let claims = String::from_utf8(claims.stdout).unwrap();
    assert_eq!(claims.matches("verdict    not measured: needs ").count(), 7, "{claims}");
}
