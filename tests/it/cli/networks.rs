//! Given networks: trained by a manifest, from weights or not, all of a space, and evaluated.

use super::*;
use repro::data::{self, Dataset};
use repro::recipe::DatasetName;
use serde_json::json;
use std::fs;
use std::io::BufWriter;

/// Settings that shorten a run.
const SHORT: [&str; 4] = ["--set", "train.epochs=2", "--set", "scale=0.4"];

/// The sections `[data]` and `[train]` of the smoke experiment, short.
fn recipe() -> String {
    let text = fs::read_to_string(SMOKE).unwrap();
    let (data, train) = (text.find("[data]").unwrap(), text.find("[train]").unwrap());
    let search = text[data..].find("[search]").unwrap() + data;
    format!("{}{}", &text[data..search], text[train..].replace("epochs = 5", "epochs = 2"))
}

impl Sandbox {
    fn manifest(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.repro(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, manifest: &str, arguments: &[&str]) -> Vec<Value> {
        json_lines(self.stdout(&[&["run", manifest, "--json"], arguments].concat()).as_bytes())
    }

    fn eval(&self, arguments: &[&str]) -> Value {
        let text = self.stdout(&[&["eval", "--json", "--arch"], arguments].concat());
        serde_json::from_str(&text).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.repro(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn a_found_network_is_trained_again_to_the_same_weights() {
    let sandbox = Sandbox::new();
    // Its resolution may be smaller than the images, which it then subsamples.
    let found = sandbox.run(
        "experiments/smoke_resolutions.toml",
        &[&["--seed", "1", "--set", "search.method=random"][..], &SHORT].concat(),
    );
    let text = fs::read_to_string("experiments/smoke_resolutions.toml").unwrap();
    let (data, train) = (text.find("[data]").unwrap(), text.find("[train]").unwrap());
    let search = text[data..].find("[search]").unwrap() + data;
    let recipe = format!("{}{}", &text[data..search], &text[train..]);
    let given = format!("name = 'given'\narch = 1\nseeds = [1]\n{recipe}");
    let again = sandbox.run(&sandbox.manifest("given.toml", &given), &SHORT);
    assert_eq!(again[0]["method"], "given");
    for key in ["weights_sha256", "test_top1", "arch_id", "macs"] {
        assert_eq!(again[0][key], found[0][key], "{key}");
    }
    // Its file gives the same, and counts as the same run.
    let network = sandbox.manifest("found.toml", &sandbox.stdout(&["arch", "1", "--toml"]));
    let by_file = given.replace("arch = 1", &format!("arch = '{network}'"));
    let third = sandbox.run(&sandbox.manifest("by_file.toml", &by_file), &SHORT);
    assert_eq!(third[0]["run_id"], again[0]["run_id"]);
}

#[test]
fn training_continues_from_weights() {
    let sandbox = Sandbox::new();
    sandbox.smoke(&[&["--set", "search.method=random"][..], &SHORT].concat());
    let weights = sandbox.folder.path().join("results.db.weights/1.safetensors");
    let given = format!("name = 'on'\narch = 1\ninit = '{}'\nseeds = [1]\n", weights.display());
    let slow = recipe().replace("learning_rate = 0.1", "learning_rate = 1e-9");
    let manifest = sandbox.manifest("on.toml", &format!("{given}{slow}"));
    let run = sandbox.run(&manifest, &[]);
    // At this rate weights hardly move; running statistics do.
    let after = sandbox.show(&run[0]);
    let tensors = |id: &Value| {
        let file = format!("results.db.weights/{id}.safetensors");
        let file = sandbox.folder.path().join(file);
        let all = candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap();
        all.into_iter().collect::<BTreeMap<_, _>>()
    };
    let (before, now) = (tensors(&json!(1)), tensors(&run[0]["run_id"]));
    for (name, tensor) in &before {
        let difference = (tensor - &now[name]).unwrap().abs().unwrap().flatten_all().unwrap();
        let most = difference.max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(most < 1e-5 || name.contains(".running_"), "{name}: {most}");
    }
    let stored = after["manifest"]["text"].as_str().unwrap_or_default();
    assert!(stored.contains("init_sha256"), "{after}");

    let pinned = format!("{given}init_sha256 = '{}'\n{slow}", "0".repeat(64));
    let error = sandbox.refused(&["check", &sandbox.manifest("pinned.toml", &pinned)]);
    assert!(error.contains("init_sha256") && error.contains("has the SHA-256"), "{error}");
    let other = format!("{given}{slow}").replace("arch = 1", "arch = 'mnv2'");
    let other = other.replace("seeds", "resolution = 28\nclasses = 10\nseeds");
    let error = sandbox.refused(&["check", &sandbox.manifest("other.toml", &other)]);
    assert!(error.contains("channel count of 1"), "{error}");
}

#[test]
fn a_table_trains_every_network_of_a_space() {
    let sandbox = Sandbox::new();
    let space = fs::read_to_string("experiments/spaces/table_types.toml").unwrap();
    let space =
        space.replace("resolutions = [32]\nchannels = 3", "resolutions = [28]\nchannels = 1");
    let space = space.replace("\"k5_hswish_se\", \"skip\"]", "\"skip\"]");
    sandbox.manifest("space.toml", &space.replace("blocks = 3", "blocks = 2"));
    let text = format!("name = 'tiny'\nspace = 'space.toml'\nseeds = [1]\n[table]\n{}", recipe());
    let manifest = sandbox.manifest("table.toml", &text);
    let runs = sandbox.run(&manifest, &SHORT);
    assert_eq!(runs.len(), 16, "two types in each of four blocks");
    let ids: std::collections::BTreeSet<&str> =
        runs.iter().map(|run| run["arch_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 16);
    // Finished runs are known; one network can be chosen.
    let again = sandbox.run(&manifest, &SHORT);
    assert_eq!(again, runs);
    let one = sandbox.run(&manifest, &[&["--set", "table.network=5"][..], &SHORT].concat());
    assert_eq!(one, runs[5..6]);
    let error = sandbox.refused(&["check", &manifest, "--set", "table.network=16"]);
    assert!(error.contains("give a number from 0 to 15"), "{error}");
    let searched = format!("{text}[search]\nmethod = 'random'\n");
    let error = sandbox.refused(&["check", &sandbox.manifest("searched.toml", &searched)]);
    assert!(error.contains("search: does not apply to a table"), "{error}");
}

/// A table, then searches whose networks are looked up in it, from the manifest to the report.
#[test]
fn searches_are_looked_up_in_a_table() {
    let sandbox = Sandbox::new();
    let space = fs::read_to_string("experiments/spaces/table_types.toml").unwrap();
    let space =
        space.replace("resolutions = [32]\nchannels = 3", "resolutions = [28]\nchannels = 1");
    let space = space.replace("\"k5_hswish_se\", \"skip\"]", "\"skip\"]");
    sandbox.manifest("space.toml", &space.replace("blocks = 3", "blocks = 1"));
    let head = "space = 'space.toml'\nseeds = [1, 2]\n";
    sandbox.manifest("table.toml", &format!("name = 'tiny'\n{head}[table]\n{}", recipe()));
    let smoke = fs::read_to_string("experiments/smoke_compare.toml").unwrap();
    let (start, end) = (smoke.find("[data]").unwrap(), smoke.find("[train]").unwrap());
    let budget = smoke.find("[search.budget]").unwrap()..smoke.find("[search.random]").unwrap();
    let search = smoke[start..end].replace(&smoke[budget], "");
    let judge = sandbox.manifest(
        "judge.toml",
        &format!("name = 'judge'\n{head}{search}[search.table]\nmanifest = 'table.toml'\n"),
    );
    let methods = ["--set", "search.method=['random', 'dmasking', 'rs_ws']"];
    let check = sandbox.stdout(&[&["check", &judge][..], &methods].concat());
    assert!(check.contains("lookup  of the derived network in the table tiny"), "{check}");
    let runs = sandbox.run(&judge, &methods);
    assert_eq!(runs.len(), 6);
    for run in &runs {
        assert_eq!(
            (&run["status"], &run["test_top1"]),
            (&json!("finished"), &Value::Null),
            "{run}"
        );
        assert!(run["macs"].as_u64() > Some(0) && run["weights_sha256"].is_null(), "{run}");
        let phases = sandbox.show(run)["phases"].as_array().unwrap().clone();
        assert!(phases.iter().all(|phase| phase["phase"] != "train"), "{phases:?}");
    }
    // They are done, also for several processes.
    assert_eq!(sandbox.run(&judge, &[&methods[..], &["--jobs", "2"]].concat()), runs);

    let out = sandbox.folder.path().join("reports");
    let report = |experiment: &str, file: &str| {
        let out = out.to_str().unwrap();
        sandbox.stdout(&["report", "--experiment", experiment, "--out", out]);
        fs::read_to_string(Path::new(out).join(file)).unwrap()
    };
    let page = report("judge", "judge.md");
    assert!(page.contains("The database has no finished run of this table"), "{page}");
    let table = sandbox.folder.path().join("table.toml");
    let trained = sandbox.run(table.to_str().unwrap(), &SHORT);
    assert_eq!(trained.len(), 2 * 8);
    let page = report("judge", "judge.md");
    let lookups = page.lines().filter(|line| {
        ["| random ", "| dmasking ", "| rs_ws "].iter().any(|name| line.starts_with(name))
            && line.contains(" of 2 |")
    });
    assert_eq!(lookups.count(), 3, "{page}");
    assert!(!page.contains("are not in the table"), "{page}");
    let csv = report("tiny", "tiny.csv");
    let head = "network,arch_id,type_1.1,type_2.1,type_3.1,macs,params,seed,test_top1,run_id,";
    assert!(csv.starts_with(head), "{csv}");
    assert_eq!(csv.lines().count(), 1 + 16);
}

/// Writes the test images of a data set as PNG files, one folder per class.
fn write_images(dataset: &Dataset, folder: &Path) {
    let (width, height) = (dataset.width, dataset.height);
    for (i, (pixels, label)) in
        dataset.test.bytes().chunks_exact(dataset.image_len()).zip(&dataset.test.labels).enumerate()
    {
        let class = folder.join(dataset.classes[*label as usize].replace('/', "_"));
        fs::create_dir_all(&class).unwrap();
        let file = fs::File::create(class.join(format!("{i}.png"))).unwrap();
        let mut encoder = png::Encoder::new(BufWriter::new(file), width as u32, height as u32);
        encoder.set_color(if dataset.channels == 1 {
            png::ColorType::Grayscale
        } else {
            png::ColorType::Rgb
        });
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    }
}

#[test]
fn an_evaluation_agrees_with_the_test_of_the_run() {
    let sandbox = Sandbox::new();
    let run = &sandbox.smoke(&[&["--set", "search.method=random"][..], &SHORT].concat())[0];
    let own = sandbox.eval(&["1"]);
    assert_eq!(own["top1"], run["test_top1"]);
    assert_eq!(own["images"], 200);
    assert_eq!(own["weights_sha256"], run["weights_sha256"]);
    assert!(own["top5"].as_f64() >= own["top1"].as_f64(), "{own}");
    let [low, high] = [0, 1].map(|i| own["top1_interval"][i].as_f64().unwrap());
    assert!((low..high).contains(&own["top1"].as_f64().unwrap()), "{own}");
    assert_eq!(
        sandbox.eval(&["1", "--data", "fashion-mnist-slice", "--batch", "7"])["top1"],
        own["top1"]
    );

    // The same images in files, in any order of the classes.
    let dataset = data::load(&DatasetName::FashionMnistSlice.into(), Path::new("")).unwrap();
    let folder = sandbox.folder.path().join("images");
    write_images(&dataset, &folder);
    let folder = folder.to_str().unwrap();
    let files = sandbox.eval(&["1", "--data", folder]);
    for key in ["top1", "top5", "images", "arch_id"] {
        assert_eq!(files[key], own[key], "{key}");
    }

    // Damaged images are named and left out.
    let class = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    fs::write(class.join("broken.png"), b"\x89PNG\r\n\x1a\nnot an image").unwrap();
    let damaged = sandbox.eval(&["1", "--data", folder]);
    assert_eq!((&damaged["top1"], &damaged["images"]), (&own["top1"], &own["images"]));
    assert!(damaged["damaged"][0].as_str().unwrap().contains("broken.png"), "{damaged}");
    let text = sandbox.stdout(&["eval", "--arch", "1", "--data", folder]);
    assert!(text.contains("damaged  1 image left out"), "{text}");

    // Every evaluation is a run; a folder of another network's classes is refused.
    let list = sandbox.stdout(&["list"]);
    assert_eq!(list.matches(" eval ").count(), 5, "{list}");
    let last = sandbox.show(&json!({ "run_id": 6 }));
    assert_eq!(last["metrics"]["test.damaged"]["last"], 1.0, "{last}");
    fs::create_dir(Path::new(folder).join("spaceship")).unwrap();
    let output = sandbox.repro(&["eval", "--arch", "1", "--data", folder]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("the network has no class spaceship/"), "{error}");
    let error = sandbox.refused(&["eval", "--arch", "1", "--data", "cifar10"]);
    assert!(error.contains("the network 10 classes and 1 channel"), "{error}");
}

#[test]
fn a_subsampling_network_is_evaluated_at_the_side_of_its_images() {
    let sandbox = Sandbox::new();
    let smaller = (1..20).find_map(|seed| {
        let seed = seed.to_string();
        let sets = ["--seed", &seed, "--set", "search.method=random"];
        let run = sandbox.run("experiments/smoke_resolutions.toml", &[&sets[..], &SHORT].concat());
        let network = sandbox.show(&run[0])["architecture"].clone();
        (network["resolution"] != 28).then(|| run[0].clone())
    });
    let run = smaller.unwrap();
    let id = run["run_id"].to_string();
    let own = sandbox.eval(&[&id]);
    assert_eq!(own["top1"], run["test_top1"]);
    assert_eq!(sandbox.eval(&[&id, "--data", "fashion-mnist-slice"])["top1"], own["top1"]);
    let dataset = data::load(&DatasetName::FashionMnistSlice.into(), Path::new("")).unwrap();
    let folder = sandbox.folder.path().join("images");
    write_images(&dataset, &folder);
    let folder = folder.to_str().unwrap();
    assert_eq!(sandbox.eval(&[&id, "--data", folder])["top1"], own["top1"]);
    // By its files, without the database's knowledge of the run.
    let network = sandbox.manifest("found.toml", &sandbox.stdout(&["arch", &id, "--toml"]));
    let weights = sandbox.folder.path().join(format!("results.db.weights/{id}.safetensors"));
    let files = [&network, "--weights", weights.to_str().unwrap(), "--data", folder];
    assert_eq!(sandbox.eval(&files)["top1"], own["top1"]);
}

#[test]
fn a_definition_says_how_images_are_cropped() {
    let sandbox = Sandbox::new();
    let run = &sandbox.smoke(&[&["--set", "search.method=random"][..], &SHORT].concat())[0];
    let text = sandbox.stdout(&["arch", &run["run_id"].to_string(), "--toml"]);
    let resized = text.replace("classes = 10", "classes = 10\nresize = 40");
    let (whole, part) =
        (sandbox.manifest("whole.toml", &text), sandbox.manifest("part.toml", &resized));
    let weights = sandbox.folder.path().join("results.db.weights/1.safetensors");
    // The centre of 28 of 40 pixels: an image with other pixels around it gives the same.
    let dataset = data::load(&DatasetName::FashionMnistSlice.into(), Path::new("")).unwrap();
    let class = sandbox.folder.path().join("framed/0");
    fs::create_dir_all(&class).unwrap();
    for other in 1..10 {
        fs::create_dir(sandbox.folder.path().join(format!("framed/{other}"))).unwrap();
    }
    let mut framed = vec![200; 40 * 60];
    for (y, row) in dataset.test.bytes()[..28 * 28].chunks_exact(28).enumerate() {
        framed[(y + 6) * 60 + 16..][..28].copy_from_slice(row);
    }
    let write = |name: &str, pixels: &[u8], (width, height)| {
        let path = sandbox.folder.path().join(name);
        let mut encoder = png::Encoder::new(fs::File::create(&path).unwrap(), width, height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = write("plain.png", &dataset.test.bytes()[..28 * 28], (28, 28));
    let framed = write("framed.png", &framed, (60, 40));
    let predict = |network: &str, image: &str| {
        let arguments = ["predict", "--weights", weights.to_str().unwrap(), "--json"];
        let text =
            sandbox.stdout(&[&arguments[..], &["--arch", network, "--input", image]].concat());
        let line: Value = serde_json::from_str(&text).unwrap();
        line["top"].clone()
    };
    assert_eq!(predict(&part, &framed), predict(&whole, &plain));
    assert_ne!(predict(&whole, &framed), predict(&whole, &plain));
}

#[test]
fn wrong_keys_of_a_given_network_are_refused() {
    let sandbox = Sandbox::new();
    let good = format!("name = 'given'\narch = 'dmasking_f1'\nseeds = [1]\n{}", recipe());
    for (from, to, said) in [
        ("'dmasking_f1'", "'dmasking_f9'", "did you mean \"dmasking_f"),
        ("'dmasking_f1'", "'lost.toml'", "is neither a published network nor a file"),
        ("'dmasking_f1'", "99", "there is no database"),
        ("'dmasking_f1'", "1.5", "give the name of a published network"),
        ("seeds", "space = 'a.toml'\nseeds", "space: does not apply to a given network"),
        ("[train]", "[table]\n[train]", "table: does not apply to a given network"),
        ("[train]", "[search]\nmethod = 'random'\n[train]", "search: does not apply to a given"),
        ("seeds", "init = 'lost.safetensors'\nseeds", "cannot be read"),
        ("seeds", "init_sha256 = 'ab'\nseeds", "init_sha256: belongs to init"),
        ("seeds", "classes = 1\nseeds", "give a whole number from 2"),
        ("seeds", "resolution = 28\nclasses = 7\nseeds", "channel count of 1"),
    ] {
        let manifest = sandbox.manifest("wrong.toml", &good.replacen(from, to, 1));
        let error = sandbox.refused(&["check", &manifest]);
        assert!(error.contains(said), "{to}: {error}");
    }
    let searched = "name = 's'\nresolution = 28\n";
    let smoke = fs::read_to_string(SMOKE).unwrap();
    let smoke = smoke.replacen("name = \"smoke\"\n", searched, 1);
    let smoke = smoke.replace(
        "spaces/smoke.toml",
        &format!("{}/experiments/spaces/smoke.toml", env!("CARGO_MANIFEST_DIR")),
    );
    let error = sandbox.refused(&["check", &sandbox.manifest("s.toml", &smoke)]);
    assert!(error.contains("resolution: applies to a given network only"), "{error}");
}

#[test]
fn initial_weights_of_another_network_are_refused_before_any_work() {
    let sandbox = Sandbox::new();
    sandbox.smoke(&[&["--set", "search.method=random"][..], &SHORT].concat());
    let weights = sandbox.folder.path().join("results.db.weights/1.safetensors");
    let text = sandbox.stdout(&["arch", "1", "--toml"]);
    let other = sandbox.manifest("other.toml", &text.replacen("width = ", "width = 1", 1));
    let given = format!(
        "name = 'on'\narch = '{other}'\ninit = '{}'\nseeds = [1]\n{}",
        weights.display(),
        recipe()
    );
    let manifest = sandbox.manifest("on.toml", &given);
    for command in ["check", "run"] {
        let error = sandbox.refused(&[command, &manifest]);
        assert!(error.contains("init: ") && error.contains("does not have the weights"), "{error}");
    }
    assert_eq!(sandbox.stdout(&["list", "--json"]).lines().count(), 1);
}

/// Needs CIFAR-10, as `repro data fetch cifar10` puts it into the cache folder.
#[test]
fn cifar10_in_files_gives_the_accuracy_of_the_data_set() {
    let sandbox = Sandbox::new();
    let sets = ["table.network=80", "train.epochs=1", "scale=0.03"];
    let sets = sets.map(|set| ["--set", set]).concat();
    let run = sandbox.run("experiments/table_types.toml", &[&sets[..], &["--seed", "1"]].concat());
    let top1 = &run[0]["test_top1"];
    assert!(top1.as_f64().unwrap() > 0.12, "better than chance: {top1}");
    let root = data::data_root(None).unwrap();
    let dataset = data::load(&DatasetName::Cifar10.into(), &root).unwrap();
    let folder = sandbox.folder.path().join("images");
    write_images(&dataset, &folder);
    for data in ["cifar10", folder.to_str().unwrap()] {
        let found = sandbox.eval(&["1", "--data", data]);
        assert_eq!((&found["top1"], &found["images"]), (top1, &json!(10_000)), "{data}");
    }
}
