//! What differs between two runs that should be equal. Seconds, bytes and speeds depend on the machine and
//! its load, and are left out.

use crate::record::{Phase, ScalingPoint};
use crate::store::{Measurement, RunRow};
use crate::text::or_dash;
use std::collections::BTreeMap;

/// One difference, with both values as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub what: String,
    pub values: [String; 2],
}

impl Difference {
    fn new(what: impl Into<String>, values: [String; 2]) -> Self {
        Self { what: what.into(), values }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b] = &self.values;
        write!(f, "{}: {a} and {b}", self.what)
    }
}

/// The differences of two results: status, images, architecture with its probabilities, work of each phase,
/// test and weights.
#[must_use]
pub fn results(a: &RunRow, b: &RunRow) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, of: &dyn Fn(&RunRow) -> String| {
        let values = [of(a), of(b)];
        if values[0] != values[1] {
            differences.push(Difference::new(what, values));
        }
    };
    compare("status", &|run| run.status.name().to_owned());
    compare("error", &|run| or_dash(run.error.clone()));
    compare("images", &|run| or_dash(run.data.as_ref().map(|data| data.sha256.clone())));
    compare("architecture", &|run| {
        or_dash(run.architecture.as_ref().map(|found| found.id.clone()))
    });
    compare("probabilities", &|run| {
        let found = run.architecture.as_ref();
        or_dash(found.and_then(|found| {
            serde_json::to_string(&(&found.probabilities, &found.resolutions)).ok()
        }))
    });
    for phase in Phase::ALL {
        let what = format!("work of phase {}", phase.name());
        compare(&what, &|run| {
            let usage = run.usage(phase);
            or_dash(usage.map(|u| {
                let (macs, networks) = (or_dash(u.macs), or_dash(u.architectures));
                format!("{} images, {macs} MACs, {networks} networks", u.images)
            }))
        });
    }
    let result = |run: &RunRow| run.result.clone();
    compare("test top-1", &|run| or_dash(result(run).map(|result| result.test_top1)));
    compare("test loss", &|run| or_dash(result(run).map(|result| result.test_loss)));
    compare("weights", &|run| or_dash(result(run).map(|result| result.weights_sha256)));
    differences
}

/// The differences of the measurements that do not depend on the machine, and how many there are of those.
#[must_use]
pub fn measurements(a: &[Measurement], b: &[Measurement]) -> (Vec<Difference>, usize) {
    let named = |measured: &[Measurement]| -> BTreeMap<(String, u64), f64> {
        let own = measured.iter().filter(|m| !m.metric.unit().depends_on_machine());
        own.map(|m| ((m.metric.name().to_string(), m.step), m.value)).collect()
    };
    let (a, b) = (named(a), named(b));
    let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differences = keys.iter().filter_map(|key| {
        let values = [a.get(key), b.get(key)].map(Option::<&f64>::copied);
        let bits = values.map(|value| value.map(f64::to_bits));
        (bits[0] != bits[1]).then(|| {
            let (metric, step) = key;
            Difference::new(format!("{metric} at step {step}"), values.map(or_dash))
        })
    });
    (differences.collect(), keys.len())
}

/// The differences of the points of two memory studies: which there are, and their predictions.
#[must_use]
pub fn points(a: &[ScalingPoint], b: &[ScalingPoint]) -> Vec<Difference> {
    let named = |points: &[ScalingPoint]| -> BTreeMap<String, String> {
        let name = |p: &ScalingPoint| {
            format!("{} {}, recompute {}, repeat {}", p.dimension, p.options, p.recompute, p.repeat)
        };
        let value = |p: &ScalingPoint| {
            let measured = if p.measured.is_some() { "measured" } else { "only predicted" };
            format!("{measured}, {} bytes predicted", p.predicted_bytes)
        };
        points.iter().map(|point| (name(point), value(point))).collect()
    };
    let (a, b) = (named(a), named(b));
    let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differences = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    differences
        .map(|key| Difference::new(key, [or_dash(a.get(key)), or_dash(b.get(key))]))
        .collect()
}
