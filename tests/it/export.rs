//! Exported networks give the same logits elsewhere: `repro predict` is compared with ONNX Runtime and
//! PyTorch.
//!
//! `tests/export/check.py` runs them, by the Python of the variable [`PYTHON`], which `.ci/python` installs.

use crate::cli::repro;
use crate::numbers::{random, scramble};
use candle_core::{Device, Tensor, safetensors};
use repro::net::{Network, state_dict};
use repro::rng::Seed;
use repro::space::{ArchFile, ArchSpec};
use repro::zoo;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Names a Python that has the packages of `.ci/python`.
const PYTHON: &str = "REPRO_PYTHON";

/// The Python of [`PYTHON`]; says so where there is none.
#[allow(clippy::print_stderr)]
fn python() -> Option<PathBuf> {
    let python = std::env::var_os(PYTHON).map(PathBuf::from);
    if python.is_none() {
        eprintln!(
            "LEFT OUT: set {PYTHON} to run exported networks, as `eval \"$(bash .ci/python)\"` does"
        );
    }
    python
}

/// A folder for a network's files.
struct Exported {
    folder: TempDir,
    /// Arguments of `repro` that name the network and its weights.
    network: Vec<String>,
}

impl Exported {
    /// A network with random weights.
    fn random(network: &str, arch: &ArchSpec) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (_, mut params) = Network::of_arch(arch, Seed(3), &Device::Cpu).unwrap();
        scramble(&mut params, network);
        let state: HashMap<String, Tensor> =
            state_dict(arch, &params).unwrap().into_iter().collect();
        let weights = folder.path().join("given.safetensors");
        safetensors::save(&state, &weights).unwrap();
        let arguments = ["--arch", network, "--weights", weights.to_str().unwrap()];
        Self { folder, network: arguments.map(str::to_owned).to_vec() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn repro(&self, command: &str, arguments: &[&str]) -> String {
        let mut all = vec![command];
        all.extend(self.network.iter().map(String::as_str));
        let output = repro(&[&all, arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes images, the logits of `repro predict`, and every exported file.
    fn write(&self, channels: usize, side: usize) {
        let values: Vec<f32> =
            random("images", 3 * channels * side * side).into_iter().map(|v| v as f32).collect();
        let images = Tensor::from_vec(values, (3, channels, side, side), &Device::Cpu).unwrap();
        let input = self.path("input.safetensors");
        safetensors::save(&HashMap::from([("input", images)]), &input).unwrap();
        let logits = self.path("logits.safetensors");
        self.repro("predict", &["--input", &input, "--output", &logits]);
        for (format, file, fold) in [
            ("onnx", "plain.onnx", None),
            ("onnx", "folded.onnx", Some("--fold")),
            ("pytorch", "network.py", None),
        ] {
            let path = self.path(file);
            let mut arguments = vec!["--format", format, "--output", &path];
            arguments.extend(fold);
            let printed = self.repro("export", &arguments);
            assert_eq!(printed.lines().next(), Some(path.as_str()));
        }
    }

    /// Compares the logits of every exported file.
    fn check(&self, python: &Path) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export/check.py");
        let output = Command::new(python).arg(script).arg(self.folder.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let passed = text.lines().filter(|line| line.starts_with("passed ")).count();
        assert_eq!(passed, 3, "{text}");
    }
}

#[test]
fn a_published_network_gives_the_same_logits_elsewhere() {
    let arch = zoo::network("FBNetV2_F1").unwrap().arch;
    let exported = Exported::random("FBNetV2_F1", &arch);
    exported.write(arch.image_channels, arch.resolution);
    if let Some(python) = python() {
        exported.check(&python);
    }
}

#[test]
fn every_kind_of_layer_gives_the_same_logits_elsewhere() {
    let file = "tests/it/fixtures/networks/every_layer.toml";
    let arch = ArchFile::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap().arch;
    let exported = Exported::random(file, &arch);
    exported.write(arch.image_channels, arch.resolution);
    if let Some(python) = python() {
        exported.check(&python);
    }
}

#[test]
#[ignore = "takes minutes; it needs PyTorch and ONNX Runtime"]
fn all_published_networks_give_the_same_logits_elsewhere() {
    let python = python().unwrap();
    for name in zoo::names() {
        let arch = zoo::network(name).unwrap().arch;
        let exported = Exported::random(name, &arch);
        exported.write(arch.image_channels, arch.resolution);
        exported.check(&python);
    }
}
