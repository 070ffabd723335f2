//! `repro space`: exact sizes and predicted memory.

use super::*;

#[test]
fn memory_of_supernets_is_predicted() {
    let space = "experiments/spaces/fbnetv2_f.toml";
    let needs = |batch: &str, method: &str, recompute: &str| -> f64 {
        let output = repro(&["space", space, "--json", "--batch", batch]).output().unwrap();
        let space: Value = serde_json::from_slice(&output.stdout).unwrap();
        let owners = space["memory"][method][recompute].as_object().unwrap().values();
        owners.map(|bytes| bytes.as_f64().unwrap()).sum()
    };
    let masked = needs("64", "masked", "recompute_none");
    assert!(needs("64", "masked", "recompute_block") < 0.5 * masked);
    // An explicit supernet holds the feature maps of every option of every block.
    assert!(needs("64", "explicit", "recompute_none") > 10.0 * masked);
    let growth = needs("128", "masked", "recompute_none") / masked;
    assert!((1.9..2.0).contains(&growth), "{growth}");
}

#[test]
fn the_size_of_a_space_is_exact() {
    let space = repro(&["space", "experiments/spaces/fbnetv2_f.toml", "--json"]).output().unwrap();
    let space: Value = serde_json::from_slice(&space.stdout).unwrap();
    let ways = |of: &Value| of["candidates"].as_str().unwrap().parse::<u128>().unwrap();
    let by = &space["by_dimension"];
    // 9 types in each of 6 stages.
    assert_eq!(ways(&by["block_type"]), 9_u128.pow(6));
    // 2, 4, 4, 7, 8 and 14 widths in 1, 3, 3, 3, 4 and 4 blocks.
    let widths = [(2, 1), (4, 3), (4, 3), (7, 3), (8, 4), (14, 4)];
    assert_eq!(
        ways(&by["width"]),
        widths.map(|(n, blocks)| u128::pow(n, blocks)).iter().product::<u128>()
    );
    let total = space["log10"].as_f64().unwrap();
    let factors = ["width", "expansion", "block_type", "resolution"].map(|d| ways(&by[d]) as f64);
    assert!((total - factors.map(f64::log10).iter().sum::<f64>()).abs() < 1e-9);
    assert_eq!(space["candidates"].as_str().unwrap().len(), total as usize + 1);
}

#[test]
fn a_manifest_is_not_a_space() {
    let output = repro(&["space", SMOKE]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("smoke.toml: is a manifest, not a search space"), "{said}");
    assert!(said.lines().count() <= 3, "{said}");
}
