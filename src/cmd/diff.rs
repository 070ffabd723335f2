//! `repro diff`: what differs between two runs.

use super::output::stdout;
use anyhow::Result;
use repro::compare::{self, Difference};
use repro::store::{RunRow, Store};
use repro::text::{self, Table, or_dash};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// Show what differs between two runs: settings, environment, results.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro diff 3 7
  repro diff 3 7 --json

Seconds, bytes and speeds depend on the machine's load and are left out of the results.")]
pub struct Args {
    /// The number of a run, as `repro list` shows it.
    #[arg(value_name = "RUN")]
    a: i64,
    /// The number of the other run.
    #[arg(value_name = "OTHER")]
    b: i64,
    /// Print one JSON object: settings, environment, results and measurements, each a list of
    /// {what, values}.
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When there is no such run.
pub fn run(args: &Args, store: &Store) -> Result<()> {
    let (a, b) = (store.run(args.a)?, store.run(args.b)?);
    let (measured, count) =
        compare::measurements(&store.measurements(a.id)?, &store.measurements(b.id)?);
    let parts = [
        ("settings", settings(&a, &b)),
        ("environment", environment(&a, &b)?),
        ("results", compare::results(&a, &b)),
    ];
    let mut out = stdout();
    if args.json {
        let list = |differences: &[Difference]| -> Vec<Value> {
            let of = |d: &Difference| json!({ "what": d.what, "values": d.values });
            differences.iter().map(of).collect()
        };
        let mut object = serde_json::Map::new();
        for (name, differences) in &parts {
            object.insert((*name).to_owned(), list(differences).into());
        }
        object.insert("measurements".to_owned(), list(&measured).into());
        writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
        return Ok(());
    }
    for (name, differences) in &parts {
        if differences.is_empty() {
            writeln!(out, "{name}: equal")?;
            continue;
        }
        let runs = [args.a, args.b].map(|id| format!("run {id}"));
        let [a, b] = &runs;
        let mut table = Table::new([*name, a, b]);
        for Difference { what, values: [a, b] } in differences {
            table.row([what.clone(), a.clone(), b.clone()]);
        }
        writeln!(out, "{}\n", text::printable(&table.to_string()))?;
    }
    writeln!(out, "measurements: {} of {count} differ", measured.len())?;
    Ok(())
}

/// Name, method and seed, and the settings of the manifests.
fn settings(a: &RunRow, b: &RunRow) -> Vec<Difference> {
    let own = |run: &RunRow| {
        let of_run = [
            ("name", Value::from(run.experiment.clone())),
            ("space", run.manifest.space_name.clone().into()),
            ("search.method", run.method.clone().into()),
            ("seed", run.seed.into()),
        ];
        let of_run = of_run.into_iter().map(|(key, value)| (key.to_owned(), value));
        run.settings.values.clone().into_iter().chain(of_run).collect()
    };
    differences(&own(a), &own(b))
}

fn environment(a: &RunRow, b: &RunRow) -> Result<Vec<Difference>> {
    let own = |run: &RunRow| -> Result<BTreeMap<String, Value>> {
        Ok(serde_json::from_value(serde_json::to_value(&*run.environment)?)?)
    };
    Ok(differences(&own(a)?, &own(b)?))
}

fn differences(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> Vec<Difference> {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differs = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    let difference = |key: &String| Difference {
        what: key.clone(),
        values: [or_dash(a.get(key)), or_dash(b.get(key))],
    };
    differs.map(difference).collect()
}
