//! The memory model beside what the allocator counted: real steps in processes of their own.

use crate::cli::repro;
use serde_json::Value;

/// Predicted over measured bytes of a step.
fn ratio(manifest: &str, arguments: &[&str]) -> f64 {
    let all = [&["bench", manifest, "--steps", "1", "--json"], arguments].concat();
    let output = repro(&all).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let step: Value = serde_json::from_slice(&output.stdout).unwrap();
    let predicted = step["predicted"].as_object().unwrap().values();
    let predicted: u64 = predicted.map(|bytes| bytes.as_u64().unwrap()).sum();
    predicted as f64 / step["peak_bytes"].as_f64().unwrap()
}

#[test]
fn a_step_takes_what_the_model_says_within_three_percent() {
    let (one, several) = ("experiments/smoke.toml", "experiments/smoke_resolutions.toml");
    for (manifest, methods) in [(one, &["dmasking", "dnas"][..]), (several, &["dmasking", "dnas"])]
    {
        for method in methods {
            for recompute in ["none", "block"] {
                let sets =
                    [format!("search.method={method}"), format!("search.recompute={recompute}")];
                let sets = ["--batch", "64", "--set", &sets[0], "--set", &sets[1]];
                let ratio = ratio(manifest, &sets);
                assert!((ratio - 1.0).abs() < 0.03, "{manifest} {sets:?}: {ratio}");
            }
        }
    }
}
