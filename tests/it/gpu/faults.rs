//! Eight deliberate faults in kernels and in their launches. The numeric tests must find each of them.

use super::library::{Build, library, library_of, ops};
use super::{outcome, tests_on};
use crate::numbers::FAULT;
use repro::ops::gpu::Fault;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A fault in a kernel: a text of its file is replaced by another.
struct KernelFault {
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    /// The build that finds it, and the tests.
    build: Build,
    tests: &'static str,
}

const IN_KERNELS: [KernelFault; 5] = [
    KernelFault {
        name: "index off by one",
        file: "norm/norm.cu",
        from: "dx[i] = share * dy[i];",
        to: "dx[i + 1] = share * dy[i];",
        build: Build::Plain,
        tests: "operators::norm",
    },
    KernelFault {
        name: "missing barrier",
        file: "gpu/common.cuh",
        from: "    shared[threadIdx.x] = value;\n    __syncthreads();",
        to: "    shared[threadIdx.x] = value;",
        build: Build::Plain,
        tests: "operators::norm",
    },
    KernelFault {
        name: "wrong stride",
        file: "norm/norm.cu",
        from: "z[(size_t)row * c + j];",
        to: "z[(size_t)row * (c - 1) + j];",
        build: Build::Plain,
        tests: "operators::norm",
    },
    KernelFault {
        name: "reduction that skips the tail",
        file: "gpu/sums.cu",
        from: "part < count; part += ROWS",
        to: "part + int(ROWS) <= count; part += ROWS",
        build: Build::Plain,
        tests: "operators::norm",
    },
    KernelFault {
        name: "race in shared memory",
        file: "gpu/common.cuh",
        from: "    __syncthreads();\n    shared[threadIdx.x] = value;",
        to: "    shared[threadIdx.x] = value;",
        build: Build::Threads,
        tests: "operators::norm",
    },
];

const IN_LAUNCHES: [(Fault, &str); 3] = [
    (Fault::SwappedLeadingDimensions, "operators::convolution"),
    (Fault::SmallScratch, "operators::norm"),
    (Fault::ShortGrid, "operators::norm"),
];

#[track_caller]
#[allow(clippy::print_stdout)]
fn assert_found(name: &str, command: &mut Command) {
    let (said, passed) = outcome(&command.output().unwrap());
    assert!(passed.is_none(), "{name} was not found: {said}");
    let evidence = ["WARNING: ThreadSanitizer", "panicked at"].iter().find_map(|sign| {
        let mut lines = said.lines().skip_while(|line| !line.contains(sign));
        let line = lines.next()?;
        // A panic's message is on the line behind its place.
        Some(if *sign == "panicked at" { lines.next()? } else { line })
    });
    let evidence = evidence.unwrap_or_else(|| panic!("{name}: no test has failed: {said}"));
    println!("{name}: found: {}", evidence.trim());
}

#[test]
fn deliberate_faults_in_kernels_are_found() {
    for fault in IN_KERNELS {
        let folder = tempfile::tempdir().unwrap();
        copy(&ops(), folder.path());
        let file = folder.path().join(fault.file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(fault.from), "{}: {} has changed", fault.name, fault.file);
        fs::write(&file, text.replace(fault.from, fault.to)).unwrap();
        let library = library_of(folder.path(), fault.build);
        assert_found(fault.name, &mut tests_on(&library, fault.build, 1, &[fault.tests]));
    }
}

#[test]
fn deliberate_faults_in_launches_are_found() {
    for (fault, tests) in IN_LAUNCHES {
        let mut command = tests_on(&library(Build::Plain), Build::Plain, 1, &[tests]);
        assert_found(&format!("{fault:?}"), command.env(FAULT, format!("{fault:?}")));
    }
}

/// Copies what the emulator is compiled from.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.path().extension().is_some_and(|end| end != "rs") {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
