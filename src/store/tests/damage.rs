//! Rows that something else has changed.

use super::*;
use crate::space::{Activation, ArchSpec, ConvSpec, Head};

/// Records two runs, damages the first and returns what is wrong with it.
fn damaged(statement: &str) -> String {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    for seed in 1..=2 {
        let mut run = new_run();
        (run.seed, run.manifest.sha256) = (seed, seed.to_string().repeat(64));
        run.environment.threads = seed as u32;
        let mut recorder = store.begin(&run).unwrap();
        recorder.phase_started(Phase::Data).unwrap();
        recorder.architecture(&found(seed as usize)).unwrap();
        recorder.interrupt().unwrap();
    }
    sql(&path, &format!("PRAGMA foreign_keys = OFF; {statement}"));
    let runs = store.runs().unwrap();
    assert_eq!(runs.rows.iter().map(|run| run.id).collect::<Vec<_>>(), [2], "{statement}");
    assert_eq!(runs.damaged.len(), 1, "{statement}");
    let error = store.run(1).unwrap_err().to_string();
    assert!(error.contains(&runs.damaged[0].to_string()), "{error}");
    runs.damaged[0].to_string()
}

fn found(width: usize) -> SearchedArchitecture {
    let conv = ConvSpec { kernel: 3, stride: 1, width, activation: Activation::Relu };
    let arch = ArchSpec {
        resolution: 32,
        image_channels: 3,
        classes: 10,
        stem: conv,
        blocks: vec![],
        head: Head::Conv { width: 16, activation: Activation::Relu },
    };
    let (probabilities, resolutions) = Default::default();
    SearchedArchitecture { arch, macs: 10, params: 20, probabilities, resolutions }
}

#[test]
fn a_damaged_run_is_named_and_the_others_are_read() {
    let spec =
        "UPDATE architectures SET spec = '{}' WHERE id = (SELECT architecture FROM attempts)";
    assert!(damaged(spec).starts_with("run 1 cannot be read: architecture "));
    let spec = spec.replace("'{}'", "replace(spec, '\"classes\":10', '\"classes\":11')");
    assert!(damaged(&spec).contains(" is another one, "));
    let architectures = "DELETE FROM architectures WHERE id = (SELECT architecture FROM attempts)";
    assert!(damaged(architectures).ends_with(" is missing"));
    let manifest = "DELETE FROM manifests WHERE sha256 = (SELECT manifest FROM runs WHERE id = 1)";
    assert_eq!(damaged(manifest), "run 1 cannot be read: its manifest is missing");
    let attempt = "DELETE FROM attempts WHERE run = 1";
    assert_eq!(damaged(attempt), "run 1 cannot be read: its attempt is missing");
    let choice = "INSERT INTO final_choices VALUES (1, 1, 7, '2.1')";
    assert_eq!(damaged(choice), "run 1 cannot be read: a block is missing");
    let settings = "UPDATE manifests SET settings = '[]' WHERE sha256 GLOB '1*'";
    assert!(damaged(settings).starts_with("run 1 cannot be read: settings: "));
    let status = "PRAGMA ignore_check_constraints = ON; \
                  UPDATE attempts SET status = 'gone', ended_at = 1.0 WHERE run = 1";
    assert_eq!(damaged(status), "run 1 cannot be read: status gone");
    let phase = "PRAGMA ignore_check_constraints = ON; UPDATE phases SET phase = 'x' WHERE run = 1";
    assert_eq!(damaged(phase), "run 1 cannot be read: phase x");
    let seed = "PRAGMA ignore_check_constraints = ON; UPDATE runs SET seed = -3 WHERE id = 1";
    assert_eq!(damaged(seed), "run 1 cannot be read: seed -3");
}
