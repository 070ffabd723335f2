//! Compiles the emulator with all kernels of `src/ops` into a library, once per state of the sources.

use repro::ops::gpu::EMULATOR_SOURCES;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the kernels are compiled.
#[derive(Clone, Copy, Debug)]
pub enum Build {
    Plain,
    /// With the address and the undefined-behaviour sanitizer.
    Addresses,
    /// With the thread sanitizer.
    Threads,
}

/// The `.cu` files below `folder`, sorted.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "cu") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The folder of the operators.
pub fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops")
}

/// The path of the library for the kernels as they are.
pub fn library(build: Build) -> PathBuf {
    library_of(&ops(), build)
}

/// The same for another copy of the folder of the operators.
pub fn library_of(ops: &Path, build: Build) -> PathBuf {
    let gpu = ops.join("gpu");
    let mut kernels = String::from("#include \"emulator.h\"\n#include \"common.cuh\"\n");
    for source in sources(ops) {
        let text = fs::read_to_string(&source).unwrap();
        writeln!(kernels, "#line 1 \"{}\"\n{text}", source.display()).unwrap();
        for name in kernel_names(&text) {
            writeln!(kernels, "REGISTER({name})").unwrap();
        }
    }
    let headers =
        ["emulator.h", "common.cuh", "emulator.cpp", "emulator/fibres.h", "emulator/memory.h"];
    // Also what the flags below and the compiler are, so that a change of them compiles it again.
    let mut all = format!("{build:?}{EMULATOR_SOURCES}{kernels}{}", include_str!("library.rs"));
    all.push_str(&String::from_utf8_lossy(&compiler().arg("--version").output().unwrap().stdout));
    for header in headers {
        all.push_str(&fs::read_to_string(gpu.join(header)).unwrap());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulator");
    fs::create_dir_all(&folder).unwrap();
    let name = folder.join(format!("{:016x}", hash(&all)));
    let library = name.with_extension("so");
    // Test processes that run at the same time compile it once.
    let lock = fs::File::create(name.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !library.exists() {
        let source = name.with_extension("cpp");
        fs::write(&source, kernels).unwrap();
        compile(build, &gpu, &source, &library);
    }
    library
}

/// The names of the kernels of a `.cu` file.
pub fn kernel_names(text: &str) -> Vec<&str> {
    const BEFORE: &str = "extern \"C\" __global__ void ";
    let after_bounds = |rest| match str::strip_prefix(rest, "__launch_bounds__(") {
        Some(bounded) => bounded.split_once(')').map_or(rest, |(_, rest)| rest),
        None => rest,
    };
    let rests = text.split(BEFORE).skip(1).map(after_bounds);
    rests.map(|rest| rest.split('(').next().unwrap().trim()).collect()
}

fn compile(build: Build, gpu: &Path, kernels: &Path, library: &Path) {
    let (host, optimize, sanitizer): (&[&str], &str, &[&str]) = match build {
        Build::Plain => (&[], "-O2", &[]),
        Build::Addresses => (
            &["-DADDRESS_SANITIZER=1"],
            "-O1",
            &["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
        ),
        Build::Threads => (&["-DTHREAD_SANITIZER=1"], "-O1", &["-g", "-fsanitize=thread"]),
    };
    // A multiply-add is written where it is meant.
    let common = ["-std=c++17", "-fPIC", "-Wall", "-Werror", "-ffp-contract=off", "-I"];
    let object = library.with_extension("o");
    let partial = library.with_extension("partial");
    run(compiler()
        .args(common)
        .arg(gpu)
        .args(["-O2", "-c", "-o"])
        .arg(&object)
        .arg(format!("-DSOURCES=\"{EMULATOR_SOURCES}\""))
        .args(host)
        .arg(gpu.join("emulator.cpp")));
    run(compiler()
        .args(common)
        .arg(gpu)
        .args([optimize, "-shared", "-pthread", "-o"])
        .arg(&partial)
        .args(sanitizer)
        .arg(kernels)
        .arg(&object));
    fs::rename(partial, library).unwrap();
}

/// Compiles a program of `tests/it/gpu/` that includes the emulator, into `folder`.
pub fn program(name: &str, folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gpu").join(name);
    let program = folder.join("program");
    let flags = ["-std=c++17", "-O2", "-Wall", "-Werror", "-pthread", "-I"];
    run(compiler().args(flags).arg(ops().join("gpu")).arg("-o").arg(&program).arg(source));
    program
}

/// The sanitizers' libraries that a process needs from its start, for `LD_PRELOAD`.
pub fn preloaded(build: Build) -> String {
    let names: &[&str] = match build {
        Build::Plain => &[],
        Build::Addresses => &["libasan.so", "libubsan.so"],
        Build::Threads => &["libtsan.so"],
    };
    let path = |name: &&str| {
        let output = compiler().arg(format!("-print-file-name={name}")).output().unwrap();
        let path = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        assert!(Path::new(&path).is_absolute(), "{name} is missing; it comes with GCC");
        path
    };
    names.iter().map(path).collect::<Vec<_>>().join(":")
}

/// The C++ compiler of this machine.
fn compiler() -> Command {
    Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()))
}

fn run(command: &mut Command) {
    let output = command.output().expect("a C++ compiler is needed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
