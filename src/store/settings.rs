//! The settings of a manifest as the database keeps them: comparable, without seeds and names.
//!
//! They are read from the manifest's text once, when the manifest is stored or when a database of
//! an earlier version is migrated.

use crate::hex::hex;
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use toml::Table;

/// What an experiment consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExperimentKind {
    /// Searches, each with the training of the network that it finds.
    Runs,
    /// Steps of supernets that grow.
    MemoryStudy,
}

/// What the derived network may cost: from `bound · (1 - tolerance)` to `bound · (1 + above)`.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBudget {
    /// `macs` or `params`.
    pub objective: String,
    pub bound: f64,
    pub tolerance: f64,
    pub above: f64,
}

/// The settings of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub kind: ExperimentKind,
    pub budget: Option<StoredBudget>,
    /// Every setting by its dotted key, without seeds, names and the methods of the search. Whole
    /// numbers have no decimal point, however they were written.
    pub values: BTreeMap<String, Value>,
    /// Of the settings and the space, in hex: equal settings have equal hashes.
    pub sha256: String,
}

/// Keys that name something, choose among the runs of an experiment, are part of the network that is stored
/// beside the manifest, or give the path of a file whose name or hash is stored.
const LEFT_OUT: [&str; 10] = [
    "name",
    "description",
    "seeds",
    "space",
    "search.method",
    "arch",
    "resolution",
    "classes",
    "init",
    "search.table.manifest",
];

/// Optional keys with their defaults. Written or left out, they are the same settings.
pub const DEFAULTS: &[(&str, &str)] = &[
    ("data.mean", "[0.485,0.456,0.406]"),
    ("data.sd", "[0.229,0.224,0.225]"),
    ("precision", r#""f32""#),
    ("scale", "1"),
    ("scaling.seconds", "0"),
    ("search.augment.crop_padding", "0"),
    ("search.augment.flip", "false"),
    ("search.budget.above", "0"),
    ("search.gates", r#""soft""#),
    ("search.loss.input_channels", r#""effective""#),
    ("search.masks", r#""after_norm""#),
    ("search.recompute", r#""none""#),
    ("search.residual", r#""expected""#),
    ("search.shared.paths", r#""space""#),
    ("search.temperature.schedule", r#""exponential""#),
    ("search.weights.last", "0"),
    ("search.weights.warmup_epochs", "0"),
    ("train.augment.crop_padding", "0"),
    ("train.augment.flip", "false"),
    ("train.drop_connect", "0"),
    ("train.dropout", "0"),
    ("train.optimizer.kind", r#""sgd""#),
    ("train.optimizer.last", "0"),
    ("train.optimizer.warmup_epochs", "0"),
    ("train.recompute", r#""none""#),
    ("train.repeats", "1"),
];

/// The same for a space.
pub const SPACE_DEFAULTS: &[(&str, &str)] =
    &[("expansion_of", r#""largest_input""#), ("share_types", "false")];

/// The default is that of shared weights, or else this number.
const CALIBRATION: (&str, i64) = ("search.random.calibration_batches", 10);

impl ExperimentKind {
    /// The name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::MemoryStudy => "memory study",
        }
    }
}

impl Settings {
    /// Of a manifest with its space, both as text. Text that is not TOML has no values, and a hash
    /// of its own.
    #[must_use]
    pub fn of(text: &str, space_text: &str) -> Self {
        let (Ok(manifest), Ok(space)) = (text.parse::<Table>(), space_text.parse::<Table>()) else {
            let digest = Sha256::new().chain_update(text).chain_update([0]);
            let sha256 = hex(&digest.chain_update(space_text).finalize());
            let (kind, values) = (ExperimentKind::Runs, BTreeMap::new());
            return Self { kind, budget: None, values, sha256 };
        };
        let kind = if manifest.contains_key("scaling") {
            ExperimentKind::MemoryStudy
        } else {
            ExperimentKind::Runs
        };
        let mut values = BTreeMap::new();
        flatten("", &manifest, &mut values);
        leave_out(DEFAULTS, &mut values);
        let shared = values.get("search.shared.calibration_batches").cloned();
        if values.get(CALIBRATION.0) == Some(&shared.unwrap_or_else(|| CALIBRATION.1.into())) {
            values.remove(CALIBRATION.0);
        }
        let mut of_space = BTreeMap::new();
        flatten("", &space, &mut of_space);
        leave_out(SPACE_DEFAULTS, &mut of_space);
        let digest = Sha256::new().chain_update(json(&values)).chain_update([0]);
        let sha256 = hex(&digest.chain_update(json(&of_space)).finalize());
        Self { kind, budget: budget(&values), values, sha256 }
    }

    /// What matrix products on `device` (`cpu` or `cuda:N`) are computed in, as manifests name it:
    /// `f32` on the CPU, whatever the manifest says.
    #[must_use]
    pub fn precision_on(&self, device: &str) -> &str {
        let given = self.values.get("precision").and_then(Value::as_str);
        given.filter(|_| device != "cpu").unwrap_or("f32")
    }
}

/// Removes names and written-out defaults.
fn leave_out(defaults: &[(&str, &str)], values: &mut BTreeMap<String, Value>) {
    values.retain(|key, value| {
        let default = defaults.iter().find(|(k, _)| k == key).map(|(_, default)| *default);
        default != Some(value.to_string().as_str()) && !LEFT_OUT.contains(&key.as_str())
    });
}

/// One JSON object.
pub fn json(values: &BTreeMap<String, Value>) -> String {
    let map: Map<String, Value> = values.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    Value::Object(map).to_string()
}

fn flatten(prefix: &str, table: &Table, values: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            toml::Value::Table(table) => flatten(&format!("{key}."), table, values),
            value => {
                values.insert(key, plain(value));
            }
        }
    }
}

/// The value in JSON, a whole number without a decimal point.
fn plain(value: &toml::Value) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        toml::Value::Integer(n) => Value::from(*n),
        toml::Value::Float(x) if x.fract() == 0.0 && x.abs() < EXACT => Value::from(*x as i64),
        toml::Value::Float(x) => {
            Number::from_f64(*x).map_or_else(|| Value::from(x.to_string()), Value::Number)
        }
        toml::Value::Boolean(flag) => Value::from(*flag),
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Datetime(moment) => Value::from(moment.to_string()),
        toml::Value::Array(items) => items.iter().map(plain).collect(),
        toml::Value::Table(table) => {
            let mut members: Vec<(String, Value)> =
                table.iter().map(|(key, value)| (key.clone(), plain(value))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().collect())
        }
    }
}

fn budget(values: &BTreeMap<String, Value>) -> Option<StoredBudget> {
    let number = |key: &str| values.get(&format!("search.budget.{key}")).and_then(Value::as_f64);
    let (objective, bound) = ["macs", "params"]
        .into_iter()
        .find_map(|objective| Some((objective, number(objective)?)))?;
    let (tolerance, above) = (number("tolerance")?, number("above").unwrap_or_default());
    let shares = 0.0..=1.0;
    // A text that was changed by hand may have no valid budget; the tables would refuse it.
    let is_valid = bound > 0.0 && shares.contains(&tolerance) && shares.contains(&above);
    is_valid.then(|| StoredBudget { objective: objective.to_owned(), bound, tolerance, above })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: &str = "name = 'a'\n[stem]\nwidth = 8\n";

    fn of(text: &str) -> Settings {
        Settings::of(text, SPACE)
    }

    #[test]
    fn equal_settings_have_equal_hashes() {
        let one = of("name = 'x'\nseeds = [1]\nscale = 0.5\n[search]\nmethod = 'dnas'\nepochs = 2");
        let other = of("# a comment\nsearch = { epochs = 2.0, gates = 'soft' }\nseeds = [2, 3]\n\
                        name = 'y'\nscale = 0.50\nspace = 'elsewhere.toml'");
        assert_eq!(one, other);
        assert_eq!(one.values.keys().collect::<Vec<_>>(), ["scale", "search.epochs"]);
        assert_ne!(one.sha256, of("scale = 0.5\nsearch.epochs = 3").sha256);
        let renamed = Settings::of("scale = 0.5\nsearch.epochs = 2", "name = 'b'\nstem.width = 8");
        assert_eq!(renamed.sha256, one.sha256);
        let wider = Settings::of("scale = 0.5\nsearch.epochs = 2", "stem.width = 9");
        assert_ne!(wider.sha256, one.sha256);
    }

    #[test]
    fn budget_and_kind_are_found() {
        let settings = of("[search.budget]\nparams = 5e4\ntolerance = 0.1");
        let budget =
            StoredBudget { objective: "params".to_owned(), bound: 5e4, tolerance: 0.1, above: 0.0 };
        assert_eq!((settings.kind, settings.budget), (ExperimentKind::Runs, Some(budget)));
        let study = of("[scaling]\nsteps = 3");
        assert_eq!((study.kind, study.budget), (ExperimentKind::MemoryStudy, None));
    }

    #[test]
    fn precision_is_a_setting_and_f32_its_default() {
        let [without, f32, tf32] = ["", "precision = 'f32'", "precision = 'tf32'"].map(of);
        assert_eq!(without, f32);
        assert_ne!(without.sha256, tf32.sha256);
        assert_eq!((without.precision_on("cuda:0"), tf32.precision_on("cuda:0")), ("f32", "tf32"));
        assert_eq!(tf32.precision_on("cpu"), "f32");
    }

    #[test]
    fn text_that_is_not_toml_has_a_hash() {
        let [one, other] = ["not = ", "not == "].map(of);
        assert_ne!(one.sha256, other.sha256);
        assert!(one.values.is_empty());
    }
}
