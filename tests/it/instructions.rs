//! The numeric tests once more with each instruction set that the operators would use on an older
//! processor.

use crate::numbers::INSTRUCTIONS;
use repro::ops::instruction_set;
use std::process::Command;

/// Operators and blocks against plain references, and recomputation.
const TESTS: [&str; 4] = ["operators::", "blocks::", "inference::", "recompute::"];

#[test]
fn numeric_tests_pass_with_every_instruction_set() {
    let lesser: &[&str] = match instruction_set() {
        "AVX-512" => &["AVX2+FMA", "baseline"],
        "baseline" => &[],
        _ => &["baseline"],
    };
    for lesser in lesser {
        let tests = std::env::current_exe().unwrap();
        let output = Command::new(tests).args(TESTS).env(INSTRUCTIONS, lesser).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{lesser}: {said}");
        let passed = said.split(" passed").next().unwrap().rsplit(' ').next().unwrap();
        assert!(passed.parse::<usize>().unwrap() > 30, "{lesser}: {said}");
    }
}
