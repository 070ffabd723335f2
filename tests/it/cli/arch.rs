//! `repro arch` and `repro predict`.

use super::*;
use serde_json::Value;
use std::fs;

fn stdout(arguments: &[&str]) -> String {
    let output = repro(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn published_networks_are_compared_with_their_totals() {
    insta::assert_snapshot!("arch_all", stdout(&["arch", "--all"]));
}

#[test]
fn a_network_is_shown_by_name_and_its_file_reads_as_the_same() {
    let shown = stdout(&["arch", "fbnetv2-f1", "--input", "96"]);
    assert!(shown.contains("96x96, 3 channels; 1000 classes"), "{shown}");
    assert!(!shown.contains("published   "), "{shown}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mnv3_small.toml");
    fs::write(&file, stdout(&["arch", "MobileNetV3-small", "--toml"])).unwrap();
    let json = |network: &str| -> Value {
        serde_json::from_str(&stdout(&["arch", network, "--json"])).unwrap()
    };
    assert_eq!(json(file.to_str().unwrap()), json("mnv3_small"));
    let output = repro(&["arch", "fbnetv2_f6"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("did you mean \"FBNetV2_F"), "{error}");
}

#[test]
fn a_run_classifies_images_by_its_own_weights() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("results.db");
    let db = db.to_str().unwrap();
    let sets = ["search.method=random", "train.epochs=1", "scale=0.2"];
    let run =
        [&["run", "experiments/smoke.toml", "--db", db][..], &sets.map(|s| ["--set", s]).concat()];
    stdout(&run.concat());
    let network: Value =
        serde_json::from_str(&stdout(&["arch", "1", "--db", db, "--json"])).unwrap();
    assert_eq!(network["name"], "run_1");
    let image = "tests/it/fixtures/images/colour.bmp";
    let text = stdout(&["predict", "--arch", "1", "--db", db, "--input", image, "--json"]);
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["input"], image);
    let top = line["top"].as_array().unwrap();
    let probabilities: Vec<f64> =
        top.iter().map(|class| class["probability"].as_f64().unwrap()).collect();
    assert!(probabilities.is_sorted_by(|a, b| a >= b), "{probabilities:?}");
    assert!(probabilities.len() == 5 && probabilities.iter().sum::<f64>() <= 1.0 + 1e-9);
    assert!(top[0]["name"].as_str().unwrap().parse::<u32>().is_err(), "{line}");

    // A bare file name is in the current folder.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image_path = root.join(image);
    let arguments =
        ["predict", "--arch", "1", "--output", "logits.safetensors", "--db", db, "--input"];
    let mut command = repro(&arguments);
    let output = command.arg(image_path).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let logits = folder.path().join("logits.safetensors");
    let logits = candle_core::safetensors::load(logits, &candle_core::Device::Cpu).unwrap();
    assert_eq!(logits["logits"].dims(), [1, 10]);

    let error = |arguments: &[&str]| {
        let output = repro(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let none = error(&["predict", "--arch", "mnv2", "--input", image]);
    assert!(none.contains("--weights is needed"), "{none}");
    let weights = format!("{db}.weights/1.safetensors");
    let other = error(&["predict", "--arch", "mnv2", "--weights", &weights, "--input", image]);
    assert!(other.contains("does not have the weights of mnv2"), "{other}");
    let first = "backbone.stages.xif0_0.conv.weight is [8, 1, 3, 3], not [32, 3, 3, 3]";
    assert!(other.contains(first), "{other}");
}
