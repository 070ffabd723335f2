//! What is refused before any work: messages and exit codes.

use super::*;

#[test]
fn too_little_memory_is_refused_before_any_work() {
    let sandbox = Sandbox::new();
    // This search needs half a terabyte.
    let sets = ["search.method=dnas", "search.batch_size=9000", "search.images=48000"];
    let sets = sets.map(|set| ["--set", set]).concat();
    let run = [&["run", "experiments/fbnetv2_f.toml"], &sets[..]].concat();
    let output = sandbox.repro(&run).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["the search by dnas needs about", "--set search.recompute=block: ", "--force"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(!sandbox.database().exists());
    // This step needs terabytes; it is refused before the data set is fetched.
    let sets = ["--batch", "60000", "--set", "search.method=dnas"];
    let timed = [&["bench", "experiments/fbnetv2_f.toml"], &sets[..]].concat();
    let output = repro(&timed).env("REPRO_DATA", sandbox.folder.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["at batch size 60000", "a smaller --batch", "search.recompute=block", "--force"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(std::fs::read_dir(sandbox.folder.path()).unwrap().next().is_none());
}

#[test]
fn an_infeasible_budget_is_refused_before_any_work() {
    let sandbox = Sandbox::new();
    let sets = ["--set", "search.budget.macs=200001", "--set", "search.budget.tolerance=1e-6"];
    for command in ["check", "run"] {
        let output = sandbox.repro(&[&[command, SMOKE][..], &sets].concat()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("smoke.toml: search.budget: macs = 200001.0"), "{said}");
    }
    assert!(!sandbox.database().exists());
}

#[test]
fn a_network_that_is_no_regular_file_is_refused() {
    let bench = ["bench", SMOKE, "--what", "network", "--arch", "/dev/zero"];
    let mut bench = repro(&bench);
    assert_eq!(exit_code(&mut bench), 2);
    let said = stderr(&mut bench);
    assert!(said.contains("/dev/zero: is not a regular file"), "{said}");
}

#[test]
fn a_space_is_not_a_manifest() {
    for set in [&[][..], &["--set", "search.epochs=3"]] {
        let run = [&["run", "experiments/spaces/smoke.toml"], set].concat();
        let said = stderr(&mut repro(&run));
        assert!(said.contains("smoke.toml: is a search space, not a manifest"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn check_refuses_wrong_manifests() {
    assert_eq!(exit_code(&mut repro(&["check", SMOKE, "experiments/fbnetv2_f.toml"])), 0);
    let mut wrong = repro(&["check", SMOKE, "--set", "search.epoch=3"]);
    assert_eq!(exit_code(&mut wrong), 2);
    let said = stderr(&mut wrong);
    assert!(said.contains("search.epoch: there is no such key"), "{said}");
    assert_eq!(exit_code(&mut repro(&["check", SMOKE, "no-such.toml"])), 2);
    assert_eq!(exit_code(&mut repro(&["space", SMOKE])), 2);
}

#[test]
fn a_wrong_command_line_does_nothing() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["run", SMOKE, "--threads", "0"][..],
        &["run", SMOKE, "--device", "gpu"],
        &["run", SMOKE, "--seed", "-1"],
        &["run", SMOKE, "--set", "seeds=[]"],
        &["run"],
        &["frobnicate"],
    ] {
        assert_eq!(exit_code(&mut sandbox.repro(arguments)), 2, "{arguments:?}");
    }
    assert!(!sandbox.database().exists());
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_needs_a_cuda_build() {
    let mut command = repro(&["run", SMOKE, "--device", "cuda:0"]);
    assert_eq!(exit_code(&mut command), 2);
    let said = stderr(&mut command);
    assert!(said.contains("built without GPU support; build it with `cargo build"), "{said}");
}

#[cfg(feature = "cuda")]
#[test]
fn a_gpu_that_does_not_exist_is_refused() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.repro(&["run", SMOKE, "--device", "cuda:99"]);
    assert_eq!(exit_code(&mut command), 2);
    let said = stderr(&mut command);
    assert!(said.starts_with("error: --device cuda:99: ") && said.lines().count() == 1, "{said}");
    assert!(!sandbox.database().exists());
}

/// `emulated` exists in test builds only.
#[test]
fn the_emulator_needs_its_library() {
    let sandbox = Sandbox::new();
    let run = ["run", SMOKE, "--device", "emulated"];
    let unset = "set REPRO_EMULATOR";
    for (library, problem) in
        [(None, unset), (Some(""), unset), (Some("/no/such.so"), "/no/such.so")]
    {
        let mut command = sandbox.repro(&run);
        if let Some(library) = library {
            command.env("REPRO_EMULATOR", library);
        }
        assert_eq!(exit_code(&mut command), 2);
        let said = stderr(&mut command);
        assert!(said.starts_with("error: --device emulated: ") && said.contains(problem), "{said}");
    }
    assert!(!sandbox.database().exists());
}

#[test]
fn reading_creates_no_database() {
    let sandbox = Sandbox::new();
    for arguments in [&["list"][..], &["show", "1"]] {
        let mut command = sandbox.repro(arguments);
        assert_eq!(exit_code(&mut command), 2);
        let said = stderr(&mut command);
        assert!(said.contains("there is no database") && said.contains("`repro run"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(!sandbox.database().exists());

    sandbox.smoke(&["--set", "train.epochs=1"]);
    let mut command = sandbox.repro(&["show", "12"]);
    assert_eq!(exit_code(&mut command), 2);
    assert!(stderr(&mut command).contains("12"));
}
