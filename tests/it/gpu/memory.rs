//! The memory model of a GPU against steps on the emulator, whose tensors the allocator counts.

use super::library::{Build, library};
use crate::cli::repro;
use crate::memory_model::{assert_close, step_by};

#[test]
fn steps_on_a_gpu_match_the_memory_model() {
    let (one, several) = ("experiments/smoke.toml", "experiments/smoke_resolutions.toml");
    for (manifest, method) in [(one, "dnas"), (several, "dmasking")] {
        for recompute in ["none", "block"] {
            let sets = [format!("search.method={method}"), format!("search.recompute={recompute}")];
            let sets = ["--batch", "32", "--set", &sets[0], "--set", &sets[1]];
            let mut command = repro(&[]);
            command.env("REPRO_EMULATOR", library(Build::Plain));
            let arguments = [&["--device", "emulated"], &sets[..]].concat();
            let step = step_by(command, manifest, &arguments);
            assert_close(&step, &format!("{manifest} {sets:?}"));
        }
    }
}
