//! Mutated manifests of studies.

use super::*;
use crate::fuzz::{Outcome, Reader, files, leave};
use crate::manifest::Overrides;
use std::fs;

#[test]
fn mutated_studies() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("spaces")).unwrap();
    fs::copy(
        "experiments/spaces/scaling_cifar.toml",
        folder.path().join("spaces/scaling_cifar.toml"),
    )
    .unwrap();
    let path = folder.path().join("manifest.toml");
    let is_study = |bytes: &Vec<u8>| bytes.windows(9).any(|window| window == b"[scaling]");
    let words = [
        "[scaling]",
        "[scaling.growth]",
        "seeds = [1]",
        "[1, 2, 4]",
        "width = [1, 64]",
        "repeats = 1000000",
        "most_bytes = 18446744073709551615",
        "1e309",
        "nan",
        "-1",
        "=",
        "\n",
        "\"\"\"",
        "[[]]",
    ];
    Reader {
        test: "study::tests::mutated_studies",
        name: "study",
        inputs: files("experiments", &["toml"]).into_iter().filter(is_study).collect(),
        words: &words.map(str::as_bytes),
        cases: 1_000,
        mend: leave,
        read: &|bytes| {
            fs::write(&path, bytes).unwrap();
            let loaded = load(&path, &Overrides::default());
            Outcome::of(loaded, (1 << 19) + 100 * bytes.len() as u64)
        },
    }
    .check();
}
