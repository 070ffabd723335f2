//! Networks with trained weights: prediction, evaluation and export, and what they refuse.

use super::*;
use candle_core::{DType, Device, Tensor, safetensors};
use std::collections::HashMap;
use std::fs;
use std::process::Output;

impl Sandbox {
    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Executes a short run, which is run 1.
    fn trained() -> Self {
        let sandbox = Self::new();
        let sets = ["search.method=random", "train.epochs=1", "scale=0.2"];
        let runs = sandbox.smoke(&sets.map(|set| ["--set", set]).concat());
        assert_eq!(runs[0]["status"], "finished");
        let network = sandbox.repro(&["arch", "1", "--toml"]).output().unwrap().stdout;
        fs::write(sandbox.file("found.toml"), network).unwrap();
        sandbox
    }

    fn weights(&self) -> String {
        self.file("results.db.weights/1.safetensors")
    }

    /// The weights of run 1 after a change, without what they say of the run.
    fn changed(&self, change: impl FnOnce(&mut HashMap<String, Tensor>)) -> String {
        let mut state = safetensors::load(self.weights(), &Device::Cpu).unwrap();
        change(&mut state);
        let file = self.file("changed.safetensors");
        safetensors::save(&state, &file).unwrap();
        file
    }

    fn image(&self, name: &str) -> String {
        let file = self.file(name);
        fs::write(&file, [b"P5\n28 28\n255\n".to_vec(), vec![100; 28 * 28]].concat()).unwrap();
        file
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> String {
        let file = self.file(name);
        let input = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        safetensors::save(&HashMap::from([("input", input)]), &file).unwrap();
        file
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.repro(arguments).output().unwrap()
    }

    /// What a command says that ends with this exit code.
    fn said(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The same with so many KiB of address space.
    fn said_within(&self, kib: u32, code: i32, arguments: &[&str]) -> String {
        let command = self.repro(arguments);
        let line = format!("ulimit -v {kib}; exec \"$0\" \"$@\"");
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", &line]).arg(command.get_program()).args(command.get_args());
        limited.current_dir(env!("CARGO_MANIFEST_DIR")).env("REPRO_DB", self.database());
        let output = limited.env("RAYON_NUM_THREADS", "1").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn shapes_are_compared_before_memory_is_taken() {
    let sandbox = Sandbox::trained();
    let text = fs::read_to_string(sandbox.file("found.toml")).unwrap();
    let huge = text.lines().map(|line| match line.split_once("width = ") {
        Some((before, _)) if line.starts_with("width") => format!("{before}width = 60000\n"),
        _ => {
            line.replace(", squeeze = 4", "")
                .replace("mid = ", "mid = 60")
                .replace(", width = ", ", width = 60")
                + "\n"
        }
    });
    let (network, huge): (_, String) = (sandbox.file("huge.toml"), huge.collect());
    fs::write(&network, huge.replace("squeeze = ", "squeeze = 60")).unwrap();
    let (weights, image) = (sandbox.weights(), sandbox.image("a.pgm"));
    let given = ["--arch", &network, "--weights", &weights];
    for command in [
        &["predict", "--input", &image][..],
        &["export", "--format", "onnx"],
        &["eval", "--data", "fashion-mnist-slice"],
    ] {
        let said = sandbox.said_within(1_000_000, 2, &[command, &given].concat());
        assert!(said.contains("does not have the weights of run_1"), "{said}");
        assert!(said.contains("more\n"), "{said}");
    }
    let smoke = fs::read_to_string(SMOKE).unwrap();
    let (data, train) = (smoke.find("[data]").unwrap(), smoke.find("[train]").unwrap());
    let search = smoke[data..].find("[search]").unwrap() + data;
    let (data, train) = (&smoke[data..search], &smoke[train..]);
    let manifest = sandbox.file("given.toml");
    let given = format!("name = 'given'\narch = {network:?}\ninit = {weights:?}\nseeds = [1]\n");
    fs::write(&manifest, format!("{given}{data}{train}")).unwrap();
    let said = sandbox.said_within(1_000_000, 2, &["check", &manifest]);
    assert!(said.contains("init: ") && said.contains("does not have the weights"), "{said}");
    // The memory check comes before the weights are read.
    let said = sandbox.said_within(1_000_000, 1, &["run", &manifest]);
    assert!(said.contains("the training of the network needs about"), "{said}");
}

#[test]
fn inference_that_does_not_fit_into_memory_is_refused() {
    let sandbox = Sandbox::trained();
    let text = fs::read_to_string(sandbox.file("found.toml")).unwrap();
    let network = sandbox.file("large.toml");
    fs::write(&network, text.replace("resolution = 28", "resolution = 4000")).unwrap();
    let (weights, image) = (sandbox.changed(|_| {}), sandbox.image("a.pgm"));
    let given = ["--arch", &network, "--weights", &weights, "--threads", "1"];
    for command in [&["predict", "--input", &image][..], &["eval", "--data", "fashion-mnist-slice"]]
    {
        let said = sandbox.said_within(1_000_000, 1, &[command, &given].concat());
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("of 4000x4000 pixels needs about"), "{said}");
    }
    fs::write(&network, text.replace("resolution = 28", "resolution = 500")).unwrap();
    let eval = ["eval", "--data", "fashion-mnist-slice", "--batch", "65536"];
    let said = sandbox.said_within(700_000, 1, &[&eval[..], &given].concat());
    assert!(said.contains("inference on 200 images of 500x500 pixels needs about"), "{said}");
    assert!(said.contains("; --batch "), "{said}");
    // Prediction takes smaller batches instead.
    let images: Vec<&str> = std::iter::repeat_n(&image[..], 24).collect();
    let predict = [&["predict", "--input"][..], &images, &given].concat();
    assert_eq!(sandbox.said_within(700_000, 0, &predict), "");
}

#[test]
fn a_damaged_image_is_left_out_of_a_prediction() {
    let sandbox = Sandbox::trained();
    let (image, lost) = (sandbox.image("a.pgm"), sandbox.file("lost.pgm"));
    let damaged = sandbox.file("damaged.pgm");
    fs::write(&damaged, b"P5\n28 28\n255\nx").unwrap();
    let inputs = ["--input", &image, &damaged, &lost, &image];
    let output = sandbox.output(&[&["predict", "--arch", "1", "--json"], &inputs[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = json_lines(&output.stdout);
    assert_eq!(lines.iter().filter(|line| line["top"].is_array()).count(), 2, "{lines:?}");
    let of_damaged = lines.iter().find(|line| line["input"] == damaged.as_str()).unwrap();
    assert!(of_damaged["damaged"].as_str().unwrap().contains("damaged.pgm"), "{lines:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("lost.pgm") && said.ends_with("2 of 4 images cannot be read\n"),
        "{said}"
    );
    let logits = sandbox.file("logits.safetensors");
    let said =
        sandbox.said(1, &[&["predict", "--arch", "1", "--output", &logits], &inputs[..]].concat());
    assert!(said.contains("nothing was written"), "{said}");
    assert!(!Path::new(&logits).exists());
}

#[test]
fn batches_do_not_change_predictions() {
    let sandbox = Sandbox::trained();
    let input = sandbox.tensor("many.safetensors", &[70, 1, 28, 28]);
    let output = sandbox.output(&["predict", "--arch", "1", "--json", "--input", &input]);
    let lines = json_lines(&output.stdout);
    assert_eq!(lines.len(), 70);
    assert!(lines.iter().all(|line| line["top"] == lines[0]["top"]), "{lines:?}");
    assert_eq!(lines[69]["input"], "input 70");
}

#[test]
fn tensors_that_are_no_input_are_described() {
    let sandbox = Sandbox::trained();
    for (shape, problem) in [
        (&[1, 1, 28, 30][..], "has the shape [1, 1, 28, 30], not [n, 1, side, side]"),
        (&[28, 28], "has the shape [28, 28], not [n, 1, side, side]"),
        (&[1, 3, 28, 28], "has the shape [1, 3, 28, 28], not [n, 1, side, side]"),
        (&[2, 1, 14, 14], "its images have 14x14 pixels, but run_1 takes 28x28 or more"),
    ] {
        let input = sandbox.tensor("input.safetensors", shape);
        let said = sandbox.said(1, &["predict", "--arch", "1", "--input", &input]);
        assert!(said.contains(&input) && said.contains(problem), "{said}");
    }
}

#[test]
fn evaluations_at_once_are_all_stored() {
    let sandbox = Sandbox::trained();
    let eval = || {
        plain(&sandbox.repro(&["eval", "--arch", "1", "--json"]))
            .stdout(std::process::Stdio::piped())
            .spawn()
    };
    let all: Vec<_> = (0..5).map(|_| eval().unwrap()).collect();
    let ids = all.into_iter().map(|process| {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        json_lines(&output.stdout)[0]["run_id"].as_i64().unwrap()
    });
    let ids: std::collections::BTreeSet<i64> = ids.collect();
    assert_eq!(ids, (2..7).collect());
}

#[test]
fn changed_weights_of_a_run_are_refused() {
    let sandbox = Sandbox::trained();
    let mut bytes = fs::read(sandbox.weights()).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(sandbox.weights(), bytes).unwrap();
    let image = sandbox.image("a.pgm");
    let expected = "not all the weights that run 1 ended with";
    let check = sandbox.output(&["db", "check"]);
    assert!(String::from_utf8(check.stdout).unwrap().contains(expected));
    for command in [
        &["predict", "--arch", "1", "--input", &image][..],
        &["eval", "--arch", "1"],
        &["export", "1", "--format", "onnx"],
    ] {
        let said = sandbox.said(1, command);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn missing_weights_are_explained() {
    let sandbox = Sandbox::trained();
    fs::remove_file(sandbox.weights()).unwrap();
    let said = sandbox.said(1, &["export", "1", "--format", "onnx"]);
    assert!(said.contains("run 1 is finished, but") && said.contains("has been removed"), "{said}");
    // Each step multiplies the weights by -99 until they overflow.
    let wild = ["search.weights.learning_rate=100", "search.weights.weight_decay=1"];
    let failed = sandbox.smoke(&wild.map(|set| ["--set", set]).concat());
    assert_eq!(failed[0]["status"], "failed", "{failed:?}");
    let said = sandbox.said(1, &["eval", "--arch", "2"]);
    assert!(said.contains("run 2 failed before it had a network; `repro resume 2`"), "{said}");
    let sets = ["search.method=random", "train.epochs=1", "scale=0.1"];
    let sets = sets.map(|set| ["--set", set]).concat();
    sandbox.smoke(&[&sets[..], &["--discard-weights"]].concat());
    let said = sandbox.said(1, &["eval", "--arch", "3"]);
    assert!(said.contains("run 3 was executed with --discard-weights"), "{said}");
}

#[test]
fn values_that_no_training_gives_are_refused() {
    let sandbox = Sandbox::trained();
    let (name, image) = ("backbone.stages.xif0_0.bn.running_var", sandbox.image("a.pgm"));
    for (value, problem) in
        [(-1.0, "has negative variances"), (f32::NAN, "has values that are not finite")]
    {
        let weights = sandbox.changed(|state| {
            let tensor = &state[name];
            let values = vec![value; tensor.elem_count()];
            let values = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap();
            state.insert(name.to_owned(), values);
        });
        let network = sandbox.file("found.toml");
        let given = ["--arch", &network, "--weights", &weights];
        for command in [&["export", "--format", "onnx"][..], &["predict", "--input", &image]] {
            let said = sandbox.said(1, &[command, &given].concat());
            assert!(said.contains(&format!("{name} {problem}")), "{said}");
        }
    }
}

#[test]
fn the_number_of_classes_is_named_where_nothing_else_differs() {
    let sandbox = Sandbox::trained();
    let text = fs::read_to_string(sandbox.file("found.toml")).unwrap();
    let network = sandbox.file("other.toml");
    fs::write(&network, text.replace("classes = 10", "classes = 7")).unwrap();
    let given = ["--arch", &network, "--weights", &sandbox.weights()];
    let said = sandbox.said(2, &[&["export", "--format", "onnx"], &given[..]].concat());
    assert!(said.contains("these weights fit the same network with 10 classes"), "{said}");
}

#[test]
fn names_in_messages_are_escaped() {
    let sandbox = Sandbox::trained();
    let weights = sandbox.changed(|state| {
        let tensor = state.remove("head.conv.bias").unwrap();
        state.insert("evil\n\u{1b}[31mred".to_owned(), tensor);
    });
    let given = ["--arch", &sandbox.file("found.toml"), "--weights", &weights];
    let said = sandbox.said(2, &[&["export", "--format", "onnx"], &given[..]].concat());
    assert!(said.contains("head.conv.bias [10] is missing"), "{said}");
    assert!(said.contains(r"evil\n\u{1b}[31mred is not one of the network's"), "{said}");
    assert!(said.contains("`repro arch NETWORK --tensors`"), "{said}");
}

#[test]
fn the_tensors_of_a_network_are_listed() {
    let output = repro(&["arch", "FBNetV2_F1", "--tensors"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.ends_with("[1000, 1600, 1, 1]")), "{text}");
    assert!(text.contains("backbone.stages.xif0_0.bn.running_mean "), "{text}");
}

#[test]
fn what_does_not_exist_exits_with_2() {
    let sandbox = Sandbox::trained();
    let image = sandbox.image("a.pgm");
    let commands = [
        &["arch", "9"][..],
        &["predict", "--arch", "9", "--input", &image],
        &["eval", "--arch", "9"],
        &["export", "9", "--format", "onnx"],
    ];
    for command in commands {
        let said = sandbox.said(2, command);
        assert!(said.contains("holds no run 9"), "{said}");
        let said = sandbox.said(2, &[command, &["--db", "nowhere/results.db"]].concat());
        assert!(said.contains("there is no database at nowhere/results.db"), "{said}");
    }
    sandbox.said(2, &["list", "--db", "nowhere/results.db"]);
}

#[test]
fn a_failed_evaluation_names_its_run_and_error() {
    let sandbox = Sandbox::trained();
    let classes = sandbox.repro(&["show", "1", "--json"]).output().unwrap();
    assert!(classes.status.success());
    // Two of the run's classes, with images that cannot be read.
    for class in ["Coat", "Bag"] {
        let folder = sandbox.folder.path().join("images").join(class);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.png"), b"no image").unwrap();
    }
    let images = sandbox.file("images");
    let output = sandbox.output(&["eval", "--arch", "1", "--data", &images, "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let line = &json_lines(&output.stdout)[0];
    assert_eq!((&line["status"], &line["run_id"]), (&"failed".into(), &2.into()), "{line}");
    assert!(line["error"].as_str().unwrap().contains("none of the 2 images can be read"), "{line}");
}

#[test]
fn an_evaluation_says_where_it_looks_for_the_images_of_a_run() {
    let sandbox = Sandbox::trained();
    let network = fs::read_to_string(sandbox.file("found.toml")).unwrap();
    let network =
        network.replace("channels = 1", "channels = 3").replace("classes = 10", "classes = 2");
    fs::write(sandbox.file("found.toml"), network).unwrap();
    for part in ["train", "val"] {
        for class in ["cat", "dog"] {
            let folder = format!("data/pets/{part}/{class}");
            fs::create_dir_all(sandbox.file(&folder)).unwrap();
            for i in 0..2 {
                sandbox.image(&format!("{folder}/{i}.pgm"));
            }
        }
    }
    let manifest = sandbox.file("pets.toml");
    let text = "name = 'pets'\narch = 'found.toml'\nseeds = [1]
        [data]\ndataset = 'image-folder'\nfolder = 'pets'\nside = 28\nvalidation_images = 0
        [train]\nepochs = 1\nbatch_size = 2\nlabel_smoothing = 0
        [train.optimizer]\nlearning_rate = 0.01\nmomentum = 0.9\nweight_decay = 0\nschedule = 'constant'\n";
    fs::write(&manifest, text).unwrap();
    let data = sandbox.file("data");
    sandbox.said(0, &["run", &manifest, "--data", &data]);
    let said = sandbox.said(1, &["eval", "--arch", "2"]);
    assert!(
        said.contains("pets does not exist") && said.contains("set REPRO_DATA to the folder"),
        "{said}"
    );
    let output = sandbox.repro(&["eval", "--arch", "2"]).env("REPRO_DATA", data).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn outputs_name_folders_that_do_not_exist() {
    let sandbox = Sandbox::trained();
    let output = sandbox.file("lost/net\nwork.onnx");
    let said = sandbox.said(2, &["export", "1", "--format", "onnx", "--output", &output]);
    assert!(said.contains(r"net\nwork.onnx lies in a folder that does not exist"), "{said}");
    assert!(!said.contains("part-"), "{said}");
}

#[test]
fn the_example_of_a_given_network_is_complete() {
    let sandbox = Sandbox::new();
    let manual = fs::read_to_string("docs/manifest.md").unwrap();
    let (_, rest) = manual.split_once("### Training a given network: `arch`").unwrap();
    let lines = rest.lines().skip_while(|line| !line.starts_with("    "));
    let example = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    let manifest = sandbox.file("given.toml");
    fs::write(&manifest, example.map(|line| format!("{}\n", line.trim())).collect::<String>())
        .unwrap();
    sandbox.said(0, &["check", &manifest]);
    let output = sandbox.output(&["check", &manifest]);
    let text = String::from_utf8(output.stdout).unwrap();
    // Without a description, its name stands alone.
    assert!(text.contains("\n  given\n"), "{text}");
    let said = sandbox.said(2, &["check", &manifest, "--set", "resolution=4096"]);
    assert!(said.contains("give resolution = 32; images are scaled to at most 1024"), "{said}");
}

#[test]
fn the_next_commands_are_printed_once() {
    let sandbox = Sandbox::new();
    let sets = ["search.method=random", "train.epochs=1", "scale=0.1"];
    let sets = sets.map(|set| ["--set", set]).concat();
    let run = ["run", SMOKE, "--jobs", "2", "--seed", "1", "--seed", "2"];
    let output = sandbox.output(&[&run[..], &sets].concat());
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(said.matches("next: ").count(), 1, "{said}");
}
