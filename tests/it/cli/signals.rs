//! Ctrl-C, SIGTERM, SIGHUP and SIGKILL during a run.

use super::*;
use crate::processes::{Running, wait_until};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;

/// Starts a run that would take an hour, after the shell commands `before`, and waits for its first
/// measurement.
fn start(sandbox: &Sandbox, before: &str) -> Running {
    let line = format!("{before} exec \"$0\" run {SMOKE} --set search.epochs=100000 --json");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &line]).arg(sandbox.repro(&[]).get_program());
    shell.current_dir(env!("CARGO_MANIFEST_DIR")).env("REPRO_DB", sandbox.database());
    shell.env("RAYON_NUM_THREADS", "1").stdout(File::create(printed(sandbox)).unwrap());
    let child = shell.stderr(File::create(said(sandbox)).unwrap()).spawn().unwrap();
    let running = Running(child);
    wait_until("a loss", || sandbox.losses() > 0);
    running
}

/// The file with the run's standard output, which is JSON.
fn printed(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder.path().join("printed.txt")
}

/// The file with the run's standard error.
fn said(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder.path().join("said.txt")
}

#[test]
fn an_interrupted_run_keeps_its_measurements() {
    for signal in ["-INT", "-TERM"] {
        let sandbox = Sandbox::new();
        let mut running = start(&sandbox, "");
        // As `timeout` does: to the process, and at once to its group.
        running.signal(signal);
        running.signal(signal);
        assert_eq!(running.wait().code(), Some(130));
        let printed = std::fs::read_to_string(printed(&sandbox)).unwrap();
        assert!(printed.contains("\"status\":\"interrupted\""), "{printed}");
        assert_eq!(sandbox.first_run()["status"], "interrupted");
        assert!(sandbox.losses() > 0);
        let said = std::fs::read_to_string(said(&sandbox)).unwrap();
        assert!(said.contains("stopping after the current step; interrupt again"), "{said}");
    }
}

#[test]
fn a_killed_run_shows_as_interrupted() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox, "");
    assert_eq!(sandbox.first_run()["status"], "running");
    running.signal("-KILL");
    assert_eq!(running.wait().signal(), Some(9));
    let listed = sandbox.repro(&["list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("interrupted"), "{listed}");
    assert!(sandbox.losses() > 0);
    // The database still accepts new runs.
    assert_eq!(sandbox.smoke(&["--set", "train.epochs=1"])[0]["run_id"], 2);
}

#[test]
fn a_run_under_nohup_survives_a_hangup() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox, "trap '' HUP;");
    running.signal("-HUP");
    let before = sandbox.losses();
    wait_until("another loss", || sandbox.losses() > before);
    assert_eq!(sandbox.first_run()["status"], "running");
    running.signal("-INT");
    assert_eq!(running.wait().code(), Some(130));
}
