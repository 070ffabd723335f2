//! Mutated space files.

use super::*;
use crate::fuzz::{Outcome, Reader, files, leave};
use std::path::Path;

#[test]
fn mutated_space_files() {
    let folders = ["tests/it/refusals", "experiments/spaces"];
    let words = [
        "[[stage]]",
        "[head]",
        "[stem]",
        "[input]",
        "\"all\"",
        "{ low = 1, high = 4096, step = 1 }",
        "{ low = 1e-9, high = 16, step = 1e-300 }",
        "4096",
        "1e309",
        "nan",
        "[[]]",
        "\"\"\"",
        "=",
        "\n",
        "9223372036854775807",
        "\u{feff}",
        "[1, 2, 3]",
        "\"res3x3\"",
        "share_types = true",
    ];
    Reader {
        test: "space::tests::mutated_space_files",
        name: "space",
        inputs: folders.iter().flat_map(|folder| files(folder, &["toml"])).collect(),
        words: &words.map(str::as_bytes),
        cases: 4_000,
        mend: leave,
        read: &|bytes| {
            let text = String::from_utf8_lossy(bytes);
            Outcome::of(
                parse_space(&text, Path::new("space.toml")),
                (1 << 18) + 100 * bytes.len() as u64,
            )
        },
    }
    .check();
}
