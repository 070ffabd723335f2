//! Output that is safe to show, that nobody reads, or that cannot be written.

use super::*;

#[test]
fn text_from_files_cannot_control_the_terminal() {
    let sandbox = Sandbox::new();
    let folder = sandbox.folder.path();
    let described = r#"description="\u001B[31mred""#;
    let output = sandbox.repro(&["check", SMOKE, "--set", described]).output().unwrap();
    let images = folder.join("images");
    for part in ["train", "val"] {
        let class = images.join(part).join("a");
        std::fs::create_dir_all(&class).unwrap();
        std::fs::write(class.join("\u{1b}[31m.png"), "no image").unwrap();
    }
    let checked = sandbox.repro(&["data", "check", images.to_str().unwrap()]).output().unwrap();
    for output in [output, checked] {
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(r"\u{1b}[31m") && !text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn a_closed_pipe_does_not_end_a_run() {
    let sandbox = Sandbox::new();
    let command = sandbox.repro(&["run", SMOKE, "--json"]);
    assert_eq!(into_closed_pipe(&command), (Some(0), false));
    let mut list = sandbox.repro(&["list", "--json"]);
    assert_eq!(json_lines(&list.output().unwrap().stdout)[0]["status"], "finished");
    assert_eq!(into_closed_pipe(&list), (Some(0), true));
}

/// `/dev/full` refuses every write, like a full disk.
#[test]
#[cfg(target_os = "linux")]
fn a_full_standard_output_does_not_end_the_runs() {
    for json in [&["--json"][..], &[]] {
        let sandbox = Sandbox::new();
        let run = ["run", SMOKE, "--set", "train.epochs=1", "--seed", "1", "--seed", "2"];
        let command = sandbox.repro(&[&run[..], json].concat());
        let full = std::fs::File::create("/dev/full").unwrap();
        let output = plain(&command).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.matches("cannot write to standard output").count(), 1, "{said}");
        let listed = sandbox.repro(&["list", "--json"]).output().unwrap();
        let statuses = json_lines(&listed.stdout);
        assert_eq!(statuses.len(), 2, "{statuses:?}");
        assert!(statuses.iter().all(|run| run["status"] == "finished"), "{statuses:?}");
    }
}

/// The exit code, and whether nothing was said on standard error.
fn into_closed_pipe(command: &Command) -> (Option<i32>, bool) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = plain(command).stdout(writer).output().unwrap();
    (output.status.code(), output.stderr.is_empty())
}
