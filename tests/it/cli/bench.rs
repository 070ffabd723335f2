//! `repro bench`: times and memory of a step.

use super::*;

/// What `repro bench experiments/smoke.toml --json` prints.
fn timed(arguments: &[&str]) -> Value {
    let all = [&["bench", SMOKE, "--steps", "2", "--json"], arguments].concat();
    let output = repro(&all).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    json_lines(&output.stdout).remove(0)
}

/// The derived network of `repro run experiments/smoke.toml`, in a file and as JSON.
fn derived(sandbox: &Sandbox) -> (PathBuf, Value) {
    let run = sandbox.smoke(&["--set", "train.epochs=1"]).remove(0);
    let arch = sandbox.show(&run)["architecture"].clone();
    let file = sandbox.folder.path().join("arch.json");
    std::fs::write(&file, arch.to_string()).unwrap();
    (file, arch)
}

#[test]
fn masking_needs_less_memory_than_an_explicit_supernet() {
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
fn the_first_method_with_a_supernet_is_timed() {
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
fn each_method_times_its_own_step() {
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
    // Each step trains one sampled network; the seed determines which.
    assert!(0 < drawn && drawn < masked, "{drawn} {masked}");
    assert_eq!(drawn, macs("evolution"));
    let refused = bench("random");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("no supernet to time"), "{said}");
}

#[test]
fn the_memory_of_a_step_adds_up() {
    let sandbox = Sandbox::new();
    let (file, _) = derived(&sandbox);
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
        // Activations include a batch of 28x28 greyscale images.
        let batch = step["batch"].as_u64().unwrap() * 28 * 28 * 4;
        assert!(bytes(step, "activations") > batch, "{step}");
        assert!(bytes(step, "scratch") > 0, "{step}");
        for share in ["share_of_peak", "share_of_bandwidth"] {
            let share = step[share].as_f64().unwrap();
            assert!(0.0 < share && share < 1.0, "{step}");
        }
    }
    // Frozen layers hold a second copy of the weights; their feature maps are in the threads' tiles.
    assert!(bytes(&eval, "weights") > 2 * bytes(&network, "optimizer"), "{eval} {network}");
    assert!(bytes(&eval, "activations") < bytes(&network, "activations") / 4, "{eval} {network}");
    let mut no_network = sandbox.repro(&["bench", SMOKE, "--what", "eval"]);
    assert_eq!(exit_code(&mut no_network), 2);
}

#[test]
fn a_memory_study_is_refused() {
    let output = repro(&["bench", "experiments/memory_scaling.toml"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("is a memory study; `repro run"), "{said}");
}

/// Compares the program's own count of allocated bytes with the operating system's.
#[test]
#[cfg(target_os = "linux")]
fn allocated_memory_is_resident() {
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
fn help_names_all_json_keys() {
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
fn a_network_that_does_not_fit_is_refused() {
    let sandbox = Sandbox::new();
    let (file, arch) = derived(&sandbox);
    let refused = |spoil: &dyn Fn(&mut Value), words: &[&str]| {
        let mut arch = arch.clone();
        spoil(&mut arch);
        std::fs::write(&file, arch.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let mut command = repro(&["bench", SMOKE, "--what", "eval", "--arch", file]);
        let said = stderr(&mut command);
        assert_eq!(exit_code(&mut command), 2, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in [&[file], words].concat() {
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
    refused(&|arch| *arch = Value::Null, &["is not an architecture"]);
}

#[test]
fn activations_do_not_grow_with_resolutions() {
    let sandbox = Sandbox::new();
    let timed = |manifest: &str| {
        let all = ["bench", manifest, "--steps", "2", "--json"];
        let output = sandbox.repro(&all).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let step = json_lines(&output.stdout).remove(0);
        let of = |value: &Value| value.as_f64().unwrap();
        (of(&step["memory"]["activations"]), of(&step["peak_bytes"]), of(&step["macs"]))
    };
    let (one, three) = (timed(SMOKE), timed("experiments/smoke_resolutions.toml"));
    // The two smaller resolutions add three quarters of the MACs: (20/28)^2 and (14/28)^2.
    assert!(three.2 > 1.7 * one.2, "{one:?} {three:?}");
    assert!(three.0 < 1.02 * one.0, "{one:?} {three:?}");
    assert!(three.1 < 1.10 * one.1, "{one:?} {three:?}");
}
