//! Runs on an image folder.

use super::*;

#[test]
fn threads_do_not_change_a_run() {
    let sandbox = Sandbox::of_pets(40, 6);
    let manifest = sandbox.manifest(|text| text);
    let run = |threads| {
        let arguments = ["run", manifest.to_str().unwrap(), "--json", "--threads", threads];
        let output = sandbox.repro(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let (one, two) = (run("1"), run("2"));
    assert_eq!(one["weights_sha256"], two["weights_sha256"]);
    assert_eq!(one["dataset"], "image-folder pets");
    // Chance is 1/3.
    assert!(one["test_top1"].as_f64().unwrap() > 0.8, "{one}");
}

#[test]
fn a_run_with_every_key_of_training_is_resumed() {
    let sandbox = Sandbox::of_pets(20, 4);
    let manifest = sandbox.manifest(|text| text);
    let mut command = sandbox.repro(&["verify-resume", manifest.to_str().unwrap()]);
    command.args(["--kills", "3", "--threads", "1", "--set", "search.method=random"]);
    for set in EVERY_KEY {
        command.args(["--set", set]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("verdict: identical to the bit\n"), "{said}");
}

#[test]
fn other_methods_and_few_classes_work() {
    let sandbox = Sandbox::of_pets(40, 2);
    let manifest = sandbox.manifest(|text| text.replace("epochs = 5", "epochs = 1"));
    let classes = ["--set", "search.classes=2", "--set", "search.epochs=1"];
    let warmup =
        ["--set", "search.warmup_epochs=0", "--set", "search.method=[\"evolution\", \"darts\"]"];
    let run = ["run", manifest.to_str().unwrap(), "--json"];
    let output = sandbox.repro(&[&run[..], &classes, &warmup].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
}

/// What `repro check` and `repro run` say before any work, both with exit status 2.
#[test]
fn a_folder_that_does_not_fit_is_refused() {
    let sandbox = Sandbox::of_pets(10, 2);
    let mut out = String::new();
    for (what, find, replace) in [
        ("more classes than the space", "", ""),
        ("nothing to train on", "validation_images = 12", "validation_images = 30"),
        ("a batch larger than the training set", "batch_size = 8\nlabel", "batch_size = 19\nlabel"),
        ("a share that leaves a split too small", "weight_share = 0.8", "weight_share = 0.99"),
        ("more search images than exist", "weight_share = 0.8", "weight_share = 0.8\nimages = 40"),
    ] {
        let manifest = sandbox.manifest(|text| text.replace(find, replace));
        if find.is_empty() {
            let space = sandbox.root().join("space.toml");
            let text = fs::read_to_string(&space).unwrap();
            fs::write(&space, replaced(&text, "classes = 3", "classes = 4")).unwrap();
        }
        let say = |command: &str| {
            let output = sandbox.repro(&[command, manifest.to_str().unwrap()]).output().unwrap();
            assert_ne!(output.status.code(), Some(0), "{what}");
            sandbox.redact(&String::from_utf8(output.stderr).unwrap())
        };
        let (checked, run) = (say("check"), say("run"));
        assert_eq!(checked, run);
        writeln!(out, "## {what}\n{run}").unwrap();
    }
    insta::assert_snapshot!("folder_and_manifest", out);
    let listed = sandbox.repro(&["list", "--json"]).output().unwrap();
    assert!(listed.stdout.is_empty(), "no run has started");
}

#[test]
fn a_manifest_is_valid_without_its_folder() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.root()).unwrap();
    let manifest = sandbox.manifest(|text| text);
    let output = sandbox.repro(&["check", manifest.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("not checked: "), "{said}");
}

#[test]
fn a_memory_study_refuses_a_folder() {
    let study = ["check", "experiments/memory_scaling.toml", "--set", "data.dataset=image-folder"];
    let output = repro(&study).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("images of any size, on disk; give a data set that is held"), "{said}");
}
