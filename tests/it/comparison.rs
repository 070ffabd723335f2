//! Several methods in one manifest: the planned runs, repeated training runs, and the report that
//! says what can be concluded, over the program and over invented runs.

use assert_cmd::Command;
use repro::manifest::{self, Manifest, Overrides};
use repro::runner::plans;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn experiment(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments").join(name)
}

fn load(name: &str, sets: &[&str]) -> Manifest {
    let sets = sets.iter().map(|set| (*set).to_owned()).collect();
    let overrides = Overrides { sets, seeds: Vec::new() };
    manifest::load(&experiment(name), &overrides).unwrap_or_else(|e| panic!("{e}"))
}

/// A folder with a database.
struct Sandbox(TempDir);

impl Sandbox {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn repro(&self, arguments: &[&str]) -> String {
        let mut command = Command::cargo_bin("repro").unwrap();
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
        command.env("REPRO_DB", self.0.path().join("results.db"));
        let output = command.env("RAYON_NUM_THREADS", "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, name: &str, sets: &[&str]) -> Vec<Value> {
        let path = experiment(name);
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        let arguments: Vec<&str> =
            ["run", path.to_str().unwrap(), "--json"].into_iter().chain(sets).collect();
        let lines = self.repro(&arguments);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn show(&self, run: &Value) -> Value {
        let shown = self.repro(&["show", &run["run_id"].to_string(), "--json"]);
        serde_json::from_str(&shown).unwrap()
    }

    fn report(&self) -> (PathBuf, String) {
        let out = self.0.path().join("reports");
        self.repro(&["report", "--out", out.to_str().unwrap()]);
        let page = std::fs::read_to_string(out.join("smoke_compare.md"));
        (out, page.unwrap_or_default())
    }
}

#[test]
fn all_methods_of_a_seed_come_before_the_next_seed() {
    let manifest = load("smoke_compare.toml", &["search.method=[\"rs_ws\", \"random\"]"]);
    let planned: Vec<(u64, &str)> =
        plans(&manifest).map(|plan| (plan.seed, plan.method())).collect();
    let expected = [(1, "rs_ws"), (1, "random"), (2, "rs_ws"), (2, "random")];
    assert_eq!(planned, expected);
}

#[test]
fn a_further_training_changes_nothing_of_the_first_and_draws_its_own() {
    let sandbox = Sandbox::new();
    let sets = ["search.method=random", "train.repeats=3", "seeds=[5]", "train.epochs=1"];
    let repeated = sandbox.run("smoke_compare.toml", &sets);
    let sets = ["search.method=random", "train.repeats=1", "seeds=[5]", "train.epochs=1"];
    let alone = sandbox.run("smoke_compare.toml", &sets);
    let (repeated, alone) = (sandbox.show(&repeated[0]), sandbox.show(&alone[0]));
    let last = |run: &Value, metric: &str| run["metrics"][metric]["last"].as_f64().unwrap();
    assert_eq!(last(&repeated, "train.loss"), last(&alone, "train.loss"));
    let losses = ["", "repeat.1.", "repeat.2."];
    let losses = losses.map(|repeat| last(&repeated, &format!("{repeat}train.loss")));
    assert!(losses[0] != losses[1] && losses[1] != losses[2] && losses[0] != losses[2]);
    assert_eq!(repeated["metrics"]["test.top1"]["points"], 3);
    assert!(alone["metrics"].get("repeat.1.train.loss").is_none());
    let images = |run: &Value, phase: &str| {
        let phases = run["phases"].as_array().unwrap();
        let of_phase = phases.iter().find(|row| row["phase"] == phase).unwrap();
        of_phase["usage"]["images"].as_u64().unwrap()
    };
    for phase in ["train", "test"] {
        assert_eq!(images(&repeated, phase), 3 * images(&alone, phase), "{phase}");
    }
    assert_ne!(repeated["weights_sha256"], alone["weights_sha256"]);
}

#[test]
fn a_comparison_runs_from_the_manifest_to_its_report() {
    let sandbox = Sandbox::new();
    let runs = sandbox.run("smoke_compare.toml", &[]);
    let manifest = load("smoke_compare.toml", &[]);
    assert_eq!(runs.len(), 2 * manifest.search().unwrap().methods.len());
    let band = manifest.search().unwrap().config.budget.unwrap().band();
    for run in &runs {
        assert_eq!(run["status"], "finished", "{run}");
        assert!(band.contains(&run["macs"].as_u64().unwrap()), "{run}");
    }
    let (out, page) = sandbox.report();
    for method in manifest.search().unwrap().methods.iter().map(|method| method.name().as_str()) {
        let rows = |title: &str, columns: usize| {
            let after = page.split(title).nth(1).unwrap_or_default();
            let row = after.lines().find(|line| line.starts_with(&format!("| {method} ")));
            row.map(|row| row.matches('|').count() == columns + 1)
        };
        assert_eq!(rows("## Comparison of methods", 16), Some(true), "{page}");
        if method != "random" {
            assert_eq!(rows("### Versus random baselines", 11), Some(true), "{page}");
            assert!(page.contains(&format!("\n- {method} ")), "{page}");
        }
    }
    assert!(!page.contains("sets no budget"));
    let picture = std::fs::read_to_string(out.join("smoke_compare-compute.svg")).unwrap();
    // One dot per run, one per method in the legend, and one where its search ended; a single draw
    // searches nothing.
    let methods = manifest.search().unwrap().methods.len();
    assert_eq!(picture.matches("r=\"3\"").count(), runs.len() + methods + methods - 1);
    assert!(page.contains("(smoke_compare-compute.svg)"));
}

#[test]
fn the_recipe_of_darts_runs_in_both_orders() {
    let sandbox = Sandbox::new();
    for method in ["darts", "darts2"] {
        let set = format!("search.method={method}");
        let runs = sandbox.run("smoke_darts.toml", &[&set, "search.epochs=2", "train.epochs=2"]);
        assert_eq!(runs.len(), 1, "{method}");
        assert_eq!(runs[0]["status"], "finished", "{method}");
        let shown = sandbox.show(&runs[0]);
        assert_eq!(shown["method"], method);
        // 200 images each: six minibatches of both, twice.
        for metric in ["search.step_loss", "search.alpha.step_loss"] {
            assert_eq!(shown["metrics"][metric]["points"], 12, "{method}: {metric}");
        }
    }
}

#[test]
fn one_method_makes_no_comparison() {
    let sandbox = Sandbox::new();
    sandbox.run("smoke_compare.toml", &["search.method=random", "train.epochs=1"]);
    let (out, page) = sandbox.report();
    assert!(page.contains("## Results") && !page.contains("Comparison"), "{page}");
    assert!(!out.join("smoke_compare-compute.svg").exists());
}
