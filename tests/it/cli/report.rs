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

#[test]
fn tables_are_spliced_and_reports_are_listed() {
    let sandbox = Sandbox::new();
    sandbox.smoke(&[]);
    let out = sandbox.folder.path().join("reports");
    let readme = sandbox.folder.path().join("OWN.md");
    let marked = "# Own\n\n<!-- repro: smoke/results | method | seed | where method = dmasking -->\nold\n\
                  <!-- repro: end -->\n";
    std::fs::write(&readme, marked).unwrap();
    let [out_text, readme_text] = [&out, &readme].map(|path| path.to_str().unwrap());
    let arguments = ["report", "--out", out_text, "--splice", readme_text, "--index"];
    let written = sandbox.repro(&arguments).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let text = std::fs::read_to_string(&readme).unwrap();
    assert!(text.contains("| dmasking |") && !text.contains("\nold\n"), "{text}");
    let index = std::fs::read_to_string(out.join("README.md")).unwrap();
    assert!(index.contains("[smoke](smoke.md)") && index.contains("C7: not measured"), "{index}");

    let check = [&arguments[..], &["--check"]].concat();
    assert_eq!(exit_code(&mut sandbox.repro(&check)), 0);
    std::fs::write(&readme, marked).unwrap();
    let said = stderr(&mut sandbox.repro(&check));
    assert!(said.contains("OWN.md: a table differs from the database"), "{said}");
    std::fs::write(&readme, "# No mark\n").unwrap();
    let said = stderr(&mut sandbox.repro(&arguments));
    assert!(said.contains("OWN.md: no table of this report"), "{said}");
}

/// The answer to a request, with its headers.
fn ask(address: &str, request: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_shows_the_report_as_runs_come() {
    use std::io::BufRead;
    let sandbox = Sandbox::new();
    sandbox.smoke(&[]);
    let mut command = plain(&sandbox.repro(&["serve", "--port", "0"]));
    let mut server =
        crate::processes::Running(command.stdout(std::process::Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    std::io::BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.strip_prefix("serving http://").unwrap().split('/').next().unwrap();
    let get = |path: &str| ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));

    let page = get("/");
    assert!(
        page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("default-src 'none'"),
        "{page}"
    );
    let version = get("/version");
    let (_, version_text) = version.split_once("\r\n\r\n").unwrap();
    assert!(page.contains(&format!("const shown = {version_text:?}")), "{version}");
    assert_eq!(page.matches("href=\"#run-").count(), get("/").matches("href=\"#run-").count());

    sandbox.smoke(&["--set", "seeds=[2]"]);
    assert_ne!(get("/version"), version);
    assert!(get("/").contains("href=\"#run-2\""));

    assert!(get("/results.db").starts_with("HTTP/1.1 404 "));
    let post = ask(address, &format!("POST / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    let other = ask(address, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
    assert!(other.starts_with("HTTP/1.1 421 ") && !other.contains("<html"), "{other}");
    let taken = address.rsplit_once(':').unwrap().1;
    let said = stderr(&mut sandbox.repro(&["serve", "--port", taken]));
    assert!(said.contains("cannot listen on 127.0.0.1:") && said.contains("--port 0"), "{said}");
    let said = stderr(&mut sandbox.repro(&["serve", "--experiment", "smoky"]));
    assert!(said.contains("did you mean \"smoke\"?"), "{said}");
}
