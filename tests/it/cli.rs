//! The program as one uses it: commands, exit codes, signals, and that a seed fixes the result.

use assert_cmd::Command;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SMOKE: &str = "experiments/smoke.toml";

/// A database of its own, in a folder that goes when the test ends.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("results.db")
    }

    fn repro(&self, arguments: &[&str]) -> Command {
        let mut command = repro(arguments);
        command.env("REPRO_DB", self.database());
        command
    }

    /// The lines that `repro run experiments/smoke.toml --json` prints.
    fn smoke(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.repro(&[&["run", SMOKE, "--json"], arguments].concat()).output().unwrap();
        json_lines(&output.stdout)
    }

    fn show(&self, run: &Value) -> Value {
        let output = self.repro(&["show", &run["run_id"].to_string(), "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

pub fn repro(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("repro").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command.env("COLUMNS", "100").env_remove("REPRO_DB");
    // Tests run side by side; more threads than cores would spend their time waiting.
    command.env("RAYON_NUM_THREADS", "1");
    command
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn exit_code(command: &mut Command) -> i32 {
    command.output().unwrap().status.code().unwrap()
}

fn stderr(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stderr).unwrap()
}

#[test]
fn a_run_ends_with_its_result_in_the_database_and_on_one_line_of_json() {
    let bench = Bench::new();
    let lines = bench.smoke(&[]);
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
        ]
    );
    assert_eq!((&run["status"], &run["method"]), (&"finished".into(), &"dmasking".into()));
    // Chance is 0.1.
    assert!(run["test_top1"].as_f64().unwrap() > 0.4, "{run}");
    let space = repro(&["space", "experiments/spaces/smoke.toml", "--json"]).output().unwrap();
    let space: Value = serde_json::from_slice(&space.stdout).unwrap();
    for cost in ["macs", "params"] {
        let (least, largest) = (space[cost]["least"].as_u64(), space[cost]["largest"].as_u64());
        assert!(least <= run[cost].as_u64() && run[cost].as_u64() <= largest, "{run}");
    }

    let shown = bench.show(run);
    assert_eq!(shown["phases"].as_array().unwrap().len(), 5);
    assert_eq!(shown["metrics"]["test.top1"]["last"], run["test_top1"]);
    assert_eq!(shown["metrics"]["cost.macs"]["last"].as_f64(), run["macs"].as_f64());
    let text = std::fs::read_to_string(SMOKE).unwrap();
    assert_eq!(shown["manifest"]["text"], text);
    let listed = bench.repro(&["list", "--json"]).output().unwrap();
    assert_eq!(json_lines(&listed.stdout)[0]["weights_sha256"], run["weights_sha256"]);
}

#[test]
fn a_seed_fixes_the_result_whatever_the_number_of_threads() {
    let bench = Bench::new();
    let first = bench.smoke(&["--seed", "7", "--seed", "8", "--threads", "2"]);
    let again = bench.smoke(&["--seed", "7", "--threads", "2"]);
    let alone = bench.smoke(&["--seed", "7", "--threads", "1"]);
    let first_metrics = results(&bench.show(&first[0]));
    assert!(first_metrics.len() > 20, "{first_metrics:?}");
    for same in [&again[0], &alone[0]] {
        for key in ["arch_id", "weights_sha256", "test_top1", "test_loss", "macs", "params"] {
            assert_eq!(first[0][key], same[key], "{key}");
        }
        assert_eq!(first_metrics, results(&bench.show(same)));
    }
    assert_ne!(first[0]["weights_sha256"], first[1]["weights_sha256"]);
}

#[test]
fn every_gradient_method_runs_to_its_end_and_its_seed_fixes_the_result() {
    for method in ["dnas", "darts", "darts2"] {
        let bench = Bench::new();
        let method_key = format!("search.method={method}");
        let mut short = vec!["--set", &method_key, "--set", "search.epochs=2"];
        short.extend(["--set", "search.images=80", "--set", "search.batch_size=16"]);
        short.extend(["--set", "train.epochs=1"]);
        let run = |threads| bench.smoke(&[&short[..], &["--threads", threads]].concat());
        let (one, two) = (run("1"), run("2"));
        assert_eq!((&one[0]["status"], &one[0]["method"]), (&"finished".into(), &method.into()));
        for key in ["arch_id", "weights_sha256", "test_loss", "macs"] {
            assert_eq!(one[0][key], two[0][key], "{method}: {key}");
        }
        assert_eq!(results(&bench.show(&one[0])), results(&bench.show(&two[0])), "{method}");
    }
}

#[test]
fn a_bench_compares_the_memory_of_masking_and_of_options() {
    let peak = |method: &str, recompute: &str| {
        let mut command = repro(&["bench", SMOKE, "--json", "--steps", "2"]);
        command.args(["--set", &format!("search.method={method}")]);
        command.args(["--set", &format!("search.recompute={recompute}")]);
        let measured: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        (measured["peak_bytes"].as_f64().unwrap(), measured["macs"].as_u64().unwrap())
    };
    let masked = peak("dmasking", "none");
    let [dnas, darts2] = ["dnas", "darts2"].map(|method| peak(method, "none"));
    assert!(dnas.0 > 2.0 * masked.0, "{dnas:?} {masked:?}");
    assert_eq!(dnas.1, darts2.1);
    assert!(dnas.1 > 3 * masked.1, "{dnas:?} {masked:?}");
    assert!(peak("dnas", "block").0 < 0.7 * dnas.0);
}

#[test]
fn a_space_says_what_its_supernets_need_in_memory() {
    let space = "experiments/spaces/fbnetv2_f.toml";
    let needs = |batch: &str, method: &str, recompute: &str| -> f64 {
        let output = repro(&["space", space, "--json", "--batch", batch]).output().unwrap();
        let space: Value = serde_json::from_slice(&output.stdout).unwrap();
        let owners = space["memory"][method][recompute].as_object().unwrap().values();
        owners.map(|bytes| bytes.as_f64().unwrap()).sum()
    };
    let masked = needs("64", "masked", "recompute_none");
    assert!(needs("64", "masked", "recompute_block") < 0.5 * masked);
    // The reason for the paper: all options of every block, each with maps of its own.
    assert!(needs("64", "explicit", "recompute_none") > 10.0 * masked);
    let growth = needs("128", "masked", "recompute_none") / masked;
    assert!((1.9..2.0).contains(&growth), "{growth}");
}

#[test]
fn what_does_not_fit_into_memory_is_refused_before_any_work() {
    let bench = Bench::new();
    // Half a terabyte.
    let sets = ["search.method=dnas", "search.batch_size=9000", "search.images=48000"];
    let sets = sets.map(|set| ["--set", set]).concat();
    let run = [&["run", "experiments/fbnetv2_f.toml"], &sets[..]].concat();
    let output = bench.repro(&run).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["the search by dnas needs about", "--set search.recompute=block: ", "--force"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(!bench.database().exists());
    // Terabytes, before data is looked for.
    let sets = ["--batch", "60000", "--set", "search.method=dnas"];
    let timed = [&["bench", "experiments/fbnetv2_f.toml"], &sets[..]].concat();
    let output = repro(&timed).env("REPRO_DATA", bench.folder.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["at a batch of 60000", "a smaller --batch", "search.recompute=block", "--force"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(std::fs::read_dir(bench.folder.path()).unwrap().next().is_none());
}

#[test]
fn a_budget_in_a_gap_is_refused_when_it_is_checked_and_before_anything_is_run() {
    let bench = Bench::new();
    let sets = ["--set", "search.budget.macs=200001", "--set", "search.budget.tolerance=1e-6"];
    for command in ["check", "run"] {
        let output = bench.repro(&[&[command, SMOKE][..], &sets].concat()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("smoke.toml: search.budget: macs = 200001.0"), "{said}");
    }
    assert!(!bench.database().exists());
}

#[test]
fn a_scale_takes_a_share_of_every_epoch_and_leaves_their_number() {
    let bench = Bench::new();
    let counts = |scale: &str| {
        let run = &bench.smoke(&["--set", scale])[0];
        let shown = bench.show(run);
        let train = shown["phases"].as_array().unwrap().iter().find(|p| p["phase"] == "train");
        let points = |metric: &str| shown["metrics"][metric]["points"].as_u64().unwrap();
        let epochs = [points("search.tau"), points("train.loss")];
        (run["search_images"].as_u64().unwrap(), train.unwrap()["usage"]["images"].clone(), epochs)
    };
    // 10 batches of 32 for the weights in 4 epochs, 2 for α in 3; 28 in the training's 5, each of which
    // ends with 100 images that are held out.
    let (whole, half) = ((4 * 10 + 3 * 2) * 32, (4 * 5 + 3) * 32);
    let trained = |batches: u64| Value::from(5 * (batches * 32 + 100));
    assert_eq!(counts("scale=1"), (whole, trained(28), [4, 5]));
    assert_eq!(counts("scale=0.5"), (half, trained(14), [4, 5]));
    // What is scored stays: 80 held-out images, and 2 batches that calibrate.
    let images = |method: &str| {
        let method = format!("search.method={method}");
        let sets = ["--set", "scale=0.5", "--set", &method, "--set", "train.epochs=1"];
        bench.smoke(&sets)[0]["search_images"].as_u64().unwrap()
    };
    assert_eq!(images("random_search"), 4 * (5 * 32 + 80));
    assert_eq!(images("rs_ws"), 4 * 5 * 32 + 12 * (2 * 32 + 80));
    // A small one changes how many steps of α there are beside those of the weights.
    let said = repro(&["check", SMOKE, "--set", "scale=0.1"]).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let left = "scale   0.1 of the batches of every epoch; in the search 1 of 10 that train weights, \
                1 of 2 held out";
    assert!(said.contains(left), "{said}");
    let refused = stderr(&mut repro(&["check", SMOKE, "--set", "scale=1e-300"]));
    assert!(refused.contains("scale") && refused.len() < 400, "{refused}");
}

#[test]
fn a_space_in_place_of_a_manifest_is_told_so_and_nothing_else() {
    for set in [&[][..], &["--set", "search.epochs=3"]] {
        let run = [&["run", "experiments/spaces/smoke.toml"], set].concat();
        let said = stderr(&mut repro(&run));
        assert!(said.contains("smoke.toml: is a search space, not a manifest"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_manifest_in_place_of_a_space_is_told_so_and_nothing_else() {
    let output = repro(&["space", SMOKE]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("smoke.toml: is a manifest, not a search space"), "{said}");
    assert!(said.lines().count() <= 3, "{said}");
}

#[test]
fn a_bench_times_the_first_method_that_has_a_supernet() {
    let list = "search.method=[\"random\", \"darts\"]";
    let timed = repro(&["bench", SMOKE, "--json", "--steps", "1", "--set", list]).output().unwrap();
    let timed: Value = serde_json::from_slice(&timed.stdout).unwrap();
    assert_eq!(timed["method"], "darts");
    let random = ["bench", SMOKE, "--steps", "1", "--set", "search.method=random"];
    let refused = repro(&random).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("there is no supernet to time"), "{said}");
}

#[test]
fn a_bench_times_what_the_method_trains() {
    let bench = |method: &str| {
        let mut command = repro(&["bench", SMOKE, "--json", "--steps", "3"]);
        command.args(["--set", &format!("search.method={method}")]);
        command.output().unwrap()
    };
    let macs = |method: &str| -> u64 {
        let measured: Value = serde_json::from_slice(&bench(method).stdout).unwrap();
        measured["macs"].as_u64().unwrap()
    };
    let [masked, drawn] = ["dmasking", "rs_ws"].map(macs);
    // Drawn networks run alone, the same ones for the same seed.
    assert!(0 < drawn && drawn < masked, "{drawn} {masked}");
    assert_eq!(drawn, macs("evolution"));
    let refused = bench("random");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("no supernet to time"), "{said}");
}

/// The metrics that do not depend on the machine and its mood.
fn results(shown: &Value) -> Vec<(String, Value)> {
    let metrics = shown["metrics"].as_object().unwrap().iter();
    let measured = ["seconds", "per_second", "memory"];
    metrics
        .filter(|(name, _)| !measured.iter().any(|word| name.contains(word)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[test]
fn a_run_that_fails_is_kept_with_its_error_and_the_other_seeds_still_run() {
    let bench = Bench::new();
    // Each step multiplies the weights by -99, until they are no numbers any more.
    let wild = ["search.weights.learning_rate=100", "search.weights.weight_decay=1"];
    let arguments = ["--set", wild[0], "--set", wild[1], "--seed", "1", "--seed", "2"];
    let mut command = bench.repro(&[&["run", SMOKE, "--json"], &arguments[..]].concat());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = json_lines(&output.stdout);
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        assert_eq!((&line["status"], &line["test_top1"]), (&"failed".into(), &Value::Null));
        assert!(line["error"].as_str().unwrap().contains("the loss became"), "{line}");
        assert!(bench.show(line)["metrics"]["search.step_loss"]["points"].as_u64() > Some(0));
    }
}

#[test]
fn check_accepts_what_is_shipped_and_refuses_what_is_not_right() {
    assert_eq!(exit_code(&mut repro(&["check", SMOKE, "experiments/fbnetv2_f.toml"])), 0);
    let mut wrong = repro(&["check", SMOKE, "--set", "search.epoch=3"]);
    assert_eq!(exit_code(&mut wrong), 2);
    let said = stderr(&mut wrong);
    assert!(said.contains("search.epoch: there is no such key"), "{said}");
    assert_eq!(exit_code(&mut repro(&["check", SMOKE, "no-such.toml"])), 2);
    assert_eq!(exit_code(&mut repro(&["space", SMOKE])), 2);
}

#[test]
fn a_command_line_that_is_not_right_does_nothing() {
    let bench = Bench::new();
    for arguments in [
        &["run", SMOKE, "--threads", "0"][..],
        &["run", SMOKE, "--device", "gpu"],
        &["run", SMOKE, "--seed", "-1"],
        &["run", SMOKE, "--set", "seeds=[]"],
        &["run"],
        &["frobnicate"],
    ] {
        assert_eq!(exit_code(&mut bench.repro(arguments)), 2, "{arguments:?}");
    }
    assert!(!bench.database().exists());
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_is_refused_by_a_program_that_was_built_without() {
    let mut command = repro(&["run", SMOKE, "--device", "cuda:0"]);
    assert_eq!(exit_code(&mut command), 2);
    assert!(stderr(&mut command).contains("build with --features cuda"));
}

#[test]
fn looking_for_what_is_not_there_says_so_and_makes_no_database() {
    let bench = Bench::new();
    for arguments in [&["list"][..], &["show", "1"]] {
        let mut command = bench.repro(arguments);
        assert_eq!(exit_code(&mut command), 1);
        let said = stderr(&mut command);
        assert!(said.contains("there is no database") && said.contains("`repro run"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(!bench.database().exists());

    bench.smoke(&["--set", "train.epochs=1"]);
    let mut command = bench.repro(&["show", "12"]);
    assert_eq!(exit_code(&mut command), 1);
    assert!(stderr(&mut command).contains("12"));
}

#[test]
fn the_size_of_a_space_is_exact() {
    let space = repro(&["space", "experiments/spaces/fbnetv2_f.toml", "--json"]).output().unwrap();
    let space: Value = serde_json::from_slice(&space.stdout).unwrap();
    let ways = |of: &Value| of["candidates"].as_str().unwrap().parse::<u128>().unwrap();
    let by = &space["by_dimension"];
    // 9 types in each of 18 blocks.
    assert_eq!(ways(&by["block_type"]), 9_u128.pow(18));
    // 2, 4, 4, 7, 8 and 14 widths in 1, 3, 3, 3, 4 and 4 blocks.
    let widths = [(2, 1), (4, 3), (4, 3), (7, 3), (8, 4), (14, 4)];
    assert_eq!(
        ways(&by["width"]),
        widths.map(|(n, blocks)| u128::pow(n, blocks)).iter().product::<u128>()
    );
    // The product has more than 128 bits; its factors have not.
    let total = space["log10"].as_f64().unwrap();
    let factors = ["width", "expansion", "block_type", "resolution"].map(|d| ways(&by[d]) as f64);
    assert!((total - factors.map(f64::log10).iter().sum::<f64>()).abs() < 1e-9);
    assert_eq!(space["candidates"].as_str().unwrap().len(), total as usize + 1);
}

/// Every number becomes a `#`: how fast and how well differs from machine to machine.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            _ => out.push(c),
        }
    }
    out
}

#[test]
fn a_run_becomes_a_report() {
    let bench = Bench::new();
    let [run] = &bench.smoke(&[])[..] else { panic!("no run") };
    let out = bench.folder.path().join("reports");
    let written = bench.repro(&["report", "--out", out.to_str().unwrap()]).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let csv = std::fs::read_to_string(out.join("smoke.csv")).unwrap();
    let (names, row) = csv.trim_end().split_once('\n').unwrap();
    let row: BTreeMap<&str, &str> = names.split(',').zip(row.split(',')).collect();
    for key in ["run_id", "arch_id", "test_top1", "macs", "params", "weights_sha256"] {
        assert_eq!(row[key], run[key].to_string().trim_matches('"'), "{key}");
    }
    let page = std::fs::read_to_string(out.join("smoke.md")).unwrap();
    let blocks = page.lines().filter(|line| line.contains("| MBConv") || line.contains("| skip"));
    assert!(blocks.count() >= 2, "{page}");
    // What is the same on every machine: headings, heads of tables, notes.
    let frame: Vec<&str> = page
        .lines()
        .filter(|line| {
            !line.starts_with("| ") || line.starts_with("| method") || line.starts_with("| block")
        })
        .filter(|line| !line.starts_with("- ") && !line.starts_with("### "))
        .collect();
    let place = out.display().to_string();
    let frame = frame.join("\n").replace(&place, "OUT");
    let frame: Vec<String> = without_numbers(&frame)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").replace("--", "-"))
        .map(|line| line.replace("--", "-").replace("--", "-").replace("--", "-"))
        .collect();
    insta::assert_snapshot!("report_of_smoke", frame.join("\n"));
}

/// What `repro bench experiments/smoke.toml --json` prints.
fn timed(arguments: &[&str]) -> Value {
    let all = [&["bench", SMOKE, "--steps", "2", "--json"], arguments].concat();
    let output = repro(&all).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    json_lines(&output.stdout).remove(0)
}

/// A file with the network that `repro run experiments/smoke.toml` arrives at, and that network.
fn derived(bench: &Bench) -> (PathBuf, Value) {
    let run = bench.smoke(&["--set", "train.epochs=1"]).remove(0);
    let arch = bench.show(&run)["architecture"].clone();
    let file = bench.folder.path().join("arch.json");
    std::fs::write(&file, arch.to_string()).unwrap();
    (file, arch)
}

#[test]
fn steps_are_timed_and_their_memory_adds_up() {
    let bench = Bench::new();
    let (file, _) = derived(&bench);
    let arch = ["--arch", file.to_str().unwrap()];
    let bytes = |step: &Value, owner: &str| step["memory"][owner].as_u64().unwrap();
    let step = timed(&[]);
    for key in ["step_ms", "forward_ms", "backward_ms", "optimizer_ms", "images_per_second"] {
        assert!(step[key].as_f64().unwrap() > 0.0, "{key}: {step}");
    }
    let less = timed(&["--set", "search.recompute=block"]);
    assert!(less["peak_bytes"].as_u64() < step["peak_bytes"].as_u64());
    let drawn = timed(&["--set", "search.method=rs_ws"]);
    let network = timed(&[&["--what", "network"], &arch[..]].concat());
    let eval = timed(&[&["--what", "eval"], &arch[..]].concat());
    for (step, trains) in
        [(&step, true), (&less, true), (&drawn, true), (&network, true), (&eval, false)]
    {
        let owners = step["memory"].as_object().unwrap().values().map(|v| v.as_u64().unwrap());
        assert_eq!(owners.sum::<u64>(), step["peak_bytes"].as_u64().unwrap(), "{step}");
        for owner in ["optimizer", "gradients"] {
            assert_eq!(bytes(step, owner) > 0, trains, "{owner}: {step}");
        }
        // A batch of greyscale images of 28 x 28 is there.
        let batch = step["batch"].as_u64().unwrap() * 28 * 28 * 4;
        assert!(bytes(step, "activations") > batch, "{step}");
        assert!(bytes(step, "scratch") > 0, "{step}");
        for share in ["share_of_peak", "share_of_bandwidth"] {
            let share = step[share].as_f64().unwrap();
            assert!(0.0 < share && share < 1.0, "{step}");
        }
    }
    // Frozen layers hold the weights once more, and their maps are in the threads' tiles.
    assert!(bytes(&eval, "weights") > 2 * bytes(&network, "optimizer"), "{eval} {network}");
    assert!(bytes(&eval, "activations") < bytes(&network, "activations") / 4, "{eval} {network}");
    let mut no_network = bench.repro(&["bench", SMOKE, "--what", "eval"]);
    assert_eq!(exit_code(&mut no_network), 2);
}

/// The same bytes from two sides: counted as they are allocated, and seen by the operating system.
#[test]
#[cfg(target_os = "linux")]
fn what_is_allocated_is_what_is_resident() {
    for sets in [&["--set", "search.recompute=none"], &["--set", "search.recompute=block"]] {
        let step = timed(&[&["--batch", "512"], &sets[..]].concat());
        let bytes = |key: &str| step[key].as_u64().unwrap() as f64;
        let ratio = bytes("resident_bytes") / bytes("peak_bytes");
        assert!((0.9..1.1).contains(&ratio), "{sets:?}: {ratio}, {step}");
    }
}

/// The paths of all values, in order: `memory.weights`.
fn keys(value: &Value, above: &str, found: &mut Vec<String>) {
    for (key, value) in value.as_object().unwrap() {
        match value {
            Value::Object(_) => keys(value, &format!("{above}{key}."), found),
            _ => found.push(format!("{above}{key}")),
        }
    }
}

#[test]
fn the_help_of_bench_names_the_keys_of_its_json() {
    let mut printed = vec![];
    keys(&timed(&[]), "", &mut printed);
    let help = String::from_utf8(repro(&["bench", "--help"]).output().unwrap().stdout).unwrap();
    let (_, listed) = help.split_once("Keys of --json:\n").unwrap();
    let entries = listed.lines().filter_map(|line| line.strip_prefix("  "));
    let named = entries.filter(|line| !line.starts_with(' '));
    let named: Vec<&str> = named.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(named, printed);
}

#[test]
fn a_network_that_does_not_fit_is_refused_with_what_is_wrong() {
    let bench = Bench::new();
    let (file, arch) = derived(&bench);
    let refused = |spoil: &dyn Fn(&mut Value), words: &[&str]| {
        let mut arch = arch.clone();
        spoil(&mut arch);
        std::fs::write(&file, arch.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let mut command = repro(&["bench", SMOKE, "--what", "eval", "--arch", file]);
        let said = stderr(&mut command);
        assert_eq!(exit_code(&mut command), 2, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in [&["--arch", file], words].concat() {
            assert!(said.contains(word), "{said:?} does not say {word:?}");
        }
    };
    refused(&|arch| arch["classes"] = 100.into(), &["classes is 100", "10"]);
    refused(&|arch| arch["image_channels"] = 3.into(), &["image_channels is 3", "1"]);
    refused(&|arch| arch["resolution"] = 32.into(), &["resolution is 32", "28"]);
    refused(&|arch| arch["class"] = 10.into(), &["class: there is no such key", "classes"]);
    refused(
        &|arch| arch["blocks"][1]["kernal"] = 3.into(),
        &["blocks[2].kernal: there is no such key"],
    );
    refused(&|arch| drop(arch.as_object_mut().unwrap().remove("head")), &["missing", "head"]);
    refused(&|arch| *arch = Value::Null, &["is no architecture"]);
}

#[test]
fn the_number_of_resolutions_does_not_show_in_what_a_step_keeps() {
    let bench = Bench::new();
    let timed = |manifest: &str| {
        let all = ["bench", manifest, "--steps", "2", "--json"];
        let output = bench.repro(&all).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let step = json_lines(&output.stdout).remove(0);
        let of = |value: &Value| value.as_f64().unwrap();
        (of(&step["memory"]["activations"]), of(&step["peak_bytes"]), of(&step["macs"]))
    };
    let (one, three) = (timed(SMOKE), timed("experiments/smoke_resolutions.toml"));
    // Three quarters more to compute: (20/28)^2 and (14/28)^2.
    assert!(three.2 > 1.7 * one.2, "{one:?} {three:?}");
    assert!(three.0 < 1.02 * one.0, "{one:?} {three:?}");
    assert!(three.1 < 1.10 * one.1, "{one:?} {three:?}");
}

#[test]
fn a_search_chooses_its_resolution_and_says_so() {
    let bench = Bench::new();
    let manifest = "experiments/smoke_resolutions.toml";
    let output = bench.repro(&["run", manifest, "--json"]).output().unwrap();
    let run = json_lines(&output.stdout).remove(0);
    assert_eq!(run["status"], "finished", "{run}");
    assert!(run["test_top1"].as_f64().unwrap() > 0.4, "{run}");
    let shown = bench.show(&run);
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
    let text = bench.repro(&["show", "1"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&format!("input {chosen}x{chosen}, chosen of 14 (")), "{text}");
    let out = bench.folder.path().join("reports");
    bench.repro(&["report", "--out", out.to_str().unwrap()]).assert().success();
    let page = std::fs::read_to_string(out.join("smoke_resolutions.md")).unwrap();
    let sentence =
        format!("Input {chosen} pixels a side, with p = {best:.2}, chosen of 14, 20, 28.");
    assert!(page.contains(&sentence), "{page}");
}

#[test]
fn every_ablation_runs_and_changes_the_search() {
    let bench = Bench::new();
    let course = |run: &Value| -> Vec<(String, Value)> {
        assert_eq!(run["status"], "finished", "{run}");
        let all = results(&bench.show(run));
        all.into_iter().filter(|(name, _)| name.starts_with("search.")).collect()
    };
    let usual = course(&bench.smoke(&[]).remove(0));
    for setting in [
        "search.gates=straight_through",
        "search.masks=before_norm",
        "search.loss.input_channels=nominal",
    ] {
        let run = bench.smoke(&["--set", setting]).remove(0);
        assert_ne!(course(&run), usual, "{setting}");
    }
    // What is no single value of the file: edits of it, and of its space.
    let edits = [
        ("decay = 0.5", "schedule = \"linear\"\nlast = 0.1", ""),
        ("a = 0.2\nb = 0.6", "lambda = 0.5\ntarget = 8.0", ""),
        ("\"spaces/smoke.toml\"", "\"space.toml\"", "share_types = true\n"),
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
        let path = |name: &str| bench.folder.path().join(name);
        std::fs::write(path("space.toml"), space).unwrap();
        std::fs::write(path("edited.toml"), manifest).unwrap();
        let edited = path("edited.toml").display().to_string();
        let output = bench.repro(&["run", &edited, "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let run = json_lines(&output.stdout).remove(0);
        assert_ne!(course(&run), usual, "{replace}");
    }
}

#[test]
fn help_says_what_each_command_does_and_lists_the_exit_codes() {
    for name in ["", "run", "check", "list", "show", "report", "space", "data", "bench"] {
        let arguments = if name.is_empty() { vec!["--help"] } else { vec![name, "--help"] };
        let output = repro(&arguments).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        insta::assert_snapshot!(format!("help_{name}").trim_end_matches('_'), help);
    }
}

#[test]
fn a_listener_who_goes_away_is_no_error_and_does_not_end_a_run() {
    let bench = Bench::new();
    let command = bench.repro(&["run", SMOKE, "--json"]);
    assert_eq!(into_closed_pipe(&command), (Some(0), false));
    let mut list = bench.repro(&["list", "--json"]);
    assert_eq!(json_lines(&list.output().unwrap().stdout)[0]["status"], "finished");
    assert_eq!(into_closed_pipe(&list), (Some(0), true));
}

/// The exit code, and whether nothing was said on standard error.
fn into_closed_pipe(command: &Command) -> (Option<i32>, bool) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = plain(command).stdout(writer).output().unwrap();
    (output.status.code(), output.stderr.is_empty())
}

/// The same command for the standard library, which can hand over any standard output.
fn plain(command: &Command) -> std::process::Command {
    let mut plain = std::process::Command::new(command.get_program());
    plain.args(command.get_args()).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => plain.env(name, value),
            None => plain.env_remove(name),
        };
    }
    plain
}

#[cfg(unix)]
mod signals {
    use super::*;
    use crate::processes::{Running, wait_until};
    use std::fs::File;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    /// Begins a run that would take an hour, `before` it a piece of shell, and waits until it has
    /// measured something.
    fn begin(bench: &Bench, before: &str) -> Running {
        let line = format!("{before} exec \"$0\" run {SMOKE} --set search.epochs=100000");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &line]).arg(bench.repro(&[]).get_program());
        shell.current_dir(env!("CARGO_MANIFEST_DIR")).env("REPRO_DB", bench.database());
        shell.env("RAYON_NUM_THREADS", "1").stdout(Stdio::null());
        let child = shell.stderr(File::create(said(bench)).unwrap()).spawn().unwrap();
        let running = Running(child);
        wait_until("a loss", || losses(bench) > 0);
        running
    }

    /// The file with what the run says on standard error.
    fn said(bench: &Bench) -> PathBuf {
        bench.folder.path().join("said.txt")
    }

    fn show(bench: &Bench) -> Value {
        let output = bench.repro(&["show", "1", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// How many losses of the search are in the database.
    fn losses(bench: &Bench) -> u64 {
        show(bench)["metrics"]["search.step_loss"]["points"].as_u64().unwrap_or(0)
    }

    #[test]
    fn a_run_that_is_interrupted_ends_with_130_and_keeps_what_it_measured() {
        for signal in ["-INT", "-TERM"] {
            let bench = Bench::new();
            let mut running = begin(&bench, "");
            running.signal(signal);
            assert_eq!(running.wait().code(), Some(130));
            assert_eq!(show(&bench)["status"], "interrupted");
            assert!(losses(&bench) > 0);
            let said = std::fs::read_to_string(said(&bench)).unwrap();
            assert!(said.contains("asked to stop; asked again, this ends at once"), "{said}");
        }
    }

    #[test]
    fn a_run_that_is_killed_shows_as_interrupted_and_keeps_what_it_measured() {
        let bench = Bench::new();
        let mut running = begin(&bench, "");
        assert_eq!(show(&bench)["status"], "running");
        running.signal("-KILL");
        assert_eq!(running.wait().signal(), Some(9));
        let listed = bench.repro(&["list"]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("interrupted"), "{listed}");
        assert!(losses(&bench) > 0);
        // The database takes new runs.
        assert_eq!(bench.smoke(&["--set", "train.epochs=1"])[0]["run_id"], 2);
    }

    #[test]
    fn a_run_under_nohup_outlives_its_terminal() {
        let bench = Bench::new();
        let mut running = begin(&bench, "trap '' HUP;");
        running.signal("-HUP");
        let before = losses(&bench);
        wait_until("another loss", || losses(&bench) > before);
        assert_eq!(show(&bench)["status"], "running");
        running.signal("-INT");
        assert_eq!(running.wait().code(), Some(130));
    }
}

#[test]
fn the_rank_correlation_of_shared_weights_is_measured_and_reported() {
    let bench = Bench::new();
    let method = "search.method=[\"rs_ws\", \"evolution\"]";
    let sets = [method, "rank_correlation.architectures=5", "train.epochs=2"];
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    let lines = bench.smoke(&arguments);
    let [run, again] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&run["status"], &again["status"]), (&"finished".into(), &"finished".into()));
    // The same shared weights are not ranked twice.
    let step_loss = |run| bench.show(run)["metrics"]["search.step_loss"].clone();
    assert_eq!(step_loss(run), step_loss(again));
    assert!(bench.show(again)["metrics"].get("rank.shared.top1").is_none());
    let shown = bench.show(run);
    let rank = shown["phases"].as_array().unwrap().iter().find(|p| p["phase"] == "rank").unwrap();
    // Each is scored, then trained and looked at.
    assert_eq!(rank["usage"]["architectures"], 10);
    for metric in ["rank.shared.top1", "rank.alone.top1", "rank.macs"] {
        assert_eq!(shown["metrics"][metric]["points"], 5, "{metric}");
    }
    // Its trainings are not the run's.
    assert_eq!(shown["metrics"]["train.loss"]["points"], 2);
    let out = bench.folder.path().join("reports");
    bench.repro(&["report", "--out", out.to_str().unwrap()]).assert().success();
    let page = std::fs::read_to_string(out.join("smoke.md")).unwrap();
    assert!(page.contains("## Rank correlation") && page.contains("smoke-rank.svg"), "{page}");
    let picture = std::fs::read_to_string(out.join("smoke-rank.svg")).unwrap();
    assert_eq!(picture.matches("<circle").count(), 5 + 1);
}
