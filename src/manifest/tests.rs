//! Mutated manifests.

use super::*;
use crate::fuzz::{Outcome, Reader, files, leave};
use std::fs;

/// Several settings.
const SWEEP: &str = "\n[sweep.grid]\nsearch.alpha.learning_rate = [0.1, 0.3]\n[sweep.zip]\n\
                     search.epochs = [4, 8]\ntrain.epochs = [5, 10]\n";

#[test]
fn mutated_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = files("tests/it/refusals", &["toml"]);
    inputs.extend(files("experiments", &["toml"]));
    // A sweep of the smoke manifest, small enough that most of its mutations have few points.
    let smoke = fs::read_to_string("experiments/smoke.toml").unwrap();
    inputs.push([smoke.as_bytes(), SWEEP.as_bytes()].concat());
    let space = fs::read_to_string("experiments/spaces/smoke.toml").unwrap();
    let names = ["spaces/smoke.toml", "space.toml"].map(|name| folder.path().join(name));
    fs::create_dir(folder.path().join("spaces")).unwrap();
    for name in names {
        fs::write(name, &space).unwrap();
    }
    let path = folder.path().join("manifest.toml");
    let words = [
        "[sweep.grid]",
        "[sweep.zip]",
        "[scaling]",
        "[search]",
        "seeds = [1]",
        "[1, 2]",
        "[0.1, 0.3]",
        "\"dmasking\"",
        "[\"dnas\", \"darts\"]",
        "macs = 1e6",
        "1e309",
        "nan",
        "-1",
        "18446744073709551616",
        "\"\"\"",
        "=",
        "\n",
        "\u{feff}",
    ];
    Reader {
        test: "manifest::tests::mutated_manifests",
        name: "manifest",
        inputs,
        words: &words.map(str::as_bytes),
        cases: 2_000,
        mend: leave,
        read: &|bytes| {
            fs::write(&path, bytes).unwrap();
            let loaded = load_points(&path, &Overrides::default(), &|_| Err(String::new()));
            let points = loaded.as_ref().map_or(1, Vec::len) as u64;
            Outcome::of(loaded, points * ((1 << 19) + 100 * bytes.len() as u64))
        },
    }
    .check();
}
