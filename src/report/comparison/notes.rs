//! What a reader of a comparison has to know.

use super::{Comparison, MethodRuns, Projection};
use crate::recipe::MethodName;
use crate::report::frame::mean_and_sd;
use crate::report::groups::grouped;
use crate::report::results::{environment, top1};
use crate::store::RunRow;
use crate::text::{Unit, list, run_ids};
use std::collections::BTreeSet;

impl Comparison<'_> {
    /// One sentence or two each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.several_environments());
        notes.extend(self.same_networks());
        notes.extend(self.shared_weights());
        notes.extend(self.methods.iter().filter_map(MethodRuns::projected));
        notes.extend(self.missing());
        notes.extend(self.unequal_search());
        notes
    }

    fn several_environments(&self) -> Option<String> {
        let first = environment(self.rows().next()?);
        self.rows().any(|run| environment(run) != first).then(|| {
            "The runs are from more than one program version or machine. Their seconds are not \
             comparable, and a difference between methods may be one between versions."
                .to_owned()
        })
    }

    /// Methods that found the same network with the same seed, which also trains it.
    fn same_networks(&self) -> Vec<String> {
        let trained = self.rows().filter(|run| run.result.is_some());
        let found = trained.filter_map(|run| Some((&run.architecture.as_ref()?.id, run)));
        let trained =
            |(id, run): &(&String, &RunRow)| ((*id).clone(), run.seed, top1(run).map(f64::to_bits));
        let mut notes = Vec::new();
        for group in grouped(found, trained) {
            for ((_, first), (_, second)) in group.iter().zip(group.iter().skip(1)) {
                notes.push(format!(
                    "{} and {} found the same network with seed {}: their results are one \
                     measurement, not two ({}).",
                    first.method,
                    second.method,
                    second.seed,
                    run_ids([first.id, second.id])
                ));
            }
        }
        notes
    }

    fn shared_weights(&self) -> Option<String> {
        let [rs_ws, evolution] = [MethodName::RsWs, MethodName::Evolution].map(MethodName::as_str);
        (self.method(rs_ws).is_some() && self.method(evolution).is_some()).then(|| {
            format!(
                "With the same seed, {rs_ws} and {evolution} search with the same shared weights, so \
                 their results are not independent."
            )
        })
    }

    /// Methods without a result for a seed that they or others have started.
    fn missing(&self) -> Vec<String> {
        let lost = self.without_result.iter().copied();
        let seeds: BTreeSet<u64> = self.rows().chain(lost).map(|run| run.seed).collect();
        let mut names: Vec<&str> = self.methods.iter().map(|method| method.name).collect();
        for run in &self.without_result {
            if !names.contains(&run.method.as_str()) {
                names.push(&run.method);
            }
        }
        let without = |name: &str| -> Vec<String> {
            let missing = seeds.iter().filter(|seed| !self.has(name, **seed));
            missing.map(|seed| self.reason(name, *seed)).collect()
        };
        let all = names.into_iter().map(|name| (name, without(name)));
        all.filter(|(_, seeds)| !seeds.is_empty())
            .map(|(name, seeds)| {
                format!(
                    "{name} has no result for seed {}; its means and differences leave that out.",
                    list(seeds)
                )
            })
            .collect()
    }

    fn reason(&self, method: &str, seed: u64) -> String {
        let is_it = |run: &&&RunRow| run.method == method && run.seed == seed;
        match self.without_result.iter().rfind(is_it) {
            Some(run) => format!("{seed} (run {} {})", run.id, run.status.name()),
            None => format!("{seed} (not started)"),
        }
    }

    /// Methods with more or less search compute than the baseline.
    fn unequal_search(&self) -> Option<String> {
        let unequal = self.differences.iter().filter_map(|difference| {
            let ratio = difference.search_macs_ratio.filter(|ratio| (ratio - 1.0).abs() > 0.1)?;
            Some(format!("{} {ratio:.2} times those of {}", difference.method, difference.baseline))
        });
        let unequal: Vec<String> = unequal.collect();
        (!unequal.is_empty()).then(|| {
            format!(
                "Search MACs differ by more than a tenth: {}. A difference in accuracy may come from \
                 the search compute.",
                list(unequal)
            )
        })
    }
}

impl MethodRuns<'_> {
    /// What the projection onto the budget changed, if there was one.
    fn projected(&self) -> Option<String> {
        let all: Vec<Projection> = self.runs.iter().filter_map(|run| run.projection).collect();
        let mean = |of: fn(&Projection) -> f64| {
            mean_and_sd(&all.iter().map(of).collect::<Vec<_>>()).map(|(mean, _)| mean)
        };
        let (changed, macs) = mean(|p| p.changed).zip(mean(|p| p.argmax_macs))?;
        Some(format!(
            "{}: the projection onto the budget changed {changed:.1} choices of a network; the argmax \
             options together have {} MACs (means over seeds).",
            self.name,
            Unit::Count.cell(macs)
        ))
    }
}
