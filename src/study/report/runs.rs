//! Which runs of a study its report is about, and which of them are incomplete.

use crate::record::ScalingPoint;
use crate::store::{ExperimentKind, RunRow, RunStatus};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;

/// Reads the points of the run of that id; empty if it belongs to no study.
pub type PointsOf<'a> = &'a dyn Fn(i64) -> Result<Vec<ScalingPoint>>;

/// A run with its points.
pub type StudyRun<'a> = (&'a RunRow, Vec<ScalingPoint>);

/// The runs of each study by its name, and the runs that belong to none.
pub type Studies<'a> = (BTreeMap<&'a str, Vec<StudyRun<'a>>>, Vec<RunRow>);

/// Groups the runs of studies.
///
/// # Errors
/// When points cannot be read.
pub fn studies<'a>(runs: &'a [RunRow], points_of: PointsOf<'_>) -> Result<Studies<'a>> {
    let is_study = |run: &&RunRow| run.settings.kind == ExperimentKind::MemoryStudy;
    let mut studies: BTreeMap<&str, Vec<StudyRun<'_>>> = BTreeMap::new();
    for run in runs.iter().filter(is_study) {
        let points = points_of(run.id)
            .with_context(|| format!("cannot read the points of run {}", run.id))?;
        studies.entry(&run.experiment).or_default().push((run, points));
    }
    Ok((studies, runs.iter().filter(|run| !is_study(run)).cloned().collect()))
}

/// One run per method that has points, all of one manifest: that of the last finished run, or of the
/// last run where none has finished.
pub fn latest<'a>(runs: &[StudyRun<'a>]) -> Vec<StudyRun<'a>> {
    let finished = |run: &RunRow| run.status == RunStatus::Finished;
    let having = || runs.iter().filter(|(_, points)| !points.is_empty());
    let newest = having().rfind(|(run, _)| finished(run)).or_else(|| having().next_back());
    let same = |run: &RunRow| newest.is_some_and(|(n, _)| n.manifest.sha256 == run.manifest.sha256);
    let mut last: Vec<StudyRun<'a>> = Vec::new();
    for (run, points) in having().filter(|(run, _)| same(run)) {
        let entry = (*run, points.clone());
        match last.iter_mut().find(|(known, _)| known.method == run.method) {
            Some(known) if finished(known.0) && !finished(run) => {}
            Some(known) => *known = entry,
            None => last.push(entry),
        }
    }
    last
}

/// A sentence on each run that did not measure all of its points: of the `counted` runs, and of the
/// last run of each method that has no counted one.
pub fn incomplete(runs: &[StudyRun<'_>], counted: &[StudyRun<'_>]) -> Vec<String> {
    let same = |run: &RunRow| {
        counted.first().is_none_or(|(c, _)| c.manifest.sha256 == run.manifest.sha256)
    };
    let mut reported: Vec<&RunRow> = counted.iter().map(|(run, _)| *run).collect();
    for (run, _) in runs.iter().rev().filter(|(run, _)| same(run)) {
        if !reported.iter().any(|known| known.method == run.method) {
            reported.push(run);
        }
    }
    reported.sort_by_key(|run| run.id);
    reported.into_iter().filter_map(incomplete_run).collect()
}

/// Why a run has not measured all of its points; `None` if it has.
fn incomplete_run(run: &RunRow) -> Option<String> {
    if run.status == RunStatus::Finished {
        return None;
    }
    let error = run.error.iter().flat_map(|error| error.lines());
    let why: Vec<&str> = std::iter::once(run.status.name()).chain(error).collect();
    let (id, method) = (run.id, &run.method);
    Some(format!("Not all points of {method} were measured (run {id}): {}", why.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Environment;
    use crate::store::{ManifestRecord, Settings};
    use std::sync::Arc;

    fn run(id: i64, (method, sha256, status): (&str, &str, RunStatus)) -> RunRow {
        RunRow {
            id,
            experiment: "memory_test".to_owned(),
            manifest: Arc::new(ManifestRecord {
                sha256: sha256.to_owned(),
                name: String::new(),
                text: String::new(),
                space_name: String::new(),
                space_text: String::new(),
                space_candidates: String::new(),
                space_log10: 0.0,
            }),
            settings: Arc::new(Settings::of("[scaling]", "")),
            data: None,
            method: method.to_owned(),
            dataset: "cifar10".to_owned(),
            seed: 1,
            attempt: 1,
            status,
            error: None,
            started_at: 0.0,
            last_seen_at: 0.0,
            command: String::new(),
            environment: Arc::new(Environment::detect("cpu", 1, "none")),
            phases: Vec::new(),
            architecture: None,
            result: None,
        }
    }

    /// The ids of the runs that count; each has a point.
    fn counted(runs: &[(&str, &str, RunStatus)]) -> Vec<i64> {
        let point = ScalingPoint {
            dimension: "width".to_owned(),
            options: 1,
            recompute: "none".to_owned(),
            repeat: 0,
            batch: 64,
            log10_candidates: 0.0,
            predicted_bytes: 1,
            measured: None,
        };
        let runs: Vec<RunRow> = (1..).zip(runs).map(|(id, of)| run(id, *of)).collect();
        let measured: Vec<_> = runs.iter().map(|run| (run, vec![point.clone()])).collect();
        latest(&measured).iter().map(|(run, _)| run.id).collect()
    }

    #[test]
    fn a_method_without_points_is_reported() {
        use RunStatus::{Failed, Finished};
        let runs = [
            run(1, ("dnas", "a", Failed)),
            run(2, ("dmasking", "a", Finished)),
            run(3, ("dnas", "a", Failed)),
            run(4, ("darts", "b", Failed)),
        ];
        let measured: Vec<StudyRun<'_>> = runs.iter().map(|run| (run, Vec::new())).collect();
        let reported = |counted: &[StudyRun<'_>]| incomplete(&measured, counted);
        let dnas = "Not all points of dnas were measured (run 3): failed";
        assert_eq!(reported(&measured[1..2]), [dnas]);
        // Where none counts, the last run of each method is reported.
        assert_eq!(reported(&[]), [dnas, "Not all points of darts were measured (run 4): failed"]);
    }

    #[test]
    fn the_last_run_of_each_method_counts() {
        use RunStatus::{Failed, Finished};
        let (masked, explicit) = ("dmasking", "dnas");
        let old = [(masked, "a", Finished), (explicit, "a", Finished)];
        assert_eq!(counted(&old), [1, 2]);
        let again = [&old[..], &[(masked, "a", Finished), (explicit, "a", Failed)]].concat();
        assert_eq!(counted(&again), [3, 2]);
        let changed = [&old[..], &[(masked, "b", Finished), (explicit, "b", Failed)]].concat();
        assert_eq!(counted(&changed), [3, 4]);
        let failed = [&old[..], &[(masked, "b", Failed)]].concat();
        assert_eq!(counted(&failed), [1, 2]);
        assert_eq!(counted(&[(masked, "a", Failed), (masked, "b", Failed)]), [2]);
    }
}
