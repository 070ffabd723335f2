//! The GPU's code on the emulator: the numeric tests once more, with several orders of threads.

mod library;

use crate::numbers::{EMULATOR, THREAD_ORDER};
use library::{Build, library};
use std::process::{Command, Output};

/// Runs the tests of this binary with `filter` in their path on the emulator.
fn tests_on_emulator(build: Build, order: u64, filter: &[&str]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(filter).env(EMULATOR, library(build)).env(THREAD_ORDER, order.to_string());
    command.output().unwrap()
}

#[test]
fn operators_pass_for_every_order_of_threads() {
    for order in 0..3 {
        let output = tests_on_emulator(Build::Plain, order, &["operators::"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "order {order}: {said}");
        let passed = said.split(" passed").next().unwrap().rsplit(' ').next().unwrap();
        assert!(passed.parse::<usize>().unwrap() > 20, "order {order}: {said}");
    }
}

/// Prints the path of the library, for a run of other tests by hand.
#[test]
#[ignore = "a tool"]
fn print_library() {
    println!("{}", library(Build::Plain).display());
}
