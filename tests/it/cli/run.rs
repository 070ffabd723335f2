//! `repro run`: results, determinism, ablations.

use super::*;

#[test]
fn a_run_prints_one_json_line() {
    let sandbox = Sandbox::new();
    let lines = sandbox.smoke(&[]);
    let [run] = &lines[..] else { panic!("{lines:?}") };
    let keys: Vec<&str> = run.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "run_id",
            "method",
            "seed",
            "status",
            "arch_id",
            "test_top1",
            "macs",
            "params",
            "search_seconds",
            "train_seconds",
            "peak_bytes",
            "weights_sha256",
            "experiment",
            "dataset",
            "test_loss",
            "error",
            "search_images",
            "search_macs",
            "search_architectures",
            "choices",
            "undecided_choices",
            "device",
            "gpu",
            "precision",
        ]
    );
    assert_eq!((&run["status"], &run["method"]), (&"finished".into(), &"dmasking".into()));
    // Chance accuracy is 0.1.
    assert!(run["test_top1"].as_f64().unwrap() > 0.4, "{run}");
    let space = repro(&["space", "experiments/spaces/smoke.toml", "--json"]).output().unwrap();
    let space: Value = serde_json::from_slice(&space.stdout).unwrap();
    for cost in ["macs", "params"] {
        let (least, largest) = (space[cost]["least"].as_u64(), space[cost]["largest"].as_u64());
        assert!(least <= run[cost].as_u64() && run[cost].as_u64() <= largest, "{run}");
    }

    let on = |run: &Value| ["device", "gpu", "precision"].map(|key| run[key].clone());
    assert_eq!(on(run), [Value::from("cpu"), Value::Null, Value::from("f32")]);

    let shown = sandbox.show(run);
    assert_eq!(on(&shown), on(run));
    assert_eq!(shown["phases"].as_array().unwrap().len(), 5);
    assert_eq!(shown["metrics"]["test.top1"]["last"], run["test_top1"]);
    let text = std::fs::read_to_string(SMOKE).unwrap();
    assert_eq!(shown["manifest"]["text"], text);
    let listed = sandbox.repro(&["list", "--json"]).output().unwrap();
    assert_eq!(json_lines(&listed.stdout)[0]["weights_sha256"], run["weights_sha256"]);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let sandbox = Sandbox::new();
    let first = sandbox.smoke(&["--seed", "7", "--seed", "8", "--threads", "2"]);
    let again = sandbox.smoke(&["--seed", "7", "--threads", "2"]);
    let alone = sandbox.smoke(&["--seed", "7", "--threads", "1"]);
    let first_metrics = results(&sandbox.show(&first[0]));
    assert!(first_metrics.len() > 20, "{first_metrics:?}");
    for same in [&again[0], &alone[0]] {
        for key in ["arch_id", "weights_sha256", "test_top1", "test_loss", "macs", "params"] {
            assert_eq!(first[0][key], same[key], "{key}");
        }
        assert_eq!(first_metrics, results(&sandbox.show(same)));
    }
    assert_ne!(first[0]["weights_sha256"], first[1]["weights_sha256"]);
}

#[test]
fn every_gradient_method_is_deterministic() {
    for method in ["dnas", "darts", "darts2"] {
        let sandbox = Sandbox::new();
        let method_key = format!("search.method={method}");
        let mut short = vec!["--set", &method_key, "--set", "search.epochs=2"];
        short.extend(["--set", "search.images=80", "--set", "search.batch_size=16"]);
        short.extend(["--set", "train.epochs=1"]);
        let run = |threads| sandbox.smoke(&[&short[..], &["--threads", threads]].concat());
        let (one, two) = (run("1"), run("2"));
        assert_eq!((&one[0]["status"], &one[0]["method"]), (&"finished".into(), &method.into()));
        for key in ["arch_id", "weights_sha256", "test_loss", "macs"] {
            assert_eq!(one[0][key], two[0][key], "{method}: {key}");
        }
        assert_eq!(results(&sandbox.show(&one[0])), results(&sandbox.show(&two[0])), "{method}");
    }
}

#[test]
fn scale_shortens_every_epoch() {
    let sandbox = Sandbox::new();
    let counts = |scale: &str| {
        let run = &sandbox.smoke(&["--set", scale])[0];
        let shown = sandbox.show(run);
        let train = shown["phases"].as_array().unwrap().iter().find(|p| p["phase"] == "train");
        let points = |metric: &str| shown["metrics"][metric]["points"].as_u64().unwrap();
        let epochs = [points("search.tau"), points("train.loss")];
        (run["search_images"].as_u64().unwrap(), train.unwrap()["usage"]["images"].clone(), epochs)
    };
    // Search: 10 batches of 32 for the weights in 4 epochs, 2 for α in 3. Training: 28 batches in 5
    // epochs, each followed by 100 validation images.
    let (whole, half) = ((4 * 10 + 3 * 2) * 32, (4 * 5 + 3) * 32);
    let trained = |batches: u64| Value::from(5 * (batches * 32 + 100));
    assert_eq!(counts("scale=1"), (whole, trained(28), [4, 5]));
    assert_eq!(counts("scale=0.5"), (half, trained(14), [4, 5]));
    // The scale does not apply to scoring: 80 validation images, and 2 batches for calibration.
    let images = |method: &str| {
        let method = format!("search.method={method}");
        let sets = ["--set", "scale=0.5", "--set", &method, "--set", "train.epochs=1"];
        sandbox.smoke(&sets)[0]["search_images"].as_u64().unwrap()
    };
    assert_eq!(images("random_search"), 4 * (5 * 32 + 2 * 32 + 80));
    assert_eq!(images("rs_ws"), 4 * 5 * 32 + 12 * (2 * 32 + 80));
    // A small scale changes the ratio of α steps to weight steps.
    let said = repro(&["check", SMOKE, "--set", "scale=0.1"]).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let left = "scale   0.1 of the batches of every epoch; in the search 1 of 10 for weights, \
                1 of 2 for validation";
    assert!(said.contains(left), "{said}");
    let refused = stderr(&mut repro(&["check", SMOKE, "--set", "scale=1e-300"]));
    assert!(refused.contains("scale") && refused.len() < 400, "{refused}");
}

#[test]
fn a_failed_run_does_not_end_the_others() {
    let sandbox = Sandbox::new();
    // Each step multiplies the weights by -99 until they overflow.
    let wild = ["search.weights.learning_rate=100", "search.weights.weight_decay=1"];
    let arguments = ["--set", wild[0], "--set", wild[1], "--seed", "1", "--seed", "2"];
    let mut command = sandbox.repro(&[&["run", SMOKE, "--json"], &arguments[..]].concat());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = json_lines(&output.stdout);
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        assert_eq!((&line["status"], &line["test_top1"]), (&"failed".into(), &Value::Null));
        assert!(line["error"].as_str().unwrap().contains("the loss became"), "{line}");
        assert!(sandbox.show(line)["metrics"]["search.step_loss"]["points"].as_u64() > Some(0));
    }
}

#[test]
fn a_search_chooses_its_resolution() {
    let sandbox = Sandbox::new();
    let manifest = "experiments/smoke_resolutions.toml";
    let output = sandbox.repro(&["run", manifest, "--json"]).output().unwrap();
    let run = json_lines(&output.stdout).remove(0);
    assert_eq!(run["status"], "finished", "{run}");
    assert!(run["test_top1"].as_f64().unwrap() > 0.4, "{run}");
    let shown = sandbox.show(&run);
    let options = shown["resolutions"].as_array().unwrap();
    let of = |key: &str| -> Vec<f64> {
        options.iter().map(|option| option[key].as_f64().unwrap()).collect()
    };
    let (sides, p) = (of("side"), of("probability"));
    assert_eq!(sides, [14.0, 20.0, 28.0]);
    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{p:?}");
    let best = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let chosen = sides[p.iter().position(|p| *p == best).unwrap()];
    assert_eq!(shown["architecture"]["resolution"].as_f64(), Some(chosen));
    assert!(shown["metrics"]["search.entropy.resolution"]["last"].as_f64().unwrap() < 1.0);
    let text = sandbox.repro(&["show", "1"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&format!("input {chosen}x{chosen}, chosen from 14 (")), "{text}");
    let out = sandbox.folder.path().join("reports");
    sandbox.repro(&["report", "--out", out.to_str().unwrap()]).assert().success();
    let page = std::fs::read_to_string(out.join("smoke_resolutions.md")).unwrap();
    let sentence =
        format!("Input {chosen} pixels a side, with p = {best:.2}, chosen from 14, 20, 28.");
    assert!(page.contains(&sentence), "{page}");
}

#[test]
fn every_ablation_changes_the_search() {
    let sandbox = Sandbox::new();
    let course = |run: &Value| -> Vec<(String, Value)> {
        assert_eq!(run["status"], "finished", "{run}");
        let all = results(&sandbox.show(run));
        all.into_iter().filter(|(name, _)| name.starts_with("search.")).collect()
    };
    let usual = course(&sandbox.smoke(&[]).remove(0));
    for setting in [
        "search.gates=straight_through",
        "search.masks=before_norm",
        "search.residual=full",
        "search.loss.input_channels=nominal",
    ] {
        let run = sandbox.smoke(&["--set", setting]).remove(0);
        assert_ne!(course(&run), usual, "{setting}");
    }
    // Settings that --set cannot change alone: edits of the manifest and of its space.
    let edits = [
        ("decay = 0.5", "schedule = \"linear\"\nlast = 0.1", ""),
        ("a = 0.2\nb = 0.6", "lambda = 0.5\ntarget = 8.0", ""),
        ("\"spaces/smoke.toml\"", "\"space.toml\"", "share_types = true\n"),
        ("\"spaces/smoke.toml\"", "\"space.toml\"", "expansion_of = \"input\"\n"),
    ];
    for (find, replace, of_space) in edits {
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        let space = format!("{of_space}{}", read("experiments/spaces/smoke.toml"));
        let mut manifest = read(SMOKE).replace(find, replace);
        assert!(manifest.contains(replace), "{replace}");
        manifest = manifest.replace("spaces/smoke.toml", "space.toml");
        if replace.contains("target") {
            manifest = manifest.replace("log_power", "hinge");
        }
        let path = |name: &str| sandbox.folder.path().join(name);
        std::fs::write(path("space.toml"), space).unwrap();
        std::fs::write(path("edited.toml"), manifest).unwrap();
        let edited = path("edited.toml").display().to_string();
        let output = sandbox.repro(&["run", &edited, "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let run = json_lines(&output.stdout).remove(0);
        assert_ne!(course(&run), usual, "{replace}");
    }
}

#[test]
fn rank_correlation_is_measured_and_reported() {
    let sandbox = Sandbox::new();
    let method = "search.method=[\"rs_ws\", \"evolution\"]";
    let sets = [method, "rank_correlation.architectures=5", "train.epochs=2"];
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    let lines = sandbox.smoke(&arguments);
    let [run, again] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&run["status"], &again["status"]), (&"finished".into(), &"finished".into()));
    // Both methods have the same shared weights, which are ranked only once.
    let step_loss = |run| sandbox.show(run)["metrics"]["search.step_loss"].clone();
    assert_eq!(step_loss(run), step_loss(again));
    assert!(sandbox.show(again)["metrics"].get("rank.shared.top1").is_none());
    let shown = sandbox.show(run);
    let rank = shown["phases"].as_array().unwrap().iter().find(|p| p["phase"] == "rank").unwrap();
    // Each network is scored with shared weights, then trained and evaluated.
    assert_eq!(rank["usage"]["architectures"], 10);
    for metric in ["rank.shared.top1", "rank.alone.top1", "rank.macs"] {
        assert_eq!(shown["metrics"][metric]["points"], 5, "{metric}");
    }
    // Ranked networks do not appear in the run's own training curves.
    assert_eq!(shown["metrics"]["train.loss"]["points"], 2);
    let out = sandbox.folder.path().join("reports");
    sandbox.repro(&["report", "--out", out.to_str().unwrap()]).assert().success();
    let page = std::fs::read_to_string(out.join("smoke.md")).unwrap();
    assert!(page.contains("## Rank correlation") && page.contains("smoke-rank.svg"), "{page}");
    let picture = std::fs::read_to_string(out.join("smoke-rank.svg")).unwrap();
    assert_eq!(picture.matches("r=\"3\"").count(), 5 + 1);
}
