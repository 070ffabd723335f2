//! Where output goes when nobody reads it.

use super::*;

#[test]
fn a_closed_pipe_does_not_end_a_run() {
    let sandbox = Sandbox::new();
    let command = sandbox.repro(&["run", SMOKE, "--json"]);
    assert_eq!(into_closed_pipe(&command), (Some(0), false));
    let mut list = sandbox.repro(&["list", "--json"]);
    assert_eq!(json_lines(&list.output().unwrap().stdout)[0]["status"], "finished");
    assert_eq!(into_closed_pipe(&list), (Some(0), true));
}

/// The exit code, and whether nothing was said on standard error.
fn into_closed_pipe(command: &Command) -> (Option<i32>, bool) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = plain(command).stdout(writer).output().unwrap();
    (output.status.code(), output.stderr.is_empty())
}
