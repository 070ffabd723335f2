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
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Names a Python that has the packages of `.ci/python`.
const PYTHON: &str = "REPRO_PYTHON";

/// The Python of [`PYTHON`]; says so where there is none.
#[allow(clippy::print_stderr)]
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os(PYTHON).map(PathBuf::from);
    if python.is_none() {
        eprintln!(
            "LEFT OUT: set {PYTHON} to open exported files, as `eval \"$(bash .ci/python)\"` does"
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
        scramble(&mut params, &arch.id());
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
}

/// Compares the logits of every exported file of these networks with those of `repro predict`.
fn check(networks: &[Exported]) {
    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export/check.py");
    let folders = networks.iter().map(|exported| exported.folder.path());
    let output = Command::new(python).arg(script).args(folders).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let passed = text.lines().filter(|line| line.starts_with("passed ")).count();
    assert_eq!(passed, 3 * networks.len(), "{text}");
}

#[test]
fn a_published_network_gives_the_same_logits_elsewhere() {
    let arch = zoo::network("FBNetV2_F1").unwrap().arch;
    let exported = Exported::random("FBNetV2_F1", &arch);
    exported.write(arch.image_channels, arch.resolution);
    check(&[exported]);
}

#[test]
fn every_kind_of_layer_gives_the_same_logits_elsewhere() {
    let file = "tests/it/fixtures/networks/every_layer.toml";
    let arch = ArchFile::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap().arch;
    let exported = Exported::random(file, &arch);
    exported.write(arch.image_channels, arch.resolution);
    check(&[exported]);
}

/// A run on images of 28x28 pixels whose network has a resolution of 20, a skip and no residual block.
/// A network that a run has found: with squeeze-excite, a skip, a residual block, and a resolution below that of the
/// images.
fn searched() -> Exported {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("results.db").to_str().unwrap().to_owned();
    let space = fs::read_to_string("experiments/spaces/smoke_resolutions.toml").unwrap();
    let types = "[\"k3_hswish\", \"k5_hswish_se\", \"skip\"]";
    assert!(space.contains(types));
    let space = space.replace(types, "[\"k5_hswish_se\", \"skip\", \"res3x3\"]");
    let file = folder.path().join("space.toml");
    fs::write(&file, space.replace("blocks = 2", "blocks = 4").replace("[14, 20, 28]", "[20, 28]"))
        .unwrap();
    let space = format!("space={:?}", file.to_str().unwrap());
    let sets = ["search.method=random", "train.epochs=1", "scale=0.2", &space];
    let sets = sets.map(|set| ["--set", set]).concat();
    // Runs have the numbers of their seeds.
    for seed in 1..40_u32 {
        let seed = seed.to_string();
        let run = ["run", "experiments/smoke_resolutions.toml", "--db", &database, "--seed", &seed];
        let output = repro(&[&run[..], &sets].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let network = ["--arch", &seed, "--db", &database].map(str::to_owned).to_vec();
        let json = repro(&["arch", &seed, "--db", &database, "--json"]).output().unwrap();
        let json = String::from_utf8(json.stdout).unwrap();
        let wanted = ["\"resolution\":20", "\"op\":\"identity\"", "\"op\":\"residual\""];
        let squeezes = json.split("\"squeeze\":").skip(1).any(|rest| !rest.starts_with("null"));
        if squeezes && wanted.iter().all(|wanted| json.contains(wanted)) {
            return Exported { folder, network };
        }
    }
    panic!("no network with every kind of block")
}

#[test]
fn a_searched_network_gives_the_same_logits_elsewhere() {
    let exported = searched();
    let arch = exported.repro("export", &["--format", "json"]);
    assert_eq!(ArchSpec::from_json(&arch).unwrap().resolution, 20);
    // The exported network subsamples the images itself.
    exported.write(1, 28);
    let weights = exported.path("network.safetensors");
    let run = &exported.network[1];
    let own = exported.path(&format!("results.db.weights/{run}.safetensors"));
    assert!(fs::read(weights).unwrap() == fs::read(own).unwrap(), "the weights differ");
    let source = fs::read_to_string(exported.path("network.py")).unwrap();
    for line in ["SIDE = 28", "RESOLUTION = 20", &format!("RUN = {run}"), "MEAN = [0.286]"] {
        assert!(source.lines().any(|other| other == line), "{line}: {source}");
    }
    check(&[exported]);
}

#[test]
fn equal_networks_give_equal_files() {
    let file = "tests/it/fixtures/networks/every_layer.toml";
    let arch = ArchFile::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap().arch;
    let (one, other) = (Exported::random(file, &arch), Exported::random(file, &arch));
    for format in ["onnx", "pytorch", "safetensors", "toml", "json"] {
        let files = [&one, &other].map(|exported| {
            let ending = if format == "pytorch" { "py" } else { format };
            let path = exported.path(&format!("network.{ending}"));
            let arguments = ["--format", format, "--output", &path];
            if matches!(format, "toml" | "json") {
                let mut command = repro(&["export", file]);
                assert!(command.args(arguments).output().unwrap().status.success());
            } else {
                exported.repro("export", &arguments);
            }
            fs::read(path).unwrap()
        });
        assert!(files[0] == files[1], "{format}");
    }
    let written = Path::new(&one.path("network.toml")).to_owned();
    assert_eq!(ArchFile::load(&written).unwrap().arch, arch);
    let written = fs::read_to_string(one.path("network.json")).unwrap();
    assert_eq!(ArchSpec::from_json(&written).unwrap(), arch);
}

#[test]
fn mistakes_are_refused() {
    let exported = Exported::random("mnv3_small", &zoo::network("mnv3_small").unwrap().arch);
    let given = exported.path("given.safetensors");
    let python = exported.path("given.py");
    let cases: [(&[&str], &str); 5] = [
        (&["mnv2", "--format", "onnx"], "--weights is needed: mnv2 comes without weights"),
        (&["mnv2", "--format", "toml", "--fold"], "--fold is for --format onnx"),
        (
            &["mnv2", "--format", "json", "--weights", &given],
            "--weights is for formats with weights",
        ),
        (&["mnv2", "--format", "onnx", "--weights", &given], "does not have the weights of mnv2"),
        (
            &["mnv3_small", "--format", "pytorch", "--weights", &given, "--output", &python],
            "would overwrite",
        ),
    ];
    for (arguments, expected) in cases {
        let output = repro(&[&["export"], arguments].concat()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn all_published_networks_give_the_same_logits_elsewhere() {
    let networks: Vec<Exported> = zoo::names()
        .map(|name| {
            // Small images, for time.
            let mut network = zoo::network(name).unwrap();
            network.arch.resolution = 64;
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(format!("{name}.toml"));
            fs::write(&file, network.to_toml()).unwrap();
            let exported = Exported::random(file.to_str().unwrap(), &network.arch);
            exported.write(network.arch.image_channels, network.arch.resolution);
            exported
        })
        .collect();
    check(&networks);
}
