//! Tells the program what it was built from: the git revision and whether `src` differed from it,
//! the compiler, the versions of the libraries that do arithmetic. Read by `src/env.rs`. Without
//! git, or outside a checkout, the revision stays empty.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::Command;

/// What decides what the program computes.
const SOURCES: [&str; 6] = ["src", "migrations", "claims", "build.rs", "Cargo.toml", "Cargo.lock"];
const LIBRARIES: [&str; 2] = ["candle-core", "rayon"];

fn main() {
    for source in SOURCES {
        watch(source);
    }
    let [revision, dirty] = revision().unwrap_or_default();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let changes = if dirty == "true" { ", with changes" } else { "" };
    let version = match revision.get(..12) {
        Some(short) => format!("{} ({short}{changes})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    };
    println!("cargo::rustc-env=REPRO_VERSION={version}");
    let package = env!("CARGO_PKG_VERSION");
    if dirty == "false" {
        println!("cargo::rustc-env=REPRO_PACKAGE_VERSION={package}");
    } else {
        // No revision names these sources.
        let sources: Vec<u8> = SOURCES.iter().flat_map(|path| all_files(Path::new(path))).collect();
        println!("cargo::rustc-env=REPRO_PACKAGE_VERSION={package}+src.{:016x}", fnv1a(&sources));
    }
    println!("cargo::rustc-env=REPRO_GIT_REVISION={revision}");
    println!("cargo::rustc-env=REPRO_GIT_DIRTY={dirty}");
    println!("cargo::rustc-env=REPRO_RUSTC={}", output(&rustc, &["-V"]).unwrap_or_default());
    println!("cargo::rustc-env=REPRO_LIBRARIES={}", libraries());
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        cuda();
    }
    if std::env::var_os("CARGO_FEATURE_EMULATOR").is_some() {
        let sources = gpu_sources(Path::new("src/ops"));
        println!("cargo::rustc-env=REPRO_EMULATOR_SOURCES={:016x}", fnv1a(&sources));
    }
}

/// The kernels and the emulator that runs them.
fn gpu_sources(folder: &Path) -> Vec<u8> {
    files(folder, &|path| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("cu" | "cuh" | "cpp" | "h"))
    })
}

/// All files below a path.
fn all_files(path: &Path) -> Vec<u8> {
    files(path, &|_| true)
}

/// A file, or those in a folder and the folders in it, sorted by path, each behind its path.
fn files(path: &Path, is_chosen: &dyn Fn(&Path) -> bool) -> Vec<u8> {
    if !path.is_dir() {
        let is_chosen = is_chosen(path);
        let name = path.as_os_str().as_encoded_bytes();
        let text = || std::fs::read(path).unwrap_or_default();
        return if is_chosen { [name, &text()].concat() } else { Vec::new() };
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| files(path, is_chosen)).collect()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Lets the program find the toolkit's libraries where it was built, and know for which GPUs candle's
/// kernels were compiled.
fn cuda() {
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
    if let Ok(home) = std::env::var("CUDA_HOME") {
        for folder in ["lib64", "lib"] {
            if Path::new(&home).join(folder).is_dir() {
                println!("cargo::rustc-link-arg=-Wl,-rpath,{home}/{folder}");
            }
        }
    }
    if let Ok(compute) = std::env::var("CUDA_COMPUTE_CAP") {
        println!("cargo::rustc-env=REPRO_CUDA_COMPUTE_CAP={compute}");
    }
}

/// A path that does not exist would make cargo run this script at every build.
fn watch(path: &str) {
    if Path::new(path).exists() {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// The checkout's revision, and `true` or `false`: whether the sources differ from it.
fn revision() -> Option<[String; 2]> {
    let top = output("git", &["rev-parse", "--show-toplevel"])?;
    // Unpacked inside somebody else's checkout, the program is not of that revision.
    if Path::new(&top).canonicalize().ok()? != Path::new(".").canonicalize().ok()? {
        return None;
    }
    let branch = output("git", &["symbolic-ref", "--quiet", "HEAD"]);
    // The log of HEAD also tells of the first commit after refs were packed.
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        watch(&output("git", &["rev-parse", "--git-path", name])?);
    }
    let revision = output("git", &["rev-parse", "HEAD"])?;
    // Without optional locks, since refreshing the index would itself be a change.
    let status = ["--no-optional-locks", "status", "--porcelain", "--"];
    let changes = output("git", &[&status[..], &SOURCES].concat())?;
    Some([revision, (!changes.is_empty()).to_string()])
}

/// `name version, name version`, from the lock file.
fn libraries() -> String {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let value = |line: &str, key: &str| {
        Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.trim_end_matches('"').to_owned())
    };
    let lines: Vec<&str> = lock.lines().collect();
    let packages = lines.windows(2).filter_map(|pair| {
        let (name, version) = (value(pair[0], "name")?, value(pair[1], "version")?);
        LIBRARIES.contains(&name.as_str()).then(|| format!("{name} {version}"))
    });
    packages.collect::<Vec<_>>().join(", ")
}

/// What a command says, if it succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
