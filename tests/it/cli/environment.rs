//! Missing resources: no HOME, no disk space, no threads, no database.

use super::*;
use crate::processes::{Running, wait_until};
use std::fs::File;
use std::process::Stdio;

/// Exit code, standard output and standard error.
fn outcome(command: &mut Command) -> (Option<i32>, Vec<Value>, String) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), json_lines(&output.stdout), said)
}

#[test]
fn built_in_data_needs_no_home() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.repro(&["run", SMOKE, "--json", "--set", "train.epochs=1", "--db"]);
    command.arg(sandbox.database()).env_clear();
    let (code, lines, said) = outcome(&mut command);
    assert_eq!((code, &lines[0]["status"]), (Some(0), &"finished".into()), "{said}");
}

#[test]
fn a_path_that_is_no_database_exits_with_2() {
    let sandbox = Sandbox::new();
    let file = sandbox.folder.path().join("notes.txt");
    std::fs::write(&file, "these are notes, not a database\n".repeat(100)).unwrap();
    let no_folder = sandbox.folder.path().join("nowhere").join("results.db");
    for path in [file.as_path(), sandbox.folder.path(), &no_folder] {
        let (code, _, said) = outcome(repro(&["run", SMOKE, "--db"]).arg(path));
        assert_eq!(code, Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
}

#[test]
fn a_mistyped_data_folder_is_not_created() {
    let sandbox = Sandbox::new();
    let typo = sandbox.folder.path().join("dtaa");
    let mut command = sandbox.repro(&["run", "experiments/fbnetv2_f.toml", "--json", "--data"]);
    let (code, _, said) = outcome(command.arg(&typo));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("does not exist") && said.contains("repro data fetch cifar10"), "{said}");
    assert!(!typo.exists());
}

/// No address space has room for such a stack, so that no thread can be started.
#[test]
fn a_machine_without_threads_is_reported() {
    let sandbox = Sandbox::new();
    let (code, _, said) =
        outcome(sandbox.repro(&["run", SMOKE]).env("RUST_MIN_STACK", (1_u64 << 60).to_string()));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: cannot start threads"), "{said}");
}

#[test]
fn a_run_fails_when_its_database_vanishes() {
    let sandbox = Sandbox::new();
    let path = |name: &str| sandbox.folder.path().join(name);
    let long = ["run", SMOKE, "--json", "--set", "search.epochs=100000", "--seed", "1"];
    let mut command = plain(&sandbox.repro(&long));
    command.stdout(File::create(path("out.jsonl")).unwrap());
    command.stderr(File::create(path("said.txt")).unwrap());
    let mut running = Running(command.spawn().unwrap());
    wait_until("a loss", || sandbox.losses() > 0);
    std::fs::rename(sandbox.database(), path("elsewhere.db")).unwrap();
    assert_eq!(running.wait().code(), Some(1));
    let lines = json_lines(&std::fs::read(path("out.jsonl")).unwrap());
    assert_eq!((&lines[0]["run_id"], &lines[0]["status"]), (&1.into(), &"failed".into()));
    assert!(lines[0]["error"].as_str().unwrap().contains("moved, deleted or replaced"));
    let said = std::fs::read_to_string(path("said.txt")).unwrap();
    assert_eq!(said.matches("moved, deleted or replaced").count(), 1, "{said}");
}

/// `ulimit -f` replaces a full disk, which a test cannot make.
#[cfg(unix)]
#[test]
fn a_run_fails_when_its_database_cannot_grow() {
    let sandbox = Sandbox::new();
    let mut shell = std::process::Command::new("sh");
    let line = format!("ulimit -f 400; exec \"$0\" run {SMOKE} --json --set search.epochs=100000");
    shell.args(["-c", &line]).arg(sandbox.repro(&[]).get_program()).stdout(Stdio::piped());
    shell.current_dir(env!("CARGO_MANIFEST_DIR")).env("REPRO_DB", sandbox.database());
    let output = shell.env("RAYON_NUM_THREADS", "1").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines = json_lines(&output.stdout);
    assert_eq!(lines[0]["status"], "failed", "{lines:?}");
    let error = lines[0]["error"].as_str().unwrap();
    assert!(error.contains(sandbox.database().to_str().unwrap()), "{error}");
    assert_eq!(said.matches(&format!("run 1 failed: {error}")).count(), 1, "{said}");
}
