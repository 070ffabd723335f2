//! The device and the precision of a run, from a database file to what the program prints.

use super::*;
use crate::cli::repro;
use serde_json::Value;

const MODEL: &str = "NVIDIA H100 80GB HBM3";

/// Three finished runs of one experiment: on the CPU, and on a GPU in both precisions.
fn write_runs(path: &Path) {
    let store = Store::open(path).unwrap();
    let gpu = Environment {
        device: "cuda:0".into(),
        gpu: Some(MODEL.into()),
        cuda: Some("driver 580.65.06, toolkit 13.0".into()),
        ..new_run(1).environment
    };
    let on_cpu = new_run(1);
    let on_gpu = NewRun { environment: gpu, ..new_run(2) };
    let mut rounded = NewRun { seed: 3, ..on_gpu.clone() };
    rounded.manifest.text.push_str("precision = \"tf32\"\n");
    rounded.manifest.sha256 = "fedcba9876543210".repeat(4);
    for run in [on_cpu, on_gpu, rounded] {
        let mut recorder = store.begin(&run).unwrap();
        record_everything(&mut recorder);
        recorder.finish(&result()).unwrap();
        assert_eq!(*store.runs().unwrap().rows.last().unwrap().environment, run.environment);
    }
}

/// What the program prints about the database at `path`.
fn printed(path: &Path, arguments: &[&str]) -> String {
    let output = repro(arguments).env("REPRO_DB", path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_device_and_the_precision_are_printed() {
    let (folder, path) = folder();
    write_runs(&path);
    let keys = |run: &Value| ["device", "gpu", "precision"].map(|key| run[key].clone());
    let expected = [
        ["cpu".into(), Value::Null, "f32".into()],
        ["cuda:0".into(), MODEL.into(), "f32".into()],
        ["cuda:0".into(), MODEL.into(), "tf32".into()],
    ];
    let json = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
    let listed = printed(&path, &["list", "--json"]);
    assert_eq!(listed.lines().map(|line| keys(&json(line))).collect::<Vec<_>>(), expected);
    for (id, expected) in ["1", "2", "3"].into_iter().zip(&expected) {
        let shown = json(&printed(&path, &["show", id, "--json"]));
        assert_eq!(keys(&shown), *expected);
        assert_eq!(shown["environment"]["gpu"], expected[1]);
    }
    let shown = printed(&path, &["show", "3"]);
    let device = format!("\n  device      cuda:0 ({MODEL}), precision tf32\n");
    assert!(shown.contains(&device), "{shown}");
    assert!(shown.contains("CUDA      driver 580.65.06, toolkit 13.0"), "{shown}");

    let out = folder.path().join("reports");
    printed(&path, &["report", "--out", out.to_str().unwrap()]);
    let page = std::fs::read_to_string(out.join("small.md")).unwrap();
    for part in [
        "- device and precision: cpu, f32 (run 1)\n".to_owned(),
        format!("- device and precision: {MODEL}, f32 (run 2)\n"),
        format!("- device and precision: {MODEL}, tf32 (run 3)\n"),
        format!("The device of run 2 differs from that of run 1: {MODEL} instead of cpu."),
        "The settings of run 3 differ from those of run 1: precision = \"tf32\" instead of \"f32\"."
            .to_owned(),
    ] {
        assert!(page.contains(&part), "{part}: {page}");
    }
    assert!(!page.contains("mean ± sd"), "{page}");
}

#[test]
fn an_unknown_gpu_is_not_the_cpu() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut run = new_run(1);
    run.environment.device = "cuda:1".into();
    drop(store.begin(&run).unwrap());
    let row = store.run(1).unwrap();
    assert_eq!(*row.environment, run.environment);
    assert_eq!(row.environment.device_model(), "GPU of unknown model");
}
