//! What is wrong with a manifest or a space is said with file, line, key and what is allowed.

use repro::manifest::{self, Overrides};
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_shipped_manifest_is_accepted() {
    let path = root().join("experiments/fbnetv2_f.toml");
    let manifest = manifest::load(&path, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(manifest.text, std::fs::read_to_string(path).unwrap());
    assert_eq!(manifest.seeds, [1]);
}
